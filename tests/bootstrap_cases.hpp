/// @file
/// Bootstrap jobs on random models, for the tests that compare backends.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "host/batch/bootstrap.hpp"
#include "host/batch/streaming_engine.hpp"
#include "tests/oracle.hpp"

namespace batchlmm::oracle {

/// What the kernels of the streaming tier are given.
inline const kernels::BootstrapJob& streaming_job(const Bootstrap& bootstrap) {
  return dynamic_cast<const StreamingEngine&>(bootstrap.engine()).job();
}

/// How the null model differs from the full one.
enum class Dropped { fixed_effect, random_slope, random_term, random_effects };

/// Two nested random models and the job that tests one against the other.
struct BootstrapCase {
  std::string name;
  std::unique_ptr<Model> null, full;
  std::unique_ptr<Bootstrap> bootstrap;

  BootstrapCase(Kind kind, int k, std::uint64_t seed, Dropped dropped) {
    // Of the random models of this kind the first that has what is to be dropped.
    std::shared_ptr<ModelMatrices> larger, smaller;
    for (;; ++seed) {
      larger = random_model(kind, k, seed);
      smaller = std::make_shared<ModelMatrices>(*larger);
      if (dropped == Dropped::fixed_effect && larger->X.cols() > 1) {
        smaller->X = larger->X.leftCols(larger->X.cols() - 1).eval();
        break;
      }
      if (dropped == Dropped::random_slope && larger->random[0].z.cols() > 1) {
        RandomTerm& term = smaller->random[0];
        term.z = term.z.leftCols(term.z.cols() - 1).eval();
        term.names.pop_back();
        break;
      }
      if (dropped == Dropped::random_term && larger->random.size() > 1) {
        smaller->random.pop_back();
        break;
      }
      // Without any random effects: those of the full model stay at 0.
      if (dropped == Dropped::random_effects) break;
    }
    const bool at_zero = dropped == Dropped::random_effects;
    name = "kind " + std::to_string(static_cast<int>(kind)) + ", k " + std::to_string(k) + ", seed " +
           std::to_string(seed) + ", dropped " + std::to_string(static_cast<int>(dropped));
    null = std::make_unique<Model>(smaller, Method::ml);
    full = std::make_unique<Model>(larger, Method::ml);
    const kernels::Shape& s = null->shape();
    std::vector<double> lambda(s.lambdas, 0.0);
    for (int b = 0; b < s.terms; ++b)
      for (int i = 0; !at_zero && i < s.term[b].k; ++i) lambda[s.term[b].lambda + i * s.term[b].k + i] = 0.3 + 0.2 * i;
    bootstrap = std::make_unique<Bootstrap>(*null, *full, at_zero ? embed_at_zero(*null, *full) : embed(*null, *full),
                                            lambda, 1.0, 20250101 + seed, Tier::streaming);
  }
};

/// Every kind of elimination, one column and several, each way of being nested.
inline std::vector<BootstrapCase> bootstrap_cases() {
  std::vector<BootstrapCase> cases;
#if defined(__SANITIZE_ADDRESS__)
  // A sanitizer needs one of each stage's code, not every design.
  for (Kind kind : {Kind::crossed, Kind::deep}) cases.emplace_back(kind, 2, 10, Dropped::fixed_effect);
  cases.emplace_back(Kind::crossed, 1, 50, Dropped::random_term);
  cases.emplace_back(Kind::crossed, 2, 60, Dropped::random_effects);
  return cases;
#endif
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed, Kind::partially_crossed, Kind::nested_and_crossed,
                    Kind::deep, Kind::same_factor})
    for (int k : {1, 2}) {
      cases.emplace_back(kind, k, 10, Dropped::fixed_effect);
      if (k > 1) cases.emplace_back(kind, k, 30, Dropped::random_slope);
      if (kind != Kind::single && k == 1) cases.emplace_back(kind, k, 50, Dropped::random_term);
      if (kind == Kind::single || kind == Kind::crossed) cases.emplace_back(kind, k, 60, Dropped::random_effects);
    }
  return cases;
}

/// Results of one model's fits, with the memory that they stand in.
struct ResultArrays {
  ResultArrays(const kernels::Shape& shape, std::uint64_t n)
      : s(shape),
        items(n),
        status(n, 99),
        deviance(n),
        lambda(n * s.lambdas),
        beta(n * s.p),
        r2(n),
        x_factor(n * kernels::triangle_size(s.p)),
        boundary(n),
        evaluations(n) {}
  [[nodiscard]] kernels::FitResults pointers() {
    return {status.data(), deviance.data(), lambda.data(), boundary.data(), evaluations.data(),
            beta.data(),   r2.data(),       nullptr,       x_factor.data()};
  }
  const kernels::Shape& s;
  std::uint64_t items;
  std::vector<std::uint8_t> status;
  std::vector<double> deviance, lambda, beta, r2, x_factor;
  std::vector<std::uint32_t> boundary;
  std::vector<std::uint16_t> evaluations;
};

/// Items whose results differ in a bit (NaNs of any bits are equal), counted.
inline std::uint64_t differing_items(const ResultArrays& a, const ResultArrays& b) {
  const auto same = [](double x, double y) {
    return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y) || (std::isnan(x) && std::isnan(y));
  };
  std::uint64_t differing = 0;
  for (std::uint64_t i = 0; i < a.items; ++i) {
    bool equal = a.status[i] == b.status[i] && same(a.deviance[i], b.deviance[i]) && same(a.r2[i], b.r2[i]) &&
                 a.boundary[i] == b.boundary[i] && a.evaluations[i] == b.evaluations[i];
    for (int q = 0; q < a.s.lambdas; ++q)
      equal = equal && same(a.lambda[i * a.s.lambdas + q], b.lambda[i * a.s.lambdas + q]);
    for (int q = 0; q < a.s.p; ++q) equal = equal && same(a.beta[i * a.s.p + q], b.beta[i * a.s.p + q]);
    const int size = kernels::triangle_size(a.s.p);
    for (int q = 0; q < size; ++q) equal = equal && same(a.x_factor[i * size + q], b.x_factor[i * size + q]);
    differing += !equal;
  }
  return differing;
}

}  // namespace batchlmm::oracle

// One fit's Newton iteration has the bits of the kernels' text on every instruction set.
#include <gtest/gtest.h>

#include <random>

#include "kernels/cpu.hpp"
#include "kernels/deviance.hpp"
#include "kernels/replicate.hpp"

namespace batchlmm {
namespace {

/// Two terms of k columns and one of a single column.
kernels::Shape shape_of(int k) {
  kernels::Shape s;
  for (int b = 0; b < 3; ++b) {
    kernels::TermShape& term = s.term[s.terms++];
    term.k = b == 1 ? 1 : k;
    term.lambda = s.lambdas;
    term.parameter = s.parameters;
    term.scale = 5.0 + b;
    s.lambdas += term.k * term.k;
    s.parameters += kernels::triangle_size(term.k);
  }
  return s;
}

class OneNewton : public ::testing::TestWithParam<int> {};

TEST_P(OneNewton, HasTheBitsOfTheTextOnEveryInstructionSet) {
  // Arrange: evaluations that do not depend on where the iteration is, with Hessians definite and not, so that steps
  // are taken by both matrices, accepted and rejected.
  const kernels::Shape s = shape_of(GetParam());
  const int m = s.parameters, triangle = kernels::triangle_size(m);
  std::mt19937_64 rng(5);
  std::normal_distribution<double> normal;
  std::vector<double> start(s.lambdas, 0.0);
  for (int b = 0; b < s.terms; ++b)
    for (int i = 0; i < s.term[b].k; ++i)
      for (int j = 0; j <= i; ++j) start[s.term[b].lambda + i * s.term[b].k + j] = i == j ? 1.0 : 0.3 * normal(rng);
  constexpr int trips = 12;
  std::vector<std::vector<double>> gradient(trips), hessian(trips), information(trips);
  std::vector<double> deviance(trips);
  for (int trip = 0; trip < trips; ++trip) {
    for (int i = 0; i < m; ++i) gradient[trip].push_back(normal(rng));
    for (int i = 0; i < triangle; ++i) {
      hessian[trip].push_back(0.3 * normal(rng));
      information[trip].push_back(0.1 * normal(rng));
    }
    for (int i = 0; i < m; ++i) {
      hessian[trip][kernels::triangle(i, i)] += trip % 2 == 0 ? 0.5 * m : 0.0;
      information[trip][kernels::triangle(i, i)] += 0.5 * m;
    }
    deviance[trip] = trip == 5 ? 1000 : -trip;
  }
  const kernels::NewtonOptions options;

  // Act: the text itself, compiled here
  kernels::Arena<double*> count{nullptr};
  (void)kernels::make_newton<double>(s, count);
  std::vector<double> memory(count.used);
  kernels::Arena<double*> arena{memory.data()};
  auto text = kernels::make_newton<double>(s, arena);
  kernels::begin_lane(text, 0, options.starts);
  std::vector<double> lambda = start;
  std::vector<std::vector<double>> expected;
  std::vector<double> predicted;
  for (int trip = 0; trip < trips; ++trip) {
    kernels::Workspace<double*> w;
    w.lambda = lambda.data();
    w.gradient = gradient[trip].data();
    w.hessian = hessian[trip].data();
    w.information = information[trip].data();
    (void)kernels::newton_trip(s, w, text, kernels::Evaluation<double>{deviance[trip], 1.0, true}, true, options,
                               start.data());
    expected.push_back(lambda);
    predicted.push_back(text.predicted);
  }

  // Act, assert: each instruction set
  for (const kernels::CpuKernels* isa : kernels::all_cpu_kernels()) {
    SCOPED_TRACE(isa->name);
    std::vector<double> own(isa->newton->doubles(s));
    kernels::OneNewton one = isa->newton->lay_out(s, own.data());
    std::copy(start.begin(), start.end(), one.lambda);
    one.begin();
    for (int trip = 0; trip < trips; ++trip) {
      std::copy(gradient[trip].begin(), gradient[trip].end(), one.gradient);
      std::copy(hessian[trip].begin(), hessian[trip].end(), one.hessian);
      std::copy(information[trip].begin(), information[trip].end(), one.information);
      (void)isa->newton->trip(s, one, deviance[trip], 1.0, true, options, start.data());
      EXPECT_EQ(std::vector<double>(one.lambda, one.lambda + s.lambdas), expected[trip]) << "trip " << trip;
      EXPECT_EQ(one.predicted, predicted[trip]) << "trip " << trip;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Columns, OneNewton, ::testing::Values(1, 2, 3, 8));

}  // namespace
}  // namespace batchlmm

/// @file
/// Random designs for the shared factorization, and its engine on them.
#pragma once

#include <algorithm>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "host/batch/chunk_buffers.hpp"
#include "host/batch/embedding.hpp"
#include "host/batch/shared_factorization_engine.hpp"
#include "tests/bootstrap_cases.hpp"

namespace batchlmm::oracle {

/// A random design, row by row: grouping factors with scalar random effects, an intercept and further columns of X.
class DesignBuilder {
public:
  explicit DesignBuilder(std::uint64_t seed) : generator_(seed), model_(std::make_shared<ModelMatrices>()) {}

  [[nodiscard]] int pick(int n) { return static_cast<int>(generator_() % static_cast<std::uint64_t>(n)); }
  [[nodiscard]] double normal() { return normal_(generator_); }
  /// All combinations of two factors, without a share of the rows.
  DesignBuilder& cross(int a, int b, double missing) {
    levels_.resize(2);
    for (int i = 0; i < a; ++i)
      for (int j = 0; j < b; ++j)
        // One row of every level stays.
        if (i % b == j || j % a == i || pick(1000) >= 1000 * missing) {
          levels_[0].push_back(i);
          levels_[1].push_back(j);
        }
    return *this;
  }
  /// Two factors whose levels have from one to many rows.
  DesignBuilder& skew(int a, int b, int rows) {
    levels_.resize(2);
    for (int i = 0; i < rows; ++i) {
      const double u = pick(1000) / 1000.0, v = pick(1000) / 1000.0;
      levels_[0].push_back(i < a ? i : static_cast<int>(a * u * u * u));
      levels_[1].push_back(i < b ? i : static_cast<int>(b * v * v * v));
    }
    return *this;
  }
  DesignBuilder& factor(const std::vector<int>& level_of_row) {
    levels_.push_back(level_of_row);
    return *this;
  }
  [[nodiscard]] const std::vector<int>& levels(int f) const { return levels_[f]; }

  /// @param slopes  a term of slopes on the first factor too, apart from the intercepts
  std::shared_ptr<ModelMatrices> finish(int p, bool slopes = false) {
    ModelMatrices& m = *model_;
    const auto n = static_cast<Eigen::Index>(levels_[0].size());
    m.formula = "random";
    m.offset = Eigen::VectorXd::Zero(n);
    m.X = Eigen::MatrixXd::NullaryExpr(n, p, [&] { return normal(); });
    m.X.col(0).setOnes();
    m.y = Eigen::VectorXd::NullaryExpr(n, [&] { return normal(); });
    for (Eigen::Index i = 0; i < n; ++i) m.rows.push_back(static_cast<std::size_t>(i));
    for (const std::vector<int>& of_row : levels_) {
      RandomTerm term;
      term.group = "factor " + std::to_string(m.random.size());
      term.names = {"(Intercept)"};
      term.level_of_row.assign(of_row.begin(), of_row.end());
      for (int l = 0; l <= *std::max_element(of_row.begin(), of_row.end()); ++l)
        term.levels.push_back(std::to_string(l));
      term.z = Eigen::MatrixXd::Ones(n, 1);
      m.random.push_back(term);
    }
    if (slopes) {
      RandomTerm term = m.random.front();
      term.names = {"slope"};
      term.z = Eigen::MatrixXd::NullaryExpr(n, 1, [&] { return normal(); });
      m.random.push_back(std::move(term));
    }
    return model_;
  }

private:
  std::mt19937_64 generator_;
  std::normal_distribution<double> normal_;
  std::shared_ptr<ModelMatrices> model_;
  std::vector<std::vector<int>> levels_;
};

inline std::shared_ptr<ModelMatrices> without_last_columns(const ModelMatrices& m, Eigen::Index count) {
  auto smaller = std::make_shared<ModelMatrices>(m);
  smaller->X = m.X.leftCols(m.X.cols() - count).eval();
  return smaller;
}
inline std::shared_ptr<ModelMatrices> without_last_term(const ModelMatrices& m) {
  auto smaller = std::make_shared<ModelMatrices>(m);
  smaller->random.pop_back();
  return smaller;
}

/// Two models (or one, to refit) with both tiers' engines.
struct InterpolantCase {
  /// @param lambda  generating value of each of the null's terms, in the model's order
  InterpolantCase(std::string what, const std::shared_ptr<ModelMatrices>& m0, const std::shared_ptr<ModelMatrices>& m1,
                  const std::vector<double>& lambda, Method method = Method::ml,
                  double reach = SharedFactorization::default_reach)
      : name(std::move(what)), full(std::make_unique<Model>(m1, method)) {
    if (m0 != m1) other = std::make_unique<Model>(m0, method);
    null = m0 != m1 ? other.get() : full.get();
    if (null == full.get()) {
      for (int b = 0; b < null->shape().terms; ++b) {
        embedding.term.push_back(b);
        embedding.column.push_back(0);
        embedding.map.push_back(1);
      }
    } else {
      embedding = embed(*null, *full);
    }
    models.null = null;
    models.full = full.get();
    models.embedding = &embedding;
    for (int b = 0; b < null->shape().terms; ++b) {
      const Eigen::MatrixXd user = Eigen::MatrixXd::Constant(1, 1, lambda[null->term_of(b)]);
      models.lambda.push_back(null->from_user_lambda(b, user)(0, 0));
    }
    models.seed = 11;
    engine = std::make_unique<SharedFactorizationEngine>(models, reach);
  }

  [[nodiscard]] ChunkBuffers run(const ReplicateEngine& with, std::uint64_t first, std::uint64_t n,
                                 bool parameters = false) const {
    ChunkBuffers buffers;
    buffers.resize(null->shape(), models.refit() ? nullptr : &full->shape(), first, n, parameters);
    with.run({}, parameters, buffers.chunk);
    return buffers;
  }

  std::string name;
  std::unique_ptr<Model> other, full;
  const Model* null = nullptr;
  Embedding embedding;
  BootstrapModels models;
  std::unique_ptr<SharedFactorizationEngine> engine;
};

inline std::shared_ptr<ModelMatrices> crossed_design() { return DesignBuilder(2).cross(40, 24, 0.1).finish(4); }
inline InterpolantCase crossed_case() {
  const auto m = crossed_design();
  return {"crossed", without_last_columns(*m, 1), m, {0.4, 0.5}};
}
/// Designs with one to three terms, tested columns, a tested term, and refits.
inline std::list<InterpolantCase> interpolant_cases() {
  std::list<InterpolantCase> cases;  // they stay where they are: they point into themselves
  const auto crossed = crossed_design();
  cases.emplace_back("crossed", without_last_columns(*crossed, 1), crossed, std::vector<double>{0.4, 0.5});
  cases.emplace_back("a random effect is tested", without_last_term(*crossed), crossed, std::vector<double>{0.5});
#if !defined(__SANITIZE_ADDRESS__)
  // The other coordinate of the variance ratios.
  const auto skewed = DesignBuilder(3).skew(50, 20, 600).finish(4);
  cases.emplace_back("three tested columns", without_last_columns(*skewed, 3), skewed, std::vector<double>{0.5, 0.2});
  cases.emplace_back("a variance is zero", without_last_columns(*crossed, 1), crossed, std::vector<double>{0.0, 0.4});
  cases.emplace_back("refit", crossed, crossed, std::vector<double>{0.4, 0.5});
  cases.emplace_back("refit, REML", crossed, crossed, std::vector<double>{0.4, 0.5}, Method::reml);
  DesignBuilder single(6);
  std::vector<int> level;
  level.reserve(240);
  for (int i = 0; i < 240; ++i) level.push_back(i < 60 ? i : single.pick(60));
  const auto s = single.factor(level).finish(5);
  cases.emplace_back("single factor", without_last_columns(*s, 2), s, std::vector<double>{0.5});
#endif
  const auto slopes = DesignBuilder(8).cross(30, 12, 0.2).finish(3, true);
  cases.emplace_back("independent slopes", without_last_columns(*slopes, 1), slopes,
                     std::vector<double>{0.5, 0.4, 0.3});
  return cases;
}
/// Results of a chunk with the memory that they stand in.
struct InterpolantResults {
  InterpolantResults(const InterpolantCase& c, std::uint64_t first, std::uint64_t n)
      : null(c.null->shape(), n), full(c.full->shape(), n), refused(n, 9) {
    chunk.first = first;
    chunk.count = n;
    chunk.null = null.pointers();
    if (!c.models.refit()) chunk.full = full.pointers();
  }
  ResultArrays null, full;
  std::vector<std::uint8_t> refused;
  kernels::BootstrapChunk chunk;
};

}  // namespace batchlmm::oracle

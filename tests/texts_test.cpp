// The texts of the evaluation agree: those for crossed terms with the general elimination to rounding, sizes known at
// compile time with sizes known at run time to the bit.
#include "kernels/texts.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "host/data/read.hpp"
#include "kernels/cpu.hpp"
#include "kernels/tile.hpp"
#include "tests/bootstrap_cases.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;
using oracle::ResultArrays;

/// What an evaluation leaves.
struct Outcome {
  double deviance = 0, r2 = 0;
  std::vector<double> gradient, hessian, information, beta;
};

template <class Text>
Outcome evaluate_by(const Model& model, const std::vector<double>& response, const std::vector<double>& lambda) {
  const typename Text::Sizes sizes(model.shape());
  const kernels::Shape& s = model.shape();
  kernels::Arena<double*> count{nullptr};
  (void)kernels::make_workspace(sizes, count);
  std::vector<double> memory(count.used, std::nan(""));  // nothing may be read before it is written
  kernels::Arena<double*> arena{memory.data()};
  const auto w = kernels::make_workspace(sizes, arena);
  std::copy(lambda.begin(), lambda.end(), w.lambda);
  const auto e = Text::template evaluate_lanes<double>(sizes, model.design(), response.data(), w);
  EXPECT_TRUE(e.ok);
  const auto m = s.parameters, packed = kernels::triangle_size(m);
  return {e.deviance,
          e.r2,
          {w.gradient, w.gradient + m},
          {w.hessian, w.hessian + packed},
          {w.information, w.information + packed},
          {w.beta, w.beta + s.p}};
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double tolerance, const char* what) {
  double scale = 1e-3;
  for (double x : b) scale = std::max(scale, std::abs(x));
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance * scale) << what << " " << i;
}

TEST(Texts, CrossedInterceptsAreTheGeneralElimination) {
  for (Kind kind : {Kind::crossed, Kind::partially_crossed})
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      // Arrange
      const Model model(oracle::random_model(kind, 1, seed), Method::ml);
      if (!kernels::is_crossed_intercepts(model.shape())) continue;
      const std::vector<double> response = model.response(model.matrices().y);
      for (const auto& [l0, l1] :
           {std::pair{0.0, 0.0}, {0.5, 0.0}, {0.0, 0.7}, {0.3, 1.5}, {20.0, 0.02}, {3.0, 40.0}}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(kind) << " seed " << seed << " at " << l0 << " " << l1);

        // Act
        const Outcome crossed = evaluate_by<kernels::CrossedText>(model, response, {l0, l1});
        const Outcome general = evaluate_by<kernels::StreamingText<0>>(model, response, {l0, l1});

        // Assert
        EXPECT_NEAR(crossed.deviance, general.deviance, 1e-10 * (1 + std::abs(general.deviance)));
        EXPECT_NEAR(crossed.r2, general.r2, 1e-11 * general.r2);
        expect_near(crossed.beta, general.beta, 1e-9, "beta");
        expect_near(crossed.gradient, general.gradient, 1e-9, "gradient");
        expect_near(crossed.hessian, general.hessian, 1e-8, "hessian");
        expect_near(crossed.information, general.information, 1e-8, "information");
      }
    }
}

/// The model, with one column less in the first or the second term.
std::shared_ptr<ModelMatrices> without_slope(const ModelMatrices& m, int term) {
  auto less = std::make_shared<ModelMatrices>(m);
  RandomTerm& t = less->random[term];
  t.z = t.z.leftCols(t.z.cols() - 1).eval();
  t.names.pop_back();
  return less;
}

/// Evaluations by the text of these columns and by the general elimination agree.
/// @return whether the model has the text
template <int K1, int K2>
bool expect_crossed_terms(const std::shared_ptr<const ModelMatrices>& m, Method method, std::mt19937_64& rng) {
  const Model model(m, method);
  const kernels::Shape& s = model.shape();
  if (!kernels::is_crossed_terms<K1, K2>(s)) return false;
  const std::vector<double> response = model.response(model.matrices().y);
  std::normal_distribution<double> normal;
  for (const double scale : {0.0, 0.1, 1.0, 30.0})
    for (const bool singular : {false, true}) {
      SCOPED_TRACE(testing::Message() << "at " << scale << (singular ? ", singular" : ""));
      std::vector<double> lambda(s.lambdas);
      for (double& x : lambda) x = scale * normal(rng);
      if (singular)
        for (int b = 0; b < s.terms; ++b)
          for (int i = 0; i < s.term[b].k; ++i) lambda[s.term[b].lambda + (i + 1) * s.term[b].k - 1] = 0;

      const Outcome crossed = evaluate_by<kernels::CrossedTermsText<K1, K2>>(model, response, lambda);
      const Outcome general = evaluate_by<kernels::StreamingText<0>>(model, response, lambda);

      EXPECT_NEAR(crossed.deviance, general.deviance, 1e-10 * (1 + std::abs(general.deviance)));
      EXPECT_NEAR(crossed.r2, general.r2, 1e-10 * general.r2);
      expect_near(crossed.beta, general.beta, 1e-9, "beta");
      expect_near(crossed.gradient, general.gradient, 1e-9, "gradient");
      expect_near(crossed.hessian, general.hessian, 1e-8, "hessian");
      expect_near(crossed.information, general.information, 1e-8, "information");
    }
  return true;
}

TEST(Texts, CrossedTermsAreTheGeneralElimination) {
  std::mt19937_64 rng(5);
  int of_2_2 = 0, of_2_1 = 0, of_1_2 = 0;
  for (Kind kind : {Kind::crossed, Kind::partially_crossed})
    for (Method method : {Method::ml, Method::reml})
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(kind) << " seed " << seed << ", REML "
                                        << (method == Method::reml));
        const auto m = oracle::random_model(kind, 2, seed);
        of_2_2 += expect_crossed_terms<2, 2>(m, method, rng);
        of_2_1 += expect_crossed_terms<2, 1>(m, method, rng);
        if (kind != Kind::crossed) continue;
        of_2_1 += expect_crossed_terms<2, 1>(without_slope(*m, 1), method, rng);
        of_1_2 += expect_crossed_terms<1, 2>(without_slope(*m, 0), method, rng);
      }
  EXPECT_GT(of_2_2, 30);
  EXPECT_GT(of_2_1, 10);
  EXPECT_GT(of_1_2, 10);
}

/// Fits by the lanes of every instruction set, whatever text they take, have the bits of `Text` on doubles.
template <class Text>
void expect_lanes_have_the_bits(const Model& model, const std::shared_ptr<const ModelMatrices>& matrices) {
  const kernels::Shape& s = model.shape();
  constexpr int items = 50;
  std::mt19937_64 rng(11);
  std::normal_distribution<double> normal;
  std::vector<double> responses, start(s.lambdas, 0.0);
  for (int b = 0; b < s.terms; ++b)
    for (int i = 0; i < s.term[b].k; ++i) start[s.term[b].lambda + i * s.term[b].k + i] = 0.5;
  const double spread = std::sqrt((matrices->y.array() - matrices->y.mean()).square().mean());
  for (int i = 0; i < items; ++i) {
    Eigen::VectorXd y = (i % 4 == 0 ? 0.0 : 1.0) * matrices->y;
    for (Eigen::Index r = 0; r < y.size(); ++r) y[r] += spread * normal(rng);
    const std::vector<double> one = model.response(y);
    responses.insert(responses.end(), one.begin(), one.end());
  }
  ResultArrays plain(s, items);
  const kernels::Design<double> design = model.design();
  kernels::FitJob job;
  job.shape = &s;
  job.design = &design;
  job.items = items;
  job.response = responses.data();
  job.first_start = job.starts = start.data();
  job.parameters = true;
  kernels::FitItems by_doubles{
      job.design,      nullptr,     job.items, {job.response, static_cast<std::size_t>(s.response), 1},
      job.first_start, true,        nullptr,   job.starts,
      nullptr,         job.options, true,      plain.pointers()};
  kernels::Tile<double, double, Text>(s).fit(by_doubles);
  for (const kernels::CpuKernels* cpu : kernels::all_cpu_kernels()) {
    ResultArrays lanes(s, items);
    job.results = lanes.pointers();
    cpu->fit(job);
    EXPECT_EQ(oracle::differing_items(plain, lanes), 0U) << cpu->name;
  }
  EXPECT_GT(std::count_if(plain.status.begin(), plain.status.end(), [](auto status) { return status <= 1; }),
            items * 9 / 10);
}

TEST(Texts, SizesKnownAtCompileTimeChangeNoBitOfSingleFactors) {
  for (int k : {1, 2, 3})
    for (int p : {1, 2, 3})
      for (Method method : {Method::ml, Method::reml}) {
        SCOPED_TRACE(testing::Message() << "k " << k << ", p " << p << ", REML " << (method == Method::reml));
        std::uint64_t seed = 0;
        std::shared_ptr<ModelMatrices> m;
        do m = oracle::random_model(Kind::single, k, seed++);
        while (m->X.cols() != p);
        const Model model(m, method);
        if (k == 1)
          expect_lanes_have_the_bits<kernels::StreamingText<1>>(model, m);
        else
          expect_lanes_have_the_bits<kernels::StreamingText<0>>(model, m);
      }
}

TEST(Texts, LanesChangeNoBitOfCrossedFactors) {
  const Table table = read_table(std::string(BATCHLMM_TEST_DATA) + "/politeness.csv");
  for (const char* fixed : {"gender", "attitude + gender"}) {
    const auto slopes = std::make_shared<ModelMatrices>(model_matrices(
        parse_formula("frequency ~ " + std::string(fixed) + " + (1 + attitude|subject) + (1 + attitude|scenario)"),
        table));
    for (Method method : {Method::ml, Method::reml})
      expect_lanes_have_the_bits<kernels::CrossedTermsText<2, 2>>(Model(slopes, method), slopes);
    const auto one_slope = std::make_shared<ModelMatrices>(model_matrices(
        parse_formula("frequency ~ " + std::string(fixed) + " + (1|subject) + (1 + attitude|scenario)"), table));
    expect_lanes_have_the_bits<kernels::CrossedTermsText<2, 1>>(Model(one_slope, Method::ml), one_slope);
    const auto intercepts = std::make_shared<ModelMatrices>(
        model_matrices(parse_formula("frequency ~ " + std::string(fixed) + " + (1|subject) + (1|scenario)"), table));
    expect_lanes_have_the_bits<kernels::CrossedText>(Model(intercepts, Method::ml), intercepts);
    expect_lanes_have_the_bits<kernels::StreamingText<1>>(Model(intercepts, Method::reml), intercepts);
  }
}

}  // namespace
}  // namespace batchlmm

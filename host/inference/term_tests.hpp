/// @file
/// F tests of the fixed-effects terms and of contrasts: lmerTest's `anova` of one model, `contest`, `contest1D`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "host/inference/fit.hpp"
#include "host/model/small_sample.hpp"
#include "host/model/term_hypotheses.hpp"

namespace batchlmm {

/// One term of the table; none of the numbers where the model has no coefficient of it.
struct TermTest {
  std::string term;
  std::optional<FTest> test;
  double mean_square = 0, sum_square = 0;  ///< F (without Kenward and Roger's factor) times sigma^2, and times df1
};

/// A user's contrasts: one row has a `t` test with an interval, several have an F test alone.
struct ContrastResult {
  std::string text;  ///< as given
  FTest f;
  std::optional<ContrastTest> t;
  double conf_low = 0, conf_high = 0;  ///< of one row
};

struct TermTests {
  Fit fit;
  SmallSample method = SmallSample::satterthwaite;
  TermTestType type = TermTestType::three;
  double level = 0.95;  ///< of the contrasts' intervals
  std::vector<TermTest> terms;
  std::vector<ContrastResult> contrasts;
};

/// @param hypotheses  of the fit's model
/// @param contrasts   texts as contrast_matrix takes them
/// @throws ModelError for Kenward-Roger of a fit by ML, InputError for a contrast that cannot be read
TermTests test_terms(Fit fit, const std::vector<TermHypothesis>& hypotheses, TermTestType type, SmallSample method,
                     const std::vector<std::string>& contrasts = {}, double level = 0.95);

/// As lmerTest prints `anova(model)`, then the contrasts.
std::string term_tests_text(const TermTests& tests);
/// The same facts in full precision, closed by a newline.
std::string term_tests_json(const TermTests& tests);
/// Columns term, sumsq, meansq, NumDF, DenDF, statistic, p.value (broom's of an anova table); the contrasts follow.
std::string term_tests_csv(const TermTests& tests);

}  // namespace batchlmm

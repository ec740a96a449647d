/// @file
/// Exact likelihood-ratio and restricted likelihood-ratio test of a model's one variance component, by simulation from
/// the statistic's finite-sample law (Crainiceanu and Ruppert 2004; Greven, Crainiceanu, Kuechenhoff and Peters 2008;
/// what RLRsim's exactLRT and exactRLRT do, with the supremum found exactly in each draw).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "host/inference/fit.hpp"
#include "host/inference/spectral_law.hpp"

namespace batchlmm {

struct ExactOptions {
  Method method = Method::reml;
  std::uint64_t draws = 1'000'000;
  std::uint64_t seed = 1;
  int threads = 0;                                                        ///< 0: all cores
  bool keep = false;                                                      ///< ExactTest::statistics is wanted
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;  ///< one call at a time; may be empty
};

struct ExactTest {
  Fit full;                   ///< by the test's method
  std::string null;           ///< the null's formula
  double null_criterion = 0;  ///< of ordinary least squares
  int dropped = 0;            ///< fixed effects that the null lacks
  double statistic = 0;
  std::vector<Eigenvalue> eigenvalues;  ///< of Z'PZ
  std::uint64_t draws = 0, extreme = 0, zeros = 0, searched = 0;
  double p = 0;                      ///< (1 + extreme) / (1 + draws)
  std::array<double, 2> interval{};  ///< 95 % Monte-Carlo (Clopper-Pearson) interval of the p-value
  double p_closed = 0;               ///< by the F law where the statistic is a function of an F variate; else NaN
  double zero_closed = 0;            ///< probability of the statistic 0, alike
  double p_mixture = 0;  ///< half chi-square with `dropped` and half with one more: independent data's limit
  double mean = 0;       ///< of the draws
  std::array<double, 3> quantiles{};  ///< 90, 95, 99 %; NaN where the draws were too many to be kept
  std::uint64_t seed = 0;
  int threads = 1;
  double seconds = 0, draws_per_second = 0;  ///< of the draws
  std::vector<double> statistics;            ///< by draw, where asked for
};

/// Tests that the variance of the model's random effects is 0.
/// @param null  the same response and rows, the random-effects term of `full` (not used), and some of its fixed effects
///              or all; null: all. With fewer fixed effects the test is by ML whatever the options say.
/// @throws ModelError where the model has more variance parameters than one, where the null is not nested, where no
///                    residual degrees of freedom are left
ExactTest exact_test(std::shared_ptr<const ModelMatrices> full, const std::shared_ptr<const ModelMatrices>& null,
                     const ExactOptions& options);

}  // namespace batchlmm

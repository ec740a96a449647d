/// @file
/// The law that a likelihood-ratio statistic has in large samples under the smaller model.
#pragma once

#include <string>

namespace batchlmm {

class Model;
struct Embedding;

enum class LawKind {
  chi_square,  ///< inside the parameter space: fixed effects, covariances
  mixture,     ///< one variance is 0 under the null: chi-square with `df` and `df + 1`, half each
  none         ///< several variances are 0 under the null: no law that the models' structure alone would give
};

struct ReferenceLaw {
  LawKind kind = LawKind::chi_square;
  /// Degrees of freedom; of the smaller component of a mixture; of the chi-square that is too large where there is
  /// none.
  int df = 0;
  int fixed_effects = 0, variances = 0, covariances = 0;  ///< that are tested

  /// "chi-square with 1 df: no variance is tested", ...
  [[nodiscard]] std::string description() const;
};

/// Self & Liang (1987, JASA 82, cases 5 and 6) and Stram & Lee (1994, Biometrics 50): where one random effect with q
/// covariances is added to a term, half chi-square with q and half with q + 1 degrees of freedom; fixed effects add
/// theirs to both. The other variances are taken to be positive.
/// @param null  with the full model's terms where `embedding.null_at_zero`
ReferenceLaw reference_law(const Model& null, const Model& full, const Embedding& embedding);

/// P(statistic or more) by the law; the chi-square of `df` where there is none.
double p_value(const ReferenceLaw& law, double statistic);

/// P(chi-square with df or more); df = 0 is the law of 0.
double chi_square_p(int df, double statistic);

}  // namespace batchlmm

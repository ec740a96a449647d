/// @file
/// How a smaller model stands inside a larger one: the check that they are nested, and where the smaller one's
/// covariance parameters go.
#pragma once

#include <vector>

#include "host/model/model.hpp"

namespace batchlmm {

/// Null term b fills the columns column[b], ... of the full model's kernel term term[b], as map * lambda_null.
struct Embedding {
  std::vector<int> term, column;  ///< per kernel term of the null
  std::vector<double> map;        ///< per kernel term of the null, k_full x k_null row-major, one after the other
  /// The null has no random effects: it is given the full model's, whose variances stay at 0.
  bool null_at_zero = false;

  /// The null's lambdas (kernels' order and gauge) as the full model's; zero where the null has nothing.
  [[nodiscard]] std::vector<double> apply(const Model& null, const Model& full,
                                          const std::vector<double>& lambda) const;
};

/// @throws ModelError saying what is not nested: the response, the rows, a fixed-effects column, a random-effects term
Embedding embed(const Model& null, const Model& full);
/// The same for a null without random effects.
/// @param null  with the full model's random effects in place of those that it does not have
Embedding embed_at_zero(const Model& null, const Model& full);
/// One model inside itself.
Embedding identity_embedding(const Model& model);

}  // namespace batchlmm

#include "host/model/contrasts.hpp"

#include <numeric>

#include "host/model/orthogonal_polynomials.hpp"

namespace batchlmm {

Coding contrast_coding(Contrast contrast, const Factor& factor) {
  const auto levels = static_cast<Eigen::Index>(factor.levels.size());
  Coding coding;
  coding.matrix = Eigen::MatrixXd::Zero(levels, levels - 1);
  for (Eigen::Index j = 0; j + 1 < levels; ++j) coding.suffixes.push_back(std::to_string(j + 1));
  switch (contrast) {
    case Contrast::treatment:  // against the first level
      coding.matrix.bottomRows(levels - 1).setIdentity();
      coding.suffixes.assign(factor.levels.begin() + 1, factor.levels.end());
      break;
    case Contrast::sum:  // against the mean; the last level is minus the sum of the others
      coding.matrix.topRows(levels - 1).setIdentity();
      coding.matrix.row(levels - 1).setConstant(-1);
      break;
    case Contrast::helmert:  // each level against the mean of those before it
      for (Eigen::Index j = 0; j + 1 < levels; ++j) {
        coding.matrix.col(j).head(j + 1).setConstant(-1);
        coding.matrix(j + 1, j) = static_cast<double>(j + 1);
      }
      break;
    case Contrast::polynomial:  // over equally spaced levels
      coding.matrix = orthogonal_polynomials(Eigen::VectorXd::LinSpaced(levels, 1, static_cast<double>(levels)),
                                             static_cast<int>(levels - 1));
      for (Eigen::Index j = 0; j + 1 < levels; ++j)
        coding.suffixes[static_cast<std::size_t>(j)] =
            j < 3 ? std::string(".") + "LQC"[j] : "^" + std::to_string(j + 1);
      break;
  }
  return coding;
}

Coding full_coding(const Factor& factor) {
  const auto levels = static_cast<Eigen::Index>(factor.levels.size());
  return {Eigen::MatrixXd::Identity(levels, levels), factor.levels};
}

}  // namespace batchlmm

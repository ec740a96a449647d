/// @file
/// Assembles the constants of the bootstrap's draws (kernels/sampler.hpp) from a model: the factor F of its projected
/// columns, stage by stage.
#pragma once

#include <Eigen/Core>
#include <array>
#include <vector>

#include "host/model/model.hpp"
#include "kernels/sampler.hpp"

namespace batchlmm {

/// Owns what kernels::Sampler points to.
class SamplerData {
public:
  /// @param full    the larger model; it gives the coordinates of the draws
  /// @param null    the generating model, nested in `full`
  /// @param lambda  generating factors of `full`'s terms (all, row-major)
  /// @throws ModelError where the null's random effects differ from the full's and the map between them would not fit
  /// in memory
  SamplerData(const Model& full, const Model& null, std::vector<double> lambda);
  SamplerData(const SamplerData&) = delete;
  SamplerData& operator=(const SamplerData&) = delete;

  [[nodiscard]] const kernels::Sampler& sampler() const { return sampler_; }

private:
  void factor_columns(const Model& full, const Eigen::MatrixXd& carried);

  kernels::Sampler sampler_;
  std::vector<double> lambda_, null_x_, null_map_;
  std::vector<int> streamed_rank_;
  std::array<std::vector<int>, kernels::max_stages> row_begin_;
  std::array<std::vector<double>, kernels::max_stages> row_;
  Eigen::MatrixXd map_;  ///< coordinates x carried columns, filled as the coordinates are found
};

/// Same random-effects terms on the same rows, in the same order.
bool same_random_effects(const Model& a, const Model& b);

}  // namespace batchlmm

/// @file
/// From certified strata (host/model/symmetry.hpp) to what the kernels of tier 1 take: the blocks of both models with
/// their fixed effects projected off, and the draws of their records.
#pragma once

#include <Eigen/Core>
#include <deque>
#include <memory>
#include <vector>

#include "host/batch/engine.hpp"
#include "host/model/symmetry.hpp"
#include "kernels/strata_contrasts.hpp"
#include "kernels/strata_sampler.hpp"

namespace batchlmm {

/// The design of both models with its missing rows filled in, and its strata.
struct StrataDesign {
  const Model* complete = nullptr;  ///< the full model on all rows
  const Strata* strata = nullptr;   ///< of `complete`
  Eigen::MatrixXd null_x, full_x;   ///< N x p: the models' columns in their own gauges, filled in
  std::vector<int> missing;         ///< rows of `complete` that were not observed
};

/// Owns what kernels::StrataModel and kernels::StrataSampler point to.
class StrataData {
public:
  /// @throws ComputationError where the generating covariance cannot be factored
  StrataData(const BootstrapModels& models, const StrataDesign& design);
  StrataData(const StrataData&) = delete;
  StrataData& operator=(const StrataData&) = delete;

  [[nodiscard]] const kernels::StrataModel& null_model() const { return null_.model; }
  [[nodiscard]] const kernels::StrataModel& full_model() const { return full_.model; }
  [[nodiscard]] const kernels::StrataSampler& sampler() const { return sampler_; }

  /// The record of a response.
  /// @param y  N, the offset and large fitted values taken off; what stands in missing rows does not matter
  [[nodiscard]] std::vector<double> record(bool full, const Eigen::VectorXd& y) const;
  /// Orthonormal columns whose products with a response are its coordinates: those of a draw, in its order; then,
  /// stratum by stratum and copy by copy, those of the free copies. N x all of them; together they span the range of Z
  /// and of what is touched outside of it.
  [[nodiscard]] Eigen::MatrixXd coordinate_basis() const;
  /// All fixed effects of a model, in its gauge, and the indicator columns.
  [[nodiscard]] const kernels::StrataFixed& fixed(bool full) const { return (full && !refit_ ? full_ : null_).fixed; }

private:
  /// A copy of a stratum's R^m: an orthonormal direction; the columns of StratumCopies::touched.
  struct StratumCopies {
    int d = 1, m = 1, coordinates = 0, wishart = 0;
    Eigen::MatrixXd touched;                  ///< m x q
    std::vector<Eigen::MatrixXd> indicators;  ///< per touched copy: d x k, coordinates of the indicator columns
    /// V_s = I + sum over groups of C T C': the complete model's terms and gauge.
    std::vector<int> group_term;
    std::vector<Eigen::MatrixXd> c;  ///< d x k each
  };
  /// One of the two models.
  struct Side {
    const Model* source = nullptr;
    Eigen::MatrixXd q;                            ///< N x p: orthonormal basis of X
    Eigen::MatrixXd r;                            ///< p x p: X = q r
    std::vector<int> complete_term;               ///< per kernel term: the complete model's kernel term that holds it
    std::vector<Eigen::MatrixXd> term_map;        ///< per kernel term: k_complete x k
    Eigen::MatrixXd spread;                       ///< p x u: combinations of q that lie in no single copy
    std::vector<Eigen::MatrixXd> aligned;         ///< per stratum, the residual one last: p x n_s
    std::vector<std::vector<Eigen::MatrixXd>> x;  ///< per stratum and touched copy: d x p, coordinates of q
    Eigen::MatrixXd residual_x;                   ///< touched residual coordinates x p
    kernels::StrataModel model;
    kernels::RecordMap map;
    kernels::StrataFixed fixed;
    // Memory of all.
    std::deque<std::vector<double>> doubles;
    std::deque<std::vector<int>> ints;
    std::vector<kernels::StrataBlock> blocks;
    std::vector<kernels::BlockRecord> records;
    std::vector<kernels::FixedStratum> fixed_strata;
  };

  void read_side(Side& side, const Model& source, const Eigen::MatrixXd& x);
  void split_fixed_effects(Side& side) const;
  void factor_generators(StratumCopies& copies, const Stratum& stratum) const;
  void touch_copies(std::size_t s);
  void touch_residual();
  /// V = I + sum C T C' of a stratum reduced to some of its directions: columns, groups and (d = 1) generators.
  void set_covariance(Side& side, const StratumCopies& copies, const Eigen::MatrixXd& reduce,
                      kernels::StrataBlock& block) const;
  void make_blocks(Side& side);
  void make_fixed(Side& side);
  void make_sampler(const BootstrapModels& models);
  void make_moments(Side& side, const double* lambda);
  [[nodiscard]] Eigen::MatrixXd covariance(const Side& side, const StratumCopies& copies, const double* lambda) const;
  [[nodiscard]] Eigen::MatrixXd stratum_coordinates(std::size_t s, const Eigen::MatrixXd& columns) const;
  [[nodiscard]] Eigen::MatrixXd residual_part(Eigen::MatrixXd columns) const;

  const Model* complete_;
  const Strata* strata_;
  std::vector<int> missing_;
  Eigen::MatrixXd indicators_;  ///< N x k
  Side null_, full_;
  bool refit_ = false;
  std::vector<StratumCopies> copies_;
  Eigen::MatrixXd residual_touched_;     ///< N x q_0, orthonormal
  Eigen::MatrixXd residual_indicators_;  ///< q_0 x k
  kernels::StrataSampler sampler_;
  std::vector<kernels::SampledStratum> sampled_;
  std::deque<std::vector<double>> factors_;
};

}  // namespace batchlmm

/// @file
/// Replicates of a fitted model's data that are no draws from it: responses with its modes kept, from its own residuals
/// and modes, with signs of residuals exchanged, and rows drawn anew.
///
/// All numbers come from Philox keyed by (seed, replicate): a replicate is a pure function of (fit, options, seed,
/// index).
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/inference/fit.hpp"

namespace batchlmm {

/// How a bootstrap's replicates come about.
enum class BootstrapType : std::uint8_t { parametric, use_u, residual, wild, cases, block };
/// @return "parametric", "use-u", "residual", "wild", "case", "block"
const char* bootstrap_type_name(BootstrapType type);
/// @return the type of this name; "reb" is "block", "use.u" is "use-u"
/// @throws InputError for any other name
BootstrapType bootstrap_type_of_name(const std::string& name);

struct ResampleOptions {
  enum class WildWeights : std::uint8_t { mammen, rademacher, webb, normal };
  enum class Correction : std::uint8_t { hc2, hc3 };
  WildWeights weights = WildWeights::mammen;
  Correction correction = Correction::hc3;
  int reb_type = 0;  ///< of the block bootstrap: 0, 1, or 2: 0 with what block_adjustment.hpp does
  /// Grouping factors whose levels the case bootstrap draws, and "rows" for the rows within; empty: the outermost
  /// factor.
  std::vector<std::string> cases;
};

/// The clusters of rows that are independent under the model.
struct Clusters {
  std::string factor;                  ///< grouping factor
  std::vector<std::int32_t> of_row;    ///< n
  std::vector<std::vector<int>> rows;  ///< per cluster
};
/// The levels of the outermost grouping factor, in which all others are nested; none where there is no such factor
/// (crossed factors).
std::unique_ptr<Clusters> independent_clusters(const ModelMatrices& model);

/// Draws responses on the fit's own design:
/// - use-u: y* = X beta + Z b + sigma e with the fit's modes b and standard normal e (lme4's `bootMer(use.u = TRUE)`);
/// - residual: y* = X beta + Z b* + e*, b* levels and e* rows drawn with replacement from the modes and residuals,
///   which are centred and reflated first, so that their empirical covariances are the estimated ones (Carpenter,
///   Goldstein and Rasbash 2003, J. R. Stat. Soc. C 52, section 3.2; Morris 2002 on why they must be);
/// - wild: y* = X beta + w_g r / (1 - h)^d with marginal residuals r, h the diagonal of X(X'X)^{-1}X', d = 1/2 (HC2) or
///   1 (HC3), and one weight w_g a cluster (Modugno and Giannerini 2015, Commun. Stat. Theory 44): Mammen's (1993) two
///   points, Rademacher signs, Webb's (2023) six points, or normal;
/// - block: y* = X beta + Z u* + e*, u by least squares of the marginal residuals within each level, u* levels of these
///   drawn with replacement, e* for each level drawn with replacement from what is left in one level drawn for it
///   (Chambers and Chandra 2013, J. Comput. Graph. Stat. 22, section 2); type 1 centres and reflates u and e before.
class ResponseResampler {
public:
  /// @param fit   kept by reference
  /// @param type  any but parametric and cases
  /// @throws ModelError where the model has no clusters (wild), several grouping factors (block), or too few levels
  /// for the covariance of their modes (residual, block)
  ResponseResampler(const Fit& fit, BootstrapType type, const ResampleOptions& options, std::uint64_t seed);
  /// @param[out] y  n, the offset not subtracted; several threads may call at once
  void draw(std::uint64_t replicate, std::span<double> y) const;

private:
  /// Values of one term that levels take: levels x k.
  using Levels = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  void prepare_residual();
  void prepare_wild(const ResampleOptions& options);
  void prepare_block(int reb_type);
  void add_levels(std::uint64_t replicate, bool together, std::span<double> y) const;

  const Fit& fit_;
  BootstrapType type_;
  std::uint64_t seed_;
  ResampleOptions::WildWeights weights_;
  Eigen::VectorXd mean_;         ///< n, offset included
  Eigen::VectorXd residual_;     ///< n
  std::vector<Levels> effects_;  ///< per term
  std::unique_ptr<Clusters> clusters_;
};

/// Draws rows: levels of the chosen grouping factors with replacement, within levels of the factors around them, each
/// with all its rows (or as many rows drawn within it). A level that is drawn twice becomes two levels; levels of
/// factors nested in it follow, those of crossed factors stay what they are (van der Leeden, Meijer and Busing 2008).
class CaseResampler {
public:
  /// @param fit  kept by reference
  /// @throws InputError for a factor that the model does not have, chosen factors that are not nested in each other,
  /// or none chosen where factors are crossed
  CaseResampler(const Fit& fit, const std::vector<std::string>& cases, std::uint64_t seed);
  /// @return the rows' model matrices; levels that are not there are dropped. Several threads may call at once.
  [[nodiscard]] std::shared_ptr<const ModelMatrices> draw(std::uint64_t replicate) const;
  /// The units that are drawn first; `factor` is "rows" where these are rows.
  [[nodiscard]] const Clusters& units() const { return stages_.front().units; }
  [[nodiscard]] bool draws_rows_alone() const { return stages_.front().term < 0; }
  /// "Subject", "batch, rows", ...
  [[nodiscard]] std::string description() const;

private:
  /// One chosen factor, or the rows.
  struct Stage {
    int term = -1;  ///< one of the factor's terms; -1: rows
    Clusters units;
    std::vector<std::int32_t> stratum;  ///< per unit: within which it is drawn
    std::int32_t strata = 1;
  };
  void add_stage(int term, const std::string& name);

  const Fit& fit_;
  std::uint64_t seed_;
  std::vector<Stage> stages_;  ///< outermost first
  std::vector<int> same_factor_,
      inside_;  ///< per term: stage of its own factor, innermost chosen one that it is in; -1
  std::vector<std::vector<std::vector<std::int32_t>>> levels_in_;  ///< per term, per unit of that stage: levels in it
};

}  // namespace batchlmm

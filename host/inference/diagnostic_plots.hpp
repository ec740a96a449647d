/// @file
/// Pictures of one fit: what its residuals and its conditional modes look like.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "host/inference/joint_covariance.hpp"
#include "host/inference/svg.hpp"

namespace batchlmm {

/// The kinds by their names on the command line.
enum class DiagnosticPlot {
  caterpillar,     ///< modes with conditional intervals, a panel a coefficient, levels in order
  qq_ranef,        ///< the same against quantiles of the normal law
  residuals,       ///< residuals against fitted values
  qq,              ///< standardized residuals against quantiles of the normal law
  scale_location,  ///< square roots of standardized residuals' magnitudes against fitted values
  leverage,        ///< standardized residuals against leverages
  diagnostics      ///< the last four together
};

/// "caterpillar", "qq-ranef", ... @throws InputError naming all
DiagnosticPlot diagnostic_plot_of_name(const std::string& name);

struct DiagnosticPlotOptions {
  double level = 0.95;              ///< of the modes' intervals
  std::vector<std::string> groups;  ///< grouping factors whose modes are shown; empty: all
};

/// @throws InputError  for a grouping factor that the model lacks
svg::Figure diagnostic_figure(const Fit& fit, DiagnosticPlot kind, const DiagnosticPlotOptions& options);

/// A curve through points by local linear regression with tricube weights over the nearest two thirds of them
/// (Cleveland 1979, "Robust locally weighted regression", without its robust steps), at up to `places` x values.
struct Trend {
  std::vector<double> x, y;
};
Trend local_trend(std::span<const double> x, std::span<const double> y, int places = 60);

}  // namespace batchlmm

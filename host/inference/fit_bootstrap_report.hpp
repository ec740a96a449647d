/// @file
/// The bootstrap of a fit as text, JSON, a tidy table and a picture.
#pragma once

#include <string>

#include "host/inference/fit_bootstrap.hpp"

namespace batchlmm {

/// Estimates with bias and standard error, a table for each kind of interval, and how the replicates ended.
/// @param data  name of the data set, as it stands after "Data:"
std::string fit_bootstrap_text(const FitBootstrap& bootstrap, const std::string& data);

/// The same facts and the joint covariance as one JSON object, closed by a newline. Numbers read back to the same
/// doubles; NaN is null.
std::string fit_bootstrap_json(const FitBootstrap& bootstrap);

/// The columns of broom.mixed's `tidy`, conf.low and conf.high of the first kind of interval.
std::string fit_bootstrap_csv(const FitBootstrap& bootstrap);

/// A histogram for each quantity, with the estimate and the ends of each kind of interval, as an SVG file.
/// @throws OutputError
void write_fit_bootstrap_svg(const std::string& path, const FitBootstrap& bootstrap);

}  // namespace batchlmm

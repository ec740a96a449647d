/// @file
/// The bootstrap's null distribution of a test statistic as a picture.
#pragma once

#include <string>
#include <vector>

#include "host/inference/lrt.hpp"
#include "host/inference/svg.hpp"

namespace batchlmm {

/// One panel a test: the replicates' statistics as a histogram on the density's scale, the share that is exactly 0 as a
/// bar of its own left of 0, the density of the reference law (chi-square, or the mixture's continuous part), and the
/// observed statistic.
/// @param tests  with a bootstrap that has a histogram
/// @param names  of the tests, one a panel
svg::Figure null_distribution_figure(const std::vector<LikelihoodRatioTest>& tests,
                                     const std::vector<std::string>& names);

}  // namespace batchlmm

/// @file
/// The part of the command line that says how tests are bootstrapped; the same for every command that tests models
/// against each other.
#pragma once

#include <string>
#include <vector>

#include "host/inference/lrt.hpp"

namespace CLI {
class App;
}

namespace batchlmm::cli {

/// As given: numbers are read by `bootstrap_options`, which says clearly what is wrong with one.
struct BootstrapArguments {
  std::string replicates = "0";
  std::string first = "0";
  std::string seed = "1";
  std::string until_extremes;
  std::string precision;
  std::string backend = "auto";
  std::string tier = "auto";
  std::string threads;
};

/// Adds --replicates, --until-extremes, --precision, --seed, --first, --backend, --tier and --threads.
void add_bootstrap_options(CLI::App& command, BootstrapArguments& arguments);

/// @throws InputError
BootstrapOptions bootstrap_options(const BootstrapArguments& arguments);

/// One line on the first test whose replicates ended early because a device was lost; empty: there is none.
std::string stopped_bootstrap(const std::vector<LikelihoodRatioTest>& tests);

}  // namespace batchlmm::cli

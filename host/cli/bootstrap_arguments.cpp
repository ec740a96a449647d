#include "host/cli/bootstrap_arguments.hpp"

#include <CLI/App.hpp>
#include <charconv>
#include <limits>

#include "batchlmm/error.hpp"
#include "host/batch/tier.hpp"
#include "host/cli/arguments.hpp"

namespace batchlmm::cli {
namespace {

BackendChoice backend_of(const std::string& name) {
  if (name == "auto") return BackendChoice::automatic;
  if (name == "cpu") return BackendChoice::cpu;
  if (name == "cuda") return BackendChoice::cuda;
  throw InputError("--backend: expected auto, cpu or cuda, found '" + name + "'");
}

/// A number above 0 and below 1.
double fraction(const std::string& option, const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || stop != end || error != std::errc{} || !(value > 0 && value < 1))
    throw InputError(option + ": expected a number above 0 and below 1, found '" + text + "'");
  return value;
}

}  // namespace

void add_bootstrap_options(CLI::App& command, BootstrapArguments& arguments) {
  command.add_option("--replicates", arguments.replicates, "Bootstrap replicates (default 0: no bootstrap)")
      ->option_text("N");
  command
      .add_option("--until-extremes", arguments.until_extremes,
                  "End a bootstrap at the H-th statistic as large as the observed one; p is then H / replicates")
      ->option_text("H");
  command
      .add_option("--precision", arguments.precision,
                  "End a bootstrap where the p-value's relative standard error is below R (at least 100 replicates)")
      ->option_text("R");
  command.add_option("--seed", arguments.seed, "Seed of the random numbers (default 1)")->option_text("S");
  command.add_option("--first", arguments.first, "Index of the first replicate (default 0)")->option_text("N");
  command.add_option("--backend", arguments.backend, "auto (default), cpu or cuda")->option_text("B");
  command.add_option("--tier", arguments.tier, "auto (default), symmetry, streaming, shared or large")
      ->option_text("T");
  command.add_option("--threads", arguments.threads, "CPU threads (default: all cores)")->option_text("T");
}

BootstrapOptions bootstrap_options(const BootstrapArguments& arguments) {
  constexpr std::uint64_t most_threads = 4096;
  BootstrapOptions options;
  options.replicates = whole_number("--replicates", arguments.replicates);
  options.first =
      whole_number("--first", arguments.first, 0, std::numeric_limits<std::uint64_t>::max() - options.replicates);
  options.seed = whole_number("--seed", arguments.seed);
  if (!arguments.until_extremes.empty())
    options.stop.extremes = whole_number("--until-extremes", arguments.until_extremes, 1);
  if (!arguments.precision.empty()) options.stop.precision = fraction("--precision", arguments.precision);
  if (options.stop.is_set() && options.replicates == 0)
    throw InputError(std::string(options.stop.extremes > 0 ? "--until-extremes" : "--precision") +
                     ": ends a bootstrap and needs --replicates, the most that there may be; found none");
  options.backend = backend_of(arguments.backend);
  options.tier = tier_of_name(arguments.tier);
  if (!arguments.threads.empty()) {
    options.threads = static_cast<int>(whole_number("--threads", arguments.threads, 1, most_threads));
  }
  return options;
}

std::string stopped_bootstrap(const std::vector<LikelihoodRatioTest>& tests) {
  for (const LikelihoodRatioTest& test : tests)
    if (test.bootstrap && !test.bootstrap->stopped.empty())
      return "the bootstrap stopped after " + std::to_string(test.bootstrap->replicates) + " of " +
             std::to_string(test.bootstrap->asked) + " replicates: " + test.bootstrap->stopped;
  return {};
}

}  // namespace batchlmm::cli

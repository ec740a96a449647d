/// @file
/// The commands of `batchlmm`. Each adds itself to the command line and hands back what runs it.
#pragma once

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace batchlmm::cli {

/// Runs a parsed command. @return what goes to standard output @throws Error
using Run = std::function<std::string()>;

/// `batchlmm fit FORMULA DATA`
Run add_fit_command(CLI::App& app);

/// `batchlmm lrt NULL FULL DATA`
Run add_lrt_command(CLI::App& app);

/// `batchlmm plan FORMULA DATA [NULL]`
Run add_plan_command(CLI::App& app);

}  // namespace batchlmm::cli

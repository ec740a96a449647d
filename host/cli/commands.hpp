/// @file
/// The commands of `batchlmm`. Each adds itself to the command line and hands back what runs it.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <utility>

namespace CLI {
class App;
}

namespace batchlmm::cli {

/// What a command leaves.
struct Outcome {
  Outcome(std::string text) : output(std::move(text)) {}  // NOLINT(google-explicit-constructor): most have no more
  std::string output;                                     ///< goes to standard output
  std::string failure;  ///< one line for standard error, and exit code 1, although there is output; empty: none
};

/// Runs a parsed command. @throws Error
using Run = std::function<Outcome()>;

/// `batchlmm fit FORMULA DATA`
Run add_fit_command(CLI::App& app);

/// `batchlmm anova FORMULA DATA`
Run add_anova_command(CLI::App& app);

/// `batchlmm lrt NULL FULL [MORE ...] DATA`
Run add_lrt_command(CLI::App& app);

/// `batchlmm ranova FORMULA DATA`
Run add_ranova_command(CLI::App& app);

/// `batchlmm drop1 FORMULA DATA`
Run add_drop1_command(CLI::App& app);

/// `batchlmm bootstrap FORMULA DATA`
Run add_bootstrap_command(CLI::App& app);

/// `batchlmm profile FORMULA DATA`
Run add_profile_command(CLI::App& app);

/// `batchlmm exact FORMULA DATA`
Run add_exact_command(CLI::App& app);

/// `batchlmm predict FORMULA DATA`
Run add_predict_command(CLI::App& app);

/// `batchlmm simulate FORMULA DATA`
Run add_simulate_command(CLI::App& app);

/// `batchlmm augment FORMULA DATA`
Run add_augment_command(CLI::App& app);

/// `batchlmm glance FORMULA DATA`
Run add_glance_command(CLI::App& app);

/// `batchlmm plot FORMULA DATA`
Run add_plot_command(CLI::App& app);

/// `batchlmm plan FORMULA DATA [NULL]`
Run add_plan_command(CLI::App& app);

/// `batchlmm devices`
Run add_devices_command(CLI::App& app);

/// `batchlmm study FILE --out FOLDER`
Run add_study_command(CLI::App& app);

/// `batchlmm merge FOLDER... --out FOLDER`
Run add_merge_command(CLI::App& app);

/// All of them, as the help lists them.
inline constexpr std::array all_commands{
    &add_fit_command,     &add_anova_command,     &add_lrt_command,     &add_ranova_command,  &add_drop1_command,
    &add_exact_command,   &add_bootstrap_command, &add_profile_command, &add_predict_command, &add_simulate_command,
    &add_augment_command, &add_glance_command,    &add_plot_command,    &add_study_command,   &add_merge_command,
    &add_plan_command,    &add_devices_command,
};

}  // namespace batchlmm::cli

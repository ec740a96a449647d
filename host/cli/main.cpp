#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "batchlmm/error.hpp"
#include "batchlmm/version.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/output.hpp"

namespace {

using namespace batchlmm;

enum ExitCode { success = 0, failure = 1, bad_input = 2 };

void complain(const std::string& message) { std::fprintf(stderr, "batchlmm: %s\n", cli::on_one_line(message).c_str()); }

int run(int argc, char** argv) {
  CLI::App app("Fits many linear mixed models at once: formulas and results as in R's lme4.", "batchlmm");
  app.set_version_flag("--version", "batchlmm " + std::string(version()));
  app.require_subcommand(1);
  app.footer("Exit codes: 0 success, 1 failure, 2 bad usage or bad input.");
  const cli::Run run_fit = cli::add_fit_command(app);
  const cli::Run run_lrt = cli::add_lrt_command(app);
  const cli::Run run_plan = cli::add_plan_command(app);
  const cli::Run run_devices = cli::add_devices_command(app);

  cli::Outcome outcome{""};
  try {
    app.parse(argc, argv);
    outcome = app.got_subcommand("fit")    ? run_fit()
              : app.got_subcommand("lrt")  ? run_lrt()
              : app.got_subcommand("plan") ? run_plan()
                                           : run_devices();
  } catch (const CLI::CallForHelp&) {
    outcome.output = app.help();
  } catch (const CLI::CallForVersion& call) {
    outcome.output = std::string(call.what()) + "\n";
  } catch (const CLI::ParseError& error) {
    const auto commands = app.get_subcommands();
    if (commands.empty()) {
      const std::string found = argc > 1 ? "'" + std::string(argv[1]) + "'" : "none";
      complain("expected a command, fit, lrt, plan or devices, found " + found + " (see batchlmm --help)");
    } else {
      complain(std::string(error.what()) + " (see batchlmm " + commands.front()->get_name() + " --help)");
    }
    return bad_input;
  } catch (const FormulaError& error) {
    complain(error.what());
    std::fprintf(stderr, "%s\n", error.caret().c_str());
    return bad_input;
  } catch (const InputError& error) {
    complain(error.what());
    return bad_input;
  } catch (const Error& error) {
    complain(error.what());
    return failure;
  } catch (const std::bad_alloc&) {
    complain("out of memory");
    return failure;
  }
  const bool written = cli::write_standard_output(outcome.output);
  if (!outcome.failure.empty()) complain(outcome.failure);
  return written && outcome.failure.empty() ? success : failure;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write(), reported as one
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    complain(std::string("internal error: ") + error.what());
    return failure;
  }
}

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "batchlmm/error.hpp"
#include "batchlmm/version.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/output.hpp"

namespace {

using namespace batchlmm;

enum ExitCode { success = 0, failure = 1, bad_input = 2 };

void complain(const std::string& message) { std::fprintf(stderr, "batchlmm: %s\n", cli::on_one_line(message).c_str()); }

using Commands = std::vector<std::pair<CLI::App*, cli::Run>>;

/// "fit, lrt, plan or devices"
std::string names(const Commands& commands) {
  std::string text;
  for (std::size_t i = 0; i < commands.size(); ++i) {
    if (i > 0) text += i + 1 < commands.size() ? ", " : " or ";
    text += commands[i].first->get_name();
  }
  return text;
}

int run(int argc, char** argv) {
  CLI::App app("Fits many linear mixed models at once: formulas and results as in R's lme4.", "batchlmm");
  app.set_version_flag("--version", "batchlmm " + std::string(version()));
  app.require_subcommand(1);
  app.footer("Exit codes: 0 success, 1 failure, 2 bad usage or bad input.");
  Commands commands;
  for (const auto& add : cli::all_commands) {
    cli::Run run_command = add(app);
    commands.emplace_back(app.get_subcommands({}).back(), std::move(run_command));
  }

  cli::Outcome outcome{""};
  try {
    app.parse(argc, argv);
    for (const auto& [command, run_command] : commands)
      if (command->parsed()) outcome = run_command();
  } catch (const CLI::CallForHelp&) {
    outcome.output = app.help();
  } catch (const CLI::CallForVersion& call) {
    outcome.output = std::string(call.what()) + "\n";
  } catch (const CLI::ParseError& error) {
    const auto given = app.get_subcommands();
    if (given.empty()) {
      const std::string found = argc > 1 ? "'" + std::string(argv[1]) + "'" : "none";
      complain("expected a command, " + names(commands) + ", found " + found + " (see batchlmm --help)");
    } else {
      complain(std::string(error.what()) + " (see batchlmm " + given.front()->get_name() + " --help)");
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
  // A closed pipe and a file above the limit on sizes are errors of write(), reported as such.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    complain(std::string("internal error: ") + error.what());
    return failure;
  }
}

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "batchlmm/error.hpp"
#include "host/batch/backend.hpp"
#include "host/batch/tier.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/mpi_ranks.hpp"
#include "host/cli/progress.hpp"
#include "host/study/run.hpp"

namespace batchlmm::cli {
namespace {

struct StudyArguments {
  std::string file;
  std::string out;
  std::string threads;
  std::string shard;
  bool keep = false;
  bool dry_run = false;
};

/// "2/8": the second of eight parts.
void take_part(const std::string& text, study::RunOptions& options) {
  const auto slash = text.find('/');
  if (slash == std::string::npos) throw InputError("--shard: expected I/N, as in 2/8, found '" + text + "'");
  constexpr std::uint64_t most = 1'000'000;
  options.parts = whole_number("--shard", text.substr(slash + 1), 1, most);
  options.part = whole_number("--shard", text.substr(0, slash), 1, options.parts) - 1;
}

std::string duration(double seconds) {
  if (seconds < 1) return fmt::format("{:.3g} ms", 1e3 * seconds);
  if (seconds < 120) return fmt::format("{:.3g} s", seconds);
  if (seconds < 7200) return fmt::format("{:.3g} min", seconds / 60);
  return fmt::format("{:.3g} h", seconds / 3600);
}

std::string size(double bytes) {
  constexpr double mebibyte = 1024.0 * 1024.0;
  return bytes < 1024 * mebibyte ? fmt::format("{:.3g} MiB", bytes / mebibyte)
                                 : fmt::format("{:.3g} GiB", bytes / (1024 * mebibyte));
}

/// "by symmetry: full (ML), null (ML); by streaming: other (REML)"
std::string fits_text(const std::vector<study::FittedName>& fits) {
  std::string out;
  for (const Tier tier : {Tier::symmetry, Tier::streaming, Tier::shared_factorization, Tier::large}) {
    std::string names;
    for (const study::FittedName& fit : fits)
      if (fit.tier == tier)
        names +=
            fmt::format("{}{} ({})", names.empty() ? "" : ", ", fit.model, fit.method == Method::ml ? "ML" : "REML");
    if (!names.empty()) out += fmt::format("{}by {}: {}", out.empty() ? "" : "; ", tier_name(tier), names);
  }
  return out.empty() ? "no model" : out;
}

std::string dry_run_text(const study::DryRun& plan, int threads) {
  std::string out = fmt::format("{} cells, {} replicates, {} shards\n", plan.cells, plan.replicates, plan.shards);
  std::string fits;
  for (const auto& line : plan.lines) {
    std::string values;
    for (const study::GridValue& value : line.values)
      values += fmt::format("{}{} = {}", values.empty() ? "" : ", ", value.key,
                            value.is_number ? fmt::format("{}", value.number) : value.text);
    out +=
        fmt::format("  cell {}{}: {}{}{} rows, {} replicates, {} on one core, {}\n", line.cell,
                    line.cells > 1 ? fmt::format(", for {} that differ in the truth", line.cells) : "", values,
                    values.empty() ? "" : "; ", line.rows, line.replicates, duration(line.seconds), size(line.bytes));
    const std::string these = fits_text(line.fits);
    if (these != fits) out += "    fitted " + these + "\n";
    fits = these;
  }
  if (plan.groups > plan.lines.size())
    out += fmt::format("  and {} more {}\n", plan.groups - plan.lines.size(),
                       plan.groups == plan.cells ? "cells" : "designs, models or tests");
  return out +
         fmt::format("estimated {} and {} on {} {}: an estimate, from a trial of a few replicates of the cells above\n",
                     duration(plan.seconds), size(plan.bytes), threads, threads == 1 ? "thread" : "threads");
}

/// Where power curves reach the target, a line each.
std::string power_text(const study::RunOutcome& outcome) {
  constexpr std::size_t most_lines = 12;
  std::string out;
  for (std::size_t i = 0; i < std::min(outcome.power.size(), most_lines); ++i) {
    const study::ReachedPower& reached = outcome.power[i];
    const study::RequiredSize& size = reached.size;
    out +=
        fmt::format("power {:g}: {}{} at {} {}", outcome.target_power, reached.test,
                    reached.where.empty() ? "" : " (" + reached.where + ")", reached.key,
                    size.at_first ? fmt::format("{:g}, the first, or below", size.x) : fmt::format("{:.4g}", size.x));
    if (!size.at_first)
      out += fmt::format(" (95 % interval {:.4g} to {})", size.low,
                         std::isinf(size.high) ? "beyond the last" : fmt::format("{:.4g}", size.high));
    out += "\n";
  }
  if (outcome.power.size() > most_lines)
    out += fmt::format("and {} more in manifest.json\n", outcome.power.size() - most_lines);
  return out;
}

/// A rank that fails ends the others; what is written is found by the next run.
study::RunOutcome run(const study::StudyFile& file, const study::RunOptions& options,
                      const std::optional<BatchlmmRanks>& ranks) {
  if (!ranks) return study::run_study(file, options);
  try {
    study::RunOutcome outcome = study::run_study(file, options);
    ranks->finish();
    return outcome;
  } catch (const Error& error) {
    std::fprintf(stderr, "batchlmm: rank %d: %s\n", ranks->rank, on_one_line(error.what()).c_str());
    ranks->abort(dynamic_cast<const InputError*>(&error) != nullptr ? 2 : 1);
    throw;
  }
}

Outcome run_study_command(const StudyArguments& arguments) {
  study::RunOptions options;
  options.out = arguments.out;
  options.folder = std::filesystem::path(arguments.file).parent_path().string();
  options.keep = arguments.keep;
  constexpr std::uint64_t most_threads = 4096;
  if (!arguments.threads.empty())
    options.threads = static_cast<int>(whole_number("--threads", arguments.threads, 1, most_threads));
  if (!arguments.shard.empty()) take_part(arguments.shard, options);
  const study::StudyFile file = study::StudyFile::read(arguments.file);
  if (arguments.dry_run) return dry_run_text(study::dry_run(file, options), thread_count(options.threads));
  if (arguments.out.empty()) throw InputError("expected --out FOLDER, found none (--dry-run needs none)");
  const std::optional<BatchlmmRanks> ranks = start_ranks();
  if (ranks) {
    if (options.parts > 1) throw InputError("--shard: expected no parts under mpirun, which shares the work itself");
    options.next_shard = ranks->next;
    options.wait = ranks->wait;
    options.leader = ranks->rank == 0;
  }
  Progress progress;
  if (progress.shown() && options.leader)
    options.progress = [&progress](std::uint64_t done, std::uint64_t total) { progress.update(done, total); };
  const study::RunOutcome outcome = run(file, options, ranks);
  if (!options.leader) return std::string();
  std::string out = fmt::format(
      "{} of {} shards: {} made, {} found{}\n", outcome.made + outcome.found + outcome.skipped, outcome.shards,
      outcome.made, outcome.found, outcome.skipped > 0 ? fmt::format(", {} not needed", outcome.skipped) : "");
  out += outcome.complete
             ? fmt::format("complete: {}/cells.parquet ({:.3g} s)\n", arguments.out, outcome.seconds)
             : fmt::format("{} shards are still missing: another --shard, or the same command, makes them\n",
                           outcome.missing);
  return out + power_text(outcome);
}

}  // namespace

Run add_study_command(CLI::App& app) {
  auto arguments = std::make_shared<StudyArguments>();
  CLI::App* command = app.add_subcommand(
      "study", "Run a simulation study: designs, truths, models and tests over a grid, from a TOML file into a folder");
  command->add_option("FILE", arguments->file, "Study file (TOML)")->required()->option_text(" ");
  command->add_option("--out", arguments->out, "Folder of the results; a run that was ended goes on there")
      ->option_text("FOLDER");
  command->add_option("--threads", arguments->threads, "CPU threads (default: all cores)")->option_text("T");
  command->add_option("--shard", arguments->shard, "Part I of N of the work, for machines side by side")
      ->option_text("I/N");
  command->add_flag("--keep", arguments->keep, "Keep every replicate: FOLDER/replicates/part-*.parquet");
  command->add_flag("--dry-run", arguments->dry_run,
                    "Show cells, replicates, tiers, memory and estimated time, and do nothing");
  return [arguments] { return run_study_command(*arguments); };
}

Run add_merge_command(CLI::App& app) {
  struct MergeArguments {
    std::vector<std::string> folders;
    std::string out;
  };
  auto arguments = std::make_shared<MergeArguments>();
  CLI::App* command = app.add_subcommand("merge", "Make one study's results of the shards in several folders");
  command->add_option("FOLDER", arguments->folders, "Folders that study --out left")->required()->option_text("...");
  command->add_option("--out", arguments->out, "Folder of the results")->required()->option_text("FOLDER");
  return [arguments]() -> Outcome {
    const study::RunOutcome outcome = study::merge_studies(arguments->folders, arguments->out);
    return fmt::format("complete: {} shards, {}/cells.parquet\n", outcome.shards, arguments->out) + power_text(outcome);
  };
}

}  // namespace batchlmm::cli

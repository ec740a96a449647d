#include "host/batch/run_replicates.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/batch/chunk_buffers.hpp"
#include "host/batch/test_plan.hpp"
#include "kernels/statistic.hpp"

namespace batchlmm {
namespace {

static_assert(kernels::fit_status_count == status_count);

ReplicateSummary summary_of(const kernels::StatisticCounts& counts) {
  ReplicateSummary s;
  s.replicates = counts.replicates;
  s.used = counts.used;
  s.extreme = counts.extreme;
  s.zero = counts.zero;
  std::copy(std::begin(counts.status), std::end(counts.status), s.status.begin());
  s.singular_null = counts.singular_null;
  s.singular_full = counts.singular_full;
  s.sum_statistic = kernels::value(counts.sum);
  s.sum_squares = kernels::value(counts.sum_squares);
  s.evaluations_null = counts.evaluations_null;
  s.evaluations_full = counts.evaluations_full;
  return s;
}

/// One worker's chunk and what is made of it.
struct Chunk {
  ChunkBuffers buffers;
  std::vector<Status> status;
  std::vector<double> statistic, deviance_null, deviance_full;
  std::vector<double> test_values;
  std::vector<HypothesisTest> tests;
  kernels::StatisticCounts counts;
  std::uint64_t kept = 0;  ///< replicates that belong to the run: all, unless a rule ended it

  void test(const ReplicateEngine& engine, const ReplicateUnits& units) {
    const kernels::BootstrapChunk& chunk = buffers.chunk;
    const std::size_t n = chunk.count * static_cast<std::size_t>(units.tests->hypotheses);
    test_values.resize(n * kernels::TestValues::values);
    tests.resize(n);
    kernels::TestJob job;
    job.plan = units.tests;
    job.first = chunk.first;
    job.count = chunk.count;
    job.full = units.full != nullptr;
    job.fits = job.full ? chunk.full : chunk.null;
    job.values = test_values.data();
    engine.test(job);
    read_tests(test_values, units.sigma, tests);
  }
  void evaluate(const ReplicateUnits& units, double observed) {
    const kernels::BootstrapChunk& chunk = buffers.chunk;
    const std::uint64_t n = chunk.count;
    if (units.null_at_zero) {
      std::fill(buffers.null.boundary.begin(), buffers.null.boundary.end(), 0);
      std::replace(buffers.null.status.begin(), buffers.null.status.end(),
                   static_cast<std::uint8_t>(kernels::fit_boundary), static_cast<std::uint8_t>(kernels::fit_converged));
    }
    status.resize(n);
    statistic.resize(n);
    deviance_null.resize(n);
    deviance_full.resize(units.full != nullptr ? n : 0);
    counts = {};
    kept = n;
    for (std::uint64_t i = 0; i < n; ++i) {
      const kernels::ReplicateOutcome outcome = kernels::outcome(chunk.null, chunk.full, i);
      kernels::add_replicate(counts, chunk.null, chunk.full, i, outcome, observed);
      status[i] = static_cast<Status>(outcome.status);
      statistic[i] = outcome.statistic;
      deviance_null[i] = chunk.null.deviance[i] + units.shift_null;
      if (units.full != nullptr) deviance_full[i] = chunk.full.deviance[i] + units.shift_full;
    }
  }

  /// Leaves the replicates up to the first that meets the rule, with their counts.
  /// @param before  counts of the replicates before this chunk
  /// @return whether there is one
  bool cut(const StoppingRule& rule, const kernels::StatisticCounts& before, double observed) {
    const kernels::BootstrapChunk& chunk = buffers.chunk;
    kernels::StatisticCounts here;
    for (std::uint64_t i = 0; i < chunk.count; ++i) {
      kernels::add_replicate(here, chunk.null, chunk.full, i, {static_cast<std::uint8_t>(status[i]), statistic[i]},
                             observed);
      if (!rule.met(before.used + here.used, before.extreme + here.extreme)) continue;
      counts = here;
      kept = i + 1;
      return true;
    }
    return false;
  }
  [[nodiscard]] ReplicateBlock block() const {
    const FitBuffers &null = buffers.null, &full = buffers.full;
    const auto rows = [this](const auto& values) {
      const std::uint64_t n = buffers.chunk.count;
      return std::span(values).first(n == 0 ? 0 : values.size() / n * kept);
    };
    return {buffers.chunk.first, rows(status),        rows(statistic),     rows(deviance_null), rows(deviance_full),
            rows(null.lambda),   rows(full.lambda),   rows(null.beta),     rows(full.beta),     rows(null.r2),
            rows(full.r2),       rows(null.x_factor), rows(full.x_factor), rows(tests)};
  }
};

}  // namespace

ReplicateSummary run_replicates(const ReplicateEngine& engine, const ReplicateUnits& units, const BootstrapRun& run,
                                int workers) {
  const std::uint64_t length = engine.chunk_length(run.backend);
  // Indices go up to the largest number: nothing is added to the last one.
  const std::uint64_t last = run.first + run.count, first_chunk = run.first / length,
                      end_chunk = last / length + (last % length != 0 ? 1 : 0);
  const bool counts_alone =
      !run.collect && !run.parameters && !run.stop.is_set() && !units.null_at_zero && engine.summarizes(run.backend);
  workers =
      static_cast<int>(std::clamp<std::uint64_t>(end_chunk - first_chunk, 1, static_cast<std::uint64_t>(workers)));

  kernels::StatisticCounts total;
  std::mutex mutex;
  std::condition_variable turn;
  std::uint64_t next_to_collect = first_chunk;
  std::atomic<std::uint64_t> next_chunk{first_chunk};
  std::exception_ptr failure, loss;
  std::uint64_t lost_chunk = end_chunk;  // the first that a lost device did not finish
  std::string stopped;
  bool rule_met = false;

  // A chunk that a device loses is given to another one, while there is one.
  const auto run_chunk = [&](Chunk& chunk, std::uint64_t begin, std::uint64_t n) {
    for (int attempt = 1;; ++attempt) {
      try {
        if (counts_alone) {
          chunk.counts = engine.summarize(run.backend, begin, n, run.observed);
          return;
        }
        chunk.buffers.resize(*units.null, units.full, begin, n, run.parameters);
        engine.run(run.backend, run.parameters, chunk.buffers.chunk);
        chunk.evaluate(units, run.observed);
        if (units.tests != nullptr) chunk.test(engine, units);
        return;
      } catch (const DeviceLost&) {
        if (attempt >= workers) throw;
      }
    }
  };
  const auto work = [&] {
    try {
      Chunk chunk;
      while (true) {
        const std::uint64_t c = next_chunk++;
        if (c >= end_chunk) return;
        const std::uint64_t begin = std::max(run.first, c * length),
                            end = last - c * length < length ? last : c * length + length, n = end - begin;
        try {
          run_chunk(chunk, begin, n);
        } catch (const DeviceLost& error) {
          const std::lock_guard lock(mutex);
          if (c < lost_chunk) {
            lost_chunk = c;
            loss = std::current_exception();
            stopped = error.what();
          }
          next_chunk = end_chunk;  // chunks are handed out in order: those before c are done or at work
          turn.notify_all();
          return;
        }
        std::unique_lock lock(mutex);
        turn.wait(lock, [&] { return next_to_collect == c || failure || rule_met || lost_chunk < c; });
        if (failure || rule_met || lost_chunk < c) return;
        if (run.stop.is_set() && chunk.cut(run.stop, total, run.observed)) {
          rule_met = true;
          next_chunk = end_chunk;
        }
        if (run.collect) run.collect(chunk.block());
        kernels::add(total, chunk.counts);
        if (run.progress) run.progress(total.replicates, run.count);
        ++next_to_collect;
        turn.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      next_chunk = end_chunk;
      turn.notify_all();
    }
  };
  std::vector<std::thread> pool;
  for (int t = 1; t < workers; ++t) pool.emplace_back(work);
  work();
  for (std::thread& t : pool) t.join();
  if (failure) std::rethrow_exception(failure);
  if (loss && total.replicates == 0) std::rethrow_exception(loss);
  ReplicateSummary summary = summary_of(total);
  summary.rule_met = rule_met;
  if (!rule_met) summary.stopped = stopped;
  return summary;
}

}  // namespace batchlmm

/// @file
/// The device of kernels/device_run.hpp on the host: what a CUDA device runs, thread after thread, in memory that it
/// checks.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "kernels/device_interpolant.hpp"
#include "kernels/device_strata.hpp"
#include "tests/host_team.hpp"

namespace batchlmm::oracle {

/// Hands out items first, first + step, ...
struct EveryItem {
  std::uint64_t next, step, items;
  bool operator()(std::uint64_t& i) {
    i = next;
    next += step;
    return i < items;
  }
};

/// A device whose threads run one after the other on the host.
class HostDevice {
public:
  std::size_t threads = 37, bytes = std::size_t{1} << 30, refused_above = std::size_t{1} << 30;
  int fits = 0, team_fits = 0;
  int members = 1;                  ///< of a team
  int order = 0;                    ///< in which they take turns
  bool threads_as_members = false;  ///< threads of the host in place of turns

  template <class Family>
  [[nodiscard]] std::size_t resident_workers(const Family&) const {
    return threads;
  }
  [[nodiscard]] std::size_t usable_bytes() const { return bytes; }
  bool reserve(std::size_t n) {
    if (n > refused_above) return false;
    memory_ = std::make_unique<std::byte[]>(n);
    end_ = memory_.get() + n;
    std::fill(memory_.get(), end_, std::byte{0xff});  // NaN: nothing may be read before it is written
    return true;
  }
  std::byte* memory() { return memory_.get(); }
  void write(void* to, const void* from, std::size_t n) {
    check(to, n);
    if (n > 0) std::memcpy(to, from, n);
  }
  void read(void* to, const void* from, std::size_t n) {
    check(from, n);
    if (n > 0) std::memcpy(to, from, n);
  }
  void launch(const kernels::DrawArguments& a) {
    for (std::size_t t = 0; t < a.threads; ++t) kernels::draw_one_lane(a, t);
  }
  void launch(const kernels::TabulateArguments& a) {
    check(a.memory, 8 * a.threads * kernels::tabulate_memory(a.table));
    check(a.tabulated, 8 * a.items * kernels::interpolant_table_size(a.table));
    check(a.response, 8 * a.items * a.table.response);
    kernels::with_levels(a.level + 1, [&](auto levels) {
      for (std::size_t t = 0; t < a.threads; ++t) kernels::tabulate_one_lane<decltype(levels)::value - 1>(a, t);
    });
  }
  void launch(const kernels::InterpolantFitArguments& a) {
    ++fits;
    check(a.memory, 8 * a.threads * kernels::interpolant_memory(a.table));
    check(a.phi, 8 * a.side_by_side * kernels::InterpolantGrid(a.table).size());
    check(a.optimum, 8 * a.side_by_side * kernels::max_interpolated);
    kernels::with_levels(a.table.levels, [&](auto levels) {
      for (std::size_t t = 0; t < a.threads; ++t) kernels::fit_interpolant_one_lane<decltype(levels)::value>(a, t);
    });
  }
  void launch(const kernels::FitArguments& a) {
    ++fits;
    if (a.mapping != kernels::Mapping::thread) {
      ++team_fits;
      check(a.memory, 8 * a.threads * a.slow);
      for (std::size_t t = 0; t < a.threads; ++t) {
        const EveryItem items{t, a.threads, a.job.items};
        if (threads_as_members)
          fit_by_thread_team(a, t, members, items);
        else
          fit_by_fiber_team(a, t, members, order, items);
      }
      return;
    }
    check(a.memory, 8 * a.threads * kernels::fit_memory(a.shape));
    for (std::size_t t = 0; t < a.threads; ++t)
      kernels::with_text(kernels::text_kind(a.shape), [&](auto text) {
        kernels::fit_one_lane<decltype(text)>(a, t, EveryItem{t, a.threads, a.job.items});
      });
  }
  void launch(const kernels::StrataDrawArguments& a) {
    check(a.memory, 8 * a.threads * kernels::strata_draw_scratch(a.sampler));
    for (std::size_t t = 0; t < a.threads; ++t) kernels::draw_strata_one_lane(a, t);
  }
  void launch(const kernels::StrataFitArguments& a) {
    ++fits;
    check(a.fit.memory, 8 * a.fit.threads * kernels::strata_fit_memory(a.fit.shape, a.model));
    for (std::size_t t = 0; t < a.fit.threads; ++t)
      kernels::fit_strata_one_lane(a, t, EveryItem{t, a.fit.threads, a.fit.job.items});
  }
  void launch(const kernels::StatisticArguments& a) {
    check(a.scratch, kernels::statistic_scratch_bytes);
    for (std::uint64_t i = 0; i < a.items; ++i)
      if (a.left_out == nullptr || a.left_out[i] == 0)
        kernels::add_replicate(*a.counts, a.null, a.full, i, kernels::outcome(a.null, a.full, i), a.observed);
  }

private:
  void check(const void* p, std::size_t n) {
    const auto* at = static_cast<const std::byte*>(p);
    ASSERT_TRUE(at >= memory_.get() && at + n <= end_) << "outside the reserved memory";
  }
  std::unique_ptr<std::byte[]> memory_;
  std::byte* end_ = nullptr;
};

inline bool same_counts(const kernels::StatisticCounts& a, const kernels::StatisticCounts& b) {
  return a.replicates == b.replicates && a.used == b.used && a.extreme == b.extreme && a.zero == b.zero &&
         std::equal(std::begin(a.status), std::end(a.status), std::begin(b.status)) &&
         a.singular_null == b.singular_null && a.singular_full == b.singular_full &&
         a.evaluations_null == b.evaluations_null && a.evaluations_full == b.evaluations_full &&
         a.sum.high == b.sum.high && a.sum.low == b.sum.low && a.sum_squares.high == b.sum_squares.high &&
         a.sum_squares.low == b.sum_squares.low;
}

}  // namespace batchlmm::oracle

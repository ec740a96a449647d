/// @file
/// Replicates fitted on interpolants, on a device (device_run.hpp): draws, the tabulation level by level, both fits
/// and, where they are wanted, the parameters at the optima. Beside what device_run.hpp names, `Device` has
///
///     std::size_t resident_workers(const TabulateFamily&), resident_workers(const InterpolantFamily&)
///     void launch(const TabulateArguments&)           tabulate_one_lane of its level on every thread
///     void launch(const InterpolantFitArguments&)     fit_interpolant_one_lane of its table's levels on every thread
#pragma once

#include "kernels/device_run.hpp"
#include "kernels/one_lane_interpolant.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

inline Interpolant on_device(const Interpolant& t, DeviceConstants& constants) {
  Interpolant to = t;
  const std::size_t entries = t.response - 1;
  for (int l = 0; l < t.levels; ++l) {
    const InterpolantLevel& from = t.level[l];
    InterpolantLevel& level = to.level[l];
    const std::size_t nodes = from.nodes, parents = from.parents,
                      shrink = parents * packed_size(from.nodes + 1, from.columns);
    level.node = constants.add(from.node, nodes);
    level.weight = constants.add(from.weight, nodes);
    level.held_out = constants.add(from.held_out, nodes);
    level.parent = constants.add(from.parent, parents);
    level.rotation = constants.add(from.rotation, parents * packed_size(from.columns, 1) * entries);
    level.shrink = constants.add(from.shrink, shrink);
    level.tested = constants.add(from.tested, shrink * t.tested);
  }
  const InterpolantGrid grid(t);
  to.root = constants.add(t.root, packed_size(t.x_rows + t.tested, 1) * entries);
  to.tested_root = constants.add(t.tested_root, grid.size() * triangle_size(t.tested));
  to.held_out_row = constants.add(t.held_out_row, grid.node_rows);
  to.determinant = constants.add(t.determinant, grid.size());
  to.leading = constants.add(t.leading, static_cast<std::size_t>(grid.node_rows) * grid.nodes);
  to.common_rate = constants.add(t.common_rate, t.level[0].nodes);
  return to;
}

/// A job of interpolants that points into the block throughout.
struct DeviceInterpolants {
  DeviceBootstrap bootstrap;
  Interpolant null, full;
};
inline DeviceInterpolants on_device(const InterpolantJob& job, DeviceConstants& constants) {
  DeviceInterpolants there{on_device(*job.bootstrap, constants), on_device(job.null, constants), {}};
  if (!job.same_random_effects) there.full = on_device(job.full, constants);
  return there;
}

/// Arrays over the items of a piece, beside the results. All of them hold whole bundles.
struct InterpolantItems {
  double *null_response = nullptr, *full_response = nullptr, *tabulated = nullptr, *optimum = nullptr;
  std::uint8_t* refused = nullptr;
  FitResults again;  ///< where the parameters' fits, of no further interest, leave what they need not
};
inline InterpolantItems take_items(DeviceArrays& arrays, const InterpolantJob& job, bool parameters,
                                   std::uint64_t items) {
  const Shape &null = *job.bootstrap->null, &full = *job.bootstrap->full;
  const std::size_t table =
      std::max(interpolant_table_size(job.null), job.same_random_effects ? 0 : interpolant_table_size(job.full));
  InterpolantItems to;
  to.null_response = arrays.take<double>(items * null.response);
  to.full_response = arrays.take<double>(items * full.response);
  to.tabulated = arrays.take<double>(items * table);
  to.optimum = arrays.take<double>(items * max_interpolated);
  to.refused = arrays.take<std::uint8_t>(items);
  if (parameters) {
    to.again.status = arrays.take<std::uint8_t>(items);
    to.again.deviance = arrays.take<double>(items);
    to.again.lambda = arrays.take<double>(items * std::max(null.lambdas, full.lambdas));
  }
  return to;
}

/// @param null, full  the arrays that are wanted
inline MemoryNeed memory_need(const InterpolantJob& job, bool parameters, const FitResults& null,
                              const FitResults& full) {
  const BootstrapJob& draws = *job.bootstrap;
  DeviceConstants constants(nullptr);
  (void)on_device(job, constants);
  // The arrays of so many items that their alignment does not count, and the alignment apart.
  constexpr std::size_t many = 1 << 16;
  DeviceArrays measure(nullptr, 0);
  (void)take_items(measure, job, parameters, many);
  MemoryNeed need;
  need.item = measure.used() / many + 1 + result_bytes(null, *draws.null, parameters) +
              result_bytes(full, *draws.full, parameters);
  need.fixed = constants.bytes().size() + 48 * device_alignment + bundle_width * need.item;
  std::size_t doubles = std::max(draw_memory(*draws.full, draws.sampler), interpolant_memory(job.null));
  doubles = std::max(doubles, tabulate_memory(job.null));
  if (!job.same_random_effects) doubles = std::max({doubles, interpolant_memory(job.full), tabulate_memory(job.full)});
  if (parameters) doubles = std::max({doubles, fit_memory(*draws.null), fit_memory(*draws.full)});
  need.thread = 8 * doubles;
  return need;
}

/// Threads that the device runs at a time, of the kernel that has most.
template <class Device>
std::size_t resident_workers(Device& device, const InterpolantJob& job) {
  std::size_t most = std::max<std::size_t>(device.resident_workers(TabulateFamily{}),
                                           device.resident_workers(InterpolantFamily{job.null.levels}));
  if (!job.same_random_effects)
    most = std::max<std::size_t>(most, device.resident_workers(InterpolantFamily{job.full.levels}));
  return most;
}

/// Draws and fits replicates first .. first + count - 1 as the CPU's `interpolate` does, to the bit, in as many pieces
/// as the memory takes.
/// @param parameters  beta and r^2 at the optima are wanted
/// @param null, full  not null where a result is wanted; no full fit where full.status is null
/// @param refused     count: 1 where the interpolant does not serve and the results are void
/// @param scratch     bytes of device memory for `finish`
/// @param finish      finish(begin, items, null, full, refused, scratch): results on the device of `items` replicates
/// from first + begin on
template <class Device, class Finish>
void run_interpolant_pieces(Device& device, const InterpolantJob& job, bool parameters, std::uint64_t first,
                            std::uint64_t count, const FitResults& null_wanted, const FitResults& full_wanted,
                            std::uint8_t* refused, std::size_t scratch_bytes, const Finish& finish) {
  if (count == 0) return;
  const BootstrapJob& draws = *job.bootstrap;
  const Shape &null = *draws.null, &full = *draws.full;
  const bool refit = full_wanted.status == nullptr;
  MemoryNeed need = memory_need(job, parameters, null_wanted, full_wanted);
  need.fixed += scratch_bytes;
  const std::size_t resident = resident_workers(device, job);
  const Piece piece =
      reserve(device, {count, static_cast<std::size_t>(std::min<std::uint64_t>(resident, count))}, need);

  DeviceConstants constants(device.memory());
  const DeviceInterpolants there = on_device(job, constants);
  device.write(device.memory(), constants.bytes().data(), constants.bytes().size());
  DeviceArrays arrays(device.memory(), constants.bytes().size());
  const std::uint64_t room = whole_bundles(piece.items);
  const InterpolantItems at = take_items(arrays, job, parameters, room);
  const FitResults null_results = take_results(arrays, null_wanted, null, parameters, room);
  const FitResults full_results = refit ? FitResults{} : take_results(arrays, full_wanted, full, parameters, room);
  auto* scratch = arrays.take<std::byte>(scratch_bytes);
  const std::size_t doubles = piece.threads * (need.thread / 8);
  auto* memory = arrays.take<double>(doubles);

  for (std::uint64_t begin = 0; begin < count; begin += piece.items) {
    const std::uint64_t items = std::min(piece.items, count - begin), side_by_side = whole_bundles(items);
    const auto threads = [&](std::size_t most) {
      return static_cast<std::size_t>(std::min<std::uint64_t>(std::min(most, piece.threads), items));
    };
    // As many threads draw as there is memory for: they need less of it than the others, and wait more.
    const auto drawing = static_cast<std::size_t>(
        std::min<std::uint64_t>(side_by_side, doubles / std::max<std::size_t>(draw_memory(full, draws.sampler), 1)));
    device.launch(StreamingWork(draws).draw(there.bootstrap, first + begin, side_by_side, at.null_response,
                                            at.full_response, memory, drawing));

    const auto tabulate = [&](const Interpolant& table, double* response) {
      TabulateArguments a;
      a.table = table;
      a.items = side_by_side;
      a.response = response;
      a.tabulated = at.tabulated;
      a.memory = memory;
      // Of a level with many grid points before it a few replicates are work for many threads.
      a.threads = std::min(device.resident_workers(TabulateFamily{}), piece.threads);
      for (a.level = 0; a.level < table.levels; ++a.level) device.launch(a);
    };
    const auto fit = [&](const Interpolant& table, int model, const Shape& shape, const FitResults& results,
                         bool nested, const double* null_deviance) {
      Arena<Strided> item{Strided{at.tabulated, side_by_side}};
      InterpolantFitArguments a;
      a.table = table;
      a.finish = job.finish;
      a.shape = shape;
      a.items = items;
      a.side_by_side = side_by_side;
      a.phi = make_interpolant_table(table, item).phi[model].data;
      a.optimum = at.optimum;
      a.nested = nested;
      a.null_deviance = null_deviance;
      a.refused = at.refused;
      a.results = results;
      a.memory = memory;
      a.threads = threads(device.resident_workers(InterpolantFamily{table.levels}));
      device.launch(a);
    };
    // beta, r^2 and X's factor by one evaluation at the optimum: a fit whose first step is its last.
    const auto fit_parameters = [&](const Shape& shape, const Design<double>* design, double* response,
                                    const FitResults& results) {
      FitArguments a;
      a.shape = shape;
      a.job.design = design;
      a.job.items = items;
      a.job.response = response;
      a.job.first_start = a.job.starts = results.lambda;
      a.job.one_start = false;
      a.job.options.finish = std::numeric_limits<double>::max();
      a.job.parameters = true;
      a.job.results = at.again;
      a.job.results.beta = results.beta;
      a.job.results.r2 = results.r2;
      a.job.results.x_factor = results.x_factor;
      a.response_item = 1;
      a.response_element = side_by_side;
      a.memory = memory;
      a.threads = threads(device.resident_workers(FitFamily{text_kind(shape)}));
      device.launch(a);
    };

    // With equal random effects both models' statistics are in the full's response vector.
    tabulate(there.null, job.same_random_effects ? at.full_response : at.null_response);
    fit(there.null, 0, there.bootstrap.null, null_results, false, nullptr);
    if (!refit && job.same_random_effects) {
      fit(there.null, 1, there.bootstrap.full, full_results, true, null_results.deviance);
    } else if (!refit) {
      tabulate(there.full, at.full_response);
      fit(there.full, 0, there.bootstrap.full, full_results, false, null_results.deviance);
    }
    if (parameters) {
      fit_parameters(there.bootstrap.null, &there.bootstrap.at->null_design, at.null_response, null_results);
      if (!refit)
        fit_parameters(there.bootstrap.full, &there.bootstrap.at->full_design, at.full_response, full_results);
    }
    device.read(refused + begin, at.refused, items);
    finish(begin, items, null_results, full_results, at.refused, scratch);
  }
}

/// Draws and fits the chunk's replicates and brings their results back.
template <class Device>
void run_interpolants(Device& device, const InterpolantJob& job, bool parameters, std::uint8_t* refused,
                      const BootstrapChunk& chunk) {
  const BootstrapJob& draws = *job.bootstrap;
  run_interpolant_pieces(device, job, parameters, chunk.first, chunk.count, chunk.null, chunk.full, refused, 0,
                         [&](std::uint64_t begin, std::uint64_t items, const FitResults& null, const FitResults& full,
                             const std::uint8_t*, std::byte*) {
                           read_results(device, null, chunk.null, *draws.null, parameters, begin, items);
                           if (chunk.full.status != nullptr)
                             read_results(device, full, chunk.full, *draws.full, parameters, begin, items);
                         });
}

/// Draws and fits replicates first .. first + count - 1 and brings back the counts over those that are not refused.
/// @param observed  the statistic that a replicate is compared with
/// @param refit     the null model alone is fitted
template <class Device>
StatisticCounts run_interpolant_summary(Device& device, const InterpolantJob& job, std::uint64_t first,
                                        std::uint64_t count, double observed, bool refit, std::uint8_t* refused) {
  double none = 0;
  std::uint8_t status = 0;
  std::uint32_t boundary = 0;
  std::uint16_t evaluations = 0;
  const FitResults wanted{&status, &none, &none, &boundary, &evaluations};
  StatisticCounts counts;
  run_interpolant_pieces(device, job, false, first, count, wanted, refit ? FitResults{} : wanted, refused,
                         statistic_scratch_bytes,
                         [&](std::uint64_t, std::uint64_t items, const FitResults& null, const FitResults& full,
                             const std::uint8_t* left_out, std::byte* scratch) {
                           StatisticArguments a;
                           a.null = null;
                           a.full = full;
                           a.items = items;
                           a.left_out = left_out;
                           a.observed = observed;
                           a.scratch = scratch;
                           a.counts = &counts;
                           device.launch(a);
                         });
  return counts;
}

/// Replicates of a chunk that gives every thread of the tabulation several bundles, within the memory that may be used.
template <class Device>
std::uint64_t interpolant_chunk_items(Device& device, const InterpolantJob& job) {
  constexpr std::uint64_t items_a_thread = 4 * bundle_width, most = 1u << 20;
  double none = 0;
  std::uint8_t status = 0;
  std::uint32_t boundary = 0;
  std::uint16_t evaluations = 0;
  const FitResults all{&status, &none, &none, &boundary, &evaluations, &none, &none};
  const MemoryNeed need = memory_need(job, true, all, all);
  const std::size_t threads = resident_workers(device, job), usable = device.usable_bytes();
  Piece piece{std::min<std::uint64_t>(items_a_thread * threads, most), threads};
  while (piece.bytes(need) > usable && (piece.items > 1 || piece.threads > 1)) piece.shrink(need);
  return std::max<std::uint64_t>(std::min<std::uint64_t>(piece.items, items_a_thread * piece.threads), 64);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

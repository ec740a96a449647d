/// @file
/// Runs a job on a device: the constants and the items go into one block of its memory, in as many pieces as fit, and
/// the results come back. `Device` is a place on a CUDA device (cuda_device.hpp) or the tests' device, which is the
/// host (tests/host_device.hpp):
///
///     std::size_t resident_workers(const FitFamily&)  threads of these kernels that it runs at a time
///     std::size_t usable_bytes()                      memory that a job may take
///     bool reserve(std::size_t bytes)                 makes memory() hold so much; false: out of memory
///     std::byte* memory()                             the block
///     void write(void* to, const void* from, std::size_t bytes), read(...)   copies to and from the block
///     void launch(const DrawArguments&)               draw_one_lane on every thread
///     void launch(const FitArguments&)                fit_one_lane of the shape's text on every thread, or fit_by_team
///                                                     on every team, by a.mapping
///     void launch(const StatisticArguments&)          counts over results on the device
///     void launch(const DistributionArguments&)       sorts and counts values on the device
///
/// Every family of kernels has its `launch` and its `resident_workers` (cuda_launch.hpp says how one is added).
#pragma once

#include <algorithm>
#include <span>
#include <string>

#include "batchlmm/error.hpp"
#include "kernels/device_constants.hpp"
#include "kernels/mapping.hpp"
#include "kernels/one_lane.hpp"
#include "kernels/statistic.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Bytes of device memory.
struct MemoryNeed {
  std::size_t fixed = 0, item = 0, thread = 0;
};
/// Items that are on the device together, and threads that work on them.
struct Piece {
  std::uint64_t items = 0;
  std::size_t threads = 0;
  [[nodiscard]] std::size_t bytes(const MemoryNeed& need) const {
    return need.fixed + items * need.item + threads * need.thread;
  }
  /// Half the items or half the threads, whichever take more.
  void shrink(const MemoryNeed& need) {
    if (items > 1 && (threads == 1 || items * need.item >= threads * need.thread))
      items = (items + 1) / 2;
    else
      threads = (threads + 1) / 2;
    threads = std::min<std::size_t>(threads, items);
  }
};

/// Arrays are aligned to this.
inline constexpr std::size_t device_alignment = 256;

/// Hands out arrays of a block of memory.
class DeviceArrays {
public:
  DeviceArrays(std::byte* base, std::size_t used) : base_(base), used_(used) {}
  template <class T>
  T* take(std::size_t n) {
    used_ = (used_ + device_alignment - 1) / device_alignment * device_alignment;
    T* at = reinterpret_cast<T*>(base_ + used_);
    used_ += n * sizeof(T);
    return at;
  }
  [[nodiscard]] std::size_t used() const { return used_; }

private:
  std::byte* base_;
  std::size_t used_;
};

/// Calls f(member, entries an item) for every array of results that is wanted.
template <class F>
void for_each_result(const FitResults& r, const Shape& s, bool parameters, const F& f) {
  f(&FitResults::status, std::size_t{1});
  f(&FitResults::deviance, std::size_t{1});
  f(&FitResults::lambda, static_cast<std::size_t>(s.lambdas));
  if (r.boundary != nullptr) f(&FitResults::boundary, std::size_t{1});
  if (r.evaluations != nullptr) f(&FitResults::evaluations, std::size_t{1});
  if (r.several != nullptr) f(&FitResults::several, std::size_t{1});
  if (parameters && r.beta != nullptr) f(&FitResults::beta, static_cast<std::size_t>(s.p));
  if (parameters && r.r2 != nullptr) f(&FitResults::r2, std::size_t{1});
  if (parameters && r.x_factor != nullptr) f(&FitResults::x_factor, static_cast<std::size_t>(triangle_size(s.p)));
}
inline std::size_t result_bytes(const FitResults& r, const Shape& s, bool parameters) {
  std::size_t bytes = 0;
  for_each_result(r, s, parameters, [&](auto member, std::size_t n) { bytes += n * sizeof(*(r.*member)); });
  return bytes;
}
inline FitResults take_results(DeviceArrays& arrays, const FitResults& host, const Shape& s, bool parameters,
                               std::uint64_t items) {
  FitResults device;
  for_each_result(host, s, parameters, [&](auto member, std::size_t n) {
    device.*member = arrays.take<std::remove_reference_t<decltype(*(host.*member))>>(n * items);
  });
  return device;
}
/// Copies `items` results to the host's, from item `begin` on.
template <class Device>
void read_results(Device& device, const FitResults& from, const FitResults& to, const Shape& s, bool parameters,
                  std::uint64_t begin, std::uint64_t items) {
  for_each_result(to, s, parameters, [&](auto member, std::size_t n) {
    device.read(to.*member + begin * n, from.*member, items * n * sizeof(*(to.*member)));
  });
}

/// Reserves memory for as much of `piece` as there is room for.
/// @throws ComputationError where not even one item on one thread fits
template <class Device>
Piece reserve(Device& device, Piece piece, const MemoryNeed& need) {
  const std::size_t usable = device.usable_bytes();
  while (piece.bytes(need) > usable || !device.reserve(piece.bytes(need))) {
    if (piece.items == 1 && piece.threads == 1)
      throw ComputationError("the device's memory is too small for one replicate: it takes " +
                             std::to_string(piece.bytes(need) / 1024 + 1) + " KiB, " + std::to_string(usable / 1024) +
                             " KiB may be used");
    piece.shrink(need);
  }
  return piece;
}

/// What is done with a piece of replicates, one after the other.
enum class WorkStage { draw, null_fit, full_fit };

/// Work whose stages all take the threads that a piece has.
struct UniformWork {
  template <class Device>
  [[nodiscard]] static std::size_t workers(const Device& /*device*/, WorkStage /*stage*/, const Piece& piece,
                                           const MemoryNeed& /*need*/) {
    return piece.threads;
  }
};

/// A bootstrap of the streaming tier on a device. Every tier whose replicates are drawn and fitted by threads has such
/// a class, and run_replicates runs it.
class StreamingWork {
public:
  using Constants = DeviceBootstrap;
  /// @param null, full  who fits the models
  explicit StreamingWork(const BootstrapJob& job, Mapping null = Mapping::thread, Mapping full = Mapping::thread)
      : job_(job), null_(null), full_(full) {}

  /// Shapes, options, and what to bring home.
  [[nodiscard]] const BootstrapJob& bootstrap() const { return job_; }
  /// Doubles that stand for a replicate's response.
  [[nodiscard]] std::size_t null_response() const { return job_.null->response; }
  [[nodiscard]] std::size_t full_response() const { return job_.full->response; }
  /// Doubles of scratch that a thread or team needs, of the stage that needs most.
  [[nodiscard]] std::size_t thread_doubles() const {
    return std::max({doubles(WorkStage::draw), doubles(WorkStage::null_fit), doubles(WorkStage::full_fit)});
  }
  /// As many workers of thread_doubles() as have the memory of those that the device runs at a time while it fits.
  template <class Device>
  [[nodiscard]] std::size_t resident_workers(const Device& device) const {
    const std::size_t most = std::max(resident(device, WorkStage::null_fit) * doubles(WorkStage::null_fit),
                                      resident(device, WorkStage::full_fit) * doubles(WorkStage::full_fit));
    return (most + thread_doubles() - 1) / thread_doubles();
  }
  /// Threads or teams of a stage, in the memory of the piece.
  template <class Device>
  [[nodiscard]] std::size_t workers(const Device& device, WorkStage stage, const Piece& piece,
                                    const MemoryNeed& need) const {
    const std::size_t room = std::max<std::size_t>(piece.threads * need.thread / (8 * doubles(stage)), 1);
    return std::min<std::size_t>({room, resident(device, stage), piece.items});
  }
  [[nodiscard]] Constants put(DeviceConstants& constants) const { return on_device(job_, constants); }
  /// @param full  null where the model is refitted
  [[nodiscard]] DrawArguments draw(const Constants& there, std::uint64_t first, std::uint64_t count, double* null,
                                   double* full, double* memory, std::size_t threads) const {
    DrawArguments a;
    a.shape = there.full;
    a.design = there.job.full_design;
    a.sampler = there.job.sampler;
    a.seed = job_.seed;
    a.first = first;
    a.count = count;
    a.full_response = full;
    a.null_response = null;
    a.memory = memory;
    a.threads = threads;
    return a;
  }
  /// What the fits of one of the models are about; run_replicates adds the rest.
  [[nodiscard]] FitArguments fit(const Constants& there, bool full) const {
    FitArguments a;
    a.shape = full ? there.full : there.null;
    set_mapping(a, full ? full_ : null_);
    a.job.design = full ? &there.at->full_design : &there.at->null_design;
    a.shared = full ? nullptr : there.job.null_shared;
    return a;
  }
  /// The part of a fit's arguments that all tiers have.
  static FitArguments& common(FitArguments& a) { return a; }

private:
  [[nodiscard]] std::size_t doubles(WorkStage stage) const {
    if (stage == WorkStage::draw) return draw_memory(*job_.full, job_.sampler);
    return stage == WorkStage::null_fit ? fit_memory(*job_.null, null_) : fit_memory(*job_.full, full_);
  }
  /// Threads or teams that the device runs at a time; draws take as many threads as the fits.
  template <class Device>
  [[nodiscard]] std::size_t resident(const Device& device, WorkStage stage) const {
    if (stage == WorkStage::null_fit) return device.resident_workers(fit_family(*job_.null, null_));
    if (stage == WorkStage::full_fit) return device.resident_workers(fit_family(*job_.full, full_));
    return std::max(resident(device, WorkStage::null_fit) * limits_of(null_).members,
                    resident(device, WorkStage::full_fit) * limits_of(full_).members);
  }

  const BootstrapJob& job_;
  Mapping null_, full_;
};

/// @param null, full  the arrays that are wanted
template <class Work>
MemoryNeed memory_need(const Work& work, const FitResults& null, const FitResults& full) {
  const BootstrapJob& job = work.bootstrap();
  DeviceConstants constants(nullptr);
  (void)work.put(constants);
  return {constants.bytes().size() + 32 * device_alignment,
          8 * (work.null_response() + work.full_response()) + result_bytes(null, *job.null, job.parameters) +
              result_bytes(full, *job.full, job.parameters),
          8 * work.thread_doubles()};
}

/// Draws and fits replicates first .. first + count - 1, as the CPU does, in as many pieces as the memory takes.
/// @tparam Work       StreamingWork, or a class like it
/// @param null, full  not null where a result is wanted; no full fit where full.status is null
/// @param scratch     bytes of device memory for `finish`
/// @param finish      finish(begin, items, null, full, scratch): results on the device of `items` replicates from first
/// + begin on
template <class Device, class Work, class Finish>
void run_pieces(Device& device, const Work& work, std::uint64_t first, std::uint64_t count,
                const FitResults& null_wanted, const FitResults& full_wanted, std::size_t scratch_bytes,
                const Finish& finish) {
  if (count == 0) return;
  const BootstrapJob& job = work.bootstrap();
  const Shape &null = *job.null, &full = *job.full;
  const bool refit = full_wanted.status == nullptr;
  FitResults null_out = null_wanted;
  std::uint8_t any = 0;
  if (tells_minima(job) && !refit) null_out.several = &any;
  MemoryNeed need = memory_need(work, null_out, full_wanted);
  need.fixed += scratch_bytes;
  const std::size_t resident = work.resident_workers(device);
  const Piece piece =
      reserve(device, {count, static_cast<std::size_t>(std::min<std::uint64_t>(resident, count))}, need);

  DeviceConstants constants(device.memory());
  const typename Work::Constants there = work.put(constants);
  device.write(device.memory(), constants.bytes().data(), constants.bytes().size());
  DeviceArrays arrays(device.memory(), constants.bytes().size());
  auto* null_response = arrays.take<double>(piece.items * work.null_response());
  auto* full_response = arrays.take<double>(piece.items * work.full_response());
  const FitResults null_results = take_results(arrays, null_out, null, job.parameters, piece.items);
  const FitResults full_results =
      refit ? FitResults{} : take_results(arrays, full_wanted, full, job.parameters, piece.items);
  auto* scratch = arrays.take<std::byte>(scratch_bytes);
  auto* memory = arrays.take<double>(piece.threads * need.thread / 8);

  for (std::uint64_t begin = 0; begin < count; begin += piece.items) {
    const std::uint64_t items = std::min(piece.items, count - begin);
    device.launch(work.draw(there, first + begin, items, null_response, full_response, memory,
                            work.workers(device, WorkStage::draw, piece, need)));

    auto null_fit = work.fit(there, false);
    {
      FitArguments& fit = Work::common(null_fit);
      fit.shape = there.null;
      if (!job.parameters) fit.trip = job.null_trip;
      fit.job.items = items;
      fit.job.response = null_response;
      fit.job.first_start = there.job.null_starts;
      fit.job.starts = there.job.null_starts;
      fit.job.options = job.null_options;
      fit.job.parameters = job.parameters;
      fit.job.results = null_results;
      fit.response_item = 1;
      fit.response_element = items;
      fit.memory = memory;
      fit.threads = work.workers(device, WorkStage::null_fit, piece, need);
    }
    device.launch(null_fit);
    if (refit) {
      finish(begin, items, null_results, full_results, scratch);
      continue;
    }

    auto full_fit = work.fit(there, true);
    {
      FitArguments& fit = Work::common(full_fit);
      fit.shape = there.full;
      if (!job.parameters) fit.trip = job.full_trip;
      fit.job.items = items;
      fit.job.response = full_response;
      fit.job.starts = there.job.full_starts;
      fit.job.options = job.full_options;
      fit.job.parameters = job.parameters;
      fit.job.results = full_results;
      fit.bootstrap = there.at;
      fit.null = null_results;
      fit.response_item = 1;
      fit.response_element = items;
      fit.memory = memory;
      fit.threads = work.workers(device, WorkStage::full_fit, piece, need);
    }
    device.launch(full_fit);
    finish(begin, items, null_results, full_results, scratch);
  }
}

/// Draws and fits the chunk's replicates and brings their results back.
template <class Device, class Work>
void run_replicates(Device& device, const Work& work, const BootstrapChunk& chunk) {
  const BootstrapJob& job = work.bootstrap();
  run_pieces(device, work, chunk.first, chunk.count, chunk.null, chunk.full, 0,
             [&](std::uint64_t begin, std::uint64_t items, const FitResults& null, const FitResults& full, std::byte*) {
               read_results(device, null, chunk.null, *job.null, job.parameters, begin, items);
               if (chunk.full.status != nullptr)
                 read_results(device, full, chunk.full, *job.full, job.parameters, begin, items);
             });
}

/// Draws and fits replicates first .. first + count - 1 and brings nothing back but the counts.
/// @param observed  the statistic that a replicate is compared with
/// @param refit     the null model alone is fitted
template <class Device, class Work>
StatisticCounts run_summary(Device& device, const Work& work, std::uint64_t first, std::uint64_t count, double observed,
                            bool refit) {
  double none = 0;
  std::uint8_t status = 0;
  std::uint32_t boundary = 0;
  std::uint16_t evaluations = 0;
  FitResults wanted;
  wanted.status = &status;
  wanted.deviance = wanted.lambda = &none;
  wanted.boundary = &boundary;
  wanted.evaluations = &evaluations;
  StatisticCounts counts;
  run_pieces(
      device, work, first, count, wanted, refit ? FitResults{} : wanted, statistic_scratch_bytes,
      [&](std::uint64_t, std::uint64_t items, const FitResults& null, const FitResults& full, std::byte* scratch) {
        StatisticArguments a;
        a.null = null;
        a.full = full;
        a.items = items;
        a.observed = observed;
        a.scratch = scratch;
        a.counts = &counts;
        device.launch(a);
      });
  return counts;
}

/// Replicates of a chunk that gives every thread several, within the memory that may be used.
template <class Device, class Work>
std::uint64_t chunk_items(Device& device, const Work& work) {
  constexpr std::uint64_t items_a_thread = 32, most = 1u << 20;
  double none = 0;
  std::uint8_t status = 0;
  std::uint32_t boundary = 0;
  std::uint16_t evaluations = 0;
  const FitResults all{&status, &none, &none, &boundary, &evaluations, &none, &none, &status, &none};
  const MemoryNeed need = memory_need(work, all, all);
  const std::size_t threads = work.resident_workers(device), usable = device.usable_bytes();
  Piece piece{std::min<std::uint64_t>(items_a_thread * threads, most), threads};
  while (piece.bytes(need) > usable && (piece.items > 1 || piece.threads > 1)) piece.shrink(need);
  return std::max<std::uint64_t>(std::min<std::uint64_t>(piece.items, items_a_thread * piece.threads), 64);
}

/// Fits the job's items, as the CPU's `fit` does.
/// @param mapping  who fits an item
template <class Device>
void run_fits(Device& device, const FitJob& job, Mapping mapping = Mapping::thread) {
  if (job.items == 0) return;
  const Shape& s = *job.shape;
  const std::size_t starts = static_cast<std::size_t>(job.options.starts) * s.lambdas;
  DeviceConstants fixed(nullptr), design(nullptr);
  (void)on_device(s, fixed);
  (void)fixed.add(job.starts, starts);
  if (job.one_start) (void)fixed.add(job.first_start, s.lambdas);
  const Design<double> one = on_device(job.design[0], s, design);
  (void)design.add(&one, 1);
  MemoryNeed need;
  need.fixed = fixed.bytes().size() + design.bytes().size() + 32 * device_alignment;
  need.item = 8 * (static_cast<std::size_t>(s.response) + (job.one_start ? 0 : s.lambdas)) +
              result_bytes(job.results, s, job.parameters);
  // Each item may bring a design of its own; a structure a time is aligned.
  if (job.design_of != nullptr) need.item += design.bytes().size() + 16 * (max_stages + 4) + sizeof(int);
  need.thread = 8 * fit_memory(s, mapping);
  const std::size_t resident = device.resident_workers(fit_family(s, mapping));
  const Piece piece =
      reserve(device, {job.items, static_cast<std::size_t>(std::min<std::uint64_t>(resident, job.items))}, need);
  int designs = 1;
  if (job.design_of != nullptr) designs = 1 + *std::max_element(job.design_of, job.design_of + job.items);

  for (std::uint64_t begin = 0; begin < job.items; begin += piece.items) {
    const std::uint64_t items = std::min(piece.items, job.items - begin);
    DeviceConstants constants(device.memory());
    FitArguments fit;
    fit.shape = on_device(s, constants);
    set_mapping(fit, mapping);
    fit.job.starts = constants.add(job.starts, starts);
    if (job.one_start) fit.job.first_start = constants.add(job.first_start, s.lambdas);
    std::vector<Design<double>> designs_there;
    if (job.design_of == nullptr) {
      designs_there.push_back(on_device(job.design[0], s, constants));
    } else {
      // The designs of this piece alone, numbered anew.
      std::vector<int> number(designs, -1), design_of(items);
      for (std::uint64_t i = 0; i < items; ++i) {
        const int d = job.design_of[begin + i];
        if (number[d] < 0) {
          number[d] = static_cast<int>(designs_there.size());
          designs_there.push_back(on_device(job.design[d], s, constants));
        }
        design_of[i] = number[d];
      }
      fit.job.design_of = constants.add(design_of.data(), items);
    }
    fit.job.design = constants.add(designs_there.data(), designs_there.size());
    device.write(device.memory(), constants.bytes().data(), constants.bytes().size());

    DeviceArrays arrays(device.memory(), constants.bytes().size());
    auto* response = arrays.take<double>(items * s.response);
    device.write(response, job.response + begin * s.response, 8 * items * s.response);
    if (!job.one_start) {
      auto* first_start = arrays.take<double>(items * s.lambdas);
      device.write(first_start, job.first_start + begin * s.lambdas, 8 * items * s.lambdas);
      fit.job.first_start = first_start;
    }
    fit.job.one_start = job.one_start;
    fit.job.items = items;
    fit.job.response = response;
    fit.job.options = job.options;
    fit.job.parameters = job.parameters;
    fit.job.results = take_results(arrays, job.results, s, job.parameters, items);
    fit.response_item = s.response;
    fit.response_element = 1;
    fit.memory = arrays.take<double>(piece.threads * need.thread / 8);
    fit.threads = piece.threads;
    device.launch(fit);
    read_results(device, fit.job.results, job.results, s, job.parameters, begin, items);
  }
}

/// Sorts and counts values on the device.
/// @throws ComputationError where they do not fit into its memory
template <class Device>
Distribution run_distribution(Device& device, std::span<const double> values, std::span<const std::uint8_t> status,
                              double observed, std::span<const double> probabilities, std::span<const double> edges) {
  const std::uint64_t n = values.size();
  Distribution result;
  result.histogram.resize(edges.empty() ? 0 : edges.size() - 1);
  if (n == 0) return result;
  DistributionArguments a;
  a.scratch_bytes = statistic_scratch_bytes + 9 * n;  // a radix sort's second array and more
  const std::size_t bytes = n * (2 * sizeof(double) + 1) + a.scratch_bytes +
                            16 * (probabilities.size() + edges.size() + 1) + 16 * device_alignment;
  if (bytes > device.usable_bytes() || !device.reserve(bytes))
    throw ComputationError("the device's memory is too small to sort " + std::to_string(n) + " values: it takes " +
                           std::to_string(bytes / 1024 + 1) + " KiB, " + std::to_string(device.usable_bytes() / 1024) +
                           " KiB may be used");
  DeviceArrays arrays(device.memory(), 0);
  const auto put = [&]<class T>(std::span<const T> from) {
    T* to = arrays.take<T>(from.size());
    device.write(to, from.data(), from.size_bytes());
    return to;
  };
  a.values = put(values);
  a.status = put(status);
  a.n = n;
  a.observed = observed;
  a.used_values = arrays.take<double>(n);
  a.probabilities = put(probabilities);
  a.quantile_count = probabilities.size();
  a.quantiles = arrays.take<double>(probabilities.size());
  a.edges = put(edges);
  a.bins = result.histogram.size();
  a.histogram = arrays.take<std::uint64_t>(a.bins);
  a.scratch = arrays.take<std::byte>(a.scratch_bytes);
  a.used = &result.used;
  a.at_least = &result.at_least;
  device.launch(a);
  if (result.used > 0) {
    result.quantiles.resize(probabilities.size());
    device.read(result.quantiles.data(), a.quantiles, 8 * probabilities.size());
  }
  device.read(result.histogram.data(), a.histogram, 8 * a.bins);
  return result;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

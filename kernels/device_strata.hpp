/// @file
/// A bootstrap on strata (tier 1) on a device, and its constants in the device's block of memory.
#pragma once

#include "kernels/device_run.hpp"
#include "kernels/one_lane_strata.hpp"

namespace batchlmm::kernels {

inline StrataModel on_device(const StrataModel& m, const Shape& s, DeviceConstants& constants) {
  const std::size_t nc = m.coupled, size2 = triangle_size(m.coupled), size1 = triangle_size(m.indicators);
  StrataModel to = m;
  std::vector<StrataBlock> blocks(m.block, m.block + m.blocks);
  for (StrataBlock& b : blocks) {
    const std::size_t d = b.d, packed_d = triangle_size(b.d);
    b.c = constants.add(b.c, d * b.columns);
    b.group_term = constants.add(b.group_term, b.groups);
    b.group_column = constants.add(b.group_column, b.groups);
    b.parameter = constants.add(b.parameter, b.generators);
    b.generator = constants.add(b.generator, b.generators);
    b.a = constants.add(b.a, packed_d * size2);
    b.a1 = constants.add(b.a1, packed_d * size1);
    b.e = constants.add(b.e, b.copies * d * nc);
    b.e1 = constants.add(b.e1, b.indicated * d * m.indicators);
  }
  to.block = constants.add(blocks.data(), blocks.size());
  to.c2 = constants.add(m.c2, size2);
  to.c1 = constants.add(m.c1, size1);
  const std::size_t moments = m.moments;
  to.moment_entry = constants.add(m.moment_entry, moments);
  to.moment_copies = constants.add(m.moment_copies, moments);
  to.moment_factors = constants.add(m.moment_factors, 3 * moments);
  to.moment_map = constants.add(m.moment_map, s.parameters * moments);
  to.moment_offset = constants.add(m.moment_offset, moments > 0 ? s.parameters : 0);
  return to;
}

/// @param residual  touched residual coordinates
inline RecordMap on_device(const RecordMap& m, int residual, DeviceConstants& constants) {
  RecordMap to = m;
  std::vector<BlockRecord> blocks(m.block, m.block + m.blocks);
  for (BlockRecord& b : blocks) {
    b.coordinates = constants.add(b.coordinates, b.copies);
    b.reduce = constants.add(b.reduce, static_cast<std::size_t>(b.d) * b.stratum_d);
    b.coupled = constants.add(b.coupled, static_cast<std::size_t>(b.copies) * b.d * m.coupled);
  }
  to.block = constants.add(blocks.data(), blocks.size());
  to.residual_map = constants.add(m.residual_map, static_cast<std::size_t>(m.residual) * residual);
  to.residual_coupled = constants.add(m.residual_coupled, static_cast<std::size_t>(m.residual) * m.coupled);
  return to;
}

inline StrataSampler on_device(const StrataSampler& s, DeviceConstants& constants) {
  StrataSampler to = s;
  std::vector<SampledStratum> strata(s.stratum, s.stratum + s.strata);
  for (SampledStratum& stratum : strata)
    stratum.factor = constants.add(stratum.factor, static_cast<std::size_t>(stratum.d) * stratum.d);
  to.stratum = constants.add(strata.data(), strata.size());
  to.null = on_device(s.null, s.residual, constants);
  to.full = on_device(s.full, s.residual, constants);
  return to;
}

inline namespace BATCHLMM_ISA {

/// As StreamingWork.
class StrataWork : public UniformWork {
public:
  struct Constants : DeviceBootstrap {
    StrataModel null_model, full_model;
    StrataSampler sampler;
  };
  /// @param refit  one model is drawn from and refitted
  StrataWork(const StrataJob& job, bool refit) : job_(job), refit_(refit) {}

  [[nodiscard]] const BootstrapJob& bootstrap() const { return job_.job; }
  [[nodiscard]] std::size_t null_response() const { return job_.null.record; }
  [[nodiscard]] std::size_t full_response() const { return refit_ ? 0 : job_.full.record; }
  [[nodiscard]] std::size_t thread_doubles() const {
    return std::max({strata_draw_scratch(job_.sampler), strata_fit_memory(*job_.job.null, job_.null),
                     refit_ ? std::size_t{0} : strata_fit_memory(*job_.job.full, job_.full)});
  }
  template <class Device>
  [[nodiscard]] std::size_t resident_workers(const Device& device) const {
    return device.resident_workers(StrataFamily{});
  }
  [[nodiscard]] Constants put(DeviceConstants& constants) const {
    Constants there;
    static_cast<DeviceBootstrap&>(there) = on_device(job_.job, constants, false);
    there.null_model = on_device(job_.null, *job_.job.null, constants);
    if (!refit_) there.full_model = on_device(job_.full, *job_.job.full, constants);
    StrataSampler sampler = job_.sampler;
    if (refit_) sampler.full = {};
    there.sampler = on_device(sampler, constants);
    return there;
  }
  [[nodiscard]] StrataDrawArguments draw(const Constants& there, std::uint64_t first, std::uint64_t count, double* null,
                                         double* full, double* memory, std::size_t threads) const {
    StrataDrawArguments a;
    a.sampler = there.sampler;
    a.seed = job_.job.seed;
    a.first = first;
    a.count = count;
    a.null_record = null;
    a.full_record = full;
    a.memory = memory;
    a.threads = threads;
    return a;
  }
  [[nodiscard]] StrataFitArguments fit(const Constants& there, bool full) const {
    StrataFitArguments a;
    a.model = full ? there.full_model : there.null_model;
    a.moments = full ? job_.full_moments : job_.null_moments;
    return a;
  }
  static FitArguments& common(StrataFitArguments& a) { return a.fit; }

private:
  const StrataJob& job_;
  bool refit_;
};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

/// @file
/// The constants of a job in one block of bytes for a device's memory: every array that shapes, designs and samplers
/// point to, and the same structures with pointers into the block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/jobs.hpp"
#include "kernels/shared_start.hpp"

namespace batchlmm::kernels {

/// Collects arrays that will stand at `base`. With a null base it only measures.
class DeviceConstants {
public:
  explicit DeviceConstants(std::byte* base) : base_(base) {}

  /// @return where the copy of from[0 .. n-1] will stand; null stays null
  template <class T>
  const T* add(const T* from, std::size_t n) {
    if (from == nullptr) return nullptr;
    const std::size_t at = (bytes_.size() + 15) / 16 * 16;
    bytes_.resize(at + n * sizeof(T));
    if (n > 0) std::memcpy(bytes_.data() + at, from, n * sizeof(T));
    return reinterpret_cast<const T*>(reinterpret_cast<std::uintptr_t>(base_) + at);
  }
  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

private:
  std::byte* base_;
  std::vector<std::byte> bytes_;
};

inline Shape on_device(const Shape& s, DeviceConstants& constants) {
  Shape to = s;
  for (int t = 1; t <= s.stages; ++t) to.node_end[t] = constants.add(s.node_end[t], s.nodes[t]);
  return to;
}

inline Design<double> on_device(const Design<double>& design, const Shape& s, DeviceConstants& constants) {
  const std::size_t levels = s.nodes[0], k = s.own[0];
  Design<double> to;
  to.streamed_c = constants.add(design.streamed_c, levels * k * k);
  to.streamed_r = constants.add(design.streamed_r, levels * k * (s.columns() - 1));
  to.x_e = constants.add(design.x_e, triangle_size(s.p));
  to.degrees = constants.add(design.degrees, 1);
  for (int t = 1; t <= s.stages; ++t)
    to.own_e[t] =
        constants.add(design.own_e[t], static_cast<std::size_t>(s.nodes[t]) * own_e_size(s.own[t], s.outer[t]));
  return to;
}

inline SharedStart on_device(const SharedStart& shared, const Shape& s, DeviceConstants& constants) {
  const std::size_t n = shared.columns, k = s.own[0], m = s.parameters;
  SharedStart to = shared;
  to.streamed = constants.add(shared.streamed, s.nodes[0] * k * (2 * k + n));
  to.solve = constants.add(shared.solve, n * n);
  to.cross = constants.add(shared.cross, shared.own * n);
  to.offset = constants.add(shared.offset, m);
  to.map = constants.add(shared.map, m * m);
  to.l = constants.add(shared.l, s.lambdas);
  to.pivot = constants.add(shared.pivot, s.lambdas);
  to.w = constants.add(shared.w, s.terms);
  return to;
}

/// @param s  the full model's
inline Sampler on_device(const Sampler& sampler, const Shape& s, DeviceConstants& constants) {
  Sampler to = sampler;
  to.lambda = constants.add(sampler.lambda, s.lambdas);
  to.streamed_rank = constants.add(sampler.streamed_rank, s.nodes[0]);
  for (int t = 0; t <= s.stages; ++t) {
    const int nodes = t == 0 ? 1 : s.nodes[t], columns = t == 0 ? s.p : s.outer[t] + s.own[t] - 1;
    to.row_begin[t] = constants.add(sampler.row_begin[t], nodes + 1);
    to.row[t] = constants.add(sampler.row[t], static_cast<std::size_t>(sampler.row_begin[t][nodes]) * columns);
  }
  to.null_x = constants.add(sampler.null_x, static_cast<std::size_t>(s.p) * sampler.null_p);
  const std::size_t coordinates = static_cast<std::size_t>(s.nodes[0]) * s.own[0] + sampler.rows;
  to.null_map = constants.add(sampler.null_map, (sampler.null_response - 1) * coordinates);
  return to;
}

/// A bootstrap's job that points into the block throughout.
struct DeviceBootstrap {
  BootstrapJob job;
  Shape null, full;                  ///< copies of *job.null and *job.full for whoever cannot read the block
  const BootstrapJob* at = nullptr;  ///< where a copy of `job` stands in the block
};
/// @param rows  with the designs, the sampler and the shared start; else these are left out
inline DeviceBootstrap on_device(const BootstrapJob& job, DeviceConstants& constants, bool rows = true) {
  DeviceBootstrap there;
  BootstrapJob& to = there.job;
  to = job;
  there.null = on_device(*job.null, constants);
  there.full = on_device(*job.full, constants);
  to.null = constants.add(&there.null, 1);
  to.full = constants.add(&there.full, 1);
  to.null_design = to.full_design = {};
  to.sampler = {};
  to.null_shared = nullptr;
  if (rows) {
    to.null_design = on_device(job.null_design, *job.null, constants);
    to.full_design = on_device(job.full_design, *job.full, constants);
    to.sampler = on_device(job.sampler, *job.full, constants);
  }
  to.null_starts =
      constants.add(job.null_starts, static_cast<std::size_t>(job.null_options.starts) * job.null->lambdas);
  to.full_starts =
      constants.add(job.full_starts, static_cast<std::size_t>(job.full_options.starts) * job.full->lambdas);
  std::size_t map = 0;
  for (int b = 0; b < job.null->terms; ++b) map += job.full->term[job.embed_term[b]].k * job.null->term[b].k;
  to.embed_map = constants.add(job.embed_map, map);
  to.embed_term = constants.add(job.embed_term, job.null->terms);
  to.embed_column = constants.add(job.embed_column, job.null->terms);
  SharedStart shared;
  if (rows && job.null_shared != nullptr) {
    shared = on_device(*job.null_shared, *job.null, constants);
    to.null_shared = constants.add(&shared, 1);
  }
  there.at = constants.add(&to, 1);
  return there;
}

}  // namespace batchlmm::kernels

/// @file
/// The kernel that fits replicates by teams of a block's threads (team_fit.hpp). Included by the .cu files that compile
/// it, each for one mapping:
///     template struct TeamKernel<WarpTeam<8>, 0>;
#pragma once

#include "kernels/cuda_check.hpp"
#include "kernels/cuda_fit_kernel.hpp"
#include "kernels/cuda_team.hpp"
#include "kernels/team_fit.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Team::blocks a multiprocessor at least, as many as have room on the chip: threads may take 255 registers. Blocks of
/// Team::block_threads with block_threads / members teams each; `fast` doubles a team on the chip.
template <class Team, int LK>
__global__ void __launch_bounds__(Team::block_threads, Team::blocks)
    team_kernel(const __grid_constant__ FitArguments a, const __grid_constant__ TeamShape<Team> s,
                unsigned long long* next) {
  extern __shared__ double on_chip[];
  constexpr unsigned teams = Team::block_threads / Team::members;
  const unsigned in_block = threadIdx.x / Team::members;
  const std::size_t team = static_cast<std::size_t>(blockIdx.x) * teams + in_block;
  if (team < a.threads)
    fit_by_team<LK>(a, s, on_chip + in_block * a.fast, a.memory + team * a.slow, NextItem{next, a.job.items});
}

/// Bytes on the chip that a block takes; the kernel is allowed them on the current device.
template <class Team, int LK>
std::size_t on_chip_bytes(std::size_t fast) {
  const std::size_t bytes = Team::block_threads / Team::members * fast * sizeof(double);
  check(
      cudaFuncSetAttribute(team_kernel<Team, LK>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
      "cudaFuncSetAttribute");
  return bytes;
}

template <class Team, int LK>
void TeamKernel<Team, LK>::launch(const CudaQueue& queue, const FitArguments& a) {
  constexpr std::size_t teams = Team::block_threads / Team::members;
  const TeamShape<Team> s(a.shape);
  const auto blocks = static_cast<unsigned>((a.threads + teams - 1) / teams);
  team_kernel<Team, LK>
      <<<blocks, Team::block_threads, on_chip_bytes<Team, LK>(a.fast), queue.stream>>>(a, s, queue.next);
  check(cudaGetLastError(), "launch of team_kernel");
}

template <class Team, int LK>
std::size_t TeamKernel<Team, LK>::resident_teams(const FitFamily& family) {
  int device = 0, multiprocessors = 0, blocks = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, team_kernel<Team, LK>, Team::block_threads,
                                                      on_chip_bytes<Team, LK>(family.fast)),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return static_cast<std::size_t>(multiprocessors) * std::max(blocks, 1) * (Team::block_threads / Team::members);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

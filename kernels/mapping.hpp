/// @file
/// Which of a device's threads fit a replicate of the streaming tier: one, or a team of them.
///
/// **The table is an estimate by arithmetic until the crossovers have been measured on a card.** A replicate of the
/// general text works on about 11 n^2 + 2 r^2 doubles, n the columns of its largest node and r = columns() those of the
/// Schur complement with y and X: 10 KiB at r = 12, 100 KiB at r = 32, 400 KiB at r = 64. A thread has its arrays in
/// the device's memory: at 2,048 threads a multiprocessor even r = 12 takes 20 MiB a multiprocessor, so that every
/// operand comes from there (3.35 TB/s on an H100, a double for 40 multiply-adds at its peak). A team's arrays are near
/// to it as far as they take its part of a multiprocessor's on-chip memory (228 KiB on compute capability 9.0, 164 KiB
/// on 8.0) when as many warps share it as hide the latency of dependent multiply-adds a little: 4 or 5 warps of 4 teams
/// of 8, or of a team each, or 2 blocks of 4 warps. What finds no room there comes from the caches: the teams that run
/// at a time take less than the second-level cache has (50 MB) up to about r = 64. A team of T members is at work as a
/// whole on loops of T outputs or more; a node's have n to n^2 / 4.
#pragma once

#include <cstdlib>
#include <limits>
#include <string>

#include "batchlmm/error.hpp"
#include "kernels/team_fit.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// A row of the table: a mapping serves shapes of up to so many columns half of whose arrays, those that every level
/// goes through apart, find room on the chip; the last one serves all.
struct MappingLimits {
  Mapping mapping;
  const char* name;
  int members;
  int columns;          ///< of the Schur complement, with y and X
  std::size_t on_chip;  ///< bytes of on-chip memory that a team takes at most
};
inline constexpr MappingLimits mapping_table[] = {{Mapping::thread, "thread", 1, 12, 0},
                                                  {Mapping::lanes, "lanes", 8, 20, 12 << 10},
                                                  {Mapping::warp, "warp", 32, 64, 40 << 10},
                                                  {Mapping::block, "block", 128, 1 << 30, 80 << 10}};

inline constexpr const MappingLimits& limits_of(Mapping mapping) { return mapping_table[static_cast<int>(mapping)]; }

/// Whether teams can fit the shape: the texts of a few crossed shapes are for one thread.
inline bool has_team_text(const Shape& s) {
  const TextKind kind = text_kind(s);
  return kind == TextKind::general || kind == TextKind::one_column;
}

/// Doubles of a team.
struct TeamMemory {
  std::size_t fast = 0, slow = 0;
};
/// Teams of any number of members above one need the same.
struct AnyTeam {
  static constexpr bool alone = false;
  BATCHLMM_INLINE static constexpr int rank() { return 0; }
  BATCHLMM_INLINE static constexpr int size() { return 1; }
  BATCHLMM_INLINE static constexpr void sync() {}
  template <class T>
  BATCHLMM_INLINE static constexpr const T& from_first(const T& x) {
    return x;
  }
};
/// @param room  doubles of fast memory at most
inline TeamMemory team_memory(const Shape& shape, std::size_t room) {
  const TeamShape<AnyTeam> s(shape);
  TeamArena<double*> count{nullptr, room, nullptr};
  const TeamArrays<AnyTeam> arrays(s, count);
  (void)arrays;
  constexpr std::size_t line = 16;  // a team's block begins with a cache line
  return {(count.fast_used + line - 1) / line * line, (count.slow_used + line - 1) / line * line};
}
inline TeamMemory team_memory(const Shape& shape, Mapping mapping) {
  return team_memory(shape, limits_of(mapping).on_chip / sizeof(double));
}

/// The mapping by the table.
inline Mapping mapping_by_table(const Shape& s) {
  if (!has_team_text(s)) return Mapping::thread;
  const std::size_t all = 8 * team_memory(s, std::numeric_limits<std::size_t>::max() / 2).fast;
  for (const MappingLimits& row : mapping_table) {
    if (row.mapping == Mapping::block) break;
    if (s.columns() <= row.columns && (row.mapping == Mapping::thread || all <= 2 * row.on_chip)) return row.mapping;
  }
  return Mapping::block;
}

/// The mapping by the table, or that of the environment's BATCHLMM_MAPPING=thread|lanes|warp|block, for tests and
/// benchmarks; shapes without a text for teams are fitted by threads all the same.
/// @throws InputError where it is none of these
inline Mapping mapping_of(const Shape& s) {
  const char* wanted = std::getenv("BATCHLMM_MAPPING");
  if (wanted == nullptr || *wanted == '\0') return mapping_by_table(s);
  for (const MappingLimits& row : mapping_table)
    if (std::string(wanted) == row.name) return has_team_text(s) ? row.mapping : Mapping::thread;
  throw InputError("BATCHLMM_MAPPING: expected thread, lanes, warp or block, found \"" + std::string(wanted) + "\"");
}

/// Doubles of the device's memory that a worker needs to fit.
inline std::size_t fit_memory(const Shape& s, Mapping mapping) {
  return mapping == Mapping::thread ? fit_memory(s) : team_memory(s, mapping).slow;
}
/// The kernels that fit the shape.
inline FitFamily fit_family(const Shape& s, Mapping mapping) {
  return {text_kind(s), mapping, mapping == Mapping::thread ? 0 : team_memory(s, mapping).fast};
}
/// Sets who fits a.shape.
inline void set_mapping(FitArguments& a, Mapping mapping) {
  a.mapping = mapping;
  if (mapping == Mapping::thread) return;
  const TeamMemory memory = team_memory(a.shape, mapping);
  a.fast = memory.fast;
  a.slow = memory.slow;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

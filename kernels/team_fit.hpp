/// @file
/// What a team of a device's threads does: it fits replicate after replicate of a shape by the general text
/// (deviance.hpp), the members sharing the work out (team.hpp). The arrays of an evaluation are in memory that is near
/// to the team as far as there is room, the others in a block of the device's memory of its own, one after the other.
/// Plain text of the kernels: a test runs it on the CPU, by a thread a member.
#pragma once

#include "kernels/one_lane.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// The arrays of a team.
template <class Team>
struct TeamArrays {
  Workspace<double*> w;
  Newton<double, double*> n;
  double* response;
  SharedStartScratch<double*> start;
  BATCHLMM_FUNCTION TeamArrays(const TeamShape<Team>& s, TeamArena<double*>& arena)
      : w(make_workspace(s, arena)),
        n(make_newton<double>(s, arena)),
        response(arena.take(s.response)),
        start(make_shared_start_scratch(s, arena)) {}
};

/// Fits the items that `take` hands out; all members call.
/// @param LK    1: the streamed factor has one column; else 0
/// @param s     of a.shape
/// @param fast  a.fast doubles that the team's members share
/// @param slow  a.slow doubles
/// @param take  take(item): the next item, false where there is none left; the first member calls
template <int LK, class Team, class Take>
BATCHLMM_FUNCTION inline void fit_by_team(const FitArguments& a, const TeamShape<Team>& s, double* fast, double* slow,
                                          Take&& take) {
  const Team& team = s.team;
  const FitJob& job = a.job;
  TeamArena<double*> arena{fast, a.fast, slow};
  TeamArrays<Team> x(s, arena);
  for (std::size_t i = team.rank(); i < arena.fast_used; i += team.size()) fast[i] = 0.0;
  for (std::size_t i = team.rank(); i < arena.slow_used; i += team.size()) slow[i] = 0.0;

  Design<double> design = job.design[0];
  const auto trip = [&](bool running) {
    const Evaluation<double> e = evaluate<LK, double>(s, design, x.response, x.w, true);
    to_next<double>(s, x.w, x.n);
    bool done = false;
    if (is_first(team))
      done = newton_step<double>(s, x.w, x.n, static_cast<const NewtonScratch<double*>&>(x.n), e, running, job.options,
                                 job.starts);
    return Trip<double>{e.r2, team.from_first(done)};
  };
  const auto take_together = [&](std::uint64_t& item) {
    bool there = false;
    if (is_first(team)) there = take(item);
    item = team.from_first(item);
    return team.from_first(there);
  };
  const auto set_design = [&](std::uint64_t i) {
    if (job.design_of != nullptr) design = job.design[job.design_of[i]];
  };
  const auto first_start = [&](double* lambda) {
    if (a.shared == nullptr) return false;
    team.sync();
    shared_start<double>(s, *a.shared, x.response, x.start, lambda);
    return true;
  };
  team.sync();
  fit_items(s, a, x.w, x.n, x.response, s.response, trip, take_together, set_design, first_start);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

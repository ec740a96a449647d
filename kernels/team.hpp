/// @file
/// Teams: several threads that work on one replicate. The kernel text of the streaming tier (eliminate.hpp,
/// derivatives.hpp, newton.hpp) is written for a member of a team: what is independent is shared out among the members,
/// each sum staying with one of them and in its order, so that the bits are those of one thread; what is sequential is
/// done by the first, or by all for themselves. A function of the text expects that the members see each other's work
/// when they enter it, and sees to that before they leave it.
///
/// A Team has
///     alone            whether it has one member only: then all that is here is constant
///     rank(), size()   0 .. size() - 1
///     sync()           waits for all members, which then see what the others have written
///     from_first(x)    the first member's x; all call it
/// and comes with the sizes that the text takes (team_of).
#pragma once

#include "kernels/shape.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// A team of one: what a lane is.
struct Alone {
  static constexpr bool alone = true;
  BATCHLMM_INLINE static constexpr int rank() { return 0; }
  BATCHLMM_INLINE static constexpr int size() { return 1; }
  BATCHLMM_INLINE static constexpr void sync() {}
  template <class T>
  BATCHLMM_INLINE static constexpr const T& from_first(const T& x) {
    return x;
  }
};

/// The sizes of a shape whose replicates are fitted by teams.
template <class Team>
struct TeamShape : Shape {
  Team team;
  explicit TeamShape(const Shape& s, const Team& members = {}) : Shape(s), team(members) {}
};

/// The team that works with these sizes.
template <class S>
BATCHLMM_INLINE constexpr Alone team_of(const S& /*s*/) {
  return {};
}
template <class Team>
BATCHLMM_INLINE constexpr Team team_of(const TeamShape<Team>& s) {
  return s.team;
}

template <class Team>
BATCHLMM_INLINE constexpr bool is_first(const Team& team) {
  return team.rank() == 0;
}
/// Whether unit i of some work is this member's: units go round.
template <class Team>
BATCHLMM_INLINE constexpr bool is_mine(const Team& team, int i) {
  if constexpr (Team::alone) return true;
  return static_cast<unsigned>(i) % static_cast<unsigned>(team.size()) == static_cast<unsigned>(team.rank());
}
/// The first unit from `begin` on that is this member's; every size()-th follows.
template <class Team>
BATCHLMM_INLINE constexpr int first_mine(const Team& team, int begin) {
  if constexpr (Team::alone) return begin;
  const int behind = static_cast<int>(static_cast<unsigned>(begin) % static_cast<unsigned>(team.size())),
            ahead = team.rank() - behind;
  return begin + (ahead < 0 ? ahead + team.size() : ahead);
}

/// Deals out one range of units after the other: the next range begins with the member after the one that had the last
/// unit, so that short ranges keep all members at work.
template <class Team>
class Deal {
public:
  BATCHLMM_INLINE explicit Deal(const Team& team) : team_(team) {}
  /// The first of the next `units` that is this member's; every size()-th follows.
  BATCHLMM_INLINE int first(int units) {
    if constexpr (Team::alone) return 0;
    const int ahead = team_.rank() - dealt_;
    dealt_ = static_cast<int>(static_cast<unsigned>(dealt_ + units) % static_cast<unsigned>(team_.size()));
    return ahead < 0 ? ahead + team_.size() : ahead;
  }

private:
  Team team_;
  int dealt_ = 0;
};

/// Rows that a member takes together where a matrix is dealt out in tiles.
inline constexpr int tile_rows = 4;

/// body(r0, r1, c) for the entries of a matrix of n rows and columns, rows r0 .. r1 - 1 of column c: column by column
/// where the member is alone, else by tiles of some rows whose columns lie side by side.
/// @param lower  the lower triangle only
template <class Team, class F>
BATCHLMM_INLINE void for_each_tile(const Team& team, int n, bool lower, const F& body) {
  if constexpr (Team::alone) {
    for (int c = 0; c < n; ++c) body(lower ? c : 0, n, c);
  } else {
    Deal<Team> deal(team);
    for (int r = 0; r < n; r += tile_rows) {
      const int end = r + tile_rows < n ? r + tile_rows : n, columns = lower ? end : n;
      for (int c = deal.first(columns); c < columns; c += team.size()) body(lower && c > r ? c : r, end, c);
    }
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

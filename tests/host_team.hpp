/// @file
/// Teams of kernels/team.hpp on the host: of threads, or of members that take turns on one thread.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <barrier>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/team_fit.hpp"

namespace batchlmm::oracle {

/// What the members of a team share beside the arrays.
struct HostTeamState {
  explicit HostTeamState(int n) : members(n), barrier(n) {}
  int members;
  std::barrier<> barrier;
  std::uint64_t first = 0;  ///< what the first member hands out
};

class HostTeam {
public:
  static constexpr bool alone = false;
  HostTeam(HostTeamState& state, int rank) : state_(&state), rank_(rank) {}
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return state_->members; }
  void sync() const { state_->barrier.arrive_and_wait(); }
  template <class T>
  T from_first(T x) const {
    static_assert(sizeof(T) <= sizeof state_->first);
    if (rank_ == 0) std::memcpy(&state_->first, &x, sizeof x);
    sync();
    std::memcpy(&x, &state_->first, sizeof x);
    sync();
    return x;
  }

private:
  HostTeamState* state_;
  int rank_;
};

/// fit_by_team on team `number` as a member of it.
template <class Team, class Take>
void fit_as_member(const kernels::FitArguments& a, std::size_t number, const Team& team, std::vector<double>& fast,
                   const Take& take) {
  const kernels::TeamShape<Team> s(a.shape, team);
  double* slow = a.memory + number * a.slow;
  if (kernels::text_kind(a.shape) == kernels::TextKind::one_column)
    kernels::fit_by_team<1>(a, s, fast.data(), slow, take);
  else
    kernels::fit_by_team<0>(a, s, fast.data(), slow, take);
}

/// A team's fast memory: NaNs, since nothing may be read before it is written.
inline std::vector<double> fast_memory(const kernels::FitArguments& a) {
  std::vector<double> fast(a.fast);
  std::memset(fast.data(), 0xff, 8 * fast.size());
  return fast;
}

/// fit_by_team on team `number` of so many members, a thread each.
template <class Take>
void fit_by_thread_team(const kernels::FitArguments& a, std::size_t number, int members, const Take& take) {
  HostTeamState state(members);
  std::vector<double> fast = fast_memory(a);
  Take items = take;
  const auto take_item = [&](std::uint64_t& i) { return items(i); };  // the first member's calls only
  const auto member = [&](int rank) { fit_as_member(a, number, HostTeam(state, rank), fast, take_item); };
  std::vector<std::thread> others;
  for (int rank = 1; rank < members; ++rank) others.emplace_back(member, rank);
  member(0);
  for (std::thread& t : others) t.join();
}

/// Members that take turns on one thread: each runs from one sync() to the next before another does. Where a sync() is
/// missing, a member reads what stood there before, and the bits are others; in which cases depends on the order.
class FiberTeams {
public:
  class Team {
  public:
    static constexpr bool alone = false;
    Team(FiberTeams& all, int rank) : all_(&all), rank_(rank) {}
    [[nodiscard]] int rank() const { return rank_; }
    [[nodiscard]] int size() const { return all_->members_; }
    void sync() const {
      all_->waiting_[rank_] = true;
      swapcontext(&all_->context_[rank_], &all_->scheduler_);
    }
    template <class T>
    T from_first(T x) const {
      if (rank_ == 0) std::memcpy(&all_->first_, &x, sizeof x);
      sync();
      std::memcpy(&x, &all_->first_, sizeof x);
      sync();
      return x;
    }

  private:
    FiberTeams* all_;
    int rank_;
  };

  /// @param order  0: members in the order of their ranks; 1: the other way round; more: another order each time
  template <class Member>
  static void run(int members, int order, const Member& member) {
    FiberTeams all(members);
    std::function<void(int)> body = [&](int rank) { member(Team(all, rank)); };
    all.body_ = &body;
    all.run_members(order);
  }

private:
  static constexpr std::size_t stack_bytes = std::size_t{1} << 20;
  explicit FiberTeams(int members) : members_(members), context_(members), waiting_(members), stacks_(members) {}

  static void enter(unsigned high, unsigned low, int rank) {
    auto* all = reinterpret_cast<FiberTeams*>(std::uintptr_t{high} << 32 | low);
    (*all->body_)(rank);
    all->waiting_[rank] = false;
  }
  void run_members(int order) {
    std::vector<int> turn(members_);
    for (int i = 0; i < members_; ++i) {
      turn[i] = order == 1 ? members_ - 1 - i : i;
      stacks_[i] = std::make_unique<char[]>(stack_bytes);
      getcontext(&context_[i]);
      context_[i].uc_stack.ss_sp = stacks_[i].get();
      context_[i].uc_stack.ss_size = stack_bytes;
      context_[i].uc_link = &scheduler_;
      const auto at = reinterpret_cast<std::uintptr_t>(this);
      makecontext(&context_[i], reinterpret_cast<void (*)()>(enter), 3, static_cast<unsigned>(at >> 32),
                  static_cast<unsigned>(at), i);
    }
    std::mt19937 rng(order);
    while (true) {
      if (order > 1) std::shuffle(turn.begin(), turn.end(), rng);
      for (int i : turn) swapcontext(&scheduler_, &context_[i]);
      const auto waiting = std::count(waiting_.begin(), waiting_.end(), 1);
      if (waiting == 0) return;
      if (waiting != members_) throw std::logic_error("a member of the team waits for others that are done");
    }
  }

  int members_;
  std::function<void(int)>* body_ = nullptr;
  ucontext_t scheduler_{};
  std::vector<ucontext_t> context_;
  std::vector<char> waiting_;
  std::vector<std::unique_ptr<char[]>> stacks_;
  std::uint64_t first_ = 0;
};

/// fit_by_team on team `number`, members taking turns.
template <class Take>
void fit_by_fiber_team(const kernels::FitArguments& a, std::size_t number, int members, int order, const Take& take) {
  std::vector<double> fast = fast_memory(a);
  Take items = take;
  const auto take_item = [&](std::uint64_t& i) { return items(i); };
  FiberTeams::run(members, order,
                  [&](const FiberTeams::Team& team) { fit_as_member(a, number, team, fast, take_item); });
}

}  // namespace batchlmm::oracle

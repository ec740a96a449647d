/// @file
/// Places of work that calls take turns at: a call takes a free one, or waits for one.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "batchlmm/error.hpp"

namespace batchlmm::kernels {

/// Any number of threads may call. A place where a call throws DeviceLost is taken by no later call; nor are the others
/// of its group, which stand on the same device.
template <class Slot>
class SlotPool {
public:
  /// @param group  the slot's device. Of the free slots, one whose group has fewest at work is taken.
  void add(std::unique_ptr<Slot> slot, int group) { places_.push_back({std::move(slot), group, false, false}); }
  [[nodiscard]] std::size_t size() const { return places_.size(); }

  /// Calls f(slot) and returns what it returns, when a slot is free.
  /// @throws DeviceLost, as it was thrown first, where all slots are lost; whatever f throws
  template <class F>
  auto run(const F& f) {
    const Turn turn(*this);
    try {
      return f(*turn.place().slot);
    } catch (const DeviceLost&) {
      lose(turn.place().group, std::current_exception());
      throw;
    }
  }

private:
  struct Place {
    std::unique_ptr<Slot> slot;
    int group;
    bool busy, lost;
  };
  /// A place from when it is taken until it is given back.
  class Turn {
  public:
    explicit Turn(SlotPool& pool) : pool_(pool), at_(pool.take()) {}
    ~Turn() { pool_.give_back(at_); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    [[nodiscard]] Place& place() const { return pool_.places_[at_]; }

  private:
    SlotPool& pool_;
    std::size_t at_;
  };

  std::size_t take() {
    std::unique_lock lock(mutex_);
    while (true) {
      bool alive = false;
      std::size_t best = places_.size();
      int fewest = 0;
      for (std::size_t i = 0; i < places_.size(); ++i) {
        if (places_[i].lost) continue;
        alive = true;
        if (places_[i].busy) continue;
        const int n = at_work(places_[i].group);
        if (best == places_.size() || n < fewest) {
          best = i;
          fewest = n;
        }
      }
      if (!alive && loss_) std::rethrow_exception(loss_);
      if (!alive) throw ComputationError("a pool of places of work is empty");
      if (best < places_.size()) {
        places_[best].busy = true;
        return best;
      }
      free_.wait(lock);
    }
  }
  void give_back(std::size_t at) {
    const std::lock_guard lock(mutex_);
    places_[at].busy = false;
    free_.notify_all();
  }
  void lose(int group, std::exception_ptr loss) {
    const std::lock_guard lock(mutex_);
    for (Place& place : places_) place.lost = place.lost || place.group == group;
    if (!loss_) loss_ = std::move(loss);
    free_.notify_all();
  }
  [[nodiscard]] int at_work(int group) const {
    int n = 0;
    for (const Place& place : places_) n += place.group == group && place.busy ? 1 : 0;
    return n;
  }

  std::vector<Place> places_;
  std::mutex mutex_;
  std::condition_variable free_;
  std::exception_ptr loss_;
};

}  // namespace batchlmm::kernels

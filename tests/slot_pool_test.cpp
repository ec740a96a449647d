// Places of work that calls take turns at, with places that only count.
#include "kernels/slot_pool.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <set>
#include <thread>

namespace batchlmm {
namespace {

struct Place {
  int group = 0, number = 0;
  std::atomic<int> at_work{0}, calls{0};
};

/// `slots` places on each of `groups` devices, added device by device.
struct Pool {
  Pool(int groups, int slots) {
    for (int g = 0; g < groups; ++g)
      for (int s = 0; s < slots; ++s) {
        auto place = std::make_unique<Place>();
        place->group = g;
        place->number = static_cast<int>(places.size());
        places.push_back(place.get());
        pool.add(std::move(place), g);
      }
  }
  kernels::SlotPool<Place> pool;
  std::vector<Place*> places;
};

DeviceLost loss(int device) {
  return DeviceLost({"fit_kernel", "cudaErrorIllegalAddress", "an illegal memory access", "here:1", device});
}

TEST(SlotPool, APlaceServesOneCallAtATimeAndAllTakePart) {
  // Arrange
  Pool p(2, 2);
  std::latch all_started(4);
  std::atomic<int> together{0}, most{0}, clashes{0};
  const auto call = [&](bool wait) {
    return p.pool.run([&](Place& place) {
      clashes += place.at_work++ != 0;
      const int n = ++together;
      int seen = most;
      while (n > seen && !most.compare_exchange_weak(seen, n)) {
      }
      if (wait) all_started.arrive_and_wait();
      ++place.calls;
      --together;
      --place.at_work;
      return place.number;
    });
  };

  // Act: four calls that can only end together, then many from more threads than there are places.
  std::vector<std::jthread> threads;
  threads.reserve(11);
  for (int t = 0; t < 4; ++t) threads.emplace_back([&] { call(true); });
  threads.clear();
  const bool all_took_part = std::all_of(p.places.begin(), p.places.end(), [](Place* x) { return x->calls == 1; });
  for (int t = 0; t < 11; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 300; ++i) call(false);
    });
  threads.clear();

  // Assert
  EXPECT_TRUE(all_took_part);
  EXPECT_EQ(clashes, 0);
  EXPECT_EQ(most, 4);
  int calls = 0;
  for (Place* place : p.places) calls += place->calls;
  EXPECT_EQ(calls, 4 + 11 * 300);
}

TEST(SlotPool, AnIdleDeviceComesFirst) {
  Pool p(3, 2);
  std::vector<int> groups;

  // Calls inside of calls: each finds the places of those around it taken.
  const auto nest = [&](auto self, int depth) -> void {
    p.pool.run([&](Place& place) {
      groups.push_back(place.group);
      if (depth > 1) self(self, depth - 1);
    });
  };
  nest(nest, 6);

  EXPECT_EQ(groups, (std::vector<int>{0, 1, 2, 0, 1, 2}));
}

TEST(SlotPool, AFailedCallGivesItsPlaceBack) {
  Pool p(1, 1);

  EXPECT_THROW(p.pool.run([](Place&) -> int { throw ComputationError("out of luck"); }), ComputationError);

  EXPECT_EQ(p.pool.run([](Place& place) { return place.number; }), 0);
}

TEST(SlotPool, ALostDeviceIsNotAskedAgain) {
  Pool p(2, 2);

  EXPECT_THROW(p.pool.run([](Place& place) { throw loss(place.group); }), DeviceLost);
  std::set<int> groups;
  for (int i = 0; i < 10; ++i) groups.insert(p.pool.run([](Place& place) { return place.group; }));

  EXPECT_EQ(groups, (std::set<int>{1}));
}

TEST(SlotPool, WhenAllAreLostTheFirstLossIsTold) {
  Pool p(2, 1);
  for (int i = 0; i < 2; ++i) EXPECT_THROW(p.pool.run([](Place& place) { throw loss(place.group); }), DeviceLost);

  try {
    p.pool.run([](Place&) {});
    FAIL() << "expected DeviceLost";
  } catch (const DeviceLost& error) {
    EXPECT_EQ(error.failure().device, 0);
    EXPECT_STREQ(error.what(),
                 "CUDA device 0: fit_kernel failed: an illegal memory access (cudaErrorIllegalAddress, here:1)");
  }
}

TEST(SlotPool, WhoWaitsIsToldOfTheLoss) {
  // Arrange: one place, taken; a second call waits for it.
  Pool p(1, 1);
  std::latch taken(1);
  std::atomic<bool> told{false};
  std::jthread waiting([&] {
    taken.wait();
    try {
      p.pool.run([](Place&) {});
    } catch (const DeviceLost&) {
      told = true;
    }
  });

  // Act
  EXPECT_THROW(p.pool.run([&](Place& place) {
    taken.count_down();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    throw loss(place.group);
  }),
               DeviceLost);
  waiting.join();

  // Assert
  EXPECT_TRUE(told);
}

TEST(SlotPool, WithoutPlacesACallIsAnError) {
  Pool p(0, 0);

  EXPECT_THROW(p.pool.run([](Place&) {}), ComputationError);
}

}  // namespace
}  // namespace batchlmm

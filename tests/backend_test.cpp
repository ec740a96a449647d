// Which backend work goes to, and what the program says of the devices.
#include "host/batch/backend.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "batchlmm/error.hpp"
#include "host/batch/devices.hpp"

namespace batchlmm {
namespace {

TEST(Backend, PredictedSecondsGrowWithTheWorkAndShrinkWithWhoDoesIt) {
  const BackendRates rates{1e9, 1e12, 0.25, 1e5};

  const BackendSeconds one = predict_seconds(2000, 1'000'000, 1, 8, 1, rates),
                       more = predict_seconds(2000, 1'000'000, 4, 16, 3, rates),
                       unknown = predict_seconds(0, 10, 1, 8, 1, rates);

  EXPECT_DOUBLE_EQ(one.cpu, 2e9 / 8e9);
  EXPECT_DOUBLE_EQ(one.cuda, 0.25 + 2e9 / 1e12);
  EXPECT_DOUBLE_EQ(more.cpu, 2e9 / 64e9);
  EXPECT_DOUBLE_EQ(more.cuda, 0.25 + 2e9 / 3e12);
  EXPECT_DOUBLE_EQ(unknown.cpu, 1e6 / 8e9);
}

TEST(Backend, AHundredReplicatesAreDoneBeforeADeviceHasStarted) {
  // Politeness costs 12,000 multiply-adds a replicate, a model with 6 thetas in two crossed factors 1e6.
  for (double multiply_adds : {0.0, 1.2e4, 1e6})
    for (int threads : {1, 16}) {
      const BackendSeconds few = predict_seconds(multiply_adds, 100, threads, 16, 1);
      EXPECT_LT(few.cpu, few.cuda);
      EXPECT_FALSE(choose_backend(BackendChoice::automatic, multiply_adds, 100, threads).cuda);
    }
}

TEST(Backend, ManyReplicatesPayForADevicesStart) {
  const BackendSeconds many = predict_seconds(1.2e4, 1'000'000'000, 16, 16, 1);

  EXPECT_LT(many.cuda, many.cpu);
  EXPECT_EQ(choose_backend(BackendChoice::automatic, 1.2e4, 1'000'000'000, 16).cuda, kernels::cuda_status().usable);
}

TEST(Backend, WhatIsAskedForIsTakenOrRefused) {
  EXPECT_FALSE(choose_backend(BackendChoice::cpu, 1e9, 1'000'000'000, 1).cuda);
  if (kernels::cuda_status().usable) {
    EXPECT_TRUE(choose_backend(BackendChoice::cuda, 1, 1, 1).cuda);
    return;
  }
  EXPECT_THROW(choose_backend(BackendChoice::cuda, 1, 1, 1), BackendUnavailable);
  EXPECT_THROW(require_backend(BackendChoice::cuda), BackendUnavailable);
  EXPECT_NO_THROW(require_backend(BackendChoice::automatic));
}

/// As a machine with three cards would be.
Devices three_cards() {
  Devices d;
  d.threads = 16;
  d.instruction_set = "avx512";
  d.lanes = 16;
  d.instruction_sets = {"baseline", "avx2", "avx512"};
  d.cuda.driver = "13.0";
  d.cuda.runtime = "12.8";
  d.cuda.devices.resize(3);
  kernels::CudaDeviceInfo& card = d.cuda.devices[0];
  card = {0, "Some Card", 9, 0, 132, std::uint64_t{80} << 30, std::uint64_t{79} << 30, true, ""};
  d.cuda.devices[1] = {1, "Old Card", 6, 1, 20, std::uint64_t{8} << 30, 0, false, "the device is too old"};
  d.cuda.devices[2].number = 2;
  d.cuda.devices[2].why = "device 2 does not answer";
  d.status.usable = true;
  d.libraries = {{"libcublas.so.13", true, "", "/lib/libcublas.so.13"}, {"libnvrtc.so.13", false, "found none", ""}};
  return d;
}

TEST(Devices, TextHasALineForEach) {
  EXPECT_EQ(devices_text(three_cards()),
            "cpu     16 threads, instruction set avx512, 16 replicates side by side\n"
            "cuda 0  Some Card, compute capability 9.0, 132 multiprocessors, 80.0 GiB, 79.0 GiB free\n"
            "cuda 1  Old Card, compute capability 6.1, 20 multiprocessors, 8.0 GiB; not usable: the device is too old\n"
            "cuda 2  not usable: device 2 does not answer\n"
            "driver  CUDA 13.0, runtime 12.8\n"
            "library libcublas.so.13: /lib/libcublas.so.13\n"
            "library libnvrtc.so.13: not usable: found none\n");
}

TEST(Devices, JsonHasTheFacts) {
  const auto json = nlohmann::json::parse(devices_json(three_cards()));

  EXPECT_EQ(json["cpu"]["threads"], 16);
  EXPECT_EQ(json["cuda"]["usable"], true);
  EXPECT_TRUE(json["cuda"]["why"].is_null());
  ASSERT_EQ(json["cuda"]["devices"].size(), 3u);
  EXPECT_EQ(json["cuda"]["devices"][0]["compute_capability"], "9.0");
  EXPECT_EQ(json["cuda"]["devices"][0]["memory_bytes"], std::uint64_t{80} << 30);
  EXPECT_TRUE(json["cuda"]["devices"][0]["why"].is_null());
  EXPECT_EQ(json["cuda"]["devices"][1]["why"], "the device is too old");
  EXPECT_TRUE(json["cuda"]["devices"][1]["free_bytes"].is_null());
  EXPECT_EQ(json["cuda"]["libraries"][0]["file"], "/lib/libcublas.so.13");
  EXPECT_EQ(json["cuda"]["libraries"][1]["why"], "found none");
}

TEST(Devices, HereAreTheProcessorAndACardOrTheReasonWhyNot) {
  const Devices here = find_devices();
  const std::string text = devices_text(here);

  EXPECT_GE(here.threads, 1);
  EXPECT_GE(here.lanes, 1);
  EXPECT_EQ(text.rfind("cpu     ", 0), 0u);
  EXPECT_EQ(here.status.usable, here.status.why.empty());
  if (here.cuda.devices.empty()) {
    EXPECT_NE(text.find("\ncuda    " + here.status.why + "\n"), std::string::npos);
  }
}

}  // namespace
}  // namespace batchlmm

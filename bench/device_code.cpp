#include "bench/device_code.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <string>

#include "host/batch/strata_engine.hpp"
#include "host/batch/streaming_engine.hpp"
#include "kernels/cuda_runtime_compiler.hpp"
#include "kernels/traced_fit.hpp"

namespace batchlmm::bench {
namespace {

using Json = nlohmann::ordered_json;

/// A multiprocessor's limits (CUDA C++ programming guide, compute capabilities 8.0 and 9.0).
struct Multiprocessor {
  int capability;
  std::size_t block_on_chip, on_chip;  ///< bytes that a block and that all blocks may take
};
constexpr Multiprocessor multiprocessors[] = {{80, 166'912, 167'936}, {90, 232'448, 233'472}};
constexpr int registers_a_multiprocessor = 65'536, most_threads = 2'048;
constexpr std::size_t reserved_on_chip = 1'024;  ///< of each block, for the system

int first_number(const std::string& log, const char* pattern) {
  std::smatch match;
  return std::regex_search(log, match, std::regex(pattern)) ? std::stoi(match[1]) : 0;
}

std::optional<kernels::TracedTrip> trace(const ReplicateEngine& engine, bool full) {
  if (const auto* strata = dynamic_cast<const StrataEngine*>(&engine)) return strata->trace(full);
  if (const auto* rows = dynamic_cast<const StreamingEngine*>(&engine)) return rows->trace(full);
  return {};
}

Json describe(const kernels::TracedTrip& trip, const Multiprocessor& m) {
  Json json;
  const int threads = kernels::traced_block_threads(trip, m.block_on_chip);
  if (threads == 0) return {{"capability", m.capability}, {"why", "its state does not find room on the chip"}};
  setenv("BATCHLMM_CACHE", "", 1);  // what is on disk says nothing of registers
  const kernels::RuntimeCode code =
      kernels::compile_at_run_time(kernels::traced_fit_source(trip, threads), m.capability);
  const int registers = first_number(code.log, "Used ([0-9]+) registers");
  const std::size_t bytes = kernels::traced_block_bytes(trip, threads);
  const int by_registers = registers_a_multiprocessor / ((registers + 7) / 8 * 8 * threads);
  const int by_on_chip = static_cast<int>(m.on_chip / (bytes + reserved_on_chip));
  const int blocks = std::min({by_registers, by_on_chip, most_threads / threads});
  return {{"capability", m.capability},
          {"registers", registers},
          {"stack_bytes", first_number(code.log, "([0-9]+) bytes stack frame")},
          {"spill_store_bytes", first_number(code.log, "([0-9]+) bytes spill stores")},
          {"spill_load_bytes", first_number(code.log, "([0-9]+) bytes spill loads")},
          {"block_threads", threads},
          {"block_on_chip_bytes", bytes},
          {"blocks_a_multiprocessor", blocks},
          {"occupancy", static_cast<double>(blocks * threads) / most_threads},
          {"code_bytes", code.cubin.size()}};
}

}  // namespace

Json device_code(const Bootstrap& bootstrap, bool refit) {
  Json all = Json::array();
  for (const bool full : {false, true}) {
    if (full && refit) continue;
    const std::optional<kernels::TracedTrip> trip = trace(bootstrap.engine(), full);
    Json model{{"model", full ? "full" : "null"}, {"recorded", trip.has_value()}};
    if (trip) {
      model["operations"] = trip->operations;
      model["multiply_adds"] = trip->multiply_adds;
      model["constants"] = trip->constants.size();
      model["response"] = trip->response;
      model["state"] = trip->state;
      for (const Multiprocessor& m : multiprocessors) model["code"].push_back(describe(*trip, m));
    }
    all.push_back(model);
  }
  return all;
}

}  // namespace batchlmm::bench

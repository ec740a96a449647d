// A libFuzzer target; tests/fuzz/README.md says how it is built and run.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "tests/fuzz/exercise_formula.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    batchlmm::fuzz::exercise_formula(text);
  } catch (const std::exception& error) {  // anything but a FormulaError within the text is a fault
    std::fprintf(stderr, "%s\n", error.what());
    std::abort();
  }
  return 0;
}

// Kernels compiled at run time: they compile for every architecture without spills, and are found on disk again. No
// device is needed for that, only NVRTC.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "batchlmm/error.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/batch/strata_engine.hpp"
#include "host/batch/streaming_engine.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/model/model_matrices.hpp"
#include "kernels/cuda_runtime_compiler.hpp"
#include "kernels/traced_fit.hpp"
#include "tests/temporary_folder.hpp"

namespace batchlmm {
namespace {

using kernels::compile_at_run_time;

constexpr const char* tiny = "extern \"C\" __global__ void fit(double* x) { x[threadIdx.x] *= 2; }\n";

class RuntimeCompiler : public ::testing::Test {
protected:
  void SetUp() override {
    setenv("BATCHLMM_CACHE", "", 1);
    try {
      (void)compile_at_run_time(tiny, 90);
    } catch (const BackendUnavailable& error) {
      GTEST_SKIP() << error.what();
    }
    setenv("BATCHLMM_CACHE", (folder / "kernels").c_str(), 1);
  }
  [[nodiscard]] std::vector<std::filesystem::path> kept() const {
    std::vector<std::filesystem::path> files;
    if (std::filesystem::exists(folder / "kernels"))
      for (const auto& entry : std::filesystem::directory_iterator(folder / "kernels")) files.push_back(entry.path());
    return files;
  }
  testing::TemporaryFolder folder;
};

TEST_F(RuntimeCompiler, FindsOnDiskWhatItCompiled) {
  const kernels::RuntimeCode first = compile_at_run_time(tiny, 90), again = compile_at_run_time(tiny, 90),
                             other = compile_at_run_time(tiny, 80);

  EXPECT_FALSE(first.from_disk);
  EXPECT_TRUE(again.from_disk);
  EXPECT_EQ(first.cubin, again.cubin);
  EXPECT_FALSE(other.from_disk);
  EXPECT_NE(first.cubin, other.cubin);
  EXPECT_EQ(kept().size(), 2u);
}

TEST_F(RuntimeCompiler, DoesNotTakeAFileThatIsNotWhole) {
  const kernels::RuntimeCode first = compile_at_run_time(tiny, 90);
  const std::filesystem::path file = kept().at(0);
  const auto size = std::filesystem::file_size(file);

  for (const std::uintmax_t cut : {size - 1, size / 2, std::uintmax_t{3}, std::uintmax_t{0}}) {
    std::filesystem::resize_file(file, cut);
    const kernels::RuntimeCode code = compile_at_run_time(tiny, 90);
    EXPECT_FALSE(code.from_disk) << cut;
    EXPECT_EQ(code.cubin, first.cubin);
  }
  // Another source's code under this one's name.
  std::ofstream(file, std::ios::binary) << std::string(size, 'x');
  EXPECT_FALSE(compile_at_run_time(tiny, 90).from_disk);
  EXPECT_TRUE(compile_at_run_time(tiny, 90).from_disk);
}

TEST_F(RuntimeCompiler, WorksWhereNothingCanBeKept) {
  for (const std::string& cache : {std::string(), folder.file("a file", "") + "/kernels"}) {
    setenv("BATCHLMM_CACHE", cache.c_str(), 1);
    EXPECT_FALSE(compile_at_run_time(tiny, 90).from_disk);
    EXPECT_FALSE(compile_at_run_time(tiny, 90).from_disk);
  }
}

TEST_F(RuntimeCompiler, SaysInOneLineWhatDoesNotCompile) {
  try {
    (void)compile_at_run_time("extern \"C\" __global__ void fit() { no_such_function(); }\n", 90);
    FAIL() << "it compiled";
  } catch (const ComputationError& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("no_such_function"), std::string::npos) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  }
  EXPECT_TRUE(kept().empty());
}

/// Bytes that the code's functions spill, from the compiler's log: "0 bytes spill stores, 0 bytes spill loads".
int spilled_bytes(const std::string& log) {
  int bytes = 0, functions = 0;
  for (const std::string what : {" bytes spill stores", " bytes spill loads"})
    for (std::size_t at = log.find(what); at != std::string::npos; at = log.find(what, at + 1), ++functions)
      bytes += std::stoi(log.substr(log.find_last_not_of("0123456789", at - 1) + 1));
  EXPECT_GT(functions, 0) << log;
  return bytes;
}

TEST_F(RuntimeCompiler, KernelsOfCommonModelsDoNotSpill) {
  const auto model = [](const std::string& formula, const std::string& table, const std::vector<std::string>& factors) {
    return Model(std::make_shared<const ModelMatrices>(model_matrices(
                     parse_formula(formula), read_table(BATCHLMM_TEST_DATA "/" + table + ".csv", {factors}))),
                 Method::ml);
  };
  const auto compile = [](const std::optional<kernels::TracedTrip>& trip, int architecture) {
    EXPECT_TRUE(trip);
    const kernels::RuntimeCode code = compile_at_run_time(kernels::traced_fit_source(*trip, 128), architecture);
    EXPECT_GT(code.cubin.size(), 1000u);
    EXPECT_EQ(spilled_bytes(code.log), 0) << code.log;
  };
  const Model null = model("frequency ~ gender + (1|subject) + (1|scenario)", "politeness", {}),
              full = model("frequency ~ attitude + gender + (1|subject) + (1|scenario)", "politeness", {}),
              sleep = model("Reaction ~ Days + (Days|Subject)", "sleepstudy", {"Subject"});
  const Bootstrap strata(null, full, embed(null, full), {0.9, 0.4}, 1.0, 7, Tier::symmetry),
      rows(null, full, embed(null, full), {0.9, 0.4}, 1.0, 7, Tier::streaming),
      slopes(sleep, {0.9, 0.0, 0.1, 0.2}, 1.0, 7, Tier::symmetry),
      slopes_by_rows(sleep, {0.9, 0.0, 0.1, 0.2}, 1.0, 7, Tier::streaming);

  for (const int architecture : {80, 90}) {
    compile(dynamic_cast<const StrataEngine&>(strata.engine()).trace(true), architecture);
    compile(dynamic_cast<const StreamingEngine&>(rows.engine()).trace(true), architecture);
    compile(dynamic_cast<const StrataEngine&>(slopes.engine()).trace(false), architecture);
    compile(dynamic_cast<const StreamingEngine&>(slopes_by_rows.engine()).trace(false), architecture);
  }
}

}  // namespace
}  // namespace batchlmm

// Code made for one model: the recorded trip, compiled for the CPU as it is for a device, has the bits of the kernel
// text.
#include "kernels/traced_fit.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "host/batch/bootstrap.hpp"
#include "host/batch/chunk_buffers.hpp"
#include "host/batch/strata_engine.hpp"
#include "host/batch/streaming_engine.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/model/model_matrices.hpp"
#include "kernels/cpu.hpp"
#include "kernels/traced.hpp"
#include "tests/bootstrap_cases.hpp"
#include "tests/host_device.hpp"
#include "tests/temporary_folder.hpp"

namespace batchlmm {
namespace {

using kernels::Tape;
using kernels::Traced;
using kernels::TracedTrip;
using kernels::TraceOp;

// ------------------------------------------------------------------------------------------------------------- tape

Traced input(std::uint64_t number) { return kernels::traced<Traced>(TraceOp::input, -1, -1, -1, number); }

TEST(Tape, DoesNothingTwiceAndConstantsAtOnce) {
  Tape tape;
  const Tape::Recording recording(tape);
  const Traced x = input(0), y = input(1);

  const Traced once = fma(x, y, Traced(2.0)), again = fma(x, y, Traced(2.0)), other = fma(y, x, Traced(2.0));
  const Traced constant = square_root(Traced(2.0)) / Traced(3.0);

  EXPECT_EQ(once.node, again.node);
  EXPECT_NE(once.node, other.node);  // a product's bits do not depend on the order, but a NaN's do
  EXPECT_EQ(tape.nodes()[constant.node].op, TraceOp::constant);
  EXPECT_EQ(std::bit_cast<double>(tape.nodes()[constant.node].bits), std::sqrt(2.0) / 3.0);
}

TEST(Tape, LeavesOutWhatGivesAnOperandBackToTheBit) {
  Tape tape;
  const Tape::Recording recording(tape);
  const Traced x = input(0);
  const auto always = Traced(0.0) <= Traced(0.0);

  EXPECT_EQ((x * Traced(1.0)).node, x.node);
  EXPECT_EQ((-(-x)).node, x.node);
  EXPECT_EQ(select(always, x, Traced(3.0)).node, x.node);
  // -0.0 + 0.0 is 0.0, and 0 times an infinity no number.
  EXPECT_NE((x + Traced(0.0)).node, x.node);
  EXPECT_EQ(tape.nodes()[(x * Traced(0.0)).node].op, TraceOp::multiply);
}

TEST(Tape, HoldsSoMuchAndNoMore) {
  Tape tape(3);
  const Tape::Recording recording(tape);
  const Traced x = input(0), y = input(1), z = x + y;

  EXPECT_EQ((x + y).node, z.node);
  EXPECT_THROW((void)(x - y), Tape::Full);
}

// ------------------------------------------------------------------------------------------------------------- trips

/// The compiler that built the tests, at work on a source.
class Compiled {
public:
  Compiled(const TracedTrip& trip, const testing::TemporaryFolder& folder, const std::string& name) : trip_(trip) {
    const std::string source = folder / (name + ".cpp"), library = folder / (name + ".so");
    std::ofstream(source) << kernels::traced_fit_source(trip, 1);
    const std::string command =
        std::string("\"") + BATCHLMM_CXX +
        "\" -std=c++20 -O1 -ffp-contract=off -fno-math-errno -fno-trapping-math -w -shared -fPIC "
        "-DBATCHLMM_ISA=traced -I\"" BATCHLMM_SOURCE "\" -I\"" BATCHLMM_SOURCE "/include\" -o \"" +
        library + "\" \"" + source + "\" 2> \"" + library + ".log\"";
    if (std::system(command.c_str()) != 0) {
      std::ifstream log(library + ".log");
      why_ = std::string(std::istreambuf_iterator<char>(log), {}).substr(0, 2000);
      return;
    }
    handle_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) {
      why_ = dlerror();
      return;
    }
    fit_ = dlsym(handle_, "fit");
  }
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() {
    if (handle_ != nullptr) dlclose(handle_);
  }
  [[nodiscard]] const std::string& why() const { return why_; }
  template <class Arguments>
  void fit(const Arguments& a) const {
    ASSERT_NE(fit_, nullptr) << why_;
    std::vector<double> on_chip(kernels::traced_block_bytes(trip_, 1) / sizeof(double), std::nan(""));
    std::vector<double> constants = trip_.constants;
    if (constants.empty()) constants.push_back(0);
    reinterpret_cast<void (*)(const Arguments&, const double*, double*)>(fit_)(a, constants.data(), on_chip.data());
  }

private:
  const TracedTrip& trip_;
  void* handle_ = nullptr;
  void* fit_ = nullptr;
  std::string why_;
};

/// The host's device, with code for the models.
class TracedDevice : public oracle::HostDevice {
public:
  int traced = 0;
  std::map<const TracedTrip*, const Compiled*> code;

  using HostDevice::launch;
  void launch(const kernels::FitArguments& a) {
    if (a.trip == nullptr) return HostDevice::launch(a);
    ++traced;
    code.at(a.trip)->fit(a);
  }
  void launch(const kernels::StrataFitArguments& a) {
    if (a.fit.trip == nullptr) return HostDevice::launch(a);
    ++traced;
    code.at(a.fit.trip)->fit(a);
  }
};

struct Results {
  Results(const kernels::BootstrapJob& job, std::uint64_t first, std::uint64_t n) {
    chunk.first = first;
    chunk.count = n;
    chunk.null = null.resize(*job.null, n, false);
    chunk.full = full.resize(*job.full, n, false);
  }
  [[nodiscard]] bool operator==(const Results& b) const {
    const auto same = [](const FitBuffers& x, const FitBuffers& y) {
      return x.status == y.status && x.deviance == y.deviance && x.lambda == y.lambda && x.boundary == y.boundary &&
             x.evaluations == y.evaluations;
    };
    return same(null, b.null) && same(full, b.full);
  }
  FitBuffers null, full;
  kernels::BootstrapChunk chunk;
};

constexpr std::uint64_t first = (1ULL << 40) + 3, count = 300;

/// The trips of both models of a job, which points to them.
struct Trips {
  template <class Engine>
  Trips(const Engine& engine, kernels::BootstrapJob& job) : null(engine.trace(false)), full(engine.trace(true)) {
    if (null) job.null_trip = &*null;
    if (full) job.full_trip = &*full;
  }
  Trips(const Trips&) = delete;
  Trips& operator=(const Trips&) = delete;
  std::optional<TracedTrip> null, full;
};

/// Runs a job with code for its models, and on the CPU's tiles.
template <class Work, class OnTiles>
void compare(const Trips& trips, const kernels::BootstrapJob& bootstrap, const Work& work, const OnTiles& on_tiles) {
  // Arrange
  ASSERT_TRUE(trips.null && trips.full);
  const testing::TemporaryFolder folder;
  const Compiled null_code(*trips.null, folder, "null"), full_code(*trips.full, folder, "full");
  ASSERT_EQ(null_code.why() + full_code.why(), "");
  TracedDevice device;
  device.code = {{&*trips.null, &null_code}, {&*trips.full, &full_code}};
  Results one(bootstrap, first, count), tiles(bootstrap, first, count);

  // Act
  kernels::run_replicates(device, work, one.chunk);
  on_tiles(tiles.chunk);

  // Assert
  EXPECT_EQ(device.traced, 2);
  EXPECT_TRUE(one == tiles);
  EXPECT_GT(std::count_if(one.null.status.begin(), one.null.status.end(), [](auto s) { return s <= 1; }),
            static_cast<std::ptrdiff_t>(count * 9 / 10));
}

bool compiler_works() { return std::system("\"" BATCHLMM_CXX "\" --version > /dev/null 2>&1") == 0; }

class Politeness : public ::testing::Test {
protected:
  void SetUp() override {
    if (!compiler_works()) GTEST_SKIP() << "the compiler that built the tests is not there: " BATCHLMM_CXX;
    const Table table = read_table(BATCHLMM_TEST_DATA "/politeness.csv", {});
    const auto model = [&](const std::string& fixed) {
      return std::make_unique<Model>(
          std::make_shared<const ModelMatrices>(
              model_matrices(parse_formula("frequency ~ " + fixed + " + (1|subject) + (1|scenario)"), table)),
          Method::ml);
    };
    null = model("gender");
    full = model("attitude + gender");
  }
  [[nodiscard]] Bootstrap bootstrap(Tier tier) const {
    return Bootstrap(*null, *full, embed(*null, *full), {0.9, 0.4}, 1.0, 7, tier);
  }
  std::unique_ptr<Model> null, full;
};

TEST_F(Politeness, OnStrataHasTheBitsOfTheTiles) {
  const Bootstrap b = bootstrap(Tier::symmetry);
  const auto& engine = dynamic_cast<const StrataEngine&>(b.engine());
  kernels::StrataJob job = engine.job();
  const Trips trips(engine, job.job);

  compare(trips, job.job, kernels::StrataWork(job, false),
          [&](kernels::BootstrapChunk& chunk) { kernels::cpu_kernels().strata->bootstrap(job, chunk); });
}

TEST_F(Politeness, ByRowsHasTheBitsOfTheTiles) {
  const Bootstrap b = bootstrap(Tier::streaming);
  const auto& engine = dynamic_cast<const StreamingEngine&>(b.engine());
  kernels::BootstrapJob job = engine.job();
  const Trips trips(engine, job);

  compare(trips, job, kernels::StreamingWork(job),
          [&](kernels::BootstrapChunk& chunk) { kernels::cpu_kernels().bootstrap(job, chunk); });
}

TEST_F(Politeness, StructureDoesNotDependOnTheGeneratingValues) {
  // One compilation serves all responses of a design.
  const Bootstrap a(*null, *full, embed(*null, *full), {0.9, 0.4}, 1.0, 7, Tier::symmetry),
      b(*null, *full, embed(*null, *full), {0.37, 1.21}, 1.0, 8, Tier::symmetry);

  for (const bool of_full : {false, true}) {
    const auto x = dynamic_cast<const StrataEngine&>(a.engine()).trace(of_full),
               y = dynamic_cast<const StrataEngine&>(b.engine()).trace(of_full);
    ASSERT_TRUE(x && y);
    EXPECT_EQ(x->source, y->source);
    EXPECT_EQ(x->constants, y->constants);  // with one starting point they are not needed
  }
}

TEST_F(Politeness, LongTripsAreNotRecorded) {
  const Bootstrap b = bootstrap(Tier::symmetry);
  const kernels::StrataJob& job = dynamic_cast<const StrataEngine&>(b.engine()).job();

  EXPECT_FALSE(
      kernels::trace_strata_trip(*job.job.null, job.null, job.job.null_options, job.job.null_starts, 500).has_value());
}

TEST(TracedFit, ByEveryTextHasTheBitsOfTheTiles) {
  if (!compiler_works()) GTEST_SKIP() << "the compiler that built the tests is not there: " BATCHLMM_CXX;
  using oracle::Dropped;
  using oracle::Kind;
  struct Case {
    Kind kind;
    int k;
    Dropped dropped;
  };
#if defined(__SANITIZE_ADDRESS__)
  const Case cases[] = {{Kind::single, 2, Dropped::fixed_effect}};
#else
  const Case cases[] = {{Kind::single, 2, Dropped::fixed_effect},
                        {Kind::nested, 1, Dropped::random_term},
                        {Kind::crossed, 1, Dropped::random_term}};
#endif
  int compared = 0;
  for (const Case& c : cases) {
    const oracle::BootstrapCase bootstrap(c.kind, c.k, 40, c.dropped);
    SCOPED_TRACE(bootstrap.name);
    const auto& engine = dynamic_cast<const StreamingEngine&>(bootstrap.bootstrap->engine());
    kernels::BootstrapJob job = engine.job();
    const Trips trips(engine, job);
    if (!trips.null || !trips.full) continue;
    ++compared;
    compare(trips, job, kernels::StreamingWork(job),
            [&](kernels::BootstrapChunk& chunk) { kernels::cpu_kernels().bootstrap(job, chunk); });
  }
  EXPECT_EQ(compared, static_cast<int>(std::size(cases)));
}

}  // namespace
}  // namespace batchlmm

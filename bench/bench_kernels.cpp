// Single operations by Google Benchmark, on every instruction set of this processor: draws, evaluations of the
// criterion, whole fits, and the multiply-adds that the machine could do. Rates count replicates, not tiles.
#include <benchmark/benchmark.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/kernel_loops.hpp"
#include "host/batch/ceiling.hpp"
#include "host/batch/starts.hpp"
#include "host/data/read.hpp"
#include "host/model/model.hpp"
#include "host/model/model_matrices.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm::bench {

#define BATCHLMM_LOOPS_OF(ISA)                                    \
  namespace ISA {                                                 \
  extern const KernelLoops kernel_loops;                          \
  EvaluationLoop evaluation_loop_of(const kernels::Shape& shape); \
  }
BATCHLMM_LOOPS_OF(baseline)
#if defined(BATCHLMM_WITH_AVX2)
BATCHLMM_LOOPS_OF(avx2)
#endif
#if defined(BATCHLMM_WITH_AVX512)
BATCHLMM_LOOPS_OF(avx512)
#endif
#undef BATCHLMM_LOOPS_OF

namespace {

struct Loops {
  const KernelLoops* kernel;
  EvaluationLoop (*evaluation)(const kernels::Shape& shape);
};

Loops loops_of(const std::string& isa) {
#if defined(BATCHLMM_WITH_AVX512)
  if (isa == "avx512") return {&avx512::kernel_loops, avx512::evaluation_loop_of};
#endif
#if defined(BATCHLMM_WITH_AVX2)
  if (isa == "avx2") return {&avx2::kernel_loops, avx2::evaluation_loop_of};
#endif
  return {&baseline::kernel_loops, baseline::evaluation_loop_of};
}

/// A model of the test data, with responses near the observed one.
struct Design {
  std::string name;
  std::unique_ptr<Model> model;
  std::vector<double> responses;  ///< count x shape.response
  std::vector<double> start;      ///< shape.lambdas
  static constexpr int count = 512;

  Design(std::string name_, const std::string& formula, const std::string& file,
         const std::vector<std::string>& factors = {})
      : name(std::move(name_)) {
    const Table table = read_table(std::string(BATCHLMM_TEST_DATA) + "/" + file, {factors});
    model = std::make_unique<Model>(
        std::make_shared<const ModelMatrices>(model_matrices(parse_formula(formula), table)), Method::ml);
    const Eigen::VectorXd y = model->matrices().y - model->matrices().offset;
    const double sd = std::sqrt((y.array() - y.mean()).square().mean());
    std::mt19937_64 random(1);
    std::normal_distribution<double> noise(0, 0.5 * sd);
    for (int i = 0; i < count; ++i) {
      Eigen::VectorXd drawn = y.array() - y.mean();
      for (double& v : drawn) v += noise(random);
      const std::vector<double> response = model->response(drawn);
      responses.insert(responses.end(), response.begin(), response.end());
    }
    start = default_starts(*model).front();
  }
};

const std::vector<Design>& designs() {
  static const std::vector<Design> all = [] {
    std::vector<Design> d;
    d.emplace_back("one_term_k2", "Reaction ~ Days + (Days|Subject)", "sleepstudy.csv",
                   std::vector<std::string>{"Subject"});
    d.emplace_back("crossed_k1", "frequency ~ attitude + gender + (1|subject) + (1|scenario)", "politeness.csv");
    d.emplace_back("crossed_k2", "frequency ~ attitude + gender + (1 + attitude|subject) + (1 + attitude|scenario)",
                   "politeness.csv");
    d.emplace_back("crossed_24x6", "diameter ~ 1 + (1|plate) + (1|sample)", "penicillin.csv");
    d.emplace_back("nested", "strength ~ 1 + (1|batch/cask)", "pastes.csv");
    return d;
  }();
  return all;
}

void set_rate(benchmark::State& state, double items) {
  state.counters["per_second"] = benchmark::Counter(items, benchmark::Counter::kIsRate);
  state.counters["each"] = benchmark::Counter(items, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// Google Benchmark's iterations are repetitions of `loop`, which runs a fixed number of tiles.
template <class Loop>
void measure(benchmark::State& state, int lanes, std::uint64_t repetitions, const Loop& loop) {
  for (auto _ : state)  // NOLINT(clang-analyzer-deadcode.DeadStores): the loop of Google Benchmark
    benchmark::DoNotOptimize(loop(repetitions));
  set_rate(state, static_cast<double>(state.iterations()) * static_cast<double>(repetitions) * lanes);
}

void measure_fits(benchmark::State& state, const kernels::CpuKernels& k, const Design& d) {
  const kernels::Shape& s = d.model->shape();
  std::vector<std::uint8_t> status(Design::count);
  std::vector<double> deviance(Design::count), lambda(static_cast<std::size_t>(Design::count) * s.lambdas);
  std::vector<std::uint16_t> evaluations(Design::count);
  kernels::FitJob job;
  job.shape = &s;
  job.design = &d.model->design();
  job.items = Design::count;
  job.response = d.responses.data();
  job.first_start = job.starts = d.start.data();
  job.results = {status.data(), deviance.data(), lambda.data(), nullptr, evaluations.data(), nullptr, nullptr};
  for (auto _ : state) k.fit(job);
  double all = 0;
  for (std::uint16_t e : evaluations) all += e;
  const double fits = static_cast<double>(state.iterations()) * Design::count;
  set_rate(state, fits);
  state.counters["evaluations"] = all / Design::count;
  // A trip is an evaluation with derivatives and a Newton step.
  state.counters["each_trip"] =
      benchmark::Counter(fits * all / Design::count, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void add_benchmarks(const kernels::CpuKernels& k) {
  const std::string isa = k.name;
  const Loops loops = loops_of(isa);
  const auto add = [&](const std::string& name, auto body) {
    benchmark::RegisterBenchmark((name + "/" + isa).c_str(), body);
  };
  add("multiply_adds", [isa](benchmark::State& state) {
    double best = 0;
    for (auto _ : state) best = std::max(best, measure_ceiling(isa).multiply_adds_per_second);
    state.counters["per_second"] = best;
  });
  const int lanes = loops.kernel->lanes;
  add("philox_block", [=](benchmark::State& s) { measure(s, lanes, 1000, loops.kernel->philox); });
  add("normal", [=](benchmark::State& s) { measure(s, lanes, 1000, loops.kernel->normals); });
  for (int degrees : {1, 10, 1000})
    add("chi_square_" + std::to_string(degrees), [=](benchmark::State& s) {
      measure(s, lanes, 100, [=](std::uint64_t n) { return loops.kernel->chi_square(n, degrees); });
    });
  for (const Design& d : designs()) {
    const EvaluationLoop loop = loops.evaluation(d.model->shape());
    for (bool derivatives : {false, true})
      add((derivatives ? "derivatives/" : "value/") + d.name, [=, &d](benchmark::State& s) {
        measure(s, loop.lanes, 10, [&](std::uint64_t n) {
          return loop.run(d.model->shape(), d.model->design(), d.responses.data(), d.start.data(), n, derivatives);
        });
      });
    add("fit/" + d.name, [&k, &d](benchmark::State& s) { measure_fits(s, k, d); });
  }
}

}  // namespace
}  // namespace batchlmm::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const auto* k : batchlmm::kernels::all_cpu_kernels()) batchlmm::bench::add_benchmarks(*k);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

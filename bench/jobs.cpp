/// @file
/// Whole jobs at the engine's level, for the benchmark harness: sets one up, then runs orders from standard input and
/// answers each with a line of JSON, so that rounds of several programs can take turns without paying the set-up again.
///
///     bench_jobs lrt NULL FULL TABLE     parametric-bootstrap likelihood-ratio tests
///     bench_jobs refit FORMULA TABLE     draws from one fitted model and fits it
///     bench_jobs fit FORMULA TABLE       fits of the model to the table's response
///     bench_jobs exact FORMULA TABLE     draws from the exact law of the test of the model's one variance component
///     bench_jobs ceiling                 multiply-adds per second of one thread
///
/// The first line holds the facts of the job. An order is "COUNT FIRST THREADS" (the last two may be missing: 0, 1), or
/// "code": what a device would run for the models (device_code.hpp), or
/// "tests COUNT FIRST": what tests of every coefficient (Satterthwaite; by REML Kenward-Roger too) cost beside the fits
/// themselves, or
/// "check COUNT FIRST": the same replicates once more from every starting point to full precision, and how many differ.
/// With --replicates the one order is given on the command line and standard input is left alone.
#include <sys/resource.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "batchlmm/error.hpp"
#include "bench/device_code.hpp"
#include "bench/reference.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/batch/ceiling.hpp"
#include "host/batch/cost.hpp"
#include "host/batch/devices.hpp"
#include "host/batch/shared_factorization_engine.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit.hpp"
#include "host/inference/spectral_law.hpp"
#include "host/model/check_model.hpp"
#include "host/model/model_matrices.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda_ceiling.hpp"

#if defined(BATCHLMM_BENCH_CALLGRIND)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#define CALLGRIND_DUMP_STATS_AT(reason)
#endif

namespace batchlmm::bench {
namespace {

using Json = nlohmann::ordered_json;
using Matrices = std::shared_ptr<const ModelMatrices>;

struct Arguments {
  std::string null, full, formula, table, tier = "auto", backend = "cpu";
  std::vector<std::string> factors;
  std::uint64_t seed = 1, replicates = 0, first = 0;
  int threads = 1;
  bool reml = false;
};

struct Order {
  bool check = false, code = false, tests = false;
  std::uint64_t count = 0, first = 0;
  int threads = 1;
};

/// Wall-clock and CPU seconds (all threads) since it was made.
class Stopwatch {
public:
  Stopwatch() : cpu_(cpu()), start_(Clock::now()) {}
  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  [[nodiscard]] double cpu_seconds() const { return cpu() - cpu_; }

private:
  using Clock = std::chrono::steady_clock;
  static double cpu() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return of(usage.ru_utime) + of(usage.ru_stime);
  }
  double cpu_;
  Clock::time_point start_;
};

/// Largest and present resident memory of this process, kB; getrusage would count the parent's too.
Json memory() {
  std::ifstream status("/proc/self/status");
  Json memory;
  for (std::string line; std::getline(status, line);)
    for (const auto& [field, key] : {std::pair("VmHWM:", "peak_kb"), std::pair("VmRSS:", "resident_kb")})
      if (line.rfind(field, 0) == 0) memory[key] = std::stol(line.substr(line.find(':') + 1));
  return memory;
}

Json size_of(const Model& model) {
  const ModelMatrices& m = model.matrices();
  std::size_t random_effects = 0, theta = 0;
  for (const RandomTerm& term : m.random) {
    const auto k = static_cast<std::size_t>(term.z.cols());
    random_effects += k * term.levels.size();
    theta += k * (k + 1) / 2;
  }
  return {{"rows", m.y.size()}, {"rows_dropped", m.rows_dropped}, {"p", m.X.cols()}, {"q", random_effects},
          {"theta", theta},     {"schur", model.plan().schur}};
}

/// The generating factors of a fit, in the kernels' order and gauge.
std::vector<double> generating_lambda(const Model& model, const Fit& fit) {
  const kernels::Shape& s = model.shape();
  std::vector<double> lambda(s.lambdas, 0.0);
  for (int b = 0; b < s.terms; ++b) {
    const Eigen::MatrixXd l = model.from_user_lambda(b, fit.random[model.term_of(b)].lambda);
    for (int i = 0; i < s.term[b].k; ++i)
      for (int j = 0; j < s.term[b].k; ++j) lambda[s.term[b].lambda + i * s.term[b].k + j] = l(i, j);
  }
  return lambda;
}

class Job {
public:
  virtual ~Job() = default;
  virtual Json facts() = 0;
  virtual Json run(const Order& order) = 0;
};

/// Reads the table and makes the model matrices, keeping the seconds of each step.
class Input {
public:
  explicit Input(const Arguments& arguments) {
    const Stopwatch watch;
    table_ = read_table(arguments.table, {arguments.factors});
    seconds_["read"] = watch.seconds();
  }
  Matrices matrices(const std::string& formula) {
    const Stopwatch watch;
    auto m = std::make_shared<const ModelMatrices>(model_matrices(parse_formula(formula), table_));
    check_model(*m);
    add("matrices", watch.seconds());
    return m;
  }
  void add(const char* step, double seconds) { seconds_[step] = seconds_.value(step, 0.0) + seconds; }
  [[nodiscard]] const Json& seconds() const { return seconds_; }

private:
  Table table_;
  Json seconds_;
};

/// A bootstrap: likelihood-ratio tests of two models, or refits of one.
class Replicates final : public Job {
public:
  Replicates(const Arguments& arguments, bool refit) : refit_(refit), input_(arguments) {
    const Method method = arguments.reml ? Method::reml : Method::ml;
    const std::optional<Tier> tier = tier_of_name(arguments.tier);
    backend_.cuda = arguments.backend == "cuda";
    if (backend_.cuda) require_backend(BackendChoice::cuda);
    const Matrices m0 = input_.matrices(refit ? arguments.formula : arguments.null);
    const Matrices m1 = refit ? nullptr : input_.matrices(arguments.full);
    {
      const Stopwatch watch;
      null_ = std::make_unique<Model>(m0, method);
      if (!refit) full_ = std::make_unique<Model>(m1, method);
      input_.add("models", watch.seconds());
    }
    Fit fitted;
    {
      const Stopwatch watch;
      fitted = fit(*null_);
      criterion_ = fitted.criterion;
      if (!refit) statistic_ = fitted.criterion - fit(*full_).criterion;
      input_.add("fits", watch.seconds());
    }
    const Stopwatch watch;
    const std::vector<double> lambda = generating_lambda(*null_, fitted);
    if (refit)
      bootstrap_ = std::make_unique<Bootstrap>(*null_, lambda, fitted.sigma, arguments.seed, tier, backend_);
    else
      bootstrap_ = std::make_unique<Bootstrap>(*null_, *full_, embed(*null_, *full_), lambda, fitted.sigma,
                                               arguments.seed, tier, backend_);
    input_.add("engine", watch.seconds());
  }

  Json facts() override {
    Json passed_over = Json::array();
    for (const PassedOver& p : bootstrap_->passed_over())
      passed_over.push_back({{"tier", tier_name(p.tier)}, {"why", p.why}});
    Json facts{{"job", refit_ ? "refit" : "lrt"},
               {"tier", tier_name(bootstrap_->engine().tier())},
               {"backend", backend_.name()},
               {"passed_over", passed_over},
               {"isa", kernels::cpu_kernels().name},
               {"lanes", kernels::cpu_kernels().lanes},
               {"model", size_of(refit_ ? *null_ : *full_)},
               {"criterion", criterion_},
               {"setup_seconds", input_.seconds()},
               {"memory", memory()}};
    if (!refit_) facts["statistic"] = statistic_;
    return facts;
  }

  Json run(const Order& order) override {
    if (order.code) return device_code(*bootstrap_, refit_);
    if (order.tests) return cost_of_tests(order);
    if (order.check) return check_replicates(*bootstrap_, *null_, full_.get(), order.first, order.count);
    BootstrapRun run;
    run.first = order.first;
    run.count = order.count;
    run.threads = order.threads;
    run.backend = backend_;
    run.observed = statistic_;
    const Stopwatch watch;
    CALLGRIND_START_INSTRUMENTATION;
    const ReplicateSummary s = bootstrap_->run(run);
    CALLGRIND_STOP_INSTRUMENTATION;
    CALLGRIND_DUMP_STATS_AT("order");
    const double seconds = watch.seconds(), cpu_seconds = watch.cpu_seconds();
    const double n = static_cast<double>(s.replicates);
    Json status;
    for (int i = 0; i < status_count; ++i) status[status_name(static_cast<Status>(i))] = s.status[i];
    Json answer{
        {"count", s.replicates},
        {"first", order.first},
        {"threads", order.threads},
        {"seconds", seconds},
        {"cpu_seconds", cpu_seconds},
        {"used", s.used},
        {"status", status},
        {"evaluations_per_replicate", n > 0 ? static_cast<double>(s.evaluations_null + s.evaluations_full) / n : 0.0},
        {"memory", memory()}};
    if (const std::optional<double> operations = multiply_adds(s)) answer["multiply_adds_per_replicate"] = *operations;
    if (!refit_) {
      answer["extreme"] = s.extreme;
      answer["mean_statistic"] = s.used > 0 ? s.sum_statistic / static_cast<double>(s.used) : 0.0;
    }
    if (!s.stopped.empty()) answer["stopped"] = s.stopped;
    return answer;
  }

private:
  /// Seconds of `order` with and without tests: the least of several rounds in which all take turns.
  Json cost_of_tests(const Order& order) {
    const Model& model = refit_ ? *null_ : *full_;
    const Eigen::Index p = model.matrices().X.cols();
    ReplicateTests satterthwaite, kenward_roger;
    kenward_roger.hypotheses.method = SmallSample::kenward_roger;
    for (ReplicateTests* tests : {&satterthwaite, &kenward_roger})
      for (Eigen::Index i = 0; i < p; ++i)
        tests->hypotheses.list.push_back({Eigen::VectorXd::Unit(p, i).transpose(), {}});
    std::vector<std::pair<const char*, const ReplicateTests*>> kinds{{"fits", nullptr},
                                                                     {"satterthwaite", &satterthwaite}};
    if (model.shape().reml) kinds.emplace_back("kenward_roger", &kenward_roger);
    std::vector<double> best(kinds.size(), 1e300);
    constexpr int rounds = 7;
    for (int round = 0; round < rounds; ++round)
      for (std::size_t i = 0; i < kinds.size(); ++i) {
        BootstrapRun run;
        run.first = order.first;
        run.count = order.count;
        run.threads = order.threads;
        run.tests = kinds[i].second;
        const Stopwatch watch;
        (void)bootstrap_->run(run);
        best[i] = std::min(best[i], watch.cpu_seconds());
      }
    Json answer{{"count", order.count}, {"first", order.first}, {"coefficients", p}};
    const double n = static_cast<double>(order.count);
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      // Of a test what it takes on top of the fits.
      const double own = i == 0 ? best[0] : best[i] - best[0];
      answer[std::string(kinds[i].first) + "_ns"] = 1e9 * own / n;
      if (i > 0) answer[std::string(kinds[i].first) + "_to_fits"] = own / best[0];
    }
    return answer;
  }

  Backend backend_;
  /// Multiply-adds of an average replicate of this run, without its draw, by the tier's own count of its loops.
  [[nodiscard]] std::optional<double> multiply_adds(const ReplicateSummary& s) const {
    const ReplicateEngine& engine = bootstrap_->engine();
    if (s.replicates == 0) return {};
    const double null_fits = static_cast<double>(s.evaluations_null) / static_cast<double>(s.replicates),
                 full_fits = static_cast<double>(s.evaluations_full) / static_cast<double>(s.replicates);
    if (engine.tier() == Tier::streaming)
      return null_fits * streaming_cost(null_->shape()).trip() +
             (refit_ ? 0 : full_fits * streaming_cost(full_->shape()).trip());
    if (const auto* shared = dynamic_cast<const SharedFactorizationEngine*>(&engine))
      return shared->null_tables().operations() +
             (shared->full_tables() != nullptr ? shared->full_tables()->operations() : 0);
    // An evaluation of the average fit, null and full together.
    const EngineFacts facts = engine.facts();
    if (engine.tier() == Tier::symmetry && facts.evaluations > 0)
      return (null_fits + full_fits) * facts.multiply_adds / facts.evaluations;
    return {};
  }

  bool refit_;
  Input input_;
  std::unique_ptr<Model> null_, full_;
  std::unique_ptr<Bootstrap> bootstrap_;
  double criterion_ = 0, statistic_ = 0;
};

/// Fits to the observed response, each from the table in memory.
class Fits final : public Job {
public:
  explicit Fits(const Arguments& arguments) : arguments_(arguments), input_(arguments) {}

  Json facts() override {
    const Model model(input_.matrices(arguments_.formula), method());
    return {{"job", "fit"},
            {"isa", kernels::cpu_kernels().name},
            {"model", size_of(model)},
            {"setup_seconds", input_.seconds()},
            {"memory", memory()}};
  }

  Json run(const Order& order) override {
    Json answer{{"count", order.count}, {"threads", order.threads}};
    double matrices = 0, assembly = 0, fits = 0;
    const Stopwatch watch;
    for (std::uint64_t i = 0; i < order.count; ++i) {
      const Stopwatch first;
      const Matrices m = input_.matrices(arguments_.formula);
      matrices += first.seconds();
      const Stopwatch second;
      const Model model(m, method());
      assembly += second.seconds();
      const Stopwatch third;
      CALLGRIND_START_INSTRUMENTATION;
      const Fit f = fit(model);
      CALLGRIND_STOP_INSTRUMENTATION;
      CALLGRIND_DUMP_STATS_AT("order");
      fits += third.seconds();
      answer["criterion"] = f.criterion;
      answer["converged"] = f.converged;
      answer["evaluations_per_replicate"] = f.evaluations;
    }
    answer["seconds"] = watch.seconds();
    answer["cpu_seconds"] = watch.cpu_seconds();
    answer["parts"] = {{"matrices", matrices}, {"assembly", assembly}, {"fit", fits}};
    answer["memory"] = memory();
    return answer;
  }

private:
  [[nodiscard]] Method method() const { return arguments_.reml ? Method::reml : Method::ml; }
  Arguments arguments_;
  Input input_;
};

/// Draws from an exact law, on one thread.
class ExactDraws final : public Job {
public:
  explicit ExactDraws(const Arguments& arguments)
      : seed_(arguments.seed), input_(arguments), matrices_(input_.matrices(arguments.formula)) {
    const Stopwatch watch;
    law_ = std::make_unique<SpectralLaw>(*matrices_, Method::reml, 0);
    input_.add("law", watch.seconds());
    statistic_ = law_->statistic(matrices_->y - matrices_->offset, matrices_->X);
  }

  Json facts() override {
    return {{"job", "exact"},
            {"isa", kernels::cpu_kernels().name},
            {"lanes", kernels::cpu_kernels().lanes},
            {"eigenvalues", law_->eigenvalues().size()},
            {"nodes", law_->kernel().nodes},
            {"statistic", statistic_},
            {"setup_seconds", input_.seconds()},
            {"memory", memory()}};
  }

  Json run(const Order& order) override {
    if (order.check || order.code) return {{"unchecked", "every draw's maximum is certified as it is found"}};
    constexpr std::uint64_t chunk = 16384;
    std::vector<double> statistics(chunk);
    std::uint64_t searched = 0, extreme = 0;
    const Stopwatch watch;
    CALLGRIND_START_INSTRUMENTATION;
    for (std::uint64_t done = 0; done < order.count; done += chunk) {
      const std::uint64_t count = std::min(chunk, order.count - done);
      searched += law_->draw(seed_, order.first + done, count, statistics.data());
      for (std::uint64_t i = 0; i < count; ++i) extreme += statistics[i] >= statistic_;
    }
    CALLGRIND_STOP_INSTRUMENTATION;
    CALLGRIND_DUMP_STATS_AT("order");
    return {{"count", order.count},
            {"first", order.first},
            {"threads", 1},
            {"seconds", watch.seconds()},
            {"cpu_seconds", watch.cpu_seconds()},
            {"extreme", extreme},
            {"searched", searched},
            {"memory", memory()}};
  }

private:
  std::uint64_t seed_;
  Input input_;
  Matrices matrices_;
  std::unique_ptr<SpectralLaw> law_;
  double statistic_ = 0;
};

Order parse_order(const std::string& line) {
  std::istringstream words(line);
  Order order;
  if (line.rfind("check ", 0) == 0) {
    std::string check;
    words >> check;
    order.check = true;
  }
  if (line.rfind("tests ", 0) == 0) {
    std::string tests;
    words >> tests;
    order.tests = true;
  }
  if (line == "code") {
    order.code = true;
    return order;
  }
  if (!(words >> order.count)) throw InputError("expected an order COUNT [FIRST [THREADS]], found '" + line + "'");
  if (words >> order.first) words >> order.threads;
  if (order.threads < 1) throw InputError("expected at least one thread, found '" + line + "'");
  return order;
}

void say(const Json& line) { std::cout << line.dump() << std::endl; }

void serve(Job& job, const Arguments& arguments) {
  say(job.facts());
  if (arguments.replicates > 0) {
    say(job.run({false, false, false, arguments.replicates, arguments.first, arguments.threads}));
    return;
  }
  for (std::string line; std::getline(std::cin, line);)
    if (!line.empty()) say(job.run(parse_order(line)));
}

void print_ceiling() {
  Json all = Json::array();
  for (const kernels::CpuKernels* k : kernels::all_cpu_kernels()) {
    const Ceiling c = measure_ceiling(k->name);
    all.push_back({{"isa", c.isa}, {"multiply_adds_per_second", c.multiply_adds_per_second}});
  }
  say({{"chosen", kernels::cpu_kernels().name}, {"isas", all}});
}

void print_device() {
  const kernels::CudaCeiling c = kernels::measure_cuda_ceiling();
  Json device = Json::parse(devices_json(find_devices()))["cuda"];
  device["start_seconds"] = c.start_seconds;
  device["multiply_adds_per_second"] = c.multiply_adds_per_second;
  device["write_bytes_per_second"] = c.write_bytes_per_second;
  device["read_bytes_per_second"] = c.read_bytes_per_second;
  device["copy_bytes_per_second"] = c.copy_bytes_per_second;
  say(device);
}

int run(int argc, char** argv) {
  CLI::App app("Whole jobs of the benchmark harness", "bench_jobs");
  app.require_subcommand(1);
  Arguments a;
  const auto common = [&](CLI::App* command) {
    command->add_option("TABLE", a.table)->required();
    command->add_option("--factor", a.factors, "Columns to read as factors")->delimiter(',')->allow_extra_args(false);
    command->add_option("--replicates", a.replicates, "One order of so many; else orders come on standard input");
    command->add_option("--first", a.first, "Index of the first replicate");
    command->add_option("--threads", a.threads, "CPU threads (default 1)")->check(CLI::PositiveNumber);
    command->add_option("--seed", a.seed, "Seed (default 1)");
    command->add_option("--tier", a.tier, "auto (default), symmetry, streaming, shared or large");
    command->add_option("--backend", a.backend, "cpu (default) or cuda, of lrt and refit")
        ->check(CLI::IsMember({"cpu", "cuda"}));
  };
  CLI::App* lrt = app.add_subcommand("lrt", "Likelihood-ratio tests, both models by ML");
  lrt->add_option("NULL", a.null)->required();
  lrt->add_option("FULL", a.full)->required();
  common(lrt);
  CLI::App* refit = app.add_subcommand("refit", "Draws from one model and fits it");
  CLI::App* fit = app.add_subcommand("fit", "Fits to the table's response");
  CLI::App* exact = app.add_subcommand("exact", "Draws from the exact law of the test of one variance component");
  for (CLI::App* one : {refit, fit, exact}) {
    one->add_option("FORMULA", a.formula)->required();
    common(one);
    one->add_flag("--reml", a.reml, "REML in place of ML");
  }
  CLI::App* ceiling = app.add_subcommand("ceiling", "Multiply-adds per second of one thread");
  CLI::App* device = app.add_subcommand("device", "What a CUDA device reaches: start, multiply-adds, copies");
  CLI11_PARSE(app, argc, argv);

  if (ceiling->parsed()) {
    print_ceiling();
    return 0;
  }
  if (device->parsed()) {
    print_device();
    return 0;
  }
  std::unique_ptr<Job> job;
  if (fit->parsed())
    job = std::make_unique<Fits>(a);
  else if (exact->parsed())
    job = std::make_unique<ExactDraws>(a);
  else
    job = std::make_unique<Replicates>(a, refit->parsed());
  serve(*job, a);
  return 0;
}

}  // namespace
}  // namespace batchlmm::bench

int main(int argc, char** argv) {
  try {
    return batchlmm::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_jobs: %s\n", error.what());
    return 1;
  }
}

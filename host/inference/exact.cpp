#include "host/inference/exact.hpp"

#include <fmt/format.h>

#include <Eigen/QR>
#include <algorithm>
#include <atomic>
#include <boost/math/special_functions/gamma.hpp>
#include <chrono>
#include <cmath>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/batch/backend.hpp"
#include "host/batch/replicates.hpp"
#include "host/inference/clopper_pearson.hpp"
#include "host/model/check_model.hpp"
#include "host/model/memory.hpp"

namespace batchlmm {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double log_two_pi = 1.8378770664093454836;

void check_one_component(const ModelMatrices& m) {
  std::size_t parameters = 0;
  for (const RandomTerm& term : m.random) parameters += term.names.size() * (term.names.size() + 1) / 2;
  if (parameters == 1) return;
  throw ModelError(
      fmt::format("\"{}\": expected one variance parameter, one random-effects term with one coefficient, found {}; "
                  "lrt with --replicates tests such models",
                  m.formula, parameters));
}

/// @return fixed effects of `full` that `null` lacks
int dropped_effects(const ModelMatrices& full, const ModelMatrices& null) {
  if (full.rows != null.rows || full.y != null.y || full.offset != null.offset)
    throw ModelError("expected models of the same response, offset and rows, found \"" + null.formula + "\" and \"" +
                     full.formula + "\", which differ");
  constexpr double tolerance = 1e-8;
  const MatrixXd left = null.X - full.X * full.X.householderQr().solve(null.X);
  for (Eigen::Index j = 0; j < left.cols(); ++j)
    if (left.col(j).norm() > tolerance * null.X.col(j).norm())
      throw ModelError("expected a null whose fixed effects are among the model's, found '" + null.x_names[j] +
                       "' in \"" + null.formula + "\", which \"" + full.formula + "\" does not span");
  return static_cast<int>(full.X.cols() - null.X.cols());
}

/// -2 log-likelihood, or the REML criterion, of ordinary least squares.
double linear_criterion(const ModelMatrices& m, Method method) {
  const VectorXd y = m.y - m.offset;
  const auto n = static_cast<double>(y.size()), p = static_cast<double>(m.X.cols());
  double rss = y.squaredNorm(), log_determinant = 0;
  if (m.X.cols() > 0) {
    const Eigen::HouseholderQR<MatrixXd> qr(m.X);
    rss = (y - m.X * qr.solve(y)).squaredNorm();
    log_determinant = 2 * qr.matrixQR().diagonal().head(m.X.cols()).cwiseAbs().array().log().sum();
  }
  const double degrees = method == Method::reml ? n - p : n;
  return degrees * (1 + log_two_pi + std::log(rss / degrees)) + (method == Method::reml ? log_determinant : 0);
}

double chi_square_tail(int df, double x) {
  if (x <= 0) return 1;
  return df == 0 ? 0 : boost::math::gamma_q(0.5 * df, 0.5 * x);
}

/// Draws by chunks; what is added up is added in their order.
class Draws {
public:
  Draws(const SpectralLaw& law, const ExactOptions& options, double observed, bool keep)
      : law_(law), options_(options), least_extreme_(observed - zero_statistic) {
    if (keep) kept_.resize(options.draws);
    chunks_.resize((options.draws + chunk - 1) / chunk);
  }

  void run(int threads) {
    std::vector<std::thread> workers;
    for (int i = 1; i < threads; ++i) workers.emplace_back([this] { work(); });
    work();
    for (std::thread& worker : workers) worker.join();
    if (failure_) std::rethrow_exception(failure_);
  }

  void summarize(ExactTest& test) {
    double sum = 0;
    for (const Chunk& c : chunks_) {
      test.extreme += c.extreme;
      test.zeros += c.zeros;
      test.searched += c.searched;
      sum += c.sum;
    }
    test.mean = sum / static_cast<double>(options_.draws);
    test.statistics = std::move(kept_);
  }

private:
  static constexpr std::uint64_t chunk = 16384;
  struct Chunk {
    std::uint64_t extreme = 0, zeros = 0, searched = 0;
    double sum = 0;
  };

  void work() {
    try {
      std::vector<double> memory(kept_.empty() ? chunk : 0);
      for (std::uint64_t c = next_++; c < chunks_.size(); c = next_++) {
        const std::uint64_t first = c * chunk, count = std::min(chunk, options_.draws - first);
        double* const statistics = kept_.empty() ? memory.data() : kept_.data() + first;
        Chunk& result = chunks_[c];
        result.searched = law_.draw(options_.seed, first, count, statistics);
        for (std::uint64_t i = 0; i < count; ++i) {
          if (statistics[i] < zero_statistic) statistics[i] = 0;
          result.zeros += statistics[i] == 0;
          result.extreme += statistics[i] >= least_extreme_;
          result.sum += statistics[i];
        }
        const std::scoped_lock lock(mutex_);
        done_ += count;
        if (options_.progress) options_.progress(done_, options_.draws);
      }
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  const SpectralLaw& law_;
  const ExactOptions& options_;
  double least_extreme_;
  std::vector<double> kept_;
  std::vector<Chunk> chunks_;
  std::atomic<std::uint64_t> next_{0};
  std::mutex mutex_;
  std::uint64_t done_ = 0;
  std::exception_ptr failure_;
};

}  // namespace

ExactTest exact_test(std::shared_ptr<const ModelMatrices> full, const std::shared_ptr<const ModelMatrices>& null,
                     const ExactOptions& options) {
  check_one_component(*full);
  check_model(*full);
  ExactTest test;
  const ModelMatrices& smaller = null ? *null : *full;
  if (null) test.dropped = dropped_effects(*full, *null);
  const Method method = test.dropped > 0 ? Method::ml : options.method;
  const SpectralLaw law(*full, method, test.dropped);
  test.eigenvalues = law.eigenvalues();
  test.null = smaller.formula;
  test.full = fit(std::move(full), method);
  test.null_criterion = linear_criterion(smaller, method);
  test.statistic = test.null_criterion - test.full.criterion;
  if (test.statistic < zero_statistic) test.statistic = 0;

  constexpr std::uint64_t most_kept = std::uint64_t{1} << 25;
  const bool keep = options.keep || options.draws <= most_kept;
  if (keep) require_memory(16.0 * static_cast<double>(options.draws), fmt::format("{} draws", options.draws));
  test.draws = options.draws;
  test.seed = options.seed;
  test.threads = thread_count(options.threads);
  const auto start = std::chrono::steady_clock::now();
  Draws draws(law, options, test.statistic, keep);
  draws.run(test.threads);
  draws.summarize(test);
  test.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  test.draws_per_second = static_cast<double>(test.draws) / test.seconds;

  test.p = static_cast<double>(1 + test.extreme) / static_cast<double>(1 + test.draws);
  test.interval = clopper_pearson(test.extreme, test.draws);
  const bool closed = law.closed() && test.dropped == 0;
  test.p_closed = closed ? law.tail(test.statistic) : nan;
  test.zero_closed = closed ? law.zero() : nan;
  test.p_mixture =
      0.5 * (chi_square_tail(test.dropped, test.statistic) + chi_square_tail(test.dropped + 1, test.statistic));
  test.quantiles.fill(nan);
  if (keep && test.draws > 0) {
    constexpr std::array<double, 3> shares{0.9, 0.95, 0.99};
    std::vector<double> sorted = test.statistics;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      const auto at = static_cast<std::ptrdiff_t>(shares[i] * static_cast<double>(test.draws - 1));
      std::nth_element(sorted.begin(), sorted.begin() + at, sorted.end());
      test.quantiles[i] = sorted[static_cast<std::size_t>(at)];
    }
  }
  if (!options.keep) test.statistics = {};
  return test;
}

}  // namespace batchlmm

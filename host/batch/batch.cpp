#include "host/batch/batch.hpp"

#include <fmt/format.h>

#include <Eigen/QR>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "batchlmm/error.hpp"
#include "host/batch/starts.hpp"
#include "host/model/check_model.hpp"
#include "host/model/model.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"

namespace batchlmm {
namespace {

/// Items that one call of the kernels takes: enough to keep the lanes full, few enough to share among threads.
constexpr std::uint64_t items_a_call = 512;

/// What differs between the shapes of two models, or nothing.
std::string difference(const kernels::Shape& a, const kernels::Shape& b) {
  if (a.p != b.p) return fmt::format("{} fixed effects instead of {}", b.p, a.p);
  if (a.degrees != b.degrees) return fmt::format("{} degrees of freedom instead of {}", b.degrees, a.degrees);
  if (a.terms != b.terms) return fmt::format("{} random-effects terms instead of {}", b.terms, a.terms);
  if (a.stages != b.stages) return fmt::format("its factors are nested differently");
  for (int t = 0; t < a.terms; ++t) {
    const kernels::TermShape &x = a.term[t], &y = b.term[t];
    if (x.k != y.k) return fmt::format("a random-effects term has {} columns instead of {}", y.k, x.k);
    if (x.stage != y.stage || x.levels != y.levels || x.column != y.column)
      return "its grouping factors have other levels";
  }
  for (int t = 0; t <= a.stages; ++t) {
    if (a.nodes[t] != b.nodes[t] || a.own[t] != b.own[t])
      return fmt::format("a grouping factor has {} levels instead of {}", b.nodes[t], a.nodes[t]);
    if (t > 0 && !std::equal(a.node_end[t], a.node_end[t] + a.nodes[t], b.node_end[t]))
      return "its factors are nested differently";
  }
  return {};
}

}  // namespace

class Batch::Impl {
public:
  Impl(std::shared_ptr<const ModelMatrices> design, Method method) : method_(method) {
    (void)add_design(std::move(design));
  }

  std::size_t add_response(int design, const Eigen::VectorXd& y) {
    const Model& model = *models_[design];
    const ModelMatrices& m = model.matrices();
    if (y.size() != m.y.size())
      throw ModelError(
          fmt::format("a response of a batch must have the design's {} rows; found {}", m.y.size(), y.size()));
    // Large fitted values are taken off first, as in a single fit.
    const Eigen::VectorXd centered_y = y - m.offset;
    Eigen::VectorXd ols = Eigen::VectorXd::Zero(m.X.cols());
    if (m.X.cols() > 0) ols = model.x_gauge().columns.transpose() * centered_y / static_cast<double>(centered_y.size());
    const std::vector<double> r = model.response(centered_y - model.x_gauge().columns * ols);
    responses_.insert(responses_.end(), r.begin(), r.end());
    ols_.push_back(ols);
    design_of_.push_back(design);
    return design_of_.size() - 1;
  }

  std::size_t add_own_design(std::shared_ptr<const ModelMatrices> design) {
    const Eigen::VectorXd y = design->y;
    return add_response(add_design(std::move(design)), y);
  }

  [[nodiscard]] std::size_t size() const { return design_of_.size(); }

  [[nodiscard]] std::vector<BatchFit> fit(const BatchOptions& options) const {
    const Model& model = *models_.front();
    const kernels::Shape& s = model.shape();
    const std::uint64_t n = size();
    std::vector<double> starts;
    const auto default_list = default_starts(model);
    for (const auto& start : default_list) starts.insert(starts.end(), start.begin(), start.end());
    std::vector<kernels::Design<double>> designs;
    for (const auto& m : models_) designs.push_back(m->design());

    std::vector<std::uint8_t> status(n);
    std::vector<double> deviance(n), lambda(n * s.lambdas), beta(n * s.p), r2(n);
    std::vector<std::uint32_t> boundary(n);
    std::vector<std::uint16_t> evaluations(n);
    const auto job_of = [&](std::uint64_t first, std::uint64_t count) {
      kernels::FitJob job;
      job.shape = &s;
      job.design = designs.data();
      job.design_of = designs.size() > 1 ? design_of_.data() + first : nullptr;
      job.items = count;
      job.response = responses_.data() + first * s.response;
      job.first_start = starts.data();
      job.starts = starts.data();
      job.options.starts = static_cast<int>(default_list.size());
      job.parameters = true;
      job.results = {status.data() + first,   deviance.data() + first,    lambda.data() + first * s.lambdas,
                     boundary.data() + first, evaluations.data() + first, beta.data() + first * s.p,
                     r2.data() + first};
      return job;
    };
    if (choose_backend(options.backend, n).cuda) {
      kernels::cuda_fit(job_of(0, n));
    } else {
      std::atomic<std::uint64_t> next{0};
      std::mutex mutex;
      std::exception_ptr failure;
      const auto work = [&] {
        try {
          while (true) {
            const std::uint64_t first = next.fetch_add(items_a_call);
            if (first >= n) return;
            kernels::cpu_kernels().fit(job_of(first, std::min(items_a_call, n - first)));
          }
        } catch (...) {
          const std::lock_guard lock(mutex);
          failure = std::current_exception();
        }
      };
      std::vector<std::thread> pool;
      for (int t = 1; t < thread_count(options.threads) && static_cast<std::uint64_t>(t) * items_a_call < n; ++t)
        pool.emplace_back(work);
      work();
      for (std::thread& t : pool) t.join();
      if (failure) std::rethrow_exception(failure);
    }

    std::vector<BatchFit> fits(n);
    for (std::uint64_t i = 0; i < n; ++i) {
      const Model& m = *models_[design_of_[i]];
      BatchFit& f = fits[i];
      f.status = static_cast<Status>(status[i]);
      // The criterion's constant holds the gauge of X, which is the design's own.
      f.criterion = deviance[i] + (m.shape().constant - s.constant);
      f.evaluations = evaluations[i];
      f.sigma = std::sqrt(r2[i] / s.degrees);
      const Eigen::Map<const Eigen::VectorXd> b(beta.data() + i * s.p, s.p);
      f.beta = m.x_gauge().map.triangularView<Eigen::Upper>().solve(b + ols_[i]);
      std::vector<Eigen::MatrixXd> user(m.matrices().random.size());
      f.boundary.assign(user.size(), false);
      Eigen::Index thetas = 0;
      for (int t = 0; t < s.terms; ++t) {
        const int k = s.term[t].k;
        const Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> l(
            lambda.data() + i * s.lambdas + s.term[t].lambda, k, k);
        user[m.term_of(t)] = m.to_user_lambda(t, l);
        f.boundary[m.term_of(t)] = (boundary[i] >> t & 1U) != 0;
        thetas += k * (k + 1) / 2;
      }
      f.theta.resize(thetas);
      Eigen::Index at = 0;
      for (const Eigen::MatrixXd& l : user)
        for (Eigen::Index j = 0; j < l.cols(); ++j)
          for (Eigen::Index r = j; r < l.rows(); ++r) f.theta[at++] = l(r, j);
    }
    return fits;
  }

private:
  int add_design(std::shared_ptr<const ModelMatrices> design) {
    check_model(*design);
    auto model = std::make_unique<Model>(std::move(design), method_);
    if (model->is_large())
      throw ModelError(fmt::format(
          "a batch takes models whose crossed grouping factors have up to {} columns together; \"{}\" has {}",
          Model::default_largest_kernel_schur, model->matrices().formula, model->plan().schur));
    if (!models_.empty()) {
      const std::string what = difference(models_.front()->shape(), model->shape());
      if (!what.empty()) throw ModelError("the designs of a batch must have one shape: " + what);
    }
    models_.push_back(std::move(model));
    return static_cast<int>(models_.size()) - 1;
  }

  Method method_;
  std::vector<std::unique_ptr<Model>> models_;
  std::vector<double> responses_;
  std::vector<Eigen::VectorXd> ols_;
  std::vector<int> design_of_;
};

Batch::Batch(std::shared_ptr<const ModelMatrices> design, Method method)
    : impl_(std::make_unique<Impl>(std::move(design), method)) {}
Batch::~Batch() = default;
Batch::Batch(Batch&&) noexcept = default;
Batch& Batch::operator=(Batch&&) noexcept = default;
std::size_t Batch::add(const Eigen::VectorXd& y) { return impl_->add_response(0, y); }
std::size_t Batch::add(std::shared_ptr<const ModelMatrices> design) { return impl_->add_own_design(std::move(design)); }
std::size_t Batch::size() const { return impl_->size(); }
std::vector<BatchFit> Batch::fit(const BatchOptions& options) const { return impl_->fit(options); }
std::future<std::vector<BatchFit>> Batch::submit(const BatchOptions& options) const {
  return std::async(std::launch::async, [this, options] { return fit(options); });
}

}  // namespace batchlmm

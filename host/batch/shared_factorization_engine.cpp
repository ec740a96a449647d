#include "host/batch/shared_factorization_engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/batch/chunk_buffers.hpp"
#include "host/batch/sampler_data.hpp"
#include "host/model/criterion.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"
#include "kernels/statistic.hpp"

namespace batchlmm {
namespace {

constexpr std::uint64_t replicates_a_chunk = 2048;

/// Below so many random effects a factorization is no more than a rotation.
constexpr int fewest_random_effects = 24;

/// Evaluations of a fit by the streaming tier, on average.
constexpr double usual_evaluations = 3.5;

int random_effects(const kernels::Shape& s) { return s.response - 1 - s.p; }

/// Multiply-adds of a replicate by the streaming tier, about.
double streaming_operations(const BootstrapModels& models) {
  return usual_evaluations * (kernel_operations(*models.full) + (models.refit() ? 0 : kernel_operations(*models.null)));
}

std::string too_many(double here, double there) {
  if (here <= 0.25 * there) return {};
  return fmt::format("{:.2g} multiply-adds a replicate, and {:.2g} by streaming", here, there);
}

/// beta, r^2 and X's factor at the optima that stand in `results`, from one evaluation of the streaming kernels each: a
/// fit whose first step is its last.
void fit_parameters(const kernels::Shape& shape, const kernels::Design<double>& design,
                    const std::vector<double>& responses, const std::vector<std::uint8_t>& refused,
                    const kernels::FitResults& results) {
  const std::size_t n = refused.size(), p = shape.p, size = kernels::triangle_size(shape.p);
  FitBuffers buffers;
  kernels::FitJob fit;
  fit.shape = &shape;
  fit.design = &design;
  fit.items = n;
  fit.response = responses.data();
  fit.first_start = results.lambda;
  fit.one_start = false;
  fit.starts = results.lambda;
  fit.options.finish = std::numeric_limits<double>::max();
  fit.parameters = true;
  fit.results = buffers.resize(shape, n, true);
  kernels::cpu_kernels().fit(fit);
  for (std::size_t i = 0; i < n; ++i) {
    if (refused[i] != 0) continue;
    if (results.r2 != nullptr) results.r2[i] = buffers.r2[i];
    if (results.beta != nullptr) std::copy_n(buffers.beta.data() + i * p, p, results.beta + i * p);
    if (results.x_factor != nullptr) std::copy_n(buffers.x_factor.data() + i * size, size, results.x_factor + i * size);
  }
}

/// Results from item i on.
kernels::FitResults from_item(const kernels::Shape& s, const kernels::FitResults& r, std::uint64_t i) {
  if (r.status == nullptr) return {};
  kernels::FitResults out = r;
  out.status += i;
  out.deviance += i;
  out.lambda += i * s.lambdas;
  if (r.boundary != nullptr) out.boundary += i;
  if (r.evaluations != nullptr) out.evaluations += i;
  if (r.beta != nullptr) out.beta += i * s.p;
  if (r.r2 != nullptr) out.r2 += i;
  if (r.x_factor != nullptr) out.x_factor += i * kernels::triangle_size(s.p);
  return out;
}

/// Calls f(begin, length) for every run of refused replicates.
template <class F>
void for_each_refused(const std::vector<std::uint8_t>& refused, const F& f) {
  const std::uint64_t n = refused.size();
  for (std::uint64_t i = 0; i < n;) {
    std::uint64_t end = i;
    while (end < n && refused[end] != 0) ++end;
    if (end > i) f(i, end - i);
    i = end + 1;
  }
}

}  // namespace

std::string SharedFactorizationEngine::obstacle(const BootstrapModels& models) {
  const Model &null = *models.null, &full = *models.full;
  if (models.embedding->null_at_zero) return "the smaller model has no random effects";
  for (const Model* model : {&null, &full}) {
    std::string why = SharedFactorization::obstacle(*model);
    if (!why.empty()) return why;
  }
  if (random_effects(full.shape()) < fewest_random_effects)
    return fmt::format("{} random effects; it pays from about {}", random_effects(full.shape()), fewest_random_effects);
  const bool same = same_random_effects(null, full);
  double here = SharedFactorization::predicted_operations(full, same ? full.shape().p - null.shape().p : 0);
  if (!same) here += SharedFactorization::predicted_operations(null, 0);
  return too_many(here, streaming_operations(models));
}

std::string SharedFactorizationEngine::does_not_pay(const BootstrapModels& models) const {
  return too_many(null_tables_->operations() + (full_tables_ ? full_tables_->operations() : 0),
                  streaming_operations(models));
}

SharedFactorizationEngine::SharedFactorizationEngine(const BootstrapModels& models, double reach)
    : streaming_(models), refit_(models.refit()) {
  if (models.embedding->null_at_zero)
    throw ModelError("the shared tier does not take these models: the smaller model has no random effects");
  const Model &null = *models.null, &full = *models.full;
  const std::vector<double> embedded = models.embedding->apply(null, full, models.lambda);
  job_.bootstrap = &streaming_.job();
  job_.same_random_effects = same_random_effects(null, full);
  if (job_.same_random_effects) {
    const kernels::Sampler& sampler = job_.bootstrap->sampler;
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::MatrixXd x = Eigen::Map<const RowMajor>(sampler.null_x, full.shape().p, sampler.null_p);
    null_tables_ = std::make_unique<SharedFactorization>(full, x, embedded, reach);
  } else {
    const auto all = [](const Model& m) { return Eigen::MatrixXd::Identity(m.shape().p, m.shape().p); };
    null_tables_ = std::make_unique<SharedFactorization>(null, all(null), models.lambda, reach);
    full_tables_ = std::make_unique<SharedFactorization>(full, all(full), embedded, reach);
    job_.full = full_tables_->interpolant();
  }
  job_.null = null_tables_->interpolant();
}

EngineFacts SharedFactorizationEngine::facts() const {
  EngineFacts facts;
  facts.multiply_adds = null_tables_->operations() + (full_tables_ != nullptr ? full_tables_->operations() : 0);
  return facts;
}

std::uint64_t SharedFactorizationEngine::chunk_length(const Backend& backend) const {
  return backend.cuda ? kernels::cuda_interpolant_chunk_length(job_) : replicates_a_chunk;
}

void SharedFactorizationEngine::interpolate_on_cpu(bool parameters, std::vector<std::uint8_t>& refused,
                                                   kernels::BootstrapChunk& chunk) const {
  const kernels::BootstrapJob& draws = *job_.bootstrap;
  const bool refit = chunk.full.status == nullptr;
  std::vector<double> null_response(parameters ? chunk.count * draws.null->response : 0),
      full_response(parameters && !refit ? chunk.count * draws.full->response : 0);
  kernels::InterpolantChunk also;
  also.refused = refused.data();
  if (parameters) also.null_response = null_response.data();
  if (parameters && !refit) also.full_response = full_response.data();
  kernels::cpu_kernels().interpolate(job_, also, chunk);
  if (!parameters) return;
  fit_parameters(*draws.null, draws.null_design, null_response, refused, chunk.null);
  if (!refit) fit_parameters(*draws.full, draws.full_design, full_response, refused, chunk.full);
}

int SharedFactorizationEngine::device_workers() const { return kernels::cuda_slots(); }

void SharedFactorizationEngine::run(const Backend& backend, bool parameters, kernels::BootstrapChunk& chunk) const {
  const kernels::BootstrapJob& draws = *job_.bootstrap;
  std::vector<std::uint8_t> refused(chunk.count);
  if (backend.cuda)
    kernels::cuda_interpolate(job_, parameters, refused.data(), chunk);
  else
    interpolate_on_cpu(parameters, refused, chunk);
  // With a device, too: a few replicates are no work for it, and the bits are the same.
  for_each_refused(refused, [&](std::uint64_t begin, std::uint64_t length) {
    kernels::BootstrapChunk part;
    part.first = chunk.first + begin;
    part.count = length;
    part.null = from_item(*draws.null, chunk.null, begin);
    part.full = from_item(*draws.full, chunk.full, begin);
    streaming_.run({}, parameters, part);
    fallbacks_ += length;
  });
}

kernels::StatisticCounts SharedFactorizationEngine::summarize(const Backend& backend, std::uint64_t first,
                                                              std::uint64_t count, double observed) const {
  if (!backend.cuda) return ReplicateEngine::summarize(backend, first, count, observed);
  std::vector<std::uint8_t> refused(count);
  kernels::StatisticCounts counts = kernels::cuda_summarize(job_, first, count, observed, refit_, refused.data());
  for_each_refused(refused, [&](std::uint64_t begin, std::uint64_t length) {
    ChunkBuffers buffers;
    buffers.resize(*job_.bootstrap->null, refit_ ? nullptr : job_.bootstrap->full, first + begin, length, false);
    const kernels::BootstrapChunk& part = buffers.chunk;
    streaming_.run({}, false, buffers.chunk);
    for (std::uint64_t i = 0; i < length; ++i)
      kernels::add_replicate(counts, part.null, part.full, i, kernels::outcome(part.null, part.full, i), observed);
    fallbacks_ += length;
  });
  return counts;
}

}  // namespace batchlmm

#include "host/batch/strata_engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "host/batch/chunk_buffers.hpp"
#include "host/batch/cost.hpp"
#include "host/batch/pilot.hpp"
#include "host/batch/starts.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"
#include "kernels/cuda_strata.hpp"
#include "kernels/replicate.hpp"

namespace batchlmm {
namespace {

/// Records of one chunk of replicates: they stay in a core's cache.
constexpr double chunk_bytes = 1e6;

}  // namespace

std::unique_ptr<StrataEngine> StrataEngine::make(const BootstrapModels& models, bool always, std::string* why) {
  std::unique_ptr<StrataEngine> engine(new StrataEngine);
  const Model &null = *models.null, &full = *models.full;
  engine->strata_ = ModelStrata::make(models, why);
  if (engine->strata_ == nullptr) return nullptr;
  const StrataData& data = engine->data();

  const double here =
      operations(null.shape(), data.null_model()) + (models.refit() ? 0 : operations(full.shape(), data.full_model()));
  const double there = streaming_cost(null.shape()).trip() + (models.refit() ? 0 : streaming_cost(full.shape()).trip());
  if (!always && !null.is_large() && !full.is_large() && 2 * here > there) {
    *why = fmt::format("its {:.3g} multiply-adds an evaluation are not below half of the streaming tier's {:.3g}", here,
                       there);
    return nullptr;
  }
  engine->verified_ = engine->strata_->verify(models);
  if (!(engine->verified_ <= strata_tolerance)) {
    *why = fmt::format("the strata's criterion differs by {:.1e} from that of the rows", engine->verified_);
    return nullptr;
  }

  kernels::BootstrapJob& job = engine->job_.job;
  engine->null_starts_ = models.embedding->null_at_zero ? models.lambda : shared_starts(null, models.lambda);
  engine->full_starts_ = shared_starts(full, models.embedding->apply(null, full, models.lambda));
  engine->map_ = models.embedding->map;
  engine->term_ = models.embedding->term;
  engine->column_ = models.embedding->column;
  job.null = &null.shape();
  job.full = &full.shape();
  job.null_starts = engine->null_starts_.data();
  job.full_starts = engine->full_starts_.data();
  job.embed_map = engine->map_.data();
  job.embed_term = engine->term_.data();
  job.embed_column = engine->column_.data();
  job.seed = models.seed;
  job.null_options.stay = models.embedding->null_at_zero;
  engine->job_.null = data.null_model();
  engine->job_.full = data.full_model();
  engine->job_.sampler = data.sampler();
  engine->choose_first_starts(models.refit());
  choose_starts(job, models.refit(), static_cast<int>(engine->null_starts_.size() / null.shape().lambdas),
                static_cast<int>(engine->full_starts_.size() / full.shape().lambdas),
                [&](kernels::BootstrapChunk& chunk) { kernels::cpu_kernels().strata->bootstrap(engine->job_, chunk); });
  return engine;
}

void StrataEngine::choose_first_starts(bool refit) {
  const std::uint64_t n = pilot_replicates(*job_.job.full) / 4;
  const auto evaluations = [&](bool full, bool moments) {
    (full ? job_.full_moments : job_.null_moments) = moments;
    ChunkBuffers buffers;
    buffers.resize(*job_.job.null, refit ? nullptr : job_.job.full, 0, n, false);
    kernels::cpu_kernels().strata->bootstrap(job_, buffers.chunk);
    const std::vector<std::uint16_t>& counts = full ? buffers.full.evaluations : buffers.null.evaluations;
    return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
  };
  if (job_.null.moments > 0 && !job_.job.null_options.stay)
    job_.null_moments = evaluations(false, true) < evaluations(false, false);
  if (!refit && job_.full.moments > 0) job_.full_moments = evaluations(true, true) < evaluations(true, false);
}

double StrataEngine::operations(const kernels::Shape& shape, const kernels::StrataModel& model) {
  const double m = shape.parameters, nc = model.coupled, nd = kernels::determinant_columns(model);
  const double pairs = m * (m + 1) / 2, size2 = nc * (nc + 1) / 2, size1 = nd * (nd + 1) / 2;
  // Two factors of the Hessian's size, what is of low rank in it, F and its derivatives.
  double total = 60 + m * m * m / 3 + pairs * (nc + size1 + 5) + nc * nc * nc / 3 + nd * nd * nd + m * nd * nd * nd;
  for (int i = 0; i < model.blocks; ++i) {
    const kernels::StrataBlock& b = model.block[i];
    const double d = b.d, k = b.columns, size = d * (d + 1) / 2;
    const double coupled = b.y >= 0 ? nc : 0, determinant = b.a != nullptr || b.a1 != nullptr ? size1 : 0;
    const double vectors = b.copies + b.indicated;  // each by itself
    total += 40 + vectors * d * (d + k) * (nc + nd + 1) +
             size * (1 + (b.y >= 0 ? size2 + nc * nc + 3 * nc : 0) + 3 * determinant);
    double own = 0, widths = 0, traces = 0;
    for (int g = 0; g < b.groups; ++g) {
      const double width = shape.term[b.group_term[g]].k;
      own += kernels::triangle_size(shape.term[b.group_term[g]].k);
      widths += width * width;
      for (int h = 0; h < b.groups; ++h) {
        const int t = b.group_term[g], t2 = b.group_term[h];
        const double x = kernels::triangle_size(shape.term[t].k), y = kernels::triangle_size(shape.term[t2].k);
        if (t2 <= t) traces += t2 == t ? x * (x + 1) / 2 : x * y;
      }
    }
    if (b.d == 1) {
      total += own * (6 + coupled + determinant) + own * (own + 1) + widths;
      continue;
    }
    // V and its inverse; Q and the forms of R and Phi, with the directions on both sides; the linear forms; the traces.
    const double matrices = determinant > 0 || b.indicated > 0 || b.multiplicity != 0 ? 3 : 2;
    total += vectors * (k * k + (nc + size1) * own);
    total += size * k + d * d * d / 2 + 2 * d * widths;
    total += (d * d * k + d * k * k / 2) * (1 + (b.s >= 0 ? 1 : 0) + (determinant > 0 ? 1 : 0));
    total +=
        matrices * 0.75 * k * widths + (coupled + determinant) * (d * d * k + d * own) + (matrices - 1) * 4 * traces;
  }
  return total;
}

std::uint64_t StrataEngine::chunk_length(const Backend& backend) const {
  if (backend.cuda) return kernels::cuda_strata_chunk_length(job_, job_.full.blocks == 0);
  const double one = 8.0 * (job_.null.record + job_.full.record + 2.0 * job_.job.full->lambdas + 4);
  return static_cast<std::uint64_t>(std::clamp(chunk_bytes / one, 64.0, 4096.0)) / 16 * 16;
}

EngineFacts StrataEngine::facts() const {
  const bool refit = job_.full.blocks == 0;
  const double null = evaluations_a_fit * job_.job.null_options.starts,
               full =
                   refit ? 0 : evaluations_a_fit * (kernels::tells_minima(job_.job) ? 1 : job_.job.full_options.starts);
  EngineFacts facts;
  facts.evaluations = null + full;
  facts.multiply_adds = null * operations(*job_.job.null, job_.null) + full * operations(*job_.job.full, job_.full);
  for (const Stratum& stratum : strata().strata) facts.strata.emplace_back(stratum.d, stratum.m);
  facts.completed_rows = missing();
  return facts;
}

std::optional<kernels::TracedTrip> StrataEngine::trace(bool full) const {
  const kernels::BootstrapJob& job = job_.job;
  if (!full && job.null_options.stay) return {};
  return full ? kernels::trace_strata_trip(*job.full, job_.full, job.full_options, job.full_starts)
              : kernels::trace_strata_trip(*job.null, job_.null, job.null_options, job.null_starts);
}

double strata_tile_bytes(const kernels::Shape& shape, const kernels::StrataModel& model) {
  kernels::Arena<double*> count{nullptr};
  (void)kernels::make_strata_workspace(shape, model, count);
  (void)kernels::make_newton<double>(shape, count);
  return 8.0 * kernels::cpu_kernels().lanes * static_cast<double>(count.used + model.record);
}

double StrataEngine::thread_bytes() const {
  return std::max(strata_tile_bytes(*job_.job.null, job_.null), strata_tile_bytes(*job_.job.full, job_.full)) +
         2 * chunk_bytes;
}

void StrataEngine::run(const Backend& backend, bool parameters, kernels::BootstrapChunk& chunk) const {
  kernels::StrataJob job = job_;
  job.job.parameters = parameters;
  if (backend.cuda) {
    trips_.add_to(job.job, job.full.blocks == 0, [this](bool full) { return trace(full); });
    kernels::cuda_strata_bootstrap(job, chunk);
  } else {
    kernels::cpu_kernels().strata->bootstrap(job, chunk);
  }
  if (!parameters) return;
  // Fixed effects are no part of a record: from the replicate's coordinates, drawn again.
  const bool refit = chunk.full.status == nullptr;
  for (const bool full : {false, true})
    if (const kernels::FitResults& results = full ? chunk.full : chunk.null;
        !(full && refit) && results.beta != nullptr)
      kernels::small_sample_kernels(kernels::cpu_kernels())
          .strata_fixed(job, data().fixed(full), full, chunk.first, chunk.count, results);
}

void StrataEngine::test(const kernels::TestJob& tests) const {
  kernels::small_sample_kernels(kernels::cpu_kernels()).strata(job_, data().fixed(tests.full), tests);
}

kernels::StatisticCounts StrataEngine::summarize(const Backend& backend, std::uint64_t first, std::uint64_t count,
                                                 double observed) const {
  if (!backend.cuda) return ReplicateEngine::summarize(backend, first, count, observed);
  kernels::StrataJob job = job_;
  trips_.add_to(job.job, job.full.blocks == 0, [this](bool full) { return trace(full); });
  return kernels::cuda_strata_summarize(job, first, count, observed, job.full.blocks == 0);
}

int StrataEngine::device_workers() const { return kernels::cuda_slots(); }

}  // namespace batchlmm

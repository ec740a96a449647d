#include "host/batch/strata_fits.hpp"

#include <fmt/format.h>

#include <Eigen/QR>
#include <Eigen/SparseCore>
#include <algorithm>
#include <cmath>

#include "host/batch/cost.hpp"
#include "host/batch/starts.hpp"
#include "host/batch/strata_engine.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// Beyond these sizes the design is not taken apart: the map would be large, and made for long.
constexpr Index most_linear = 1200;
constexpr double most_work = 2e9;
/// Of orthonormal columns: what counts as rounding.
constexpr double exact = 1e-10;
/// Columns of a size around 1: what is left of one that is a combination of others.
constexpr double dependent = 1e-7;

}  // namespace

std::unique_ptr<const StrataFits> StrataFits::make(const Model& model, bool always, std::string* why) {
  const kernels::Shape& shape = model.shape();
  const double n = static_cast<double>(model.matrices().y.size()), linear = shape.response - 1;
  if (model.is_large() || linear > most_linear || n * linear * linear > most_work) {
    *why = "the design is too large to be taken apart for single responses";
    return nullptr;
  }
  std::unique_ptr<StrataFits> fits(new StrataFits);
  const Embedding embedding = identity_embedding(model);
  const std::vector<std::vector<double>> starts = default_starts(model);
  for (const std::vector<double>& start : starts) fits->starts_.insert(fits->starts_.end(), start.begin(), start.end());
  BootstrapModels models;
  models.null = models.full = &model;
  models.embedding = &embedding;
  models.lambda = starts.front();
  fits->strata_ = ModelStrata::make(models, why);
  if (fits->strata_ == nullptr) return nullptr;
  const StrataData& data = fits->strata_->data();
  const double evaluations = evaluations_a_fit * static_cast<double>(starts.size());
  const double here = evaluations * StrataEngine::operations(shape, data.null_model()) + linear * linear;
  const double there = evaluations * streaming_cost(shape).trip();
  if (!always && 2 * here > there) {
    *why = fmt::format("its {:.3g} multiply-adds a fit are not below half of the streaming tier's {:.3g}", here, there);
    return nullptr;
  }
  if (const double difference = fits->strata_->verify(models); !(difference <= strata_tolerance)) {
    *why = fmt::format("the strata's criterion differs by {:.1e} from that of the rows", difference);
    return nullptr;
  }
  kernels::BootstrapJob& job = fits->job_.job;
  job.null = job.full = &shape;
  job.null_starts = job.full_starts = fits->starts_.data();
  job.null_options.starts = static_cast<int>(starts.size());
  job.parameters = true;
  fits->job_.null = data.null_model();
  fits->job_.full.blocks = 0;
  fits->job_.sampler = data.sampler();
  // In a balanced design these are the analysis of variance's estimates, often the optimum itself.
  fits->job_.null_moments = data.null_model().moments > 0;
  if (!fits->make_map(model) || !fits->reads_records(model)) {
    *why = "the strata's coordinates are not those of the response's cross-products";
    return nullptr;
  }
  return fits;
}

bool StrataFits::make_map(const Model& model) {
  const kernels::Shape& shape = model.shape();
  const MatrixXd w = model.response_map();
  const MatrixXd complete = strata_->data().coordinate_basis();
  const std::vector<int>& at = strata_->observed();
  MatrixXd wanted = complete(at, Eigen::all);  // rows that were filled in have no response
  // The streamed columns are orthonormal, and few are not zero in a row. The others have been taken off them; some may
  // be combinations of the rest. What the strata have beyond the streamed columns lies in the others' space Q: filled
  // rows add nothing to it that a response reaches.
  const Index streamed = static_cast<Index>(shape.nodes[0]) * shape.own[0], observed = w.rows(), linear = w.cols();
  const Eigen::SparseMatrix<double> s = w.leftCols(streamed).sparseView();
  const MatrixXd others = w.rightCols(linear - streamed);
  const Eigen::ColPivHouseholderQR<MatrixXd> qr(others);
  Index rest = 0;
  while (rest < qr.matrixQR().diagonalSize() && std::abs(qr.matrixQR()(rest, rest)) > dependent) ++rest;
  const MatrixXd q = qr.householderQ() * MatrixXd::Identity(observed, rest);
  MatrixXd of_others = MatrixXd::Zero(linear - streamed, rest);  // Q = others * of_others
  of_others.topRows(rest) =
      qr.matrixQR().topLeftCorner(rest, rest).triangularView<Eigen::Upper>().solve(MatrixXd::Identity(rest, rest));
  of_others = (qr.colsPermutation() * of_others).eval();

  const Index coordinates = complete.cols(), outputs = coordinates + rest;
  MatrixXd map = MatrixXd::Zero(outputs, linear);
  map.topLeftCorner(coordinates, streamed) = (s.transpose() * wanted).transpose();
  map.topRightCorner(coordinates, linear - streamed).noalias() =
      (q.transpose() * wanted).transpose() * of_others.transpose();
  map.bottomRightCorner(rest, linear - streamed) = of_others.transpose();
  wanted -= s * map.topLeftCorner(coordinates, streamed).transpose();
  wanted.noalias() -= others * map.topRightCorner(coordinates, linear - streamed).transpose();
  if (wanted.size() > 0 && !(wanted.cwiseAbs().maxCoeff() <= exact)) return false;

  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  map_.resize(static_cast<std::size_t>(map.size()));
  Eigen::Map<RowMajor>(map_.data(), outputs, linear) = map;
  kernels::StrataResponses& given = job_.given;
  given.length = shape.response;
  given.outputs = static_cast<int>(outputs);
  given.rest = static_cast<int>(rest);
  given.map = map_.data();
  return true;
}

bool StrataFits::reads_records(const Model& model) const {
  const kernels::StrataModel& strata = job_.null;
  std::vector<double> scratch(kernels::strata_response_scratch(job_.sampler, job_.given)), record(strata.record);
  for (int trial = 0; trial < 3; ++trial) {
    VectorXd y(model.matrices().y.size());
    for (Index i = 0; i < y.size(); ++i) y[i] = structureless(static_cast<double>(i) + 1000.0 * trial);
    const std::vector<double> response = model.response(y), by_rows = strata_->record(false, y);
    kernels::StrataResponses given = job_.given;
    given.response = response.data();
    kernels::read_strata<double, double*>(job_.sampler, given, 0, 1, record.data(), nullptr, scratch.data());
    const double size = y.squaredNorm();
    for (std::size_t e = 0; e < record.size(); ++e)
      if (!(std::abs(record[e] - by_rows[e]) <= exact * size)) return false;
  }
  return true;
}

kernels::StrataJob StrataFits::job(const double* responses) const {
  kernels::StrataJob out = job_;
  out.given.response = responses;
  return out;
}

void StrataFits::fit(const double* responses, std::uint64_t count, const kernels::FitResults& results) const {
  const kernels::StrataJob of_responses = job(responses);
  kernels::BootstrapChunk chunk;
  chunk.count = count;
  chunk.null = results;
  kernels::cpu_kernels().strata->bootstrap(of_responses, chunk);
  kernels::small_sample_kernels(kernels::cpu_kernels())
      .strata_fixed(of_responses, strata_->data().fixed(false), false, 0, count, results);
}

void StrataFits::test(const double* responses, const kernels::TestJob& tests) const {
  kernels::small_sample_kernels(kernels::cpu_kernels()).strata(job(responses), strata_->data().fixed(false), tests);
}

double StrataFits::thread_bytes(std::uint64_t count) const {
  return strata_tile_bytes(*job_.job.null, job_.null) +
         8.0 * (static_cast<double>(count) * job_.null.record +
                kernels::cpu_kernels().lanes *
                    static_cast<double>(kernels::strata_response_scratch(job_.sampler, job_.given)));
}

}  // namespace batchlmm

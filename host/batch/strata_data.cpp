#include "host/batch/strata_data.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <Eigen/QR>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Share of an orthonormal column's length that counts as zero.
constexpr double zero = 1e-9;

/// A column's coordinates in a stratum as d x m: entry i m + c is row i of copy c.
MatrixXd by_copies(const Eigen::Ref<const VectorXd>& coordinates, int d, int m) {
  return Eigen::Map<const MatrixXd>(coordinates.data(), m, d).transpose();
}

/// All columns' rows side by side: m x (d columns).
MatrixXd copy_space(const MatrixXd& coordinates, int d, int m) {
  MatrixXd out(m, d * coordinates.cols());
  for (Index j = 0; j < coordinates.cols(); ++j)
    out.middleCols(j * d, d) = by_copies(coordinates.col(j), d, m).transpose();
  return out;
}

/// Orthonormal basis of the columns' space, columns of unit size or less.
MatrixXd column_space(const MatrixXd& columns) {
  if (columns.cols() == 0 || columns.rows() == 0) return MatrixXd::Zero(columns.rows(), 0);
  const Eigen::BDCSVD<MatrixXd> svd(columns, Eigen::ComputeThinU);
  Index rank = 0;
  while (rank < svd.singularValues().size() && svd.singularValues()[rank] > zero) ++rank;
  return svd.matrixU().leftCols(rank);
}

/// Orthonormal basis of what is orthogonal to the given orthonormal columns.
MatrixXd complement(const MatrixXd& columns) {
  const Eigen::HouseholderQR<MatrixXd> qr(columns);
  const MatrixXd q = qr.householderQ();
  return q.rightCols(columns.rows() - columns.cols());
}

/// Fixed weights without structure, in place of random numbers.
double weight(Index i, Index j) {
  return std::sin(1.0 + 12.9898 * static_cast<double>(i) + 78.233 * static_cast<double>(j));
}

const double* keep(std::deque<std::vector<double>>& memory, const MatrixXd& rows) {
  std::vector<double>& v = memory.emplace_back(static_cast<std::size_t>(rows.size()));
  Eigen::Map<RowMajor>(v.data(), rows.rows(), rows.cols()) = rows;
  return v.data();
}

}  // namespace

StrataData::StrataData(const BootstrapModels& models, const StrataDesign& design)
    : complete_(design.complete), strata_(design.strata), missing_(design.missing), refit_(models.refit()) {
  const Index n = complete_->matrices().y.size();
  indicators_ = MatrixXd::Zero(n, static_cast<Index>(missing_.size()));
  for (std::size_t j = 0; j < missing_.size(); ++j) indicators_(missing_[j], static_cast<Index>(j)) = 1;

  // Where the full model's kernel terms stand in the complete one's, and the null's in the full's.
  const auto complete_term = [&](int b) {
    for (int c = 0; c < complete_->shape().terms; ++c)
      if (complete_->term_of(c) == models.full->term_of(b)) return c;
    throw ComputationError("a random-effects term is missing in the completed design");
  };
  const auto gauge_map = [&](int b) -> MatrixXd {
    const MatrixXd& to = complete_->z_gauge(models.full->term_of(b)).map;
    const MatrixXd& from = models.full->z_gauge(models.full->term_of(b)).map;
    return from.transpose().triangularView<Eigen::Lower>().solve(to.transpose()).transpose();
  };
  const double* map = models.embedding->map.data();
  for (int b = 0; b < models.null->shape().terms; ++b) {
    const int f = models.embedding->term[b];
    const int rows = models.full->shape().term[f].k, k = models.null->shape().term[b].k;
    null_.complete_term.push_back(complete_term(f));
    null_.term_map.emplace_back(gauge_map(f) * Eigen::Map<const RowMajor>(map, rows, k));
    map += rows * k;
  }
  for (int b = 0; b < models.full->shape().terms; ++b) {
    full_.complete_term.push_back(complete_term(b));
    full_.term_map.push_back(gauge_map(b));
  }
  read_side(null_, *models.null, design.null_x);
  read_side(full_, *models.full, design.full_x);
  split_fixed_effects(null_);
  split_fixed_effects(full_);
  for (std::size_t s = 0; s < strata_->strata.size(); ++s) touch_copies(s);
  touch_residual();
  make_blocks(null_);
  if (!refit_) make_blocks(full_);
  make_sampler(models);
  make_fixed(null_);
  if (!refit_) make_fixed(full_);
  make_moments(null_, models.lambda.data());
  if (!refit_) make_moments(full_, models.embedding->apply(*models.null, *models.full, models.lambda).data());
}

void StrataData::read_side(Side& side, const Model& source, const MatrixXd& x) {
  side.source = &source;
  const Index n = x.rows(), p = x.cols();
  if (p == 0) {
    side.q = MatrixXd::Zero(n, 0);
    side.r = MatrixXd::Zero(0, 0);
    return;
  }
  const Eigen::HouseholderQR<MatrixXd> qr(x);
  side.q = qr.householderQ() * MatrixXd::Identity(n, p);
  side.r = qr.matrixQR().topRows(p).triangularView<Eigen::Upper>();
}

MatrixXd StrataData::stratum_coordinates(std::size_t s, const MatrixXd& columns) const {
  return strata_->strata[s].basis.transpose() * columns;
}

MatrixXd StrataData::residual_part(MatrixXd columns) const {
  for (int twice = 0; twice < 2; ++twice)
    for (const Stratum& stratum : strata_->strata) columns -= stratum.basis * (stratum.basis.transpose() * columns);
  return columns;
}

void StrataData::split_fixed_effects(Side& side) const {
  const Index p = side.q.cols();
  const std::size_t strata = strata_->strata.size();
  side.aligned.assign(strata + 1, MatrixXd::Zero(p, 0));
  MatrixXd all = MatrixXd::Zero(p, 0);
  for (std::size_t s = 0; s <= strata && p > 0; ++s) {
    const MatrixXd part = s < strata ? stratum_coordinates(s, side.q) : residual_part(side.q);
    // A unit combination whose part here has unit length lies here alone.
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(part.transpose() * part);
    Index count = 0;
    while (count < p && eigen.eigenvalues()[p - 1 - count] > 1 - zero) ++count;
    side.aligned[s] = eigen.eigenvectors().rightCols(count);
    all.conservativeResize(Eigen::NoChange, all.cols() + count);
    all.rightCols(count) = side.aligned[s];
  }
  side.spread = p > 0 ? complement(all) : MatrixXd::Zero(0, 0);
}

void StrataData::factor_generators(StratumCopies& copies, const Stratum& stratum) const {
  const kernels::Shape& shape = complete_->shape();
  const int d = stratum.d, m = stratum.m;
  for (int b = 0; b < shape.terms; ++b) {
    const RandomTerm& term = complete_->matrices().random[complete_->term_of(b)];
    const MatrixXd& z = complete_->z_gauge(complete_->term_of(b)).columns;
    const Index k = z.cols(), levels = static_cast<Index>(term.levels.size());
    // Copy 0's coordinates of each level's columns, A_l: T -> sum_l A_l T A_l'. Its Choi matrix has few eigenvectors.
    std::vector<MatrixXd> a(static_cast<std::size_t>(levels), MatrixXd::Zero(d, k));
    for (int i = 0; i < d; ++i)
      for (Eigen::SparseMatrix<double>::InnerIterator at(stratum.basis, static_cast<Index>(i) * m); at; ++at)
        a[static_cast<std::size_t>(term.level_of_row[at.row()])].row(i) += at.value() * z.row(at.row());
    MatrixXd choi = MatrixXd::Zero(d * k, d * k);
    for (const MatrixXd& al : a) {
      const Eigen::Map<const VectorXd> v(al.data(), d * k);
      choi.selfadjointView<Eigen::Lower>().rankUpdate(v);
    }
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(choi);
    const double largest = std::max(eigen.eigenvalues().maxCoeff(), 0.0);
    for (Index e = d * k - 1; e >= 0; --e) {
      if (eigen.eigenvalues()[e] <= 1e-13 * std::max(largest, 1.0)) break;
      const VectorXd v = eigen.eigenvectors().col(e) * std::sqrt(eigen.eigenvalues()[e]);
      copies.group_term.push_back(b);
      copies.c.emplace_back(Eigen::Map<const MatrixXd>(v.data(), d, k));
    }
  }
}

void StrataData::touch_copies(std::size_t s) {
  const Stratum& stratum = strata_->strata[s];
  const int d = stratum.d, m = stratum.m;
  StratumCopies copies;
  copies.d = d;
  copies.m = m;
  factor_generators(copies, stratum);

  // Directions in which the projector onto the fixed effects that lie here is block diagonal: W W' (x) c c' in each.
  std::vector<Side*> sides{&null_};
  if (!refit_) sides.push_back(&full_);
  MatrixXd chosen = MatrixXd::Zero(m, 0);
  for (int attempt = 0; attempt < 3; ++attempt) {
    MatrixXd mixed = MatrixXd::Zero(m, m);
    bool any = false;
    for (std::size_t side = 0; side < sides.size(); ++side) {
      const MatrixXd a = stratum_coordinates(s, sides[side]->q * sides[side]->aligned[s]);
      for (Index j = 0; j < a.cols(); ++j) {
        const MatrixXd y = by_copies(a.col(j), d, m);
        any = true;
        for (int i = 0; i < d; ++i)
          for (int e = 0; e <= i; ++e) {
            const MatrixXd outer = y.row(i).transpose() * y.row(e);
            mixed +=
                (2 + weight(i + 7 * static_cast<Index>(side), e)) * (i == e ? 1.0 : 0.25) * (outer + outer.transpose());
          }
      }
    }
    if (!any) break;
    // Within the space that the columns reach.
    MatrixXd reached = MatrixXd::Zero(m, 0);
    for (const Side* side : sides) {
      const MatrixXd a = copy_space(stratum_coordinates(s, side->q * side->aligned[s]), d, m);
      reached.conservativeResize(Eigen::NoChange, reached.cols() + a.cols());
      reached.rightCols(a.cols()) = a;
    }
    const MatrixXd space = column_space(reached);
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(space.transpose() * mixed * space);
    chosen = space * eigen.eigenvectors();
    bool diagonal = true;
    for (Side* side : sides) {
      const MatrixXd a = stratum_coordinates(s, side->q * side->aligned[s]);
      if (a.cols() == 0) continue;
      // rows[c]: d x n, copy c's part of the columns; the projector's blocks are rows[c] rows[c']'.
      std::vector<MatrixXd> rows(static_cast<std::size_t>(chosen.cols()), MatrixXd(d, a.cols()));
      for (Index j = 0; j < a.cols(); ++j) {
        const MatrixXd y = by_copies(a.col(j), d, m) * chosen;
        for (Index c = 0; c < chosen.cols(); ++c) rows[c].col(j) = y.col(c);
      }
      bool side_diagonal = true;
      for (std::size_t c = 0; c < rows.size(); ++c)
        for (std::size_t e = 0; e < c; ++e)
          side_diagonal = side_diagonal && (rows[c] * rows[e].transpose()).cwiseAbs().maxCoeff() < zero;
      if (side_diagonal) continue;
      // These fixed effects spread over several copies.
      diagonal = false;
      const Index u = side->spread.cols(), n = side->aligned[s].cols();
      side->spread.conservativeResize(Eigen::NoChange, u + n);
      side->spread.rightCols(n) = side->aligned[s];
      side->aligned[s].resize(side->q.cols(), 0);
    }
    if (diagonal) break;
    chosen = MatrixXd::Zero(m, 0);
  }
  copies.touched = chosen;
  copies_.push_back(std::move(copies));
}

void StrataData::touch_residual() {
  const std::size_t strata = strata_->strata.size();
  std::vector<Side*> sides{&null_};
  if (!refit_) sides.push_back(&full_);
  // What is coupled touches further copies: only now is it known which columns spread.
  for (std::size_t s = 0; s < strata; ++s) {
    StratumCopies& copies = copies_[s];
    const int d = copies.d, m = copies.m;
    const MatrixXd e = stratum_coordinates(s, indicators_);
    MatrixXd reached = copy_space(e, d, m);
    for (const Side* side : sides) {
      const MatrixXd a = copy_space(stratum_coordinates(s, side->q * side->spread), d, m);
      reached.conservativeResize(Eigen::NoChange, reached.cols() + a.cols());
      reached.rightCols(a.cols()) = a;
    }
    for (int twice = 0; twice < 2; ++twice) reached -= copies.touched * (copies.touched.transpose() * reached);
    const MatrixXd more = column_space(reached);
    const Index q = copies.touched.cols();
    copies.touched.conservativeResize(m, q + more.cols());
    copies.touched.rightCols(more.cols()) = more;
    for (Index c = 0; c < copies.touched.cols(); ++c) copies.indicators.emplace_back(d, e.cols());
    for (Index j = 0; j < e.cols(); ++j) {
      const MatrixXd y = by_copies(e.col(j), d, m) * copies.touched;
      for (Index c = 0; c < copies.touched.cols(); ++c) copies.indicators[c].col(j) = y.col(c);
    }
    for (Side* side : sides) {
      const MatrixXd x = stratum_coordinates(s, side->q);
      std::vector<MatrixXd>& out = side->x.emplace_back();
      for (Index c = 0; c < copies.touched.cols(); ++c) out.emplace_back(d, x.cols());
      for (Index j = 0; j < x.cols(); ++j) {
        const MatrixXd y = by_copies(x.col(j), d, m) * copies.touched;
        for (Index c = 0; c < copies.touched.cols(); ++c) out[c].col(j) = y.col(c);
      }
    }
  }
  MatrixXd reached = residual_part(indicators_);
  for (const Side* side : sides) {
    for (const MatrixXd& combinations : {side->aligned[strata], side->spread}) {
      const MatrixXd a = residual_part(side->q * combinations);
      reached.conservativeResize(Eigen::NoChange, reached.cols() + a.cols());
      reached.rightCols(a.cols()) = a;
    }
  }
  residual_touched_ = column_space(reached);
  residual_indicators_ = residual_touched_.transpose() * indicators_;
  for (Side* side : sides) side->residual_x = residual_touched_.transpose() * side->q;
}

void StrataData::set_covariance(Side& side, const StratumCopies& copies, const MatrixXd& reduce,
                                kernels::StrataBlock& block) const {
  const kernels::Shape& shape = side.source->shape();
  const int d = block.d;
  std::vector<int> group_term, group_column;
  MatrixXd c(d, 0);
  for (std::size_t g = 0; g < copies.c.size(); ++g)
    for (int b = 0; b < shape.terms; ++b) {
      if (side.complete_term[b] != copies.group_term[g]) continue;
      const MatrixXd part = reduce * copies.c[g] * side.term_map[b];
      if (part.cwiseAbs().maxCoeff() <= 1e-13) continue;
      group_term.push_back(b);
      group_column.push_back(static_cast<int>(c.cols()));
      c.conservativeResize(Eigen::NoChange, c.cols() + part.cols());
      c.rightCols(part.cols()) = part;
    }
  block.columns = static_cast<int>(c.cols());
  block.groups = static_cast<int>(group_term.size());
  if (d == 1) {
    std::vector<double> by_parameter(shape.parameters, 0.0);
    for (std::size_t g = 0; g < group_term.size(); ++g) {
      const kernels::TermShape& term = shape.term[group_term[g]];
      for (int i = 0; i < term.k; ++i)
        for (int j = 0; j <= i; ++j)
          by_parameter[term.parameter + kernels::triangle(i, j)] +=
              c(0, group_column[g] + i) * c(0, group_column[g] + j) * (i == j ? 1 : 2);
    }
    std::vector<int>& parameter = side.ints.emplace_back();
    std::vector<double>& generator = side.doubles.emplace_back();
    for (int a = 0; a < shape.parameters; ++a)
      if (std::abs(by_parameter[a]) > 1e-13) {
        parameter.push_back(a);
        generator.push_back(by_parameter[a]);
      }
    block.generators = static_cast<int>(parameter.size());
    block.parameter = parameter.data();
    block.generator = generator.data();
  }
  block.c = keep(side.doubles, c);
  block.group_term = side.ints.emplace_back(std::move(group_term)).data();
  block.group_column = side.ints.emplace_back(std::move(group_column)).data();
}

void StrataData::make_blocks(Side& side) {
  const kernels::Shape& shape = side.source->shape();
  const std::size_t strata = copies_.size();
  const Index k = indicators_.cols(), u = side.spread.cols(), nc = k + u;
  const bool reml = shape.reml;
  kernels::StrataModel& model = side.model;
  kernels::RecordMap& map = side.map;
  model.coupled = static_cast<int>(nc);
  model.indicators = reml ? 0 : static_cast<int>(k);
  const Index nd = model.indicators;
  model.reml = reml;
  model.degrees = shape.degrees;
  model.constant = shape.constant;
  if (reml) model.constant += 2 * side.r.diagonal().cwiseAbs().array().log().sum();

  const auto packed_outer = [](const MatrixXd& a, const MatrixXd& b, Index n) {
    // (a'b + b'a) / 2 for rows a, b (1 x n), packed.
    VectorXd out(n * (n + 1) / 2);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j <= i; ++j) out[i * (i + 1) / 2 + j] = 0.5 * (a(0, i) * b(0, j) + a(0, j) * b(0, i));
    return out;
  };
  const auto add_block = [&](std::size_t s, const MatrixXd& reduce, double multiplicity,
                             const std::vector<int>& members, bool free, bool base) {
    const StratumCopies& copies = copies_[s];
    const int stratum_d = copies.d;
    const int d = base ? stratum_d : static_cast<int>(reduce.rows());
    const MatrixXd r = base ? MatrixXd::Identity(d, d) : reduce;
    kernels::StrataBlock block;
    kernels::BlockRecord record;
    block.d = d;
    block.multiplicity = multiplicity;
    // Coupled columns in the member copies.
    std::vector<MatrixXd> coupled;
    bool any_coupled = false;
    for (int c : members) {
      MatrixXd e(stratum_d, nc);
      e << copies.indicators[c], side.x[s][c] * side.spread;
      coupled.emplace_back(r * e);
      any_coupled = any_coupled || (nc > 0 && coupled.back().cwiseAbs().maxCoeff() > zero);
    }
    const Index size = d * (d + 1) / 2, packed_nc = nc * (nc + 1) / 2, packed_nd = nd * (nd + 1) / 2;
    // Few copies of a large block are less work as vectors than their cross-products.
    const std::size_t most = std::max(members.size(), base && nd > 0 ? copies.indicators.size() : 0);
    const bool vectors = d > 2 && most > 0 && 2 * most <= static_cast<std::size_t>(d);
    const auto stacked = [&](const std::vector<MatrixXd>& columns, Index n) {
      MatrixXd e(static_cast<Index>(columns.size()) * d, n);
      for (std::size_t i = 0; i < columns.size(); ++i) e.middleRows(static_cast<Index>(i) * d, d) = columns[i];
      return e;
    };
    if (vectors) {
      block.copies = static_cast<int>(members.size());
      if (any_coupled) block.e = keep(side.doubles, stacked(coupled, nc));
      if (base && nd > 0) {
        const MatrixXd e1 = stacked(copies.indicators, nd);
        if (e1.cwiseAbs().maxCoeff() > zero) {
          block.indicated = static_cast<int>(copies.indicators.size());
          block.e1 = keep(side.doubles, e1);
        }
      }
    } else if (any_coupled) {
      MatrixXd a = MatrixXd::Zero(size, packed_nc);
      for (const MatrixXd& e : coupled)
        for (int i = 0; i < d; ++i)
          for (int j = 0; j <= i; ++j) a.row(i * (i + 1) / 2 + j) += packed_outer(e.row(i), e.row(j), nc);
      block.a = keep(side.doubles, a);
    }
    if (!vectors && base && nd > 0) {
      MatrixXd a1 = MatrixXd::Zero(size, packed_nd);
      for (const MatrixXd& e : copies.indicators)
        for (int i = 0; i < d; ++i)
          for (int j = 0; j <= i; ++j) a1.row(i * (i + 1) / 2 + j) += packed_outer(e.row(i), e.row(j), nd);
      if (a1.size() > 0 && a1.cwiseAbs().maxCoeff() > zero * zero) block.a1 = keep(side.doubles, a1);
    }
    const bool quadratic = free || !members.empty();
    if (!quadratic && multiplicity == 0 && block.a1 == nullptr && block.e1 == nullptr) return;
    set_covariance(side, copies, r, block);
    block.inverse = model.inverses;
    model.inverses += d * d;
    model.largest_d = std::max(model.largest_d, d);
    model.largest_columns = std::max(model.largest_columns, block.columns);
    if (free || (quadratic && !vectors)) {
      block.s = model.record;
      model.record += static_cast<int>(size);
    }
    if (block.copies > 0) {
      block.z = model.record;
      model.record += block.copies * d;
    } else if (any_coupled) {
      block.y = model.record;
      model.record += static_cast<int>(size * nc);
    }
    side.blocks.push_back(block);
    if (!quadratic) return;
    record.d = d;
    record.stratum_d = stratum_d;
    record.copies = static_cast<int>(members.size());
    std::vector<int>& at = side.ints.emplace_back();
    for (int copy : members) at.push_back(copies.coordinates + copy * stratum_d);
    record.coordinates = at.data();
    if (!base) record.reduce = keep(side.doubles, r);
    if (free) record.wishart = copies.wishart;
    record.s = block.s;
    record.y = block.y;
    record.z = block.z;
    if (block.y >= 0) record.coupled = keep(side.doubles, stacked(coupled, nc));
    side.records.push_back(record);
  };

  // Where the draws stand.
  int coordinates = 0, wisharts = 0;
  for (StratumCopies& copies : copies_) {
    copies.coordinates = coordinates;
    coordinates += copies.d * static_cast<int>(copies.touched.cols());
    copies.wishart = wisharts;
    wisharts += copies.d * (copies.d + 1) / 2;
  }
  for (std::size_t s = 0; s < strata; ++s) {
    const StratumCopies& copies = copies_[s];
    const int d = copies.d;
    const bool free = copies.m > copies.touched.cols();
    std::vector<int> whole;
    int removed = 0;
    std::vector<MatrixXd> projector;
    std::vector<std::vector<int>> reduced;
    for (Index c = 0; c < copies.touched.cols(); ++c) {
      const MatrixXd w = side.x[s][c] * side.aligned[s];
      const MatrixXd p = w * w.transpose();
      const double rank = p.trace();
      if (rank < 0.5) {
        whole.push_back(static_cast<int>(c));
        continue;
      }
      ++removed;
      if (rank > d - 0.5) continue;  // the fixed effects explain the copy
      const auto same = std::find_if(projector.begin(), projector.end(),
                                     [&](const MatrixXd& o) { return (o - p).cwiseAbs().maxCoeff() < zero; });
      if (same == projector.end()) {
        projector.push_back(p);
        reduced.push_back({static_cast<int>(c)});
      } else {
        reduced[static_cast<std::size_t>(same - projector.begin())].push_back(static_cast<int>(c));
      }
    }
    add_block(s, {}, reml ? copies.m - removed : copies.m, whole, free, true);
    for (std::size_t i = 0; i < reduced.size(); ++i) {
      const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(projector[i]);
      Index left = 0;
      while (left < d && eigen.eigenvalues()[left] < 0.5) ++left;
      add_block(s, eigen.eigenvectors().leftCols(left).transpose(), reml ? static_cast<double>(reduced[i].size()) : 0.0,
                reduced[i], false, false);
    }
  }
  model.c = model.record;
  model.record += static_cast<int>(nc) + 1;
  model.blocks = static_cast<int>(side.blocks.size());
  model.block = side.blocks.data();

  // The residual stratum, V = 1.
  const Index q0 = residual_touched_.cols();
  const MatrixXd off = side.residual_x * side.aligned[strata];
  const MatrixXd kept = off.cols() > 0 ? MatrixXd(complement(off).transpose()) : MatrixXd::Identity(q0, q0);
  MatrixXd e(q0, nc);
  e << residual_indicators_, side.residual_x * side.spread;
  const MatrixXd kept_coupled = kept * e;
  const auto keep_packed = [&](const MatrixXd& gram) {
    std::vector<double>& v = side.doubles.emplace_back();
    for (Index i = 0; i < gram.rows(); ++i)
      for (Index j = 0; j <= i; ++j) v.push_back(gram(i, j));
    return v.data();
  };
  model.c2 = keep_packed(kept_coupled.transpose() * kept_coupled);
  model.c1 = keep_packed(residual_indicators_.transpose() * residual_indicators_);
  map.blocks = static_cast<int>(side.records.size());
  map.block = side.records.data();
  map.coupled = model.coupled;
  map.residual = static_cast<int>(kept.rows());
  map.residual_map = keep(side.doubles, kept);
  map.residual_coupled = keep(side.doubles, kept_coupled);
  map.c = model.c;
  map.record = model.record;
}

MatrixXd StrataData::covariance(const Side& side, const StratumCopies& copies, const double* lambda) const {
  const kernels::Shape& shape = side.source->shape();
  MatrixXd v = MatrixXd::Identity(copies.d, copies.d);
  for (std::size_t g = 0; g < copies.c.size(); ++g)
    for (int b = 0; b < shape.terms; ++b) {
      if (side.complete_term[b] != copies.group_term[g]) continue;
      const int k = shape.term[b].k;
      const MatrixXd l =
          copies.c[g] * side.term_map[b] * Eigen::Map<const RowMajor>(lambda + shape.term[b].lambda, k, k);
      v += l * l.transpose();
    }
  return v;
}

void StrataData::make_sampler(const BootstrapModels& models) {
  sampler_.null = null_.map;
  if (!refit_) sampler_.full = full_.map;
  int coordinates = 0, wisharts = 0;
  for (const StratumCopies& copies : copies_) {
    const Eigen::LLT<MatrixXd> llt(covariance(null_, copies, models.lambda.data()));
    if (llt.info() != Eigen::Success)
      throw ComputationError("the generating covariance matrix is not positive definite");
    kernels::SampledStratum stratum;
    stratum.d = copies.d;
    stratum.touched = static_cast<int>(copies.touched.cols());
    stratum.free = copies.m - stratum.touched;
    stratum.coordinates = copies.coordinates;
    stratum.wishart = copies.wishart;
    stratum.factor = keep(factors_, MatrixXd(llt.matrixL()));
    sampled_.push_back(stratum);
    coordinates += copies.d * stratum.touched;
    wisharts += copies.d * (copies.d + 1) / 2;
    sampler_.largest_d = std::max(sampler_.largest_d, copies.d);
  }
  sampler_.strata = static_cast<int>(sampled_.size());
  sampler_.stratum = sampled_.data();
  sampler_.residual = static_cast<int>(residual_touched_.cols());
  sampler_.residual_coordinates = coordinates;
  sampler_.coordinates = coordinates + sampler_.residual;
  sampler_.wisharts = wisharts;
  sampler_.chi_square_degrees = static_cast<double>(complete_->matrices().y.size() - strata_->rank - sampler_.residual);
}

void StrataData::make_moments(Side& side, const double* lambda) {
  // Weighted least squares of S_b / (mu_b s^2) - I on the generators, weights mu_b V_b^{-1} (x) V_b^{-1} at the
  // generating value.
  const kernels::Shape& shape = side.source->shape();
  const int m = shape.parameters;
  double degrees = static_cast<double>(complete_->matrices().y.size()) - (shape.reml ? shape.p : 0);
  Index rows = 0;
  for (const kernels::StrataBlock& b : side.blocks) {
    degrees -= b.multiplicity * b.d;
    if ((b.s >= 0 || b.z >= 0) && b.multiplicity > 0) rows += b.d * (b.d + 1) / 2;
  }
  if (degrees <= 0 || rows < m) return;
  MatrixXd design = MatrixXd::Zero(rows, m), target = MatrixXd::Zero(rows, rows);
  VectorXd identity = VectorXd::Zero(rows), scale = VectorXd::Zero(rows);
  std::vector<int> entry, vectors, factors;
  Index at = 0;
  for (const kernels::StrataBlock& b : side.blocks) {
    if ((b.s < 0 && b.z < 0) || b.multiplicity <= 0) continue;
    const int d = b.d;
    const Eigen::Map<const RowMajor> c(b.c, d, b.columns);
    MatrixXd v = MatrixXd::Identity(d, d);
    for (int g = 0; g < b.groups; ++g) {
      const kernels::TermShape& term = shape.term[b.group_term[g]];
      const MatrixXd l =
          c.middleCols(b.group_column[g], term.k) * Eigen::Map<const RowMajor>(lambda + term.lambda, term.k, term.k);
      v += l * l.transpose();
    }
    const Eigen::LLT<MatrixXd> llt(v);
    const auto weighted = [&](const MatrixXd& x) {
      const MatrixXd half = llt.matrixL().solve(x);
      const MatrixXd both = llt.matrixL().solve(half.transpose());
      VectorXd out(d * (d + 1) / 2);
      for (int i = 0; i < d; ++i)
        for (int j = 0; j <= i; ++j)
          out[kernels::triangle(i, j)] = both(i, j) * std::sqrt(b.multiplicity * (i == j ? 1 : 2));
      return out;
    };
    const Index size = d * (d + 1) / 2;
    for (int g = 0; g < b.groups; ++g) {
      const kernels::TermShape& term = shape.term[b.group_term[g]];
      for (int i = 0; i < term.k; ++i)
        for (int j = 0; j <= i; ++j) {
          const VectorXd ci = c.col(b.group_column[g] + i), cj = c.col(b.group_column[g] + j);
          const MatrixXd outer = ci * cj.transpose();
          design.block(at, term.parameter + kernels::triangle(i, j), size, 1) +=
              weighted(i == j ? outer : MatrixXd(outer + outer.transpose()));
        }
    }
    for (int i = 0; i < d; ++i)
      for (int j = 0; j <= i; ++j) {
        MatrixXd unit = MatrixXd::Zero(d, d);
        unit(i, j) = unit(j, i) = 1;
        const Index column = at + kernels::triangle(i, j);
        target.block(at, column, size, 1) = weighted(unit);
        identity[column] = i == j ? 1 : 0;
        scale[column] = 1 / b.multiplicity;
        entry.push_back(b.s >= 0 ? b.s + kernels::triangle(i, j) : -1);
        vectors.push_back(b.copies);
        for (int place : {b.z + i, b.z + j, d}) factors.push_back(place);
      }
    at += size;
  }
  const Eigen::ColPivHouseholderQR<MatrixXd> qr(design);
  if (qr.rank() < m) return;
  const MatrixXd map = qr.solve(target);
  const VectorXd offset = -map * identity;
  side.model.moments = static_cast<int>(rows);
  side.model.moment_entry = side.ints.emplace_back(std::move(entry)).data();
  side.model.moment_copies = side.ints.emplace_back(std::move(vectors)).data();
  side.model.moment_factors = side.ints.emplace_back(std::move(factors)).data();
  side.model.moment_map = keep(side.doubles, map * scale.asDiagonal());
  side.model.moment_offset = keep(side.doubles, offset);
  side.model.moment_degrees = degrees;
}

std::vector<double> StrataData::record(bool full, const VectorXd& y) const {
  const Side& side = full && !refit_ ? full_ : null_;
  std::vector<double> coordinates(sampler_.coordinates), wisharts(sampler_.wisharts),
      scratch(static_cast<std::size_t>(sampler_.largest_d) + 1);
  for (std::size_t s = 0; s < copies_.size(); ++s) {
    const StratumCopies& copies = copies_[s];
    const MatrixXd all = by_copies(VectorXd(stratum_coordinates(s, y)), copies.d, copies.m);
    const MatrixXd touched = all * copies.touched;
    for (Index c = 0; c < touched.cols(); ++c)
      for (int i = 0; i < copies.d; ++i) coordinates[copies.coordinates + c * copies.d + i] = touched(i, c);
    const MatrixXd free = all - touched * copies.touched.transpose();
    const MatrixXd cross = free * free.transpose();
    for (int i = 0; i < copies.d; ++i)
      for (int j = 0; j <= i; ++j) wisharts[copies.wishart + kernels::triangle(i, j)] = cross(i, j);
  }
  VectorXd left = residual_part(y);
  const VectorXd touched = residual_touched_.transpose() * left;
  left -= residual_touched_ * touched;
  Eigen::Map<VectorXd>(coordinates.data() + sampler_.residual_coordinates, touched.size()) = touched;
  std::vector<double> out(side.model.record);
  kernels::make_record<double, double*>(side.map, coordinates.data(), wisharts.data(),
                                        coordinates.data() + sampler_.residual_coordinates, sampler_.residual,
                                        left.squaredNorm(), out.data(), scratch.data());
  return out;
}

MatrixXd StrataData::coordinate_basis() const {
  Index free = 0;
  for (const kernels::SampledStratum& stratum : sampled_) free += static_cast<Index>(stratum.free) * stratum.d;
  MatrixXd out(complete_->matrices().y.size(), sampler_.coordinates + free);
  Index at = sampler_.coordinates;
  for (std::size_t s = 0; s < copies_.size(); ++s) {
    const StratumCopies& copies = copies_[s];
    const Index touched = copies.touched.cols();
    const MatrixXd others = touched > 0 ? complement(copies.touched) : MatrixXd::Identity(copies.m, copies.m);
    for (int i = 0; i < copies.d; ++i) {
      const auto basis = strata_->strata[s].basis.middleCols(static_cast<Index>(i) * copies.m, copies.m);
      const MatrixXd there = basis * copies.touched, elsewhere = basis * others;
      for (Index c = 0; c < touched; ++c) out.col(copies.coordinates + c * copies.d + i) = there.col(c);
      for (Index c = 0; c < elsewhere.cols(); ++c) out.col(at + c * copies.d + i) = elsewhere.col(c);
    }
    at += others.cols() * copies.d;
  }
  out.middleCols(sampler_.residual_coordinates, sampler_.residual) = residual_touched_;
  return out;
}

void StrataData::make_fixed(Side& side) {
  const Index k = indicators_.cols(), p = side.q.cols(), n = k + p, nn = n * (n + 1) / 2, q0 = residual_touched_.cols();
  kernels::StrataFixed& fixed = side.fixed;
  // X's columns in the model's gauge are q r.
  const auto columns = [&](const MatrixXd& e, const MatrixXd& q) {
    MatrixXd out(e.rows(), n);
    out << e, q * side.r;
    return out;
  };
  const auto keep_gram = [&](const MatrixXd& rows) {
    std::vector<double>& v = side.doubles.emplace_back();
    const MatrixXd gram = rows.transpose() * rows;
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j <= i; ++j) v.push_back(gram(i, j));
    return v.data();
  };
  for (std::size_t s = 0; s < copies_.size(); ++s) {
    const StratumCopies& copies = copies_[s];
    const int d = copies.d;
    kernels::FixedStratum stratum;
    stratum.block.d = d;
    stratum.block.multiplicity = copies.m;
    set_covariance(side, copies, MatrixXd::Identity(d, d), stratum.block);
    stratum.block.inverse = fixed.inverses;
    fixed.inverses += d * d;
    fixed.largest_d = std::max(fixed.largest_d, d);
    fixed.largest_columns = std::max(fixed.largest_columns, stratum.block.columns);
    stratum.touched = static_cast<int>(copies.touched.cols());
    stratum.coordinates = copies.coordinates;
    MatrixXd stacked(stratum.touched * d, n), a = MatrixXd::Zero(d * (d + 1) / 2, nn);
    for (int c = 0; c < stratum.touched; ++c) {
      const MatrixXd x = columns(copies.indicators[c], side.x[s][c]);
      stacked.middleRows(c * d, d) = x;
      for (int i = 0; i < d; ++i)
        for (int j = 0; j <= i; ++j)
          for (Index u = 0; u < n; ++u)
            for (Index v = 0; v <= u; ++v)
              a(i * (i + 1) / 2 + j, u * (u + 1) / 2 + v) += 0.5 * (x(i, u) * x(j, v) + x(i, v) * x(j, u));
    }
    stratum.x = keep(side.doubles, stacked);
    stratum.a = keep(side.doubles, a);
    side.fixed_strata.push_back(stratum);
  }
  const MatrixXd residual = columns(residual_indicators_, side.residual_x);
  fixed.strata = static_cast<int>(side.fixed_strata.size());
  fixed.stratum = side.fixed_strata.data();
  fixed.indicators = static_cast<int>(k);
  fixed.columns = static_cast<int>(n);
  fixed.residual = static_cast<int>(q0);
  fixed.residual_coordinates = sampler_.residual_coordinates;
  fixed.residual_x = keep(side.doubles, residual);
  fixed.a0 = keep_gram(residual);
  fixed.degrees = side.source->shape().degrees;
}

}  // namespace batchlmm

#include "host/model/model.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "batchlmm/error.hpp"
#include "host/model/memory.hpp"

namespace batchlmm {

Model::Model(std::shared_ptr<const ModelMatrices> matrices, Method method, int largest_kernel_schur)
    : matrices_(std::move(matrices)), plan_(make_elimination_plan(*matrices_)), x_gauge_(make_gauge(matrices_->X)) {
  for (const RandomTerm& term : matrices_->random) z_gauge_.push_back(make_gauge(term.z));
  if (plan_.schur > largest_kernel_schur) {
    // One stage is streamed, all else is dense.
    large_ = true;
    plan_.dense.insert(plan_.dense.begin(), plan_.chain.begin() + 1, plan_.chain.end());
    plan_.chain.resize(1);
    plan_.schur = 0;
    for (const PlanFactor& f : plan_.dense) plan_.schur += f.levels * f.columns;
  }
  lay_out_shape(method);
  if (!large_) assemble();
}

void Model::lay_out_shape(Method method) {
  kernels::Shape& s = shape_;
  const int n = static_cast<int>(matrices_->y.size());
  s.p = static_cast<int>(matrices_->X.cols());
  s.reml = method == Method::reml;
  s.stages = plan_.stages();
  const int chain = static_cast<int>(plan_.chain.size());
  if (s.stages >= kernels::max_stages)
    throw ModelError("at most " + std::to_string(kernels::max_stages - 2) +
                     " grouping factors can be nested in each other; found " + std::to_string(chain));
  if (static_cast<int>(matrices_->random.size()) > kernels::max_terms)
    throw ModelError("at most " + std::to_string(kernels::max_terms) + " random-effects terms can be fitted; found " +
                     std::to_string(matrices_->random.size()));

  const auto add_term = [&](int model_term, const PlanFactor& factor, int stage, int levels, int column) {
    kernels::TermShape& term = s.term[s.terms];
    term.k = static_cast<int>(matrices_->random[model_term].names.size());
    term.levels = levels;
    term.stage = stage;
    term.column = column;
    term.parameter = s.parameters;
    term.lambda = s.lambdas;
    term.scale = static_cast<double>(n) / factor.levels;
    if (s.parameters + kernels::triangle_size(term.k) > kernels::max_parameters)
      throw ModelError("at most " + std::to_string(kernels::max_parameters) +
                       " covariance parameters can be fitted; term (... | " + matrices_->random[model_term].group +
                       ") brings more");
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j, ++s.parameters) {
        s.parameter_term[s.parameters] = static_cast<std::int16_t>(s.terms);
        s.parameter_row[s.parameters] = static_cast<std::int16_t>(i);
        s.parameter_column[s.parameters] = static_cast<std::int16_t>(j);
      }
    s.lambdas += term.k * term.k;
    ++s.terms;
    term_of_.push_back(model_term);
    level_of_row_.push_back(&factor.level_of_row);
    return term.k;
  };
  for (int t = 0; t < chain; ++t) {
    int column = 0;
    for (int model_term : plan_.chain[t].terms) column += add_term(model_term, plan_.chain[t], t, 1, column);
    s.own[t] = column;
    s.nodes[t] = plan_.chain[t].levels;
  }
  if (!plan_.dense.empty()) {
    int column = 0;
    for (const PlanFactor& factor : plan_.dense)
      for (int model_term : factor.terms)
        column += add_term(model_term, factor, s.stages, factor.levels, column) * factor.levels;
    s.own[s.stages] = column;
    s.nodes[s.stages] = 1;
  }
  s.outer[s.stages] = 1 + s.p;
  for (int t = s.stages - 1; t >= 0; --t) s.outer[t] = s.outer[t + 1] + s.own[t + 1];
  s.response = 1 + s.p;
  for (int t = 0; t <= s.stages; ++t) s.response += s.nodes[t] * s.own[t];
  s.degrees = s.reml ? n - s.p : n;
  s.constant = s.degrees * (1 + std::log(2 * std::numbers::pi / s.degrees));
  if (s.reml) s.constant += 2 * log_abs_determinant(x_gauge_);

  // Rows by streamed level, and the nodes of the further stages along the streamed levels.
  const PlanFactor& streamed = plan_.chain[0];
  std::vector<int> position(streamed.levels);
  for (int j = 0; j < streamed.levels; ++j) position[plan_.streamed_order[j]] = j;
  streamed_rows_.resize(streamed.levels);
  for (int i = 0; i < n; ++i) streamed_rows_[position[streamed.level_of_row[i]]].push_back(i);
  for (int t = 1; t <= s.stages; ++t) {
    node_of_[t].resize(streamed.levels);
    int last = -1, node = -1;
    for (int j = 0; j < streamed.levels; ++j) {
      const int level = t < chain ? plan_.chain[t].level_of_row[streamed_rows_[j].front()] : 0;
      if (level != last) {
        ++node;
        node_end_[t].push_back(j);
        last = level;
      }
      node_end_[t].back() = j + 1;
      node_of_[t][j] = node;
    }
    s.node_end[t] = node_end_[t].data();
  }
  for (int j = 0; j < streamed.levels; ++j) {
    const std::vector<int>& rows = streamed_rows_[j];
    Eigen::MatrixXd z(rows.size(), s.own[0]);
    for (int b = 0; b < s.terms && s.term[b].stage == 0; ++b)
      for (std::size_t i = 0; i < rows.size(); ++i)
        z.row(i).segment(s.term[b].column, s.term[b].k) = z_gauge_[term_of_[b]].columns.row(rows[i]);
    const Eigen::Index rank = std::min<Eigen::Index>(z.rows(), z.cols());
    const Eigen::HouseholderQR<Eigen::MatrixXd> qr(z);
    streamed_basis_.push_back(qr.householderQ() * Eigen::MatrixXd::Identity(z.rows(), rank));
  }
}

Model::StreamedLevel Model::streamed_level(int position) const {
  const kernels::Shape& s = shape_;
  StreamedLevel level;
  level.position = position;
  level.rows = streamed_rows_[position];
  level.basis = streamed_basis_[position];
  const int n = static_cast<int>(level.rows.size());

  // Columns that are not zero on these rows: X's, and each outer term's for the levels that occur here.
  for (int c = 0; c < s.p; ++c) level.touched.push_back(1 + c);
  const auto first_column = [&](int b, int row) {
    const kernels::TermShape& term = s.term[b];
    const int within = term.levels > 1 ? (*level_of_row_[b])[row] * term.k : 0;
    return s.outer[term.stage] + term.column + within;
  };
  for (int b = 0; b < s.terms; ++b) {
    if (s.term[b].stage == 0) continue;
    for (int row : level.rows)
      for (int q = 0; q < s.term[b].k; ++q) level.touched.push_back(first_column(b, row) + q);
  }
  std::sort(level.touched.begin(), level.touched.end());
  level.touched.erase(std::unique(level.touched.begin(), level.touched.end()), level.touched.end());
  const auto place = [&](int column) {
    return std::lower_bound(level.touched.begin(), level.touched.end(), column) - level.touched.begin();
  };

  Eigen::MatrixXd own = Eigen::MatrixXd::Zero(n, s.own[0]);
  level.left = Eigen::MatrixXd::Zero(n, static_cast<Eigen::Index>(level.touched.size()));
  for (int i = 0; i < n; ++i) {
    const int row = level.rows[i];
    level.left.row(i).head(s.p) = x_gauge_.columns.row(row);
    for (int b = 0; b < s.terms; ++b) {
      const auto z = z_gauge_[term_of_[b]].columns.row(row);
      if (s.term[b].stage == 0)
        own.row(i).segment(s.term[b].column, s.term[b].k) = z;
      else
        level.left.row(i).segment(place(first_column(b, row)), s.term[b].k) = z;
    }
  }
  const Eigen::Index rank = level.basis.cols();
  level.c = Eigen::MatrixXd::Zero(s.own[0], s.own[0]);
  // basis' * own is upper triangular up to rounding: C is its transpose.
  level.c.leftCols(rank) = Eigen::MatrixXd((level.basis.transpose() * own).triangularView<Eigen::Upper>()).transpose();
  level.r = Eigen::MatrixXd::Zero(s.own[0], level.left.cols());
  level.r.topRows(rank) = level.basis.transpose() * level.left;
  level.left -= level.basis * level.r.topRows(rank);
  level.left -= level.basis * (level.basis.transpose() * level.left);  // twice is enough
  return level;
}

void Model::assemble() {
  const kernels::Shape& s = shape_;
  const int K = s.own[0], N = s.columns();
  double doubles = static_cast<double>(s.nodes[0]) * K * (K + N - 1.0);
  for (int t = 1; t <= s.stages; ++t)
    doubles += static_cast<double>(s.nodes[t]) * kernels::own_e_size(s.own[t], s.outer[t]);
  require_memory(8 * doubles, "the model \"" + matrices_->formula + "\"");
  streamed_c_.assign(static_cast<std::size_t>(s.nodes[0]) * K * K, 0.0);
  streamed_r_.assign(static_cast<std::size_t>(s.nodes[0]) * K * (N - 1), 0.0);
  x_e_.assign(kernels::triangle_size(s.p), 0.0);
  for (int t = 1; t <= s.stages; ++t)
    own_e_[t].assign(static_cast<std::size_t>(s.nodes[t]) * kernels::own_e_size(s.own[t], s.outer[t]), 0.0);
  for (int j = 0; j < s.nodes[0]; ++j) {
    const StreamedLevel level = streamed_level(j);
    for (int a = 0; a < K; ++a) {
      for (int b = 0; b < K; ++b) streamed_c_[(static_cast<std::size_t>(j) * K + a) * K + b] = level.c(a, b);
      for (std::size_t c = 0; c < level.touched.size(); ++c)
        streamed_r_[(static_cast<std::size_t>(j) * K + a) * (N - 1) + level.touched[c] - 1] =
            level.r(a, static_cast<Eigen::Index>(c));
    }
    const Eigen::MatrixXd cross = level.left.transpose() * level.left;
    for (std::size_t i = 0; i < level.touched.size(); ++i) {
      const int row = level.touched[i];
      int stage = 0;  // stage whose own column this is; 0 for X
      for (int t = 1; t <= s.stages; ++t)
        if (row >= s.outer[t] && row < s.outer[t] + s.own[t]) stage = t;
      double* out = nullptr;
      if (stage == 0) {
        out = x_e_.data() + kernels::triangle_size(row - 1);
      } else {
        const int own = row - s.outer[stage];
        out = own_e_[stage].data() +
              static_cast<std::size_t>(node_of_[stage][j]) * kernels::own_e_size(s.own[stage], s.outer[stage]) +
              own * (s.outer[stage] - 1) + kernels::triangle_size(own);
      }
      for (std::size_t c = 0; c <= i; ++c)
        out[level.touched[c] - 1] += cross(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(c));
    }
  }
  design_.streamed_c = streamed_c_.data();
  design_.streamed_r = streamed_r_.data();
  design_.x_e = x_e_.data();
  for (int t = 1; t <= s.stages; ++t) design_.own_e[t] = own_e_[t].data();
}

void Model::add_response(int position, Eigen::VectorXd& left, std::vector<double>& out) const {
  const kernels::Shape& s = shape_;
  const std::vector<int>& rows = streamed_rows_[position];
  const Eigen::MatrixXd& basis = streamed_basis_[position];
  std::array<int, kernels::max_stages> offset{};
  offset[1] = s.nodes[0] * s.own[0];
  for (int t = 1; t + 1 <= s.stages; ++t) offset[t + 1] = offset[t] + s.nodes[t] * s.own[t];
  const int x_offset = s.response - 1 - s.p;
  // The level's own part, and once more what rounding left of it.
  for (int pass = 0; pass < 2; ++pass)
    for (Eigen::Index a = 0; a < basis.cols(); ++a) {
      const double own = basis.col(a).dot(left);
      left -= own * basis.col(a);
      out[position * s.own[0] + a] += own;
    }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const int row = rows[i];
    const double y = left[static_cast<Eigen::Index>(i)];
    for (int c = 0; c < s.p; ++c) out[x_offset + c] += x_gauge_.columns(row, c) * y;
    for (int b = 0; b < s.terms; ++b) {
      const kernels::TermShape& term = s.term[b];
      if (term.stage == 0) continue;
      const int within = term.levels > 1 ? (*level_of_row_[b])[row] * term.k : 0;
      double* at =
          out.data() + offset[term.stage] + node_of_[term.stage][position] * s.own[term.stage] + term.column + within;
      for (int q = 0; q < term.k; ++q) at[q] += z_gauge_[term_of_[b]].columns(row, q) * y;
    }
  }
  out[s.response - 1] += left.squaredNorm();
}

std::vector<double> Model::response(const Eigen::VectorXd& y) const {
  std::vector<double> out(shape_.response, 0.0);
  Eigen::VectorXd left;
  for (int j = 0; j < shape_.nodes[0]; ++j) {
    left = y(streamed_rows_[j]);
    add_response(j, left, out);
  }
  return out;
}

Eigen::MatrixXd Model::response_map() const {
  const Eigen::Index linear = shape_.response - 1;
  Eigen::MatrixXd out(matrices_->y.size(), linear);
  std::vector<double> of_unit(static_cast<std::size_t>(shape_.response));
  for (int j = 0; j < shape_.nodes[0]; ++j) {
    const auto rows = static_cast<Eigen::Index>(streamed_rows_[j].size());
    for (Eigen::Index i = 0; i < rows; ++i) {
      std::fill(of_unit.begin(), of_unit.end(), 0.0);
      Eigen::VectorXd left = Eigen::VectorXd::Unit(rows, i);
      add_response(j, left, of_unit);
      out.row(streamed_rows_[j][static_cast<std::size_t>(i)]) =
          Eigen::Map<const Eigen::RowVectorXd>(of_unit.data(), linear);
    }
  }
  return out;
}

Eigen::MatrixXd Model::to_user_lambda(int kernel_term, const Eigen::MatrixXd& kernel_lambda) const {
  return user_lambda(z_gauge_[term_of_[kernel_term]].map, kernel_lambda);
}

Eigen::MatrixXd Model::from_user_lambda(int kernel_term, const Eigen::MatrixXd& user_lambda) const {
  return z_gauge_[term_of_[kernel_term]].map * user_lambda;
}

}  // namespace batchlmm

#include "host/model/variance_components.hpp"

#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <string>

#include "host/model/memory.hpp"
#include "kernels/shape.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// One entry of one term's covariance matrix.
struct Parameter {
  int term = 0, row = 0, column = 0;
};

/// The random effects of all terms, one after the other, level by level.
class Effects {
public:
  explicit Effects(const ModelMatrices& m) : m_(m) {
    for (std::size_t t = 0; t < m.random.size(); ++t) {
      const RandomTerm& term = m.random[t];
      first_.push_back(size_);
      size_ += term.z.cols() * static_cast<Index>(term.levels.size());
      for (int i = 0; i < term.z.cols(); ++i)
        for (int j = 0; j <= i; ++j) parameters_.push_back({static_cast<int>(t), i, j});
    }
  }
  [[nodiscard]] Index size() const { return size_; }
  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  [[nodiscard]] Index levels(int term) const { return static_cast<Index>(m_.random[term].levels.size()); }
  [[nodiscard]] Index columns(int term) const { return m_.random[term].z.cols(); }
  [[nodiscard]] Index at(int term, Index level, Index column) const {
    return first_[term] + level * columns(term) + column;
  }

  /// Z'A for A with n rows.
  [[nodiscard]] MatrixXd transposed_times(const MatrixXd& a) const {
    MatrixXd out = MatrixXd::Zero(size_, a.cols());
    for (int t = 0; t < static_cast<int>(m_.random.size()); ++t) {
      const RandomTerm& term = m_.random[t];
      for (Index row = 0; row < a.rows(); ++row)
        for (Index c = 0; c < term.z.cols(); ++c)
          out.row(at(t, term.level_of_row[row], c)) += term.z(row, c) * a.row(row);
    }
    return out;
  }
  [[nodiscard]] MatrixXd cross_products() const {
    MatrixXd out = MatrixXd::Zero(size_, size_);
    const int terms = static_cast<int>(m_.random.size());
    for (int t = 0; t < terms; ++t)
      for (int u = 0; u < terms; ++u)
        for (Index row = 0; row < m_.X.rows(); ++row) {
          const RandomTerm &a = m_.random[t], &b = m_.random[u];
          out.block(at(t, a.level_of_row[row], 0), at(u, b.level_of_row[row], 0), a.z.cols(), b.z.cols()) +=
              a.z.row(row).transpose() * b.z.row(row);
        }
    return out;
  }
  /// (I (x) M_b) A, or with the transposes.
  [[nodiscard]] MatrixXd scaled(const std::vector<MatrixXd>& lambda, bool transposed, const MatrixXd& a) const {
    MatrixXd out(a.rows(), a.cols());
    for (int t = 0; t < static_cast<int>(lambda.size()); ++t)
      for (Index l = 0; l < levels(t); ++l) {
        const MatrixXd& m = lambda[t];
        if (transposed)
          out.middleRows(at(t, l, 0), columns(t)) = m.transpose() * a.middleRows(at(t, l, 0), columns(t));
        else
          out.middleRows(at(t, l, 0), columns(t)) = m * a.middleRows(at(t, l, 0), columns(t));
      }
    return out;
  }
  /// (I (x) E_r) A: only the rows of r's term.
  [[nodiscard]] MatrixXd directed(const Parameter& r, const MatrixXd& a) const {
    MatrixXd out = MatrixXd::Zero(a.rows(), a.cols());
    for (Index l = 0; l < levels(r.term); ++l) {
      out.row(at(r.term, l, r.row)) = a.row(at(r.term, l, r.column));
      if (r.row != r.column) out.row(at(r.term, l, r.column)) = a.row(at(r.term, l, r.row));
    }
    return out;
  }
  /// tr(A (I (x) E_r)) for symmetric A.
  [[nodiscard]] double trace(const Parameter& r, const MatrixXd& a) const {
    double sum = 0;
    for (Index l = 0; l < levels(r.term); ++l) sum += a(at(r.term, l, r.row), at(r.term, l, r.column));
    return r.row == r.column ? sum : 2 * sum;
  }
  /// tr(A (I (x) E_r) A (I (x) E_s)) for symmetric A.
  [[nodiscard]] double trace(const Parameter& r, const Parameter& s, const MatrixXd& a) const {
    double sum = 0;
    for (Index l = 0; l < levels(r.term); ++l)
      for (Index k = 0; k < levels(s.term); ++k) {
        const Index ri = at(r.term, l, r.row), rj = at(r.term, l, r.column), si = at(s.term, k, s.row),
                    sj = at(s.term, k, s.column);
        double t = a(rj, si) * a(sj, ri);
        if (ri != rj) t += a(ri, si) * a(sj, rj);
        if (si != sj) t += a(rj, sj) * a(si, ri);
        if (ri != rj && si != sj) t += a(ri, sj) * a(si, rj);
        sum += t;
      }
    return sum;
  }

private:
  const ModelMatrices& m_;
  std::vector<Index> first_;
  std::vector<Parameter> parameters_;
  Index size_ = 0;
};

/// Of a symmetric form f(r, s) = <A G_r A G_s> on the random effects' parameters, with one(r) = <A G_r A> where a
/// factor A^2 stands for A: f(0, s), f(0, 0) from gamma_0 A^2 = A - sum_r gamma_r A G_r A.
/// @param f     m x m
/// @param one   m: <A G_s>
/// @param none  <A>, <A A> of the form of a vector
MatrixXd with_residual(const MatrixXd& f, const VectorXd& one, double none, const VectorXd& gamma) {
  const Index m = one.size();
  const double residual = gamma[m];
  MatrixXd full(m + 1, m + 1);
  full.topLeftCorner(m, m) = f;
  const VectorXd to_residual = (one - f * gamma.head(m)) / residual;  // <A A G_s>
  full.col(m).head(m) = to_residual;
  full.row(m).head(m) = to_residual.transpose();
  full(m, m) = (none - to_residual.dot(gamma.head(m))) / residual;
  return full;
}

}  // namespace

VarianceComponents variance_components(const FittedModel& fit) {
  const ModelMatrices& model = *fit.model;
  const Effects effects(model);
  const Index n = model.y.size(), p = model.X.cols(), q = effects.size();
  const double sigma2 = fit.sigma * fit.sigma, size = static_cast<double>(q);
  require_memory(4 * 8 * size * size, "the covariances of " + std::to_string(q) + " random effects");
  const bool reml = fit.method == Method::reml;

  // In a well-conditioned basis of X: X = basis * map.
  MatrixXd basis(n, p), map = MatrixXd::Zero(p, p);
  if (p > 0) {
    const Eigen::HouseholderQR<MatrixXd> qr(model.X);
    basis = qr.householderQ() * MatrixXd::Identity(n, p);
    map = qr.matrixQR().topRows(p).triangularView<Eigen::Upper>();
  }
  VectorXd y = fit.y;
  y -= basis * (basis.transpose() * y);

  // With S = I + Lambda'Z'Z Lambda = LL' and H = L^{-1} Lambda'Z'[Z X y]: A'W^{-1}B = A'B - H_A'H_B, V = sigma^2 W.
  MatrixXd right(n, p + 1);
  right << basis, y;
  MatrixXd zz = effects.cross_products();
  const MatrixXd zr = effects.transposed_times(right);
  MatrixXd s = effects.scaled(fit.lambda, true, effects.scaled(fit.lambda, true, zz).transpose());
  s.diagonal().array() += 1;
  const Eigen::LLT<MatrixXd> llt(s);
  const MatrixXd hz = llt.matrixL().solve(effects.scaled(fit.lambda, true, zz)),
                 hr = llt.matrixL().solve(effects.scaled(fit.lambda, true, zr));
  const MatrixXd c = (zz - hz.transpose() * hz) / sigma2;    // Z'V^{-1}Z
  const MatrixXd zvr = (zr - hz.transpose() * hr) / sigma2;  // Z'V^{-1}[X y]
  const MatrixXd rvr = (right.transpose() * right - hr.transpose() * hr) / sigma2;
  const MatrixXd u = zvr.leftCols(p), xvx = rvr.topLeftCorner(p, p);
  const MatrixXd phi = xvx.llt().solve(MatrixXd::Identity(p, p));
  const VectorXd beta = phi * rvr.topRightCorner(p, 1);
  const VectorXd cy = zvr.col(p) - u * beta;  // Z'Py
  const double ypy = rvr(p, p) - rvr.topRightCorner(p, 1).col(0).dot(beta);
  const MatrixXd projected = c - u * phi * u.transpose();  // Z'PZ

  const std::vector<Parameter>& parameters = effects.parameters();
  const Index m = static_cast<Index>(parameters.size());
  VarianceComponents v;
  v.gamma.resize(m + 1);
  for (Index r = 0; r < m; ++r) {
    const Parameter& a = parameters[r];
    const MatrixXd& lambda = fit.lambda[a.term];
    v.gamma[r] = sigma2 * lambda.row(a.row).dot(lambda.row(a.column));
  }
  v.gamma[m] = sigma2;

  // X's forms, in the basis.
  std::vector<MatrixXd> directed_u;
  std::vector<VectorXd> directed_c;
  for (const Parameter& r : parameters) {
    directed_u.push_back(effects.directed(r, u));
    directed_c.emplace_back(effects.directed(r, cy));
  }
  v.p.resize(m + 1);
  v.q.assign(m + 1, std::vector<MatrixXd>(m + 1));
  for (Index r = 0; r < m; ++r) v.p[r] = -u.transpose() * directed_u[r];
  v.p[m] = xvx;
  for (Index r = 0; r < m; ++r) v.p[m] += v.gamma[r] * v.p[r];
  v.p[m] /= -sigma2;
  for (Index r = 0; r < m; ++r) {
    const MatrixXd left = directed_u[r].transpose() * c;
    for (Index t = 0; t < m; ++t) v.q[r][t] = left * directed_u[t];
  }
  for (Index t = 0; t < m; ++t) {
    v.q[m][t] = -v.p[t];
    for (Index r = 0; r < m; ++r) v.q[m][t] -= v.gamma[r] * v.q[r][t];
    v.q[m][t] /= sigma2;
    v.q[t][m] = v.q[m][t].transpose();
  }
  v.q[m][m] = -v.p[m];
  for (Index r = 0; r < m; ++r) v.q[m][m] -= v.gamma[r] * v.q[m][r];
  v.q[m][m] /= sigma2;

  // Traces of V^{-1} and of P, and the quadratic forms of y.
  MatrixXd of_v(m, m), of_p(m, m), of_y(m, m);
  VectorXd v_one(m), p_one(m), y_one(m);
  for (Index r = 0; r < m; ++r) {
    v_one[r] = effects.trace(parameters[r], c);
    p_one[r] = effects.trace(parameters[r], projected);
    y_one[r] = cy.dot(directed_c[r]);
    for (Index t = 0; t <= r; ++t) {
      of_v(r, t) = of_v(t, r) = effects.trace(parameters[r], parameters[t], c);
      of_p(r, t) = of_p(t, r) = effects.trace(parameters[r], parameters[t], projected);
      of_y(r, t) = of_y(t, r) = directed_c[r].dot(projected * directed_c[t]);
    }
  }
  const VectorXd ratios = v.gamma.head(m);
  const double trace_v = (static_cast<double>(n) - v_one.dot(ratios)) / sigma2,
               trace_p = (static_cast<double>(n - p) - p_one.dot(ratios)) / sigma2,
               y_residual = (ypy - y_one.dot(ratios)) / sigma2;  // tr V^{-1}, tr P, y'PPy
  v.traces = with_residual(of_v, v_one, trace_v, v.gamma);
  const MatrixXd log_determinants = reml ? with_residual(of_p, p_one, trace_p, v.gamma) : v.traces;
  v.hessian = 2 * with_residual(of_y, y_one, y_residual, v.gamma) - log_determinants;
  v.gradient.resize(m + 1);
  v.gradient.head(m) = (reml ? p_one : v_one) - y_one;
  v.gradient[m] = (reml ? trace_p : trace_v) - y_residual;

  // Back to the user's columns.
  const auto inverse = map.triangularView<Eigen::Upper>();
  const MatrixXd half = inverse.solve(phi);
  v.phi = inverse.solve(half.transpose());
  v.phi = (0.5 * (v.phi + v.phi.transpose())).eval();
  for (MatrixXd& one : v.p) one = (map.transpose() * one * map).eval();
  for (std::vector<MatrixXd>& row : v.q)
    for (MatrixXd& one : row) one = (map.transpose() * one * map).eval();
  return v;
}

}  // namespace batchlmm

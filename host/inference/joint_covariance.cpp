#include "host/inference/joint_covariance.hpp"

#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <algorithm>
#include <string>

#include "batchlmm/error.hpp"
#include "host/inference/modes_inverse.hpp"
#include "host/model/memory.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Sparse = SparseFactor::Matrix;

}  // namespace

class JointCovariance::Impl {
public:
  explicit Impl(const Fit& fit) : model_(fit.model), sigma2_(fit.sigma * fit.sigma) {
    const ModelMatrices& m = *model_;
    const Index n = m.y.size(), p = m.X.cols();
    Index width = 0;
    for (std::size_t t = 0; t < m.random.size(); ++t) {
      first_.push_back(q_);
      lambda_.push_back(fit.random[t].lambda);
      q_ += m.random[t].z.cols() * static_cast<Index>(m.random[t].levels.size());
      width += m.random[t].z.cols();
    }
    const std::string what = "the joint covariance of " + std::to_string(q_) + " random effects";
    const double pairs = std::min(static_cast<double>(n) * static_cast<double>(width) * static_cast<double>(width),
                                  static_cast<double>(q_) * static_cast<double>(q_));
    require_memory(12.0 * (pairs + static_cast<double>(n * width)) + 8.0 * static_cast<double>((q_ + n) * (p + 1)),
                   what);

    // W by rows of the data: the products of a row come first, so that what cancels there does not grow.
    Sparse w(q_, n);
    w.reserve(n * width);
    for (Index i = 0; i < n; ++i) {
      w.startVec(i);
      for (std::size_t t = 0; t < m.random.size(); ++t) {
        const Eigen::RowVectorXd own = m.random[t].z.row(i) * lambda_[t];
        for (Index c = 0; c < own.size(); ++c) w.insertBack(at(t, m.random[t].level_of_row[i], c), i) = own[c];
      }
    }
    w.finalize();
    Sparse cross = w * Sparse(w.transpose());
    for (std::int32_t c = 0; c < q_; ++c) cross.coeffRef(c, c) += 1;
    const std::vector<std::int32_t> level_of = levels_of_largest_factor();  // sets largest_levels_, too
    modes_ = make_modes_inverse(cross, level_of, static_cast<std::int32_t>(largest_levels_), what);

    // In a well-conditioned basis of X: X = basis * map.
    basis_.resize(n, p);
    map_ = MatrixXd::Zero(p, p);
    if (p > 0) {
      const Eigen::HouseholderQR<MatrixXd> qr(m.X);
      basis_ = qr.householderQ() * MatrixXd::Identity(n, p);
      map_ = qr.matrixQR().topRows(p).triangularView<Eigen::Upper>();
    }
    const MatrixXd wx = w * basis_;
    to_modes_ = modes_->solve(wx);  // (W'W + I)^{-1}W'X
    phi_ = (basis_.transpose() * basis_ - wx.transpose() * to_modes_).llt().solve(MatrixXd::Identity(p, p));
  }

  [[nodiscard]] double sigma2() const { return sigma2_; }
  [[nodiscard]] const ModelMatrices& model() const { return *model_; }

  [[nodiscard]] MatrixXd conditional(std::size_t term, std::int32_t level) const {
    const Index k = lambda_[term].rows();
    MatrixXd own(k, k);
    for (Index i = 0; i < k; ++i)
      for (Index j = 0; j < k; ++j) own(i, j) = modes_->entry(at(term, level, i), at(term, level, j));
    return sigma2_ * lambda_[term] * own * lambda_[term].transpose();
  }

  /// The quadratic form of a row at sigma = 1. @param x  in X's basis
  [[nodiscard]] double form(const VectorXd& x, const ModesInverse::Vector& w) const {
    VectorXd left = x;
    for (const auto& [row, value] : w) left -= value * to_modes_.row(row).transpose();
    return left.dot(phi_ * left) + modes_->form(w);
  }
  [[nodiscard]] VectorXd basis_row(Index i) const { return basis_.row(i).transpose(); }
  [[nodiscard]] VectorXd in_basis(const VectorXd& x) const {
    return map_.transpose().triangularView<Eigen::Lower>().solve(x);
  }

  /// Lambda'z spread over the random effects.
  void spread(std::size_t term, std::int32_t level, const VectorXd& z, ModesInverse::Vector& w) const {
    const VectorXd own = lambda_[term].transpose() * z;
    for (Index c = 0; c < own.size(); ++c) w.emplace_back(at(term, level, c), own[c]);
  }

private:
  [[nodiscard]] std::int32_t at(std::size_t term, std::int32_t level, Index column) const {
    return static_cast<std::int32_t>(first_[term] + level * lambda_[term].rows() + column);
  }

  /// Per random effect: its level, where its term is on the grouping factor with most random effects; else -1.
  [[nodiscard]] std::vector<std::int32_t> levels_of_largest_factor() {
    const std::vector<RandomTerm>& random = model_->random;
    Index most = 0;
    std::string group;
    for (const RandomTerm& term : random) {
      Index effects = 0;
      for (const RandomTerm& other : random)
        if (other.group == term.group) effects += other.z.cols() * static_cast<Index>(other.levels.size());
      if (effects <= most) continue;
      most = effects;
      group = term.group;
      largest_levels_ = term.levels.size();
    }
    std::vector<std::int32_t> level_of;
    for (const RandomTerm& term : random)
      for (std::size_t l = 0; l < term.levels.size(); ++l)
        level_of.insert(level_of.end(), static_cast<std::size_t>(term.z.cols()),
                        term.group == group ? static_cast<std::int32_t>(l) : -1);
    return level_of;
  }

  std::shared_ptr<const ModelMatrices> model_;
  double sigma2_;
  Index q_ = 0;
  std::vector<Index> first_;
  std::vector<MatrixXd> lambda_;
  std::size_t largest_levels_ = 0;
  std::unique_ptr<ModesInverse> modes_;
  MatrixXd basis_, map_, phi_, to_modes_;
};

JointCovariance::JointCovariance(const Fit& fit) : impl_(std::make_unique<Impl>(fit)) {}
JointCovariance::JointCovariance(JointCovariance&&) noexcept = default;
JointCovariance& JointCovariance::operator=(JointCovariance&&) noexcept = default;
JointCovariance::~JointCovariance() = default;

Eigen::MatrixXd JointCovariance::conditional(int term, std::int32_t level) const {
  return impl_->conditional(static_cast<std::size_t>(term), level);
}

Eigen::MatrixXd JointCovariance::conditional_sd(int term) const {
  const RandomTerm& of = impl_->model().random[static_cast<std::size_t>(term)];
  MatrixXd sd(static_cast<Index>(of.levels.size()), of.z.cols());
  for (Index l = 0; l < sd.rows(); ++l)
    sd.row(l) = conditional(term, static_cast<std::int32_t>(l)).diagonal().cwiseMax(0).cwiseSqrt().transpose();
  return sd;
}

double JointCovariance::variance(const Eigen::VectorXd& x, std::span<const RowEffect> effects) const {
  ModesInverse::Vector w;
  for (const RowEffect& effect : effects)
    impl_->spread(static_cast<std::size_t>(effect.term), effect.level, effect.z, w);
  return impl_->sigma2() * impl_->form(impl_->in_basis(x), w);
}

Eigen::VectorXd JointCovariance::leverages() const {
  const ModelMatrices& m = impl_->model();
  VectorXd h(m.y.size());
  ModesInverse::Vector w;
  for (Index i = 0; i < h.size(); ++i) {
    w.clear();
    for (std::size_t t = 0; t < m.random.size(); ++t)
      impl_->spread(t, m.random[t].level_of_row[i], m.random[t].z.row(i).transpose(), w);
    h[i] = impl_->form(impl_->basis_row(i), w);
  }
  return h;
}

}  // namespace batchlmm

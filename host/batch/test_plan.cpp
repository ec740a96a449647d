#include "host/batch/test_plan.hpp"

#include <fmt/format.h>

#include <Eigen/QR>
#include <algorithm>
#include <boost/math/distributions/fisher_f.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "batchlmm/error.hpp"
#include "kernels/tail_probabilities.hpp"

namespace batchlmm {
namespace {

/// Indices of rows that span l's row space, none depending on the others.
std::vector<Eigen::Index> independent_rows(const Eigen::MatrixXd& l) {
  Eigen::ColPivHouseholderQR<Eigen::MatrixXd> qr(l.transpose());
  qr.setThreshold(1e-10);
  std::vector<Eigen::Index> rows;
  for (Eigen::Index i = 0; i < qr.rank(); ++i) rows.push_back(qr.colsPermutation().indices()[i]);
  return rows;
}

/// What the kernels leave to the host: an F tail with very many degrees of freedom.
double upper_tail(double f, double df1, double df2) {
  return boost::math::cdf(boost::math::complement(boost::math::fisher_f(df1, df2), f));
}

}  // namespace

void check_hypotheses(const Hypotheses& hypotheses, Method method, Eigen::Index p, const std::string& what) {
  if (hypotheses.method == SmallSample::kenward_roger && method != Method::reml)
    throw ModelError("Kenward-Roger tests: expected fits by REML, found ML");
  for (const Hypothesis& h : hypotheses.list) {
    if (h.l.cols() != p)
      throw ModelError(
          fmt::format("expected contrasts of the {} fixed effects of {}, found {} columns", p, what, h.l.cols()));
    if (h.value.size() != 0 && h.value.size() != h.l.rows())
      throw ModelError(
          fmt::format("expected a value for each of a hypothesis' {} contrasts, found {}", h.l.rows(), h.value.size()));
    if (h.l.rows() == 0 || h.l.isZero(0))
      throw InputError("expected contrasts of the fixed effects, found none that is not zero");
  }
}

TestPlanData::TestPlanData(const Hypotheses& hypotheses, Method method, Eigen::Index p, const std::string& what) {
  check_hypotheses(hypotheses, method, p, what);
  plan_.kenward_roger = hypotheses.method == SmallSample::kenward_roger;
  plan_.p = static_cast<int>(p);
  plan_.hypotheses = static_cast<int>(hypotheses.list.size());
  first_.push_back(0);
  std::vector<Eigen::VectorXd> rows;
  std::vector<double> values;
  for (const Hypothesis& h : hypotheses.list) {
    std::vector<Eigen::Index> kept(static_cast<std::size_t>(h.l.rows()));
    for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = static_cast<Eigen::Index>(i);
    // Satterthwaite's takes the rows as they are given, as lmerTest does.
    if (plan_.kenward_roger) kept = independent_rows(h.l);
    for (const Eigen::Index i : kept) {
      rows.emplace_back(h.l.row(i));
      values.push_back(h.value.size() == 0 ? 0.0 : h.value[i]);
    }
    const auto q = static_cast<int>(kept.size());
    plan_.pairs += kernels::triangle_size(q);
    plan_.largest = std::max(plan_.largest, q);
    first_.push_back(static_cast<int>(rows.size()));
  }
  plan_.rows = static_cast<int>(rows.size());
  l_.resize(plan_.rows, p);
  for (int i = 0; i < plan_.rows; ++i) l_.row(i) = rows[static_cast<std::size_t>(i)].transpose();
  value_ = Eigen::Map<const Eigen::VectorXd>(values.data(), plan_.rows);
  gauge_l_.assign(static_cast<std::size_t>(plan_.rows * p), 0.0);
  gauge_value_.assign(static_cast<std::size_t>(plan_.rows), 0.0);
  plan_.first = first_.data();
  plan_.l = gauge_l_.data();
  plan_.value = gauge_value_.data();
}

void TestPlanData::set_gauge(const double* map, const double* offset, double sigma) {
  in_gauge(map, offset, sigma, gauge_l_.data(), gauge_value_.data());
}

void TestPlanData::in_gauge(const double* map, const double* offset, double sigma, double* l, double* value) const {
  // beta = map^{-1} (offset + sigma b): l'beta / sigma = (map^{-T}l)'(b + offset / sigma).
  const int p = plan_.p;
  for (int r = 0; r < plan_.rows; ++r) {
    double* out = l + static_cast<std::size_t>(r) * p;
    double sum = -value_[r];
    for (int i = 0; i < p; ++i) {
      double t = l_(r, i);
      for (int e = 0; e < i; ++e) t -= map[i * p + e] * out[e];
      out[i] = t / map[i * p + i];
      sum += out[i] * offset[i];
    }
    value[r] = sum / sigma;
  }
}

std::vector<HypothesisTest> dense_tests(const Hypotheses& hypotheses, const FittedModel& fit, bool used) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<HypothesisTest> out(hypotheses.list.size(), {nan, nan, nan, nan, nan, nan, nan});
  if (!used) return out;
  const SmallSampleTests tests(fit, hypotheses.method);
  for (std::size_t h = 0; h < out.size(); ++h) {
    const Hypothesis& hypothesis = hypotheses.list[h];
    if (hypothesis.l.rows() == 1) {
      const ContrastTest t =
          tests.test(Eigen::VectorXd(hypothesis.l.row(0)), hypothesis.value.size() == 0 ? 0.0 : hypothesis.value[0]);
      out[h] = {t.estimate, t.se, 1, t.df, t.t, t.p, 1};
    } else {
      const FTest f = tests.test(hypothesis.l, hypothesis.value);
      out[h] = {nan, nan, f.df1, f.df2, f.f, f.p, f.scaling};
    }
  }
  return out;
}

void read_tests(std::span<const double> values, double sigma, std::span<HypothesisTest> tests) {
  using kernels::TestValues;
  for (std::size_t i = 0; i < tests.size(); ++i) {
    const double* v = values.data() + i * TestValues::values;
    HypothesisTest& t = tests[i];
    t = {sigma * v[TestValues::estimate], sigma * v[TestValues::std_error], v[TestValues::df1],    v[TestValues::df2],
         v[TestValues::statistic],        v[TestValues::p_value],           v[TestValues::scaling]};
    if (t.p != kernels::tail_not_found) continue;
    t.p = std::isnan(t.estimate)
              ? upper_tail(t.statistic, t.df1, t.df)
              : 2 * boost::math::cdf(boost::math::complement(boost::math::students_t(t.df), std::abs(t.statistic)));
  }
}

}  // namespace batchlmm

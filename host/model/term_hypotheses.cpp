#include "host/model/term_hypotheses.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <variant>

#include "host/formula/terms.hpp"
#include "host/model/fixed_effects.hpp"
#include "host/model/model_frame.hpp"
#include "host/model/term_matrix.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

using Columns = std::vector<Index>;

/// Columns of each term.
std::vector<Columns> columns_by_term(const std::vector<int>& assign, std::size_t terms) {
  std::vector<Columns> columns(terms);
  for (std::size_t j = 0; j < assign.size(); ++j)
    if (assign[j] > 0) columns[static_cast<std::size_t>(assign[j] - 1)].push_back(static_cast<Index>(j));
  return columns;
}

/// Per term the terms that contain it.
std::vector<std::vector<std::size_t>> containing_terms(const Terms& terms, const ModelFrame& frame) {
  const auto numeric = [&](std::size_t v) {
    return !std::holds_alternative<Factor>(frame.at(terms.variables[v].label));
  };
  const auto contains = [&](const Term& outer, const Term& inner) {
    if (outer.variables.size() <= inner.variables.size()) return false;
    if (!std::includes(outer.variables.begin(), outer.variables.end(), inner.variables.begin(), inner.variables.end()))
      return false;
    return std::count_if(outer.variables.begin(), outer.variables.end(), numeric) ==
           std::count_if(inner.variables.begin(), inner.variables.end(), numeric);
  };
  std::vector<std::vector<std::size_t>> containing(terms.terms.size());
  for (std::size_t inner = 0; inner < terms.terms.size(); ++inner)
    for (std::size_t outer = 0; outer < terms.terms.size(); ++outer)
      if (contains(terms.terms[outer], terms.terms[inner])) containing[inner].push_back(outer);
  return containing;
}

MatrixXd columns_of(const MatrixXd& matrix, const Columns& columns) {
  MatrixXd out(matrix.rows(), static_cast<Index>(columns.size()));
  for (std::size_t j = 0; j < columns.size(); ++j) out.col(static_cast<Index>(j)) = matrix.col(columns[j]);
  return out;
}

/// Rows of the triangular factor of X'X with a unit diagonal: row i is what column i's coefficient estimates once the
/// columns after it are left out.
MatrixXd sequential_rows(const MatrixXd& x) {
  const Eigen::HouseholderQR<MatrixXd> qr(x);
  MatrixXd r = qr.matrixQR().topRows(x.cols()).triangularView<Eigen::Upper>();
  for (Index i = 0; i < r.rows(); ++i) r.row(i) /= r(i, i);
  return r;
}

MatrixXd rows_of(const MatrixXd& matrix, const Columns& rows) {
  MatrixXd out(static_cast<Index>(rows.size()), matrix.cols());
  for (std::size_t i = 0; i < rows.size(); ++i) out.row(static_cast<Index>(i)) = matrix.row(rows[i]);
  return out;
}

/// Type II of one term: the columns of those that contain it stand behind its own.
MatrixXd hierarchical_rows(const MatrixXd& x, const Columns& own, const Columns& containing) {
  Columns order;
  for (Index j = 0; j < x.cols(); ++j)
    if (std::find(own.begin(), own.end(), j) == own.end() &&
        std::find(containing.begin(), containing.end(), j) == containing.end())
      order.push_back(j);
  const std::size_t first = order.size();
  order.insert(order.end(), own.begin(), own.end());
  order.insert(order.end(), containing.begin(), containing.end());
  const MatrixXd rows =
      sequential_rows(columns_of(x, order)).middleRows(static_cast<Index>(first), static_cast<Index>(own.size()));
  MatrixXd out = MatrixXd::Zero(rows.rows(), x.cols());
  for (std::size_t j = 0; j < order.size(); ++j) out.col(order[j]) = rows.col(static_cast<Index>(j));
  return out;
}

/// All terms by indicators of their cells, whatever depends on what.
TermMatrix indicator_columns(Terms terms, const ModelFrame& frame, const ModelOptions& options) {
  TermMatrix all;
  all.values.resize(static_cast<Index>(frame.rows().size()), 0);
  const std::vector<Term> each = std::move(terms.terms);
  for (const Term& term : each) {
    Terms alone = terms;
    alone.intercept = false;
    alone.terms = {term};
    alone.terms[0].full.assign(term.variables.size(), true);
    const TermMatrix part = term_matrix(alone, frame, options, "fixed effects");
    all.values.conservativeResize(Eigen::NoChange, all.values.cols() + part.values.cols());
    all.values.rightCols(part.values.cols()) = part.values;
    all.names.insert(all.names.end(), part.names.begin(), part.names.end());
  }
  return all;
}

/// Type III: the estimable functions of the overparameterized model, those of a term orthogonal to those of the terms
/// that contain it.
std::vector<MatrixXd> marginal_rows(const Terms& terms, const ModelFrame& frame, ModelOptions options,
                                    const std::vector<std::vector<std::size_t>>& containing, const MatrixXd& x) {
  options.unordered = options.ordered = Contrast::treatment;
  options.contrasts.clear();
  const TermMatrix all = term_matrix(terms, frame, options, "fixed effects");
  const std::vector<Index> kept = independent_columns(all.values);
  const MatrixXd treatment = columns_of(all.values, kept);
  std::vector<int> assign;
  for (const Index j : kept) assign.push_back(all.assign[static_cast<std::size_t>(j)]);
  const std::vector<Columns> columns = columns_by_term(assign, terms.terms.size());
  TermMatrix cells = indicator_columns(terms, frame, options);
  if (terms.intercept) {
    cells.values.conservativeResize(Eigen::NoChange, cells.values.cols() + 1);
    cells.values.rightCols(1).setOnes();
    cells.names.emplace_back("(Intercept)");
  }

  // Row: a parameter of the overparameterized model, as a function of the coefficients of the full-rank one.
  const Eigen::HouseholderQR<MatrixXd> qr(treatment);
  MatrixXd functions = MatrixXd(qr.solve(cells.values)).transpose();
  std::vector<std::size_t> order(terms.terms.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return terms.terms[a].variables.size() > terms.terms[b].variables.size();
  });
  for (const std::size_t t : order) {
    Columns outer;
    for (const std::size_t c : containing[t]) outer.insert(outer.end(), columns[c].begin(), columns[c].end());
    if (outer.empty() || columns[t].empty()) continue;
    const MatrixXd basis = columns_of(functions, outer), own = columns_of(functions, columns[t]);
    Eigen::ColPivHouseholderQR<MatrixXd> outer_qr(basis);
    outer_qr.setThreshold(1e-9);
    const MatrixXd rest = own - basis * outer_qr.solve(own);
    for (std::size_t j = 0; j < columns[t].size(); ++j) functions.col(columns[t][j]) = rest.col(static_cast<Index>(j));
  }

  // Of the functions those remain that belong to the full-rank model's coefficients.
  MatrixXd square(static_cast<Index>(kept.size()), static_cast<Index>(kept.size()));
  for (std::size_t j = 0; j < kept.size(); ++j) {
    const std::string& name = all.names[static_cast<std::size_t>(kept[j])];
    const auto at = std::find(cells.names.begin(), cells.names.end(), name);
    square.row(static_cast<Index>(j)) = functions.row(at - cells.names.begin());
  }
  const MatrixXd to_treatment = qr.solve(x);
  std::vector<MatrixXd> out;
  for (const Columns& own : columns) {
    const MatrixXd rows = columns_of(square, own).transpose();
    Columns left;
    for (Index i = 0; i < rows.rows(); ++i)
      if (rows.row(i).lpNorm<1>() > 1e-8) left.push_back(i);
    out.push_back(rows_of(rows, left) * to_treatment);
  }
  return out;
}

}  // namespace

std::vector<TermHypothesis> term_hypotheses(const Formula& formula, const Table& table, const ModelOptions& options,
                                            const ModelMatrices& model, TermTestType type) {
  const Terms terms = expand_terms(formula.fixed.get(), formula);
  const ModelFrame frame = model_frame(formula, table);
  const std::vector<Columns> columns = columns_by_term(model.x_assign, terms.terms.size());
  const auto containing = containing_terms(terms, frame);
  const Index p = model.X.cols();
  if (terms.terms.size() <= 1 || p <= 1) type = TermTestType::one;

  std::vector<MatrixXd> rows;
  if (type == TermTestType::one && p > 0) {
    const MatrixXd sequential = sequential_rows(model.X);
    for (const Columns& own : columns) rows.push_back(rows_of(sequential, own));
  } else if (type == TermTestType::two) {
    const MatrixXd identity = MatrixXd::Identity(p, p);
    for (std::size_t t = 0; t < columns.size(); ++t) {
      Columns outer;
      for (const std::size_t c : containing[t]) outer.insert(outer.end(), columns[c].begin(), columns[c].end());
      rows.push_back(containing[t].empty() ? rows_of(identity, columns[t])
                                           : hierarchical_rows(model.X, columns[t], outer));
    }
  } else if (type == TermTestType::three) {
    rows = marginal_rows(terms, frame, options, containing, model.X);
  }
  rows.resize(columns.size());
  std::vector<TermHypothesis> out;
  for (std::size_t t = 0; t < columns.size(); ++t) out.push_back({terms.label(terms.terms[t]), std::move(rows[t])});
  return out;
}

}  // namespace batchlmm

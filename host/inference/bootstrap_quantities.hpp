/// @file
/// What a bootstrap reports on: a model's parameters, theta, contrasts of the fixed effects, and expressions of all
/// these; computed for many replicates at a time.
#pragma once

#include <Eigen/Core>
#include <string>
#include <utility>
#include <vector>

#include "host/formula/formula.hpp"
#include "host/inference/parameters.hpp"

namespace batchlmm {

/// One of them.
struct Quantity {
  std::string
      label;  ///< as lme4's `confint(oldNames = FALSE)` names parameters; the text of a contrast, an expression's name
  std::string effect;  ///< broom.mixed's; "contrast", "expression"
  std::string group, term;
  Eigen::VectorXd contrast;  ///< p: of the fixed effects that it is a linear combination of; empty: it is none
};

/// Values of the parameters in the user's units: a row a replicate.
struct ParameterRows {
  Eigen::MatrixXd beta;   ///< rows x p
  Eigen::MatrixXd theta;  ///< rows x m, lme4's order
  Eigen::VectorXd sigma;  ///< rows
  void resize(Eigen::Index rows, Eigen::Index p, Eigen::Index m);
};

/// "theta_(Intercept)|Subject", "theta_Days.(Intercept)|Subject", ... in lme4's order.
std::vector<std::string> theta_labels(const ModelMatrices& model);

class BootstrapQuantities {
public:
  /// @param model        kept by reference
  /// @param theta        theta is reported, too
  /// @param contrasts    as contrast_matrix reads them; one text may hold several, separated by ';'
  /// @param expressions  "NAME = EXPRESSION" or "EXPRESSION": arithmetic and functions as formulas have them, of labels
  ///                     of parameters and theta; labels that are no R names stand in backquotes
  /// @throws InputError for what cannot be read, and for an unknown name, with the nearest
  BootstrapQuantities(const ModelMatrices& model, bool theta, const std::vector<std::string>& contrasts,
                      const std::vector<std::string>& expressions);

  [[nodiscard]] const std::vector<Quantity>& list() const { return list_; }
  /// @return rows x list().size(); not finite where a quantity is not defined (the correlation of a variance of 0)
  [[nodiscard]] Eigen::MatrixXd values(const ParameterRows& rows) const;

private:
  void add_expression(const std::string& text);

  const ModelMatrices& model_;
  std::vector<Parameter> parameters_;
  std::vector<Quantity> list_;
  bool theta_;
  std::vector<std::string> theta_labels_;
  std::size_t contrasts_ = 0;
  std::vector<Formula> expressions_;
};

}  // namespace batchlmm

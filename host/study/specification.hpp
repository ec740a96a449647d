/// @file
/// What a study file says about one cell: which tables are simulated, from which truth, and what is done with them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/model/contrasts.hpp"
#include "host/model/method.hpp"

namespace batchlmm::study {

/// A number, or the distribution that it is drawn from anew in every replicate.
struct Quantity {
  enum class Kind { fixed, uniform, normal };
  Kind kind = Kind::fixed;
  double first = 0;          ///< the number; the lower end; the mean
  double second = 0;         ///< the upper end; the standard deviation
  bool is_variance = false;  ///< what is drawn is the square of what is meant: a standard deviation
};

/// What rows are sampled from: subjects, items, schools.
struct Unit {
  std::string name;
  std::uint64_t count = 0;  ///< in each outer unit where it is nested
  bool nested = false;      ///< in the unit before it; else crossed with all before it
};

/// A factor of the experiment. Without `between` and `latin` every combination of units sees each of its levels.
struct ExperimentalFactor {
  std::string name;
  std::vector<std::string> levels;
  std::vector<double> codes;  ///< one a level: the column is these numbers; empty: it is a factor
  Contrast coding = Contrast::treatment;
  std::string between;             ///< units that see one level each, in turn; empty: none
  std::vector<std::string> latin;  ///< two units whose indices together say the level, as lists of a Latin square do
};

/// A numeric column.
struct Covariate {
  enum class Kind { values, normal, uniform };
  std::string name;
  Kind kind = Kind::values;
  std::vector<double> values;    ///< `values`: one row each, for all units (time points)
  double first = 0, second = 1;  ///< mean and standard deviation; ends
  std::string by;                ///< drawn once for each of these units; empty: for each row
  bool anew = false;             ///< drawn anew in every replicate, not once for the study
};

struct Design {
  std::string kind;  ///< crossed, nested, longitudinal, split_plot, table
  std::vector<Unit> units;
  std::vector<ExperimentalFactor> factors;
  std::vector<Covariate> covariates;
  std::uint64_t replications = 1;  ///< rows of each combination
  // kind "table"
  std::string place;                        ///< of `data`: "FILE:LINE:COLUMN"
  std::string data;                         ///< path, as the file says it
  std::vector<std::string> factor_columns;  ///< columns to read as factors
  std::string extend_along;                 ///< column whose levels are repeated or cut; empty: none
  std::uint64_t extend_to = 0;              ///< levels of it
};

/// Covariances of one random-effects term of the truth.
struct TruthTerm {
  std::string group;
  std::vector<std::pair<std::string, Quantity>> sd;  ///< by coefficient
  /// By "first,second" coefficient; the empty name is for all pairs that have none of their own.
  std::vector<std::pair<std::string, Quantity>> correlation;
};

struct Truth {
  std::string formula;
  std::string place;                                   ///< of the formula: "FILE:LINE:COLUMN"
  std::vector<std::pair<std::string, Quantity>> beta;  ///< by coefficient
  std::vector<TruthTerm> random;
  Quantity sigma;
  /// Values that are not said are those of this fit.
  struct Source {
    std::string formula, data;
    std::vector<std::string> factor_columns;
  };
  std::optional<Source> from_fit;
};

/// The law of errors or of random effects, with mean 0 and variance 1.
struct Law {
  enum class Kind { gaussian, t, skewed, contaminated };
  Kind kind = Kind::gaussian;
  double degrees = 0;           ///< t
  double shape = 0;             ///< skewed: of a gamma variate
  double share = 0, scale = 1;  ///< contaminated: so many draws have so many times the standard deviation
};

struct Missingness {
  enum class Kind { random, unit, dropout };
  Kind kind = Kind::random;
  /// random: share of rows; unit: of units; dropout: hazard at each row after the unit's first
  Quantity share;
  std::string unit;  ///< unit: whose rows go missing together; dropout: whose rows end
};

struct Response {
  Law errors;
  std::vector<std::pair<std::string, Law>> random_effects;  ///< by grouping factor; Gaussian where none is said
  std::string variance_by;  ///< factor whose levels have error standard deviations of their own; empty: none
  std::vector<double> variance_ratios;  ///< one a level: times sigma
  std::vector<Missingness> missing;
};

struct ModelToFit {
  std::string name, formula;
  std::string place;  ///< of the formula: "FILE:LINE:COLUMN"
  Method method = Method::reml;
};

/// A model chosen in every replicate.
struct Selection {
  enum class Kind { aic, bic, backward, drop_singular };
  std::string name;
  Kind kind = Kind::aic;
  std::vector<std::string> models;  ///< candidates; backward and drop_singular: from the largest to the smallest
  double alpha = 0.05;              ///< backward: keep the larger one where its test is below
};

struct Test {
  std::string place;  ///< "FILE:LINE:COLUMN"
  enum class Kind { lrt, wald, satterthwaite, kenward_roger, bootstrap, f1, f2, f1_f2, min_f };
  std::string name;
  Kind kind = Kind::lrt;
  std::string full;                ///< name of a model; a selection's name stands for what it chose
  std::vector<std::string> nulls;  ///< lrt, bootstrap: names of models, one, or one for each candidate of a selection
  std::string contrast;            ///< of the full model; rows by ';' (not wald)
  std::uint64_t inner = 0;         ///< bootstrap: replicates inside each replicate
  std::string factor;              ///< f1, f2, min_f: the experimental factor
  std::string subjects, items;     ///< f1, f2, min_f: units
};

/// One cell.
struct Specification {
  std::string name;
  std::uint64_t seed = 1;
  std::uint64_t replicates = 0;
  double precision = 0;  ///< not 0: a cell ends when the Monte-Carlo standard error of every rejection rate is below
  double alpha = 0.05;   ///< of the tests
  double level = 0.95;   ///< of the intervals
  double target_power = 0.8;    ///< whose size the report looks for
  bool common_numbers = false;  ///< cells share their random numbers
  Design design;
  Truth truth;
  Response response;
  std::vector<ModelToFit> models;
  std::vector<Selection> selections;
  std::vector<Test> tests;
};

}  // namespace batchlmm::study

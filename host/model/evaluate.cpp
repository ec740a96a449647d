#include "host/model/evaluate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/data/factor.hpp"
#include "host/formula/deparse.hpp"
#include "host/model/orthogonal_polynomials.hpp"

namespace batchlmm {
namespace {

using Kind = Expression::Kind;
using Array = Eigen::ArrayXd;

/// R's power: x^0 and 1^x are 1 even where the other is missing; squares are exact products.
double power(double x, double y) { return y == 2 ? x * x : std::pow(x, y); }

/// R's x %% y, which has the sign of y.
double modulo(double x, double y) { return y == 0 ? std::nan("") : x - std::floor(x / y) * y; }

/// R's round: to the nearer of the two candidates with so many decimals, halves to the even digit.
double round_to(double x, double digits) {
  if (!std::isfinite(x)) return x;
  if (digits == 0) return std::nearbyint(x);
  const double unit = std::pow(10.0, digits);
  if (!std::isfinite(unit) || !std::isfinite(x * unit)) return x;
  const double below = std::floor(x * unit);
  const double low = below / unit;
  const double high = (below + 1) / unit;
  if (x - low != high - x) return x - low < high - x ? low : high;
  return std::fmod(below, 2) == 0 ? low : high;
}

struct Elementwise {
  std::string_view name;
  double (*function)(double);
};

constexpr std::array<Elementwise, 13> kElementwise = {{
    {"log2", [](double x) { return std::log2(x); }},
    {"log10", [](double x) { return std::log10(x); }},
    {"log1p", [](double x) { return std::log1p(x); }},
    {"exp", [](double x) { return std::exp(x); }},
    {"expm1", [](double x) { return std::expm1(x); }},
    {"sqrt", [](double x) { return std::sqrt(x); }},
    {"abs", [](double x) { return std::abs(x); }},
    {"sin", [](double x) { return std::sin(x); }},
    {"cos", [](double x) { return std::cos(x); }},
    {"tan", [](double x) { return std::tan(x); }},
    {"floor", [](double x) { return std::floor(x); }},
    {"ceiling", [](double x) { return std::ceil(x); }},
    {"sign", [](double x) { return std::isnan(x) ? x : static_cast<double>((x > 0) - (x < 0)); }},
}};

constexpr std::string_view kKnownFunctions =
    "I, log, log2, log10, log1p, exp, expm1, sqrt, abs, sin, cos, tan, floor, ceiling, sign, round, scale, poly, "
    "factor, as.factor, ordered, offset";

/// What an expression within a call evaluates to: a constant, or one value a row.
using Numbers = std::variant<double, Array>;

/// Arguments of a call in the order of the function's parameters; nullptr where not given.
using Arguments = std::vector<const Expression*>;

class Evaluator {
public:
  Evaluator(const Table& table, const Formula& formula, Transforms& transforms)
      : table_(table), formula_(formula), transforms_(transforms) {}

  // Recursion goes as deep as the tree, which the parser bounds.
  [[nodiscard]] Value value(const Expression& e) const {
    if (e.kind == Kind::variable) {
      const Column& c = column(e);
      if (c.is_factor()) return std::get<Factor>(c.data);
      const auto& numbers = std::get<Numeric>(c.data);
      return NumericValue{Eigen::Map<const Eigen::VectorXd>(numbers.data(), static_cast<Eigen::Index>(numbers.size())),
                          {}};
    }
    if (e.kind == Kind::call) {
      if (e.name == "(") return value(*e.arguments[0]);
      if (e.name == "I") return value(*arguments(e, {"x"}, 1)[0]);
      if (e.name == "poly") return poly(e);
      if (e.name == "factor" || e.name == "as.factor" || e.name == "ordered") return factor(e);
    }
    const Numbers result = numbers(e);
    if (const auto* array = std::get_if<Array>(&result)) return NumericValue{array->matrix(), {}};
    fail("'" + deparse(e) + "' does not depend on any column of the table", e);
  }

private:
  [[noreturn]] void fail(const std::string& message, const Expression& where) const {
    throw FormulaError(message, formula_.text, where.position);
  }

  [[nodiscard]] const Column& column(const Expression& e) const {
    if (const Column* found = table_.find(e.name)) return *found;
    fail(missing_column_message(table_, e.name), e);
  }

  [[nodiscard]] Numbers numbers(const Expression& e) const {
    switch (e.kind) {
      case Kind::number:
        return e.value;
      case Kind::variable: {
        const Column& c = column(e);
        if (c.is_factor()) fail("'" + e.name + "' is a factor where a numeric column is expected", e);
        const auto& values = std::get<Numeric>(c.data);
        return Array(Eigen::Map<const Array>(values.data(), static_cast<Eigen::Index>(values.size())));
      }
      case Kind::unary_plus:
        return numbers(*e.arguments[0]);
      case Kind::unary_minus:
        return applied(numbers(*e.arguments[0]), [](double x) { return -x; });
      case Kind::binary:
        return binary(e);
      case Kind::call:
        return call(e);
    }
    return 0.0;
  }

  template <class F>
  static Numbers applied(Numbers x, F function) {
    if (auto* array = std::get_if<Array>(&x)) {
      *array = array->unaryExpr(function).eval();
    } else {
      x = static_cast<double>(function(std::get<double>(x)));
    }
    return x;
  }

  [[nodiscard]] Numbers combined(const Numbers& x, const Numbers& y, double (*function)(double, double)) const {
    if (std::holds_alternative<double>(x) && std::holds_alternative<double>(y))
      return function(std::get<double>(x), std::get<double>(y));
    const auto at = [](const Numbers& v, Eigen::Index i) {
      const auto* array = std::get_if<Array>(&v);
      return array != nullptr ? (*array)[i] : std::get<double>(v);
    };
    Array result(static_cast<Eigen::Index>(table_.rows));
    for (Eigen::Index i = 0; i < result.size(); ++i) result[i] = function(at(x, i), at(y, i));
    return result;
  }

  [[nodiscard]] Numbers binary(const Expression& e) const {
    double (*function)(double, double) = nullptr;
    if (e.name == "+") function = [](double x, double y) { return x + y; };
    if (e.name == "-") function = [](double x, double y) { return x - y; };
    if (e.name == "*") function = [](double x, double y) { return x * y; };
    if (e.name == "/") function = [](double x, double y) { return x / y; };
    if (e.name == "^") function = power;
    if (e.name == "%%") function = modulo;
    if (e.name == "%/%") function = [](double x, double y) { return std::floor(x / y); };
    if (function == nullptr) fail("'" + e.name + "' is no arithmetic; expected + - * / ^ %% or %/% here", e);
    return combined(numbers(*e.arguments[0]), numbers(*e.arguments[1]), function);
  }

  [[nodiscard]] Numbers call(const Expression& e) const {
    if (e.name == "(") return numbers(*e.arguments[0]);
    if (e.name == "I") return numbers(*arguments(e, {"x"}, 1)[0]);
    if (e.name == "offset") return numbers(*arguments(e, {"object"}, 1)[0]);
    if (e.name == "scale") return scale(e);
    if (e.name == "log") {
      const Arguments a = arguments(e, {"x", "base"}, 1);
      Numbers x = applied(numbers(*a[0]), [](double v) { return std::log(v); });
      if (a[1] == nullptr) return x;
      const double base = constant(*a[1]);
      // R computes these two with their own functions.
      if (base == 2) return applied(numbers(*a[0]), [](double v) { return std::log2(v); });
      if (base == 10) return applied(numbers(*a[0]), [](double v) { return std::log10(v); });
      if (!(base > 0) || base == 1)
        fail("expected a positive base of log() other than 1, found " + deparse(*a[1]), *a[1]);
      return combined(x, std::log(base), [](double u, double v) { return u / v; });
    }
    if (e.name == "round") {
      const Arguments a = arguments(e, {"x", "digits"}, 1);
      const double digits = a[1] == nullptr ? 0.0 : constant(*a[1]);
      if (digits != std::trunc(digits)) fail("expected a whole number of digits, found " + deparse(*a[1]), *a[1]);
      return combined(numbers(*a[0]), digits, round_to);
    }
    for (const Elementwise& known : kElementwise)
      if (known.name == e.name) return applied(numbers(*arguments(e, {"x"}, 1)[0]), known.function);
    if (e.name == "poly") fail("poly() stands on its own, not within another function or arithmetic", e);
    if (e.name == "factor" || e.name == "as.factor" || e.name == "ordered")
      fail("'" + deparse(e) + "' is a factor where numbers are expected", e);
    fail("unknown function '" + e.name + "'; known are " + std::string(kKnownFunctions), e);
  }

  /// Matches the arguments of a call to parameters, by name, then by position.
  /// @param required  so many of the first parameters must be given
  [[nodiscard]] Arguments arguments(const Expression& e, const std::vector<std::string_view>& parameters,
                                    std::size_t required) const {
    Arguments matched(parameters.size(), nullptr);
    for (const auto& argument : e.arguments) {
      if (argument->kind != Kind::binary || argument->name != "=") continue;
      const std::string& name = argument->arguments[0]->name;
      const auto at = std::find(parameters.begin(), parameters.end(), name) - parameters.begin();
      if (static_cast<std::size_t>(at) == parameters.size())
        fail(e.name + "() has no argument '" + name + "' here; known are " + joined(parameters), *argument);
      if (matched[static_cast<std::size_t>(at)] != nullptr) fail("argument '" + name + "' is given twice", *argument);
      matched[static_cast<std::size_t>(at)] = argument->arguments[1].get();
    }
    for (const auto& argument : e.arguments) {
      if (argument->kind == Kind::binary && argument->name == "=") continue;
      const auto free = std::find(matched.begin(), matched.end(), nullptr);
      if (free == matched.end())
        fail("too many arguments of " + e.name + "(); it takes " + joined(parameters), *argument);
      *free = argument.get();
    }
    for (std::size_t i = 0; i < required; ++i)
      if (matched[i] == nullptr) fail(e.name + "() needs its argument '" + std::string(parameters[i]) + "'", e);
    return matched;
  }

  static std::string joined(const std::vector<std::string_view>& names) {
    std::string text;
    for (const std::string_view name : names) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
  }

  [[nodiscard]] double constant(const Expression& e) const {
    if (is_constant(e))
      if (const Numbers v = numbers(e); std::holds_alternative<double>(v)) return std::get<double>(v);
    fail("expected a constant, found '" + deparse(e) + "'", e);
  }

  static bool is_constant(const Expression& e) {
    return e.kind != Kind::variable &&
           std::all_of(e.arguments.begin(), e.arguments.end(), [](const auto& a) { return is_constant(*a); });
  }

  /// TRUE or FALSE; `otherwise` where the argument is not given.
  [[nodiscard]] bool flag(const Expression* e, bool otherwise) const {
    if (e == nullptr) return otherwise;
    if (e->kind == Kind::variable && (e->name == "TRUE" || e->name == "T")) return true;
    if (e->kind == Kind::variable && (e->name == "FALSE" || e->name == "F")) return false;
    fail("expected TRUE or FALSE, found '" + deparse(*e) + "'", *e);
  }

  [[nodiscard]] Array vector(const Expression& e, const Expression& where) const {
    Numbers v = numbers(e);
    if (auto* array = std::get_if<Array>(&v)) return std::move(*array);
    fail("'" + deparse(where) + "' does not depend on any column of the table", where);
  }

  [[nodiscard]] Array scale(const Expression& e) const {
    const Arguments a = arguments(e, {"x", "center", "scale"}, 1);
    Array x = vector(*a[0], e);
    const std::string key = deparse(e);
    if (const auto known = transforms_.scale.find(key); known != transforms_.scale.end())
      return (x - known->second.center) / known->second.divisor;
    Transforms::Scaling found;
    const auto sum_of = [](const Array& values) {
      long double sum = 0;
      std::size_t count = 0;
      for (const double v : values)
        if (!std::isnan(v)) {
          sum += v;
          ++count;
        }
      return std::pair<long double, std::size_t>(sum, count);
    };
    if (flag(a[1], true)) {
      const auto [sum, count] = sum_of(x);
      found.center = static_cast<double>(sum / static_cast<long double>(count));
      x -= found.center;
    }
    if (flag(a[2], true)) {
      // R divides by the root mean square, which is the standard deviation of what is centred.
      const auto [sum, count] = sum_of(x.square());
      const double divisor =
          std::sqrt(static_cast<double>(sum / static_cast<long double>(std::max<std::size_t>(count, 2) - 1)));
      if (divisor == 0) fail("'" + deparse(e) + "' divides by zero: the values are constant", e);
      x /= divisor;
      found.divisor = divisor;
    }
    transforms_.scale.emplace(key, found);
    return x;
  }

  [[nodiscard]] Value poly(const Expression& e) const {
    const Arguments a = arguments(e, {"x", "degree", "raw"}, 1);
    const double degree = a[1] == nullptr ? 1.0 : constant(*a[1]);
    if (!(degree >= 1 && degree <= 100) || degree != std::trunc(degree))
      fail("expected the degree of a polynomial, a whole number from 1 to 100, found " + deparse(*a[1]), *a[1]);
    const int columns = static_cast<int>(degree);
    const Array x = vector(*a[0], e);

    NumericValue result;
    if (columns > 1)
      for (int d = 1; d <= columns; ++d) result.column_names.push_back(std::to_string(d));
    if (flag(a[2], false)) {
      result.values.resize(x.size(), columns);
      result.values.col(0) = x.matrix();
      for (int d = 2; d <= columns; ++d) result.values.col(d - 1) = result.values.col(d - 2).cwiseProduct(x.matrix());
      return result;
    }
    // Missing values have no part in the basis and stay missing.
    std::vector<Eigen::Index> present;
    std::unordered_set<double> distinct;
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) continue;
      if (std::isinf(x[i])) fail("'" + deparse(*a[0]) + "' has infinite values, of which poly() cannot be taken", e);
      present.push_back(i);
      distinct.insert(x[i]);
    }
    const std::string key = deparse(e);
    const auto known = transforms_.poly.find(key);
    if (known == transforms_.poly.end() && distinct.size() <= static_cast<std::size_t>(columns))
      fail("'" + deparse(e) + "' needs more than " + std::to_string(columns) + " distinct values, found " +
               std::to_string(distinct.size()),
           e);
    Eigen::VectorXd points(static_cast<Eigen::Index>(present.size()));
    for (Eigen::Index i = 0; i < points.size(); ++i) points[i] = x[present[static_cast<std::size_t>(i)]];
    Eigen::MatrixXd basis;
    if (known != transforms_.poly.end()) {
      basis = known->second.at(points);
    } else {
      basis = orthogonal_polynomials(points, columns);
      transforms_.poly.emplace(key, polynomial_recurrence(points, basis));
    }
    result.values = Eigen::MatrixXd::Constant(x.size(), columns, std::nan(""));
    for (Eigen::Index i = 0; i < points.size(); ++i)
      result.values.row(present[static_cast<std::size_t>(i)]) = basis.row(i);
    return result;
  }

  [[nodiscard]] Value factor(const Expression& e) const {
    const Arguments a = e.name == "factor" ? arguments(e, {"x", "ordered"}, 1) : arguments(e, {"x"}, 1);
    Value x = value(*a[0]);
    if (const auto* number = std::get_if<NumericValue>(&x)) {
      if (number->values.cols() != 1) fail("'" + deparse(*a[0]) + "' has several columns and cannot be a factor", e);
      x = make_factor(Numeric(number->values.data(), number->values.data() + number->values.size()));
    }
    auto& made = std::get<Factor>(x);
    if (e.name == "ordered") made.ordered = true;
    if (e.name == "factor" && a[1] != nullptr) made.ordered = flag(a[1], false);
    return x;
  }

  const Table& table_;
  const Formula& formula_;
  Transforms& transforms_;
};

}  // namespace

Value evaluate(const Expression& expression, const Table& table, const Formula& formula) {
  Transforms transforms;
  return evaluate(expression, table, formula, transforms);
}

Value evaluate(const Expression& expression, const Table& table, const Formula& formula, Transforms& transforms) {
  return Evaluator(table, formula, transforms).value(expression);
}

// Recursion goes as deep as the tree, which the parser bounds.
void collect_columns(const Expression& expression, std::vector<std::string>& names) {
  if (expression.kind == Expression::Kind::variable) {
    names.push_back(expression.name);
    return;
  }
  if (expression.kind == Expression::Kind::binary && expression.name == "=") {
    const Expression& given = *expression.arguments[1];
    const bool is_flag = given.kind == Expression::Kind::variable &&
                         (given.name == "TRUE" || given.name == "FALSE" || given.name == "T" || given.name == "F");
    if (!is_flag) collect_columns(given, names);
    return;
  }
  for (const auto& argument : expression.arguments) collect_columns(*argument, names);
}

}  // namespace batchlmm

#include "host/inference/contrast_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

#include "batchlmm/error.hpp"
#include "host/data/nearest_name.hpp"

namespace batchlmm {
namespace {

constexpr int most_nested = 100;

bool is_name_letter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' ||
         static_cast<unsigned char>(c) > 127;
}

/// Recursive descent over one row. A value is a linear form of the coefficients with a constant last.
class Row {
public:
  Row(const std::string& text, std::string_view row, const std::vector<std::string>& names)
      : whole_(text), text_(row), names_(names), p_(static_cast<Eigen::Index>(names.size())) {}

  Eigen::VectorXd contrast() {
    const Eigen::VectorXd form = sum();
    if (blank(); at_ < text_.size()) fail(fmt::format("expected an operator or the end, found '{}'", text_[at_]));
    if (form[p_] != 0) fail(fmt::format("expected a linear contrast, found the constant {}", form[p_]));
    return form.head(p_);
  }

private:
  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(fmt::format("contrast '{}', character {}: {}", whole_,
                                 static_cast<std::size_t>(text_.data() - whole_.data()) + at_ + 1, what));
  }
  void blank() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool take(char c) {
    blank();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  [[nodiscard]] bool is_constant(const Eigen::VectorXd& form) const { return form.head(p_).isZero(0); }

  Eigen::VectorXd sum() {
    Eigen::VectorXd form = product();
    for (;;) {
      if (take('+'))
        form += product();
      else if (take('-'))
        form -= product();
      else
        return form;
    }
  }
  Eigen::VectorXd product() {
    Eigen::VectorXd form = operand();
    for (;;) {
      if (take('*')) {
        const Eigen::VectorXd factor = operand();
        if (!is_constant(form) && !is_constant(factor))
          fail("expected a number times a coefficient, found a product of two");
        form = is_constant(factor) ? Eigen::VectorXd(form * factor[p_]) : Eigen::VectorXd(factor * form[p_]);
      } else if (take('/')) {
        const Eigen::VectorXd divisor = operand();
        if (!is_constant(divisor) || divisor[p_] == 0) fail("expected a divisor that is a number and not 0");
        form /= divisor[p_];
      } else {
        return form;
      }
    }
  }
  Eigen::VectorXd operand() {
    if (take('+')) return operand_below();
    if (take('-')) return -operand_below();
    blank();
    if (at_ >= text_.size()) fail("expected a coefficient or a number, found the end");
    if (const auto name = known_name()) return Eigen::VectorXd::Unit(p_ + 1, *name);
    if (text_[at_] == '(') {
      ++at_;
      if (++nested_ > most_nested) fail("the parentheses are nested too deeply");
      Eigen::VectorXd form = sum();
      if (!take(')')) fail("expected ')'");
      --nested_;
      return form;
    }
    double value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc{} || !std::isfinite(value)) unknown_name();
    at_ = static_cast<std::size_t>(end - text_.data());
    return value * Eigen::VectorXd::Unit(p_ + 1, p_);
  }
  /// What a sign stands before.
  Eigen::VectorXd operand_below() {
    if (++nested_ > most_nested) fail("the signs are nested too deeply");
    Eigen::VectorXd form = operand();
    --nested_;
    return form;
  }

  /// Takes the longest coefficient's name that stands here, so that "(Intercept)" is no parenthesis and "a:b" no a.
  std::optional<Eigen::Index> known_name() {
    const bool quoted = text_[at_] == '`';
    const std::string_view rest = text_.substr(at_ + (quoted ? 1 : 0));
    std::optional<Eigen::Index> found;
    std::size_t longest = 0;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const std::string& name = names_[i];
      if (name.size() <= longest || !rest.starts_with(name)) continue;
      const char next = name.size() < rest.size() ? rest[name.size()] : ' ';
      if (quoted ? next != '`' : is_name_letter(next) || next == ':') continue;
      longest = name.size();
      found = static_cast<Eigen::Index>(i);
    }
    if (found) at_ += longest + (quoted ? 2 : 0);
    return found;
  }
  [[noreturn]] void unknown_name() {
    std::size_t end = at_;
    if (text_[at_] == '`') {
      end = text_.find('`', at_ + 1);
      if (end == std::string_view::npos) fail("expected a closing backquote");
      const std::string_view name = text_.substr(at_ + 1, end - at_ - 1);
      fail(fmt::format("unknown coefficient '{}'{}", name, nearest_name_hint(name, names_, "coefficients")));
    }
    while (end < text_.size() && (is_name_letter(text_[end]) || text_[end] == ':')) ++end;
    const std::string_view name = text_.substr(at_, std::max<std::size_t>(end - at_, 1));
    fail(fmt::format("unknown coefficient '{}'{}", name, nearest_name_hint(name, names_, "coefficients")));
  }

  const std::string& whole_;
  std::string_view text_;
  const std::vector<std::string>& names_;
  Eigen::Index p_;
  std::size_t at_ = 0;
  int nested_ = 0;
};

/// "0, 1, -0.5"; none where the row is no list of numbers.
std::optional<std::vector<double>> numbers(std::string_view row) {
  std::vector<double> out;
  std::size_t at = 0;
  const auto blank = [&] {
    while (at < row.size() && std::isspace(static_cast<unsigned char>(row[at])) != 0) ++at;
  };
  for (;;) {
    blank();
    if (at < row.size() && row[at] == '+') ++at;
    double value = 0;
    const auto [end, error] = std::from_chars(row.data() + at, row.data() + row.size(), value);
    if (error != std::errc{} || !std::isfinite(value)) return {};
    out.push_back(value);
    at = static_cast<std::size_t>(end - row.data());
    blank();
    if (at == row.size()) return out;
    if (row[at++] != ',') return {};
  }
}

}  // namespace

Eigen::MatrixXd contrast_matrix(const std::string& text, const std::vector<std::string>& names) {
  std::vector<Eigen::VectorXd> rows;
  const std::string_view all = text;
  for (std::size_t first = 0; first <= all.size();) {
    // A ';' inside backquotes belongs to a name.
    std::size_t end = first;
    for (bool quoted = false; end < all.size() && (quoted || all[end] != ';'); ++end) quoted ^= all[end] == '`';
    const std::string_view row = all.substr(first, end - first);
    const auto list = numbers(row);
    if (list && (list->size() > 1 || names.size() == 1)) {
      if (list->size() != names.size())
        throw InputError(fmt::format("contrast '{}': expected {} numbers, one a coefficient, found {}", text,
                                     names.size(), list->size()));
      rows.emplace_back(Eigen::Map<const Eigen::VectorXd>(list->data(), static_cast<Eigen::Index>(list->size())));
    } else {
      rows.push_back(Row(text, row, names).contrast());
    }
    if (rows.back().isZero(0))
      throw InputError(fmt::format("contrast '{}': expected a contrast, found one of zeros alone", text));
    first = end + 1;
  }
  Eigen::MatrixXd matrix(static_cast<Eigen::Index>(rows.size()), static_cast<Eigen::Index>(names.size()));
  for (std::size_t i = 0; i < rows.size(); ++i) matrix.row(static_cast<Eigen::Index>(i)) = rows[i];
  return matrix;
}

}  // namespace batchlmm

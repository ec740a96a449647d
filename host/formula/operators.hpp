/// @file
/// R's operators and how tightly they bind.
#pragma once

#include <string_view>

namespace batchlmm {

/// Binding strength, weakest first (R's `?Syntax`): `~`, `| ||`, `+ -`, `* /`, `%in% %% %/%`, `:`, signs, `^`.
enum class Precedence { none, tilde, bar, sum, product, special, interaction, sign, power };

/// `Precedence::none` for what is no binary operator.
constexpr Precedence precedence_of(std::string_view operation) {
  if (operation == "~") return Precedence::tilde;
  if (operation == "|" || operation == "||") return Precedence::bar;
  if (operation == "+" || operation == "-") return Precedence::sum;
  if (operation == "*" || operation == "/") return Precedence::product;
  if (operation == "%in%" || operation == "%%" || operation == "%/%") return Precedence::special;
  if (operation == ":") return Precedence::interaction;
  if (operation == "^") return Precedence::power;
  return Precedence::none;
}

}  // namespace batchlmm

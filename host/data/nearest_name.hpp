/// @file
/// What a name that is not known was probably meant to be.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace batchlmm {

/// The known name nearest to `name`, ASCII case aside, where at most a third of its letters are wrong. @return its
/// index
std::optional<std::size_t> nearest_name(std::string_view name, std::span<const std::string> known);

/// What follows a name that is not known in a message: "; did you mean 'x'?" where one is near, and " (columns: a, b)",
/// all that are known (20 at most).
/// @param what  what the names are: "columns"
std::string nearest_name_hint(std::string_view name, std::span<const std::string> known, std::string_view what);

}  // namespace batchlmm

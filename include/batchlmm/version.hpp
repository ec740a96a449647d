/// @file
/// The library's version.
#pragma once

#include <string_view>

namespace batchlmm {

/// "major.minor.patch" of the library that is linked.
std::string_view version() noexcept;

}  // namespace batchlmm

/// @file
/// Messages of one line.
#pragma once

#include <string>

namespace batchlmm::detail {

/// Text from outside (a name in a file, a library's message) made fit for a message of one line: control characters
/// become blanks, those at the end go, and what is longer than `most` bytes is cut between characters.
std::string one_line(std::string text, std::size_t most = 300);

}  // namespace batchlmm::detail

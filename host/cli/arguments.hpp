/// @file
/// Reading the values of options. Bad values are InputErrors that name the option.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "host/inference/fit.hpp"
#include "host/model/small_sample.hpp"

namespace batchlmm::cli {

/// @return the whole number that `text` spells, nothing but digits
/// @throws InputError when it is none or lies outside [least, most]
std::uint64_t whole_number(const std::string& option, const std::string& text, std::uint64_t least = 0,
                           std::uint64_t most = std::numeric_limits<std::uint64_t>::max());

/// @return the number above 0 and below 1 that `text` spells. @throws InputError
double probability(const std::string& option, const std::string& text);

/// The parts of comma-separated lists, in order. @throws InputError when one is empty
std::vector<std::string> split_lists(const std::string& option, const std::vector<std::string>& lists);

/// "satterthwaite" or "kenward-roger". @throws InputError
SmallSample small_sample_of_name(const std::string& name);

/// `text` with every control character turned to a blank, so that a message or a formula stays on one line.
std::string on_one_line(std::string text);

}  // namespace batchlmm::cli

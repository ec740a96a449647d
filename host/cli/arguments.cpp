#include "host/cli/arguments.hpp"

#include <algorithm>
#include <charconv>

#include "batchlmm/error.hpp"

namespace batchlmm::cli {

std::uint64_t whole_number(const std::string& option, const std::string& text, std::uint64_t least,
                           std::uint64_t most) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || stop != end || error != std::errc{} || value < least || value > most) {
    const bool bounded = most < std::numeric_limits<std::uint64_t>::max() || error == std::errc::result_out_of_range;
    const std::string upper = bounded ? " and at most " + std::to_string(most) : "";
    throw InputError(option + ": expected a whole number of at least " + std::to_string(least) + upper + ", found '" +
                     text + "'");
  }
  return value;
}

double probability(const std::string& option, const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (stop != end || error != std::errc{} || !(value > 0 && value < 1))
    throw InputError(option + ": expected a number above 0 and below 1, found '" + text + "'");
  return value;
}

std::vector<std::string> split_lists(const std::string& option, const std::vector<std::string>& lists) {
  std::vector<std::string> parts;
  for (const auto& list : lists) {
    std::size_t first = 0;
    for (;;) {
      const auto comma = list.find(',', first);
      parts.push_back(list.substr(first, comma == std::string::npos ? comma : comma - first));
      if (parts.back().empty()) {
        throw InputError(
            std::string(option).append(": expected names separated by commas, found '").append(list).append("'"));
      }
      if (comma == std::string::npos) break;
      first = comma + 1;
    }
  }
  return parts;
}

SmallSample small_sample_of_name(const std::string& name) {
  if (name == "satterthwaite") return SmallSample::satterthwaite;
  if (name == "kenward-roger") return SmallSample::kenward_roger;
  throw InputError("--ddf: expected satterthwaite or kenward-roger, found '" + name + "'");
}

std::string on_one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, ' ');
  return text;
}

}  // namespace batchlmm::cli

#include "host/data/one_line.hpp"

#include <algorithm>

namespace batchlmm::detail {

std::string one_line(std::string text, std::size_t most) {
  const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == '\x7F'; };
  std::replace_if(text.begin(), text.end(), is_control, ' ');
  text.erase(text.find_last_not_of(' ') + 1);
  if (text.size() <= most) return text;
  std::size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;  // inside a UTF-8 character
  return text.substr(0, end) + "...";
}

}  // namespace batchlmm::detail

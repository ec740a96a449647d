#include "host/model/memory.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <sstream>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

namespace fs = std::filesystem;

constexpr double no_limit = std::numeric_limits<double>::infinity();
/// So little is never refused: reading the limits would take longer than the work.
constexpr double never_refused = 16.0 * (1 << 20);

/// The number after `key` in a file of lines "key number"; the first number where the key is empty.
double number_in(const fs::path& file, const std::string& key, double otherwise) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string name;
    double value = 0;
    if (!key.empty() && (!(words >> name) || name != key)) continue;
    if (words >> value) return value;  // "max" is no number, and no limit
    if (key.empty()) break;
  }
  return otherwise;
}

/// Names of one version's files.
struct ControlGroupFiles {
  const char *limit, *usage, *reclaimable;
};
constexpr ControlGroupFiles version_1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr ControlGroupFiles version_2{"memory.max", "memory.current", "inactive_file"};

/// What a group and its parents leave; a path that is not there (seen from inside a container) counts as the root.
double left_in_groups(const fs::path& mount, const fs::path& group, const ControlGroupFiles& files) {
  double left = no_limit;
  fs::path at = group.relative_path();
  while (true) {
    const fs::path folder = mount / at;
    const double limit = number_in(folder / files.limit, "", no_limit);
    // Version 1 writes the largest number of pages where there is no limit.
    if (limit < 1e18) {
      const double usage = number_in(folder / files.usage, "", 0);
      left = std::min(left, limit - usage + number_in(folder / "memory.stat", files.reclaimable, 0));
    }
    if (at.empty()) return left;
    at = at.parent_path();
  }
}

double left_in_control_groups(const fs::path& root) {
  double left = no_limit;
  std::ifstream in(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const fs::path group = line.substr(second + 1);
    if (controllers == ",,") left = std::min(left, left_in_groups(root / "sys/fs/cgroup", group, version_2));
    if (controllers.find(",memory,") != std::string::npos)
      left = std::min(left, left_in_groups(root / "sys/fs/cgroup/memory", group, version_1));
  }
  return left;
}

double left_in_address_space(const fs::path& root) {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return no_limit;
  const double pages = number_in(root / "proc/self/statm", "", 0);
  return static_cast<double>(limit.rlim_cur) - pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

}  // namespace

double available_memory(const fs::path& root) {
  const double physical = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  const double machine = 1024 * number_in(root / "proc/meminfo", "MemAvailable:", physical / 1024);
  return std::max(0.0, std::min({machine, left_in_control_groups(root), left_in_address_space(root)}));
}

std::string format_bytes(double bytes) {
  constexpr std::array<const char*, 6> units{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= 1000 && unit + 1 < units.size()) {
    bytes /= 1024;
    ++unit;
  }
  if (unit == 0 || bytes >= 10) return fmt::format("{:.0f} {}", std::ceil(bytes), units[unit]);
  return fmt::format("{:.1f} {}", std::ceil(10 * bytes) / 10, units[unit]);
}

void require_memory(double bytes, const std::string& what) {
  if (bytes <= never_refused) return;
  const double there = available_memory();
  if (bytes <= there) return;
  throw ModelError(fmt::format("{} needs {} of memory; available are {}", what, format_bytes(bytes),
                               format_bytes(std::floor(there))));
}

void prefer_large_pages(void* data, std::size_t bytes) {
  constexpr std::size_t large_page = std::size_t{1} << 21U;
  if (bytes < 2 * large_page) return;
  const std::size_t before = (large_page - reinterpret_cast<std::uintptr_t>(data) % large_page) % large_page;
  // What cannot be advised stays as it is.
  (void)madvise(static_cast<char*>(data) + before, (bytes - before) / large_page * large_page, MADV_HUGEPAGE);
}

}  // namespace batchlmm

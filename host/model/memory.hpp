/// @file
/// What memory there is, and one clear error before work starts that needs more.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace batchlmm {

/// Bytes that this process can still take: the least of what the machine has available, what the limits of its control
/// groups (version 1 and 2, each with its parents) leave, and what its limit on address space leaves.
/// @param root  where /proc and /sys stand
double available_memory(const std::filesystem::path& root = "/");

/// Bytes for people, rounded up: "310 MiB", "1.5 GiB".
std::string format_bytes(double bytes);

/// Does nothing where `bytes` can be had.
/// @param what  the subject of the message: "the bootstrap on 8 threads"
/// @throws ModelError "WHAT needs 12 GiB of memory; available are 3.4 GiB"
void require_memory(double bytes, const std::string& what);

/// Asks the system to back memory that has not been touched yet with large pages: less time in page faults, where the
/// system takes the advice. Small ranges are left alone.
void prefer_large_pages(void* data, std::size_t bytes);

}  // namespace batchlmm

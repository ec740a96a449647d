/// @file
/// What is known of the code that a device would run for a bootstrap's models, without a device.
#pragma once

#include <nlohmann/json.hpp>

#include "host/batch/bootstrap.hpp"

namespace batchlmm::bench {

/// Per model: operations of a trip, and registers, spills and blocks as the compiler at run time makes it for sm_80 and
/// sm_90. @throws BackendUnavailable without NVRTC
nlohmann::ordered_json device_code(const Bootstrap& bootstrap, bool refit);

}  // namespace batchlmm::bench

/// @file
/// The headers that sources compiled at run time include, as the build found them. cmake/RuntimeHeaders.cmake writes
/// what stands behind this.
#pragma once

#include <cstddef>

namespace batchlmm::kernels {

struct RuntimeHeader {
  const char* name;  ///< as it is included
  const char* text;
};
extern const RuntimeHeader runtime_headers[];
extern const std::size_t runtime_header_count;

}  // namespace batchlmm::kernels

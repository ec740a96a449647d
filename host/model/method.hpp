/// @file
/// Maximum likelihood or restricted maximum likelihood.
#pragma once

namespace batchlmm {

enum class Method { ml, reml };

}  // namespace batchlmm

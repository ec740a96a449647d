/// @file
/// One pass over the streamed levels of a model.
#pragma once

#include <functional>

#include "host/model/model.hpp"

namespace batchlmm {

/// Calls visit(j, level) for each streamed level in its order, from the calling thread; BLAS's threads compute them.
/// @param cross  N x N, N = 1 + p + outer columns, column-major with leading dimension N: to its lower triangle are
/// added the cross-products of the outer columns with the streamed levels projected out, without y's
void read_streamed_levels(const Model& model, double* cross,
                          const std::function<void(int j, const Model::StreamedLevel& level)>& visit);

}  // namespace batchlmm

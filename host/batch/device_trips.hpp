/// @file
/// Code for a bootstrap's two models, for devices (kernels/traced_fit.hpp): made when a device first wants it.
#pragma once

#include <functional>
#include <mutex>
#include <optional>

#include "kernels/traced_fit.hpp"

namespace batchlmm {

class DeviceTrips {
public:
  using Trace = std::function<std::optional<kernels::TracedTrip>(bool full)>;

  /// Points the job to the code of its models. Any thread may call.
  /// @param trace  called once a model
  /// @param refit  there is one model
  void add_to(kernels::BootstrapJob& job, bool refit, const Trace& trace) const {
    std::call_once(once_, [&] {
      null_ = trace(false);
      if (!refit) full_ = trace(true);
    });
    if (null_) job.null_trip = &*null_;
    if (full_) job.full_trip = &*full_;
  }

private:
  mutable std::once_flag once_;
  mutable std::optional<kernels::TracedTrip> null_, full_;
};

}  // namespace batchlmm

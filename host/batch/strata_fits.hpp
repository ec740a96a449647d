/// @file
/// Tier 1 for responses that are given: many fits of one model on a balanced or pattern-repeated design, by its strata.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/batch/model_strata.hpp"
#include "kernels/cpu_small_sample.hpp"
#include "kernels/cpu_strata.hpp"

namespace batchlmm {

class StrataFits {
public:
  /// @param always  whether or not it pays
  /// @param why     where there are none: one line for people
  /// @return nothing where the design has no strata, where they were not certified, or where the streaming tier is not
  ///         more than twice as dear
  static std::unique_ptr<const StrataFits> make(const Model& model, bool always, std::string* why);

  /// Fits responses, from several starting points each, on the CPU. Several threads may call at once.
  /// @param responses  Model::response of each, one after the other
  /// @param results    with beta and x_factor; deviances are whole (the model's constant is in them)
  void fit(const double* responses, std::uint64_t count, const kernels::FitResults& results) const;
  /// Tests hypotheses in what `fit` found.
  /// @param tests  first = 0; contrasts in the model's gauge
  void test(const double* responses, const kernels::TestJob& tests) const;

  [[nodiscard]] const ModelStrata& strata() const { return *strata_; }
  /// The kernels' job for responses.
  [[nodiscard]] kernels::StrataJob job(const double* responses) const;
  /// Bytes that each thread takes for `count` responses.
  [[nodiscard]] double thread_bytes(std::uint64_t count) const;

private:
  StrataFits() = default;
  /// The linear map from response vectors to coordinates. @return whether it is exact
  bool make_map(const Model& model);
  /// Whether the records that come from responses are those of the rows.
  [[nodiscard]] bool reads_records(const Model& model) const;

  std::unique_ptr<const ModelStrata> strata_;
  std::vector<double> map_, starts_;
  kernels::StrataJob job_;
};

}  // namespace batchlmm

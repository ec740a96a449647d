/// @file
/// The accuracy contract of a case: its replicates beside the same replicates fitted from every starting point to full
/// precision.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "host/batch/bootstrap.hpp"

namespace batchlmm::bench {

/// Runs replicates first .. first + count - 1 both ways. Keys of the answer: "checked"; "off", those with a deviance
/// that is more than 1e-8 from the reference's (below it, too: a last step whose gain was overstated, or an optimum
/// that the reference missed); "wrong_optimum", more than 1e-6 above, which no rounding explains; "largest_excess" and
/// "largest_shortfall" of the engine's deviances over the reference's; "unused", those whose status says that they do
/// not count, by either (they are not compared); "unchecked", a line that says why there is no reference for this tier,
/// in place of all the others.
/// @param null, full  the bootstrap's models; full is null where one model is refitted
nlohmann::ordered_json check_replicates(const Bootstrap& bootstrap, const Model& null, const Model* full,
                                        std::uint64_t first, std::uint64_t count);

}  // namespace batchlmm::bench

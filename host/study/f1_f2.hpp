/// @file
/// The psycholinguists' tests on means: by subjects (F1), by items (F2), and min F' (Clark 1973).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace batchlmm::study {

struct MeansTest {
  double f = 0, df1 = 0, df2 = 0, p = 1;
};

/// Analysis of variance of the units' means in each condition. Where every unit has one condition only they are
/// compared between units, else within them; units without all conditions are then left out.
/// @param y          rows
/// @param unit       per row, 0 .. units - 1
/// @param condition  per row, 0 .. conditions - 1
/// @param missing    rows that are left out, ascending
/// @return p is NaN where too few units are left
MeansTest means_test(std::span<const double> y, const std::vector<std::int32_t>& unit, int units,
                     const std::vector<std::int32_t>& condition, int conditions,
                     const std::vector<std::size_t>& missing = {});

/// min F' = F1 F2 / (F1 + F2), with the denominator degrees of freedom of Clark (1973).
MeansTest min_f(const MeansTest& by_subjects, const MeansTest& by_items);

}  // namespace batchlmm::study

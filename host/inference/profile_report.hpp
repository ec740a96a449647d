/// @file
/// Profile likelihood as text, JSON, tidy CSV, a table of points, and a figure.
#pragma once

#include <string>

#include "host/inference/profile.hpp"
#include "host/inference/svg.hpp"

namespace batchlmm {

/// @param data  the table's name
std::string profile_text(const Profile& profile, const std::string& data);
std::string profile_json(const Profile& profile);
/// broom.mixed's columns; standard errors, statistics and p-values are missing: a profile needs none.
std::string profile_csv(const Profile& profile);

/// Every point with all parameters there: parameter, value, zeta, deviance, certified, then one column a parameter.
/// @param path  .parquet, .csv or .arrow
/// @throws OutputError
void write_profile_points(const Profile& profile, const std::string& path);

/// zeta against the value, a panel a parameter.
svg::Figure profile_figure(const Profile& profile);

}  // namespace batchlmm

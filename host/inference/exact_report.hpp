/// @file
/// The exact test of one variance component as text, JSON, tidy CSV, a table of draws, and a figure.
#pragma once

#include <string>

#include "host/inference/exact.hpp"
#include "host/inference/svg.hpp"

namespace batchlmm {

/// @param data  the table's name
std::string exact_text(const ExactTest& test, const std::string& data);
std::string exact_json(const ExactTest& test);
/// One row with broom.mixed's columns: the tested standard deviation, the statistic and its p-value.
std::string exact_csv(const ExactTest& test);

/// Columns `draw` and `statistic`. @param path  .parquet, .csv or .arrow @throws OutputError
void write_draws(const ExactTest& test, const std::string& path);

/// The draws above 0 as a histogram on the density's scale, the density of the 50:50 mixture, the observed statistic.
/// @param test  with its statistics
svg::Figure exact_figure(const ExactTest& test);

}  // namespace batchlmm

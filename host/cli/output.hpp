/// @file
/// Writing results where a failure is seen.
#pragma once

#include <string>

#include "host/data/table.hpp"

namespace batchlmm::cli {

/// Writes `text` to standard output and closes it. @return whether all of it arrived; if not, says why on standard
/// error
bool write_standard_output(const std::string& text);

/// Writes one line to standard error.
void warn(const std::string& message);

/// What a command prints of a table: nothing where it goes to the file `out`, else CSV. @throws OutputError
std::string put_table(const Table& table, const std::string& out);

/// Checks that a table can be written under `path`: a known ending, an existing folder that takes new files.
/// @throws OutputError
void check_output_file(const std::string& path);

/// The same of a figure, FILE.svg. @throws OutputError
void check_plot_file(const std::string& path, const std::string& option = "--plot");

}  // namespace batchlmm::cli

/// @file
/// A study's results as one page of HTML that needs nothing else: tables and figures, for a light and a dark theme.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/study/curves.hpp"

namespace batchlmm::study {

struct ReportFacts {
  std::string program;
  std::uint64_t cells = 0;       ///< of the study; the page may show fewer
  std::uint64_t replicates = 0;  ///< used
};

/// Cells that a page shows at most.
inline constexpr std::uint64_t most_report_cells = 2000;

std::string report_html(const StudyFile& study, const ReportFacts& facts, const std::vector<ReportCell>& cells);

}  // namespace batchlmm::study

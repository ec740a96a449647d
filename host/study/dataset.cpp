#include "host/study/dataset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <variant>

#include "batchlmm/error.hpp"
#include "host/data/write.hpp"

namespace batchlmm::study {
namespace {

/// A precision is believed from so many replicates on.
constexpr double fewest_believed = 100;

}  // namespace

double rejection_error(const std::vector<SeriesName>& names, const std::vector<SeriesSums>& sums) {
  double largest = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].measure != Measure::rejected) continue;
    const double p = (sums[i].sum + 1) / (sums[i].n + 2);
    largest = std::max(largest, std::sqrt(p * (1 - p) / std::max(1.0, sums[i].n)));
  }
  return largest;
}

bool add_piece(CellResult& result, const PieceResult& piece, double precision) {
  if (result.names.empty()) {
    result.cell = piece.piece.cell;
    result.rows = piece.rows;
    result.names = piece.names;
    result.sums.assign(piece.names.size(), {});
  }
  if (result.names != piece.names)
    throw InputError("shards of one cell have sums of different names: they were made by different programs");
  for (std::size_t i = 0; i < result.sums.size(); ++i) result.sums[i].add(piece.sums[i]);
  result.replicates += piece.piece.count;
  result.stopped = precision > 0 && static_cast<double>(result.replicates) >= fewest_believed &&
                   rejection_error(result.names, result.sums) <= precision;
  return result.stopped;
}

struct CellWriter::Impl {
  const StudyFile& study;
  std::vector<bool> numeric;  ///< per key of the grid
  TableWriter writer;
};

namespace {

std::vector<OutputColumn> columns_of(const StudyFile& study, const std::vector<bool>& numeric) {
  std::vector<OutputColumn> out{{"cell", OutputType::int64}};
  for (std::size_t k = 0; k < numeric.size(); ++k)
    out.push_back({study.grid_keys()[k], numeric[k] ? OutputType::float64 : OutputType::text});
  for (const char* name : {"rows", "replicates"}) out.push_back({name, OutputType::int64});
  for (const char* name : {"subject", "term", "estimand"}) out.push_back({name, OutputType::text});
  out.push_back({"value", OutputType::float64});
  out.push_back({"mcse", OutputType::float64});
  out.push_back({"n", OutputType::int64});
  return out;
}

}  // namespace

CellWriter::CellWriter(const std::string& path, const StudyFile& study) {
  std::vector<bool> numeric = study.grid_numeric();
  TableWriter writer(path, columns_of(study, numeric));
  impl_ = std::make_unique<Impl>(Impl{study, std::move(numeric), std::move(writer)});
}
CellWriter::~CellWriter() = default;

void CellWriter::add(const CellResult& cell) {
  const std::vector<Estimand> rows = estimands(cell.names, cell.sums);
  const std::size_t n = rows.size();
  const auto whole = [&](std::uint64_t x) { return std::vector<std::int64_t>(n, static_cast<std::int64_t>(x)); };
  const std::vector<std::int64_t> number = whole(cell.cell), table_rows = whole(cell.rows),
                                  replicates = whole(cell.replicates);
  std::vector<std::vector<double>> numbers(impl_->numeric.size());
  std::vector<std::vector<std::string>> texts(impl_->numeric.size());
  const std::vector<GridValue> values = impl_->study.grid_values(cell.cell);
  for (std::size_t k = 0; k < impl_->numeric.size(); ++k) {
    double value = std::numeric_limits<double>::quiet_NaN();
    std::string text;
    for (const GridValue& v : values)
      if (v.key == impl_->study.grid_keys()[k]) {
        value = v.number;
        text = v.is_number ? fmt::format("{}", v.number) : v.text;
      }
    if (impl_->numeric[k])
      numbers[k].assign(n, value);
    else
      texts[k].assign(n, text);
  }
  std::vector<std::string> subject, term, name;
  std::vector<double> value, mcse;
  std::vector<std::int64_t> used;
  for (const Estimand& row : rows) {
    subject.push_back(row.subject);
    term.push_back(row.term);
    name.push_back(row.name);
    value.push_back(row.value);
    mcse.push_back(row.mcse);
    used.push_back(static_cast<std::int64_t>(row.n));
  }
  std::vector<OutputValues> out{std::span<const std::int64_t>(number)};
  for (std::size_t k = 0; k < impl_->numeric.size(); ++k) {
    if (impl_->numeric[k])
      out.emplace_back(std::span<const double>(numbers[k]));
    else
      out.emplace_back(std::span<const std::string>(texts[k]));
  }
  out.emplace_back(std::span<const std::int64_t>(table_rows));
  out.emplace_back(std::span<const std::int64_t>(replicates));
  for (const auto* column : {&subject, &term, &name}) out.emplace_back(std::span<const std::string>(*column));
  out.emplace_back(std::span<const double>(value));
  out.emplace_back(std::span<const double>(mcse));
  out.emplace_back(std::span<const std::int64_t>(used));
  impl_->writer.append(out);
}

void CellWriter::finish() { impl_->writer.finish(); }
void CellWriter::close() { impl_->writer.close(); }

}  // namespace batchlmm::study

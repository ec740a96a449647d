#include "host/study/dataset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
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
  if (!result.names) {
    result.cell = piece.piece.cell;
    result.rows = piece.rows;
    result.names = piece.names;
    result.sums.assign(piece.names->size(), {});
  }
  if (!same_names(result.names, piece.names))
    throw InputError("shards of one cell have sums of different names: they were made by different programs");
  for (std::size_t i = 0; i < result.sums.size(); ++i) result.sums[i].add(piece.sums[i]);
  result.replicates += piece.piece.count;
  result.stopped = precision > 0 && static_cast<double>(result.replicates) >= fewest_believed &&
                   rejection_error(*result.names, result.sums) <= precision;
  return result.stopped;
}

/// Texts that come over and over, as codes.
class Texts {
public:
  std::int32_t code(const std::string& text) {
    const auto [at, added] = codes_.try_emplace(text, static_cast<std::int32_t>(levels_.size()));
    if (added) levels_.push_back(text);
    return at->second;
  }
  [[nodiscard]] const std::vector<std::string>& levels() const { return levels_; }

private:
  std::vector<std::string> levels_;
  std::unordered_map<std::string, std::int32_t> codes_;
};

struct CellWriter::Impl {
  /// Rows are handed on when there are so many.
  static constexpr std::size_t most_held = 16384;

  const StudyFile& study;
  std::vector<bool> numeric;  ///< per key of the grid
  TableWriter writer;
  // Columns of the rows that are held.
  std::vector<std::int64_t> cell, table_rows, replicates, used;
  std::vector<std::vector<double>> numbers;       ///< per key: where it is numeric
  std::vector<std::vector<std::int32_t>> labels;  ///< per key: where it is not; then subject, term, estimand
  std::vector<Texts> texts;
  std::vector<double> value, mcse;
  // Codes of subject, term and estimand, three a row, for cells of these names.
  SeriesNames coded;
  std::vector<std::int32_t> codes;

  Impl(const std::string& path, const StudyFile& of, std::vector<bool> is_number, std::vector<OutputColumn> columns)
      : study(of),
        numeric(std::move(is_number)),
        writer(path, std::move(columns)),
        numbers(numeric.size()),
        labels(numeric.size() + 3),
        texts(labels.size()) {}

  void flush() {
    std::vector<OutputValues> out{std::span<const std::int64_t>(cell)};
    const auto label = [&](std::size_t k) { out.emplace_back(FactorValues{&texts[k].levels(), labels[k]}); };
    for (std::size_t k = 0; k < numeric.size(); ++k) {
      if (numeric[k])
        out.emplace_back(std::span<const double>(numbers[k]));
      else
        label(k);
    }
    out.emplace_back(std::span<const std::int64_t>(table_rows));
    out.emplace_back(std::span<const std::int64_t>(replicates));
    for (std::size_t k = numeric.size(); k < labels.size(); ++k) label(k);
    out.emplace_back(std::span<const double>(value));
    out.emplace_back(std::span<const double>(mcse));
    out.emplace_back(std::span<const std::int64_t>(used));
    writer.append(out);
    for (auto* column : {&cell, &table_rows, &replicates, &used}) column->clear();
    for (auto& column : numbers) column.clear();
    for (auto& column : labels) column.clear();
    value.clear();
    mcse.clear();
  }
};

namespace {

std::vector<OutputColumn> columns_of(const StudyFile& study, const std::vector<bool>& numeric) {
  std::vector<OutputColumn> out{{"cell", OutputType::int64}};
  for (std::size_t k = 0; k < numeric.size(); ++k)
    out.push_back({study.grid_keys()[k], numeric[k] ? OutputType::float64 : OutputType::factor});
  for (const char* name : {"rows", "replicates"}) out.push_back({name, OutputType::int64});
  for (const char* name : {"subject", "term", "estimand"}) out.push_back({name, OutputType::factor});
  out.push_back({"value", OutputType::float64});
  out.push_back({"mcse", OutputType::float64});
  out.push_back({"n", OutputType::int64});
  return out;
}

}  // namespace

CellWriter::CellWriter(const std::string& path, const StudyFile& study) {
  std::vector<bool> numeric = study.grid_numeric();
  std::vector<OutputColumn> columns = columns_of(study, numeric);
  impl_ = std::make_unique<Impl>(path, study, std::move(numeric), std::move(columns));
}
CellWriter::~CellWriter() = default;

void CellWriter::add(const CellResult& cell) {
  Impl& to = *impl_;
  const std::size_t keys = to.numeric.size(), before = to.value.size();
  const bool coded = to.coded == cell.names;
  if (!coded) to.codes.clear();
  for_estimands(*cell.names, cell.sums,
                [&](const SeriesName& of, const char* name, double value, double mcse, double used) {
                  if (!coded)
                    for (const auto& [k, text] : {std::pair<std::size_t, std::string>(keys, of.subject),
                                                  std::pair<std::size_t, std::string>(keys + 1, of.term),
                                                  std::pair<std::size_t, std::string>(keys + 2, name)})
                      to.codes.push_back(to.texts[k].code(text));
                  to.value.push_back(value);
                  to.mcse.push_back(mcse);
                  to.used.push_back(static_cast<std::int64_t>(used));
                });
  to.coded = cell.names;
  const std::size_t n = to.value.size() - before;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < 3; ++j) to.labels[keys + j].push_back(to.codes[3 * i + j]);
  const auto whole = [&](std::vector<std::int64_t>& column, std::uint64_t x) {
    column.insert(column.end(), n, static_cast<std::int64_t>(x));
  };
  whole(to.cell, cell.cell);
  whole(to.table_rows, cell.rows);
  whole(to.replicates, cell.replicates);
  const std::vector<GridValue> values = to.study.grid_values(cell.cell);
  for (std::size_t k = 0; k < keys; ++k) {
    const auto at = std::find_if(values.begin(), values.end(),
                                 [&](const GridValue& v) { return v.key == to.study.grid_keys()[k]; });
    if (to.numeric[k]) {
      to.numbers[k].insert(to.numbers[k].end(), n,
                           at != values.end() ? at->number : std::numeric_limits<double>::quiet_NaN());
    } else {
      const std::string text = at == values.end() ? "" : (at->is_number ? fmt::format("{}", at->number) : at->text);
      to.labels[k].insert(to.labels[k].end(), n, to.texts[k].code(text));
    }
  }
  if (to.value.size() >= Impl::most_held) to.flush();
}

void CellWriter::finish() {
  if (!impl_->value.empty()) impl_->flush();
  impl_->writer.finish();
}
void CellWriter::close() {
  finish();
  impl_->writer.close();
}

}  // namespace batchlmm::study

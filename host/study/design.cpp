#include "host/study/design.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "host/study/draws.hpp"

namespace batchlmm::study {
namespace {

/// Streams of random numbers; those of responses are below (truth.cpp).
constexpr std::uint32_t first_covariate_stream = 0x1000;
constexpr double most_rows = 5e7;

std::string padded(std::uint64_t index, std::uint64_t count) {
  return fmt::format("{:0{}}", index + 1, std::to_string(count).size());
}

double draw(const Covariate& covariate, std::uint64_t seed, std::uint64_t replicate, std::uint32_t stream,
            std::uint32_t index) {
  const auto words = kernels::philox<double>(seed, replicate, index, stream);
  return covariate.kind == Covariate::Kind::uniform ? uniform_between(words, covariate.first, covariate.second)
                                                    : normal_with(words, covariate.first, covariate.second);
}

}  // namespace

Table extend_table(const Table& table, const std::string& along, std::uint64_t to) {
  const Column& column = table.at(along);
  const auto* factor = std::get_if<Factor>(&column.data);
  if (factor == nullptr)
    throw InputError(
        fmt::format("cannot extend along '{}' of {}: expected a factor, found numbers (name it among the "
                    "factors)",
                    along, table.source));
  const std::uint64_t have = factor->levels.size();
  std::vector<std::vector<std::size_t>> rows_of(have);
  for (std::size_t i = 0; i < table.rows; ++i)
    if (factor->codes[i] >= 0) rows_of[static_cast<std::size_t>(factor->codes[i])].push_back(i);
  std::vector<std::size_t> source;
  Factor extended;
  extended.ordered = factor->ordered;
  for (std::uint64_t k = 0; k < to; ++k) {
    const std::string& name = factor->levels[k % have];
    extended.levels.push_back(k < have ? name : fmt::format("{}_{}", name, k / have + 1));
    for (const std::size_t i : rows_of[k % have]) {
      source.push_back(i);
      extended.codes.push_back(static_cast<std::int32_t>(k));
    }
    if (static_cast<double>(source.size()) > most_rows)
      throw ModelError(
          fmt::format("the table extended along '{}' to {} levels has more than {:.0e} rows", along, to, most_rows));
  }
  Table out;
  out.source = table.source;
  out.rows = source.size();
  out.unreadable = table.unreadable;
  for (const Column& old : table.columns) {
    if (old.name == along) {
      out.columns.push_back({old.name, extended});
    } else if (const auto* codes = std::get_if<Factor>(&old.data)) {
      Factor copy{codes->levels, {}, codes->ordered};
      for (const std::size_t i : source) copy.codes.push_back(codes->codes[i]);
      out.columns.push_back({old.name, std::move(copy)});
    } else {
      const Numeric& values = std::get<Numeric>(old.data);
      Numeric copy;
      for (const std::size_t i : source) copy.push_back(values[i]);
      out.columns.push_back({old.name, std::move(copy)});
    }
  }
  return out;
}

DesignTable make_design(const Design& design, const std::string& folder, std::uint64_t seed) {
  DesignTable out;
  if (design.kind == "table") {
    ReadOptions options;
    options.factors = design.factor_columns;
    const std::filesystem::path path(design.data);
    out.table = read_table(
        path.is_absolute() || folder.empty() ? design.data : (std::filesystem::path(folder) / path).string(), options);
    if (!design.extend_along.empty()) out.table = extend_table(out.table, design.extend_along, design.extend_to);
    return out;
  }

  // Axes: units, factors that each unit sees in full, time points, replications.
  std::vector<std::uint64_t> size;
  for (const Unit& unit : design.units) size.push_back(unit.count);
  std::vector<std::size_t> axis_of_factor(design.factors.size(), 0), axis_of_covariate(design.covariates.size(), 0);
  for (std::size_t f = 0; f < design.factors.size(); ++f)
    if (design.factors[f].between.empty() && design.factors[f].latin.empty()) {
      axis_of_factor[f] = size.size();
      size.push_back(design.factors[f].levels.size());
    }
  for (std::size_t c = 0; c < design.covariates.size(); ++c)
    if (design.covariates[c].kind == Covariate::Kind::values) {
      axis_of_covariate[c] = size.size();
      size.push_back(design.covariates[c].values.size());
    }
  size.push_back(design.replications);
  double rows = 1;
  for (const std::uint64_t s : size) rows *= static_cast<double>(s);
  if (rows > most_rows)
    throw ModelError(fmt::format("the design has {:.3g} rows; at most {:.0e} are accepted", rows, most_rows));
  const auto n = static_cast<std::size_t>(rows);
  const auto unit_number = [&](const std::string& name) {
    return static_cast<std::size_t>(
        std::find_if(design.units.begin(), design.units.end(), [&](const Unit& u) { return u.name == name; }) -
        design.units.begin());
  };

  // Per row: the index on each axis, and of each unit its number among all of its kind.
  std::vector<std::vector<std::uint32_t>> index(size.size(), std::vector<std::uint32_t>(n));
  for (std::size_t i = 0; i < n; ++i) {
    std::uint64_t rest = i;
    for (std::size_t a = size.size(); a-- > 0; rest /= size[a])
      index[a][i] = static_cast<std::uint32_t>(rest % size[a]);
  }
  std::vector<std::vector<std::uint32_t>> unit_index;
  std::vector<std::vector<std::string>> unit_levels;
  for (std::size_t u = 0; u < design.units.size(); ++u) {
    unit_index.push_back(index[u]);
    std::vector<std::string> levels;
    if (design.units[u].nested) {
      for (std::size_t i = 0; i < n; ++i)
        unit_index[u][i] += unit_index[u - 1][i] * static_cast<std::uint32_t>(design.units[u].count);
      for (const std::string& outer : unit_levels[u - 1])
        for (std::uint64_t k = 0; k < design.units[u].count; ++k)
          levels.push_back(outer + "." + padded(k, design.units[u].count));
    } else {
      for (std::uint64_t k = 0; k < design.units[u].count; ++k) levels.push_back(padded(k, design.units[u].count));
    }
    unit_levels.push_back(std::move(levels));
  }

  Table& table = out.table;
  table.source = "the design";
  table.rows = n;
  for (std::size_t u = 0; u < design.units.size(); ++u)
    table.columns.push_back(
        {design.units[u].name,
         Factor{unit_levels[u], std::vector<std::int32_t>(unit_index[u].begin(), unit_index[u].end()), false}});
  // Several factors between the same units: together they run through their combinations.
  std::vector<std::uint64_t> between_stride(design.units.size(), 1);
  for (std::size_t f = 0; f < design.factors.size(); ++f) {
    const ExperimentalFactor& factor = design.factors[f];
    const std::uint64_t levels = factor.levels.size();
    std::vector<std::int32_t> codes(n);
    std::uint64_t stride = 1;
    if (!factor.between.empty()) {
      std::uint64_t& next = between_stride[unit_number(factor.between)];
      stride = next;
      next *= levels;
    }
    for (std::size_t i = 0; i < n; ++i) {
      std::uint64_t level = 0;
      if (!factor.between.empty())
        level = index[unit_number(factor.between)][i] / stride;
      else if (!factor.latin.empty())
        level = std::uint64_t{index[unit_number(factor.latin[0])][i]} + index[unit_number(factor.latin[1])][i];
      else
        level = index[axis_of_factor[f]][i];
      codes[i] = static_cast<std::int32_t>(level % levels);
    }
    if (factor.codes.empty()) {
      table.columns.push_back({factor.name, Factor{factor.levels, std::move(codes), false}});
      out.options.contrasts.emplace_back(factor.name, factor.coding);
    } else {
      Numeric values(n);
      for (std::size_t i = 0; i < n; ++i) values[i] = factor.codes[static_cast<std::size_t>(codes[i])];
      table.columns.push_back({factor.name, std::move(values)});
    }
  }
  for (std::size_t c = 0; c < design.covariates.size(); ++c) {
    const Covariate& covariate = design.covariates[c];
    Numeric values(n);
    std::vector<std::uint32_t> draws(n);
    const std::uint32_t stream = first_covariate_stream + static_cast<std::uint32_t>(c);
    for (std::size_t i = 0; i < n; ++i) {
      if (covariate.kind == Covariate::Kind::values) {
        values[i] = covariate.values[index[axis_of_covariate[c]][i]];
        continue;
      }
      draws[i] = covariate.by.empty() ? static_cast<std::uint32_t>(i) : unit_index[unit_number(covariate.by)][i];
      values[i] = draw(covariate, seed, 0, stream, draws[i]);
    }
    if (covariate.anew) out.anew.push_back({table.columns.size(), covariate, std::move(draws), stream});
    table.columns.push_back({covariate.name, std::move(values)});
  }
  return out;
}

void draw_covariates(const DesignTable& design, std::uint64_t seed, std::uint64_t replicate, Table& table) {
  for (const DesignTable::Drawn& drawn : design.anew) {
    auto& values = std::get<Numeric>(table.columns[drawn.column].data);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = draw(drawn.covariate, seed, replicate, drawn.stream, drawn.index[i]);
  }
}

}  // namespace batchlmm::study

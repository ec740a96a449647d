/// @file
/// The table that a study simulates responses for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/data/table.hpp"
#include "host/model/model_matrices.hpp"
#include "host/study/specification.hpp"

namespace batchlmm::study {

/// Rows in the order of the units, then of factors, time points and replications, the last varying fastest.
struct DesignTable {
  Table table;           ///< units are factors "01", "02", ...; nested ones "01.03"
  ModelOptions options;  ///< codings of its factors
  /// Of covariates that are drawn anew: column of the table, and what it is drawn for.
  struct Drawn {
    std::size_t column = 0;
    Covariate covariate;
    std::vector<std::uint32_t> index;  ///< per row: which draw it has
    std::uint32_t stream = 0;          ///< of random numbers
  };
  std::vector<Drawn> anew;
};

/// @param folder  paths of tables are relative to it
/// @param seed    of covariates that are drawn once
/// @throws InputError, ModelError where the table would be too large
DesignTable make_design(const Design& design, const std::string& folder, std::uint64_t seed);

/// Draws the covariates that are drawn anew into the table. @param replicate  a pure function of (seed, replicate)
void draw_covariates(const DesignTable& design, std::uint64_t seed, std::uint64_t replicate, Table& table);

/// simr's `extend`: the rows of the column's levels are repeated in turn, under new names, until there are `to` levels,
/// or cut down to the first `to`.
/// @throws InputError where the column is no factor
Table extend_table(const Table& table, const std::string& along, std::uint64_t to);

}  // namespace batchlmm::study

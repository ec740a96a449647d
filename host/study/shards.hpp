/// @file
/// A study's work in pieces: which replicates of which cells a shard has, and the file that it leaves. Shards are a
/// function of the study file alone, so that any number of processes, in any order, leave the same files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/study/series.hpp"
#include "host/study/study_file.hpp"

namespace batchlmm::study {

/// Replicates first .. first + count - 1 of a cell.
struct Piece {
  std::uint64_t cell = 0, first = 0, count = 0;
};

/// How a study is divided.
class ShardPlan {
public:
  explicit ShardPlan(const StudyFile& study);
  [[nodiscard]] std::uint64_t shards() const;
  [[nodiscard]] std::uint64_t replicates() const { return total_; }
  [[nodiscard]] std::vector<Piece> pieces(std::uint64_t shard) const;
  [[nodiscard]] std::uint64_t replicates_of(std::uint64_t cell) const;

private:
  [[nodiscard]] std::uint64_t begin_of(std::uint64_t cell) const;
  std::uint64_t cells_ = 0, each_ = 0, total_ = 0, length_ = 1;
  std::vector<std::uint64_t> begin_;  ///< of each cell and the end; empty: all cells have `each_`
};

/// What a piece left.
struct PieceResult {
  Piece piece;
  std::uint64_t rows = 0;  ///< of the cell's table
  SeriesNames names;       ///< of its sums
  std::vector<SeriesSums> sums;
};

/// What a study's results depend on: those of different ones are not mixed. Hashes are FNV-1a, 64 bits: they guard
/// against slips, not against intent.
struct StudyIdentity {
  std::string program;                                        ///< its version
  std::uint64_t file = 0;                                     ///< hash of the study file
  std::vector<std::pair<std::string, std::uint64_t>> tables;  ///< that it reads, with their hashes
  bool operator==(const StudyIdentity&) const = default;
  [[nodiscard]] std::uint64_t hash() const;
};
StudyIdentity study_identity(const StudyFile& study, const std::string& folder);
/// How another one differs from this one: "the table 'pilot.csv' was another"
std::string difference(const StudyIdentity& other, const StudyIdentity& here);

struct ShardResult {
  StudyIdentity study;
  std::uint64_t shard = 0;
  double seconds = 0;            ///< that it took
  double replicate_seconds = 0;  ///< of them, what drawing, fitting, testing and adding up replicates took
  std::vector<PieceResult> pieces;
};

/// The bytes of a file; empty where it cannot be read.
std::string content_of(const std::string& path);

/// "shard-0000012.bin"
std::string shard_name(std::uint64_t shard);
/// Written whole or not at all. @throws OutputError
void write_shard(const std::string& folder, const ShardResult& result);
/// None where there is no such file, or it is damaged. @throws InputError where it is of another study
std::optional<ShardResult> read_shard(const std::string& folder, std::uint64_t shard, const StudyIdentity& study);

/// The identity that the shards in a folder have, read off the first that is whole; none where there are none.
std::optional<StudyIdentity> shard_identity(const std::string& folder);

}  // namespace batchlmm::study

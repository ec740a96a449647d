/// @file
/// What a device does for models with a large dense Schur complement, and to reduce responses: linear algebra by the
/// vendor's libraries, and the steps that these do not have as one function of a thread's index
/// (kernels/large_steps.hpp). The host's side is host/model/device_large_criterion.hpp. All pointers of the steps are
/// the device's.
///
/// Columns are ordered [dense terms (q) | X (p) | y]: what is factored is then bordered, and one Cholesky factorization
/// gives the factor of the Schur complement, of X and the last pivot. Matrices are column-major with leading dimension
/// `ld`; lower triangles by targets t = triangle(row, column).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <variant>

#include "batchlmm/error.hpp"

namespace batchlmm::kernels {

/// Why a device cannot hold what is asked for; fewer at a time may find place.
class DeviceMemoryError : public ComputationError {
public:
  using ComputationError::ComputationError;
};

/// The constants of a model with one streamed stage: what neither theta nor the response changes.
struct LargeConstants {
  int K = 0;        ///< columns of a streamed level
  int levels = 0;   ///< streamed ones
  int entries = 0;  ///< of all levels: one an outer column that the level touches, y the last one
  int q = 0, p = 0;
  int ld = 0;
  int streamed_parameters = 0;                  ///< s: parameters of the streamed terms
  int dense_parameters = 0;                     ///< those of the dense terms
  const int *row = nullptr, *column = nullptr;  ///< of each streamed parameter: where it stands in T, K x K
  const int* first = nullptr;                   ///< levels + 1: level j has the entries first[j] .. first[j + 1] - 1
  const int* entry_column = nullptr;            ///< ascending within a level
  const int* entry_level = nullptr;
  const double* c = nullptr;  ///< K x K a level: A_j = C_j C_j'
  const double* r = nullptr;  ///< K an entry: R_j; not used for y
  const double* e = nullptr;  ///< cross-products without the streamed levels, by targets; y's row is not used
  // The pairs of entries of a level that add to a target, in segments of few pairs that follow each other by target.
  const int *pair_a = nullptr, *pair_b = nullptr;
  const int* segment = nullptr;         ///< of pairs: segment g has segment[g] .. segment[g + 1] - 1
  const int* target_segment = nullptr;  ///< targets + 1
  // The entries by columns, in segments too.
  const int* by_column = nullptr;
  const int* column_segment = nullptr;
  const int* segment_of_column = nullptr;  ///< p + q + 1
  // Levels that touch many columns: their products are added by matrix algebra.
  const int* wide_entry = nullptr;         ///< entries of these levels, without y
  const int* wide_slot = nullptr;          ///< which of these levels an entry is of
  const unsigned char* is_wide = nullptr;  ///< per level
  // Of each dense column: its level's first column, columns, and where its term's lambda and parameters begin.
  const int *block = nullptr, *block_k = nullptr, *block_lambda = nullptr, *block_parameter = nullptr;
  // Of each dense parameter: its term's first column, levels and columns a level, and its place in T.
  const int *of_column = nullptr, *of_levels = nullptr, *of_k = nullptr, *of_row = nullptr, *of_col = nullptr;
  int most_levels = 0;  ///< of a dense term
};

/// What one evaluation works with. Arrays are an evaluation's own.
struct LargeState {
  const double* lambda = nullptr;                                        ///< all terms' factors, row-major
  const double* t = nullptr;                                             ///< K x K: T of the streamed terms
  const double* response = nullptr;                                      ///< levels x K, then a row of p + q + 1
  double *pivot = nullptr, *back = nullptr, *b = nullptr, *d = nullptr;  ///< K x K a level: L, L^{-1}C', B, D
  double* log_determinant = nullptr;                                     ///< levels
  double *f = nullptr, *u = nullptr, *half = nullptr;                    ///< K an entry
  double* partial = nullptr;                                             ///< of the segments of pairs
  double* cross = nullptr;                                               ///< G, both triangles
  double* factor = nullptr;       ///< the bordered system, its factor, and then Phi
  double* inverse = nullptr;      ///< L^{-1} Lambda'
  double* ly = nullptr;           ///< L^{-1} of y's column
  double* v = nullptr;            ///< r^2 = v'Gv, 1 on y
  double* modes = nullptr;        ///< levels x K: c = Z'Py
  double* dense_modes = nullptr;  ///< q
  double* applied = nullptr;      ///< Z'V_0^{-1}Z E_a c on [dense, X] of each parameter
  double* direction = nullptr;    ///< E_a c of each dense parameter
  double* applied_partial = nullptr;
};

/// L of I + C'TC and what follows from it alone, per level; NaN as its log-determinant where there is none.
struct FactorLevels {
  LargeConstants m;
  LargeState s;
};
/// F = L^{-1}[R | y] and U = C L^{-T}F of one entry each; of y's alone where `response_only` (an item a level).
struct SolveEntries {
  LargeConstants m;
  LargeState s;
  bool response_only = false;
};
/// Sum of one segment of pairs.
struct AddPairs {
  LargeConstants m;
  LargeState s;
  int begin = 0;  ///< first segment
};
/// G of one target: E and its segments. An item a place of a row of N columns, from row `row` on.
struct AddCross {
  LargeConstants m;
  LargeState s;
  int row = 0;
};
/// The entries of wide levels into a panel: K columns a level, from the level in slot `slot` on. Zeros elsewhere are
/// there already.
struct FillPanel {
  LargeConstants m;
  const double* values = nullptr;  ///< F or U
  double* panel = nullptr;
  int begin = 0, slot = 0;
};
/// The other way: half of (Phi U') of the wide levels' entries. Columns from `columns` on have none.
struct ReadPanel {
  LargeConstants m;
  LargeState s;
  const double* panel = nullptr;
  int begin = 0, slot = 0, columns = 0;
};
/// The upper triangle of an n x n matrix from the lower one.
struct Mirror {
  double* matrix = nullptr;
  int n = 0, ld = 0;
};
/// Lambda' G Lambda + I, the lower triangle of the bordered system, one place an item (N x N).
struct Border {
  LargeConstants m;
  LargeState s;
};
/// Lambda' on the diagonal blocks, I on X, zero elsewhere ((p + q) x (p + q)): what L^{-1} is applied to.
struct StartInverse {
  LargeConstants m;
  LargeState s;
};
/// The factor's diagonal (N), that of G on the dense columns (q) and the last 1 + p columns and rows of the factor, to
/// `out` one after the other; y's row to `ly`. N items, or (1 + p)^2 where that is more.
struct Gather {
  LargeConstants m;
  LargeState s;
  double* out = nullptr;
};
/// Half of Phi U' of one entry, from the entries behind it in its level; columns from `columns` on have none.
struct SparseTraces {
  LargeConstants m;
  LargeState s;
  int columns = 0;
};
/// D, c and the sums' terms of one level: `out` has the rows [gradient (s) where `traces` | forms (s) | products (s (s
/// + 1) / 2)] of `levels` columns each.
struct LevelValues {
  LargeConstants m;
  LargeState s;
  bool traces = false;
  double *gradient = nullptr, *out = nullptr;
};
/// The parts of a level in the second derivatives of the log-determinants, from its B and D: `out` has s (s + 1) / 2
/// rows of `levels` columns.
struct LevelTraces {
  LargeConstants m;
  LargeState s;
  double* out = nullptr;
};
/// Sum of one segment of pairs for dGamma = -sum U'E_a U of a streamed parameter.
struct AddPairDerivatives {
  LargeConstants m;
  LargeState s;
  int parameter = 0;
};
/// dGamma of one target, lower triangle: its segments. (p + q)^2 items.
struct AddDerivative {
  LargeConstants m;
  LargeState s;
  double* out = nullptr;
};
/// Q_11 on the lower triangle (q^2 items): T^{-1} - T^{-1} Phi T^{-1}, or, without `t_inverse`, G for a subtraction.
struct ProjectedBlocks {
  LargeConstants m;
  LargeState s;
  const double* t_inverse = nullptr;  ///< laid out as lambda
  double* out = nullptr;
};
/// Psi = I - A on the dense columns, in place; `rows` x q items.
struct SubtractFromIdentity {
  double* matrix = nullptr;
  int rows = 0, ld = 0;
};
/// Diagonal blocks of A'B on the dense columns, summed over levels later: an item a parameter and level, `most_levels`
/// each.
struct BlockProducts {
  LargeConstants m;
  const double *a = nullptr, *b = nullptr;
  int rows = 0;
  double* out = nullptr;
};
/// tr(Q E_a Q E_b) of two dense parameters, b <= a, one level of b's term and all of a's: an item a pair of parameters
/// and level, `most_levels` each.
struct BlockTraces {
  LargeConstants m;
  const double* q = nullptr;
  double* out = nullptr;
};
/// Part of tr(AB), n x n: an item a column of A and `piece` of its rows.
struct TraceProducts {
  const double *a = nullptr, *b = nullptr;
  int n = 0, ld = 0, piece = 1;
  double* out = nullptr;
};
/// Diagonal blocks of a matrix's dense terms, summed over levels later: an item a parameter and level, `most_levels`
/// each. Phi's, or, with `p`, those of G - P'P (P: `rows` rows).
struct BlockValues {
  LargeConstants m;
  LargeState s;
  const double* p = nullptr;
  int rows = 0;
  double* out = nullptr;
};
/// E_a c of the dense parameters, a column each: an item a place.
struct DenseDirections {
  LargeConstants m;
  LargeState s;
};
/// Sum of one segment of a column's entries, an item a segment and streamed parameter.
struct AppliedPartials {
  LargeConstants m;
  LargeState s;
  int segments = 0;
};
/// Their sums, an item a column and streamed parameter.
struct AppliedSums {
  LargeConstants m;
  LargeState s;
  int segments = 0;
};
/// Sums of pieces of rows: to[i * pieces + g] of from[i * n + g * piece ..].
struct SumPieces {
  const double* from = nullptr;
  double* to = nullptr;
  int n = 0, piece = 1, pieces = 1;
};

/// y - offset in each column of n, in place: an item a place.
struct SubtractOffset {
  double* y = nullptr;
  const double* offset = nullptr;
  int n = 0;
};
/// to += from, both of `rows` rows in each column: an item a place.
struct AddColumns {
  double* to = nullptr;
  const double* from = nullptr;
  int rows = 0, ld_to = 0, ld_from = 0;
};
/// Sums of squares of a column's pieces: an item a column and piece, the pieces of a column together.
struct SquarePieces {
  const double* y = nullptr;
  int n = 0, piece = 1, pieces = 1;
  double* out = nullptr;
};

using LargeStep =
    std::variant<FactorLevels, SolveEntries, AddPairs, AddCross, FillPanel, ReadPanel, Mirror, Border, StartInverse,
                 Gather, SparseTraces, LevelValues, LevelTraces, AddPairDerivatives, AddDerivative, ProjectedBlocks,
                 SubtractFromIdentity, BlockProducts, BlockTraces, TraceProducts, BlockValues, DenseDirections,
                 AppliedPartials, AppliedSums, SumPieces, SubtractOffset, AddColumns, SquarePieces>;

/// A sparse matrix row by row: row i has value[begin[i]] .. value[begin[i + 1] - 1] in these columns, ascending.
struct SparseMatrix {
  int rows = 0, columns = 0, values = 0;
  const int *begin = nullptr, *column = nullptr;
  const double* value = nullptr;
};

/// The first of so many keys that nobody else has.
inline std::uint64_t large_device_keys(int count) {
  static std::atomic<std::uint64_t> next{0};
  return next.fetch_add(static_cast<std::uint64_t>(count));
}

/// One queue of work on a device. What is asked for happens in the order of the calls, but not before `wait` returns;
/// until then whatever is read or written on the host must stay. One thread at a time.
///
/// Everything is a pure function of its arguments, to the bit. All calls throw ComputationError naming the call that
/// failed.
class LargeDevice {
public:
  virtual ~LargeDevice() = default;

  /// Memory of the device, or of the host where the device's copies reach it fastest.
  /// @throws DeviceMemoryError where there is not enough
  virtual std::shared_ptr<std::byte> allocate(std::size_t bytes) = 0;
  virtual std::shared_ptr<std::byte> allocate_host(std::size_t bytes) = 0;
  /// Bytes that may be taken: a share of what is free.
  virtual std::size_t usable_bytes() = 0;

  virtual void upload(void* to, const void* from, std::size_t bytes) = 0;
  virtual void download(void* to, const void* from, std::size_t bytes) = 0;
  virtual void zero(void* to, std::size_t bytes) = 0;
  virtual void wait() = 0;
  /// Calls `work`, which makes the same calls with the same arguments whenever it is given for this key (`wait` and
  /// `allocate` are not among them): a device may take them down and repeat them by itself.
  /// @param key  of large_device_keys()
  virtual void repeat(std::uint64_t key, const std::function<void()>& work) = 0;

  /// Takes the memory that `potrf` will need, if any. @throws DeviceMemoryError
  virtual void prepare_potrf(int n, double* a, int ld) = 0;
  /// A = LL' in place, lower triangle. `info`: 0, or the order of the leading minor that is not positive.
  virtual void potrf(int n, double* a, int ld, int* info) = 0;
  /// B = L^{-1} B; n x n, n x columns.
  virtual void trsm(int n, int columns, const double* l, int ldl, double* b, int ldb) = 0;
  /// C = alpha A'A + beta C or (not `transposed`) alpha AA' + beta C, lower triangle; n x n, inner dimension k.
  virtual void syrk(bool transposed, int n, int k, double alpha, const double* a, int lda, double beta, double* c,
                    int ldc) = 0;
  /// C = alpha (AB' + BA') + C, lower triangle; n x n, inner dimension k.
  virtual void syr2k(int n, int k, double alpha, const double* a, int lda, const double* b, int ldb, double* c,
                     int ldc) = 0;
  /// C = A B with a symmetric m x m A given by its lower triangle; m x n.
  virtual void symm(int m, int n, const double* a, int lda, const double* b, int ldb, double* c, int ldc) = 0;
  /// C = alpha op(A) B + beta C; m x n, inner dimension k.
  virtual void gemm(bool transposed, int m, int n, int k, double alpha, const double* a, int lda, const double* b,
                    int ldb, double beta, double* c, int ldc) = 0;
  /// C = alpha A B + beta C with a sparse A.
  virtual void spmm(const SparseMatrix& a, int columns, double alpha, const double* b, int ldb, double beta, double* c,
                    int ldc) = 0;
  /// y = alpha op(A) x, A m x n.
  virtual void gemv(bool transposed, int m, int n, double alpha, const double* a, int lda, const double* x,
                    double* y) = 0;
  /// Items 0 .. items - 1 of a step, in any order.
  virtual void run(const LargeStep& step, std::size_t items) = 0;
};

}  // namespace batchlmm::kernels

/// @file
/// The shared factorization (interpolant.hpp) on a device, as plain text of its threads; a test runs it on the CPU. A
/// piece of replicates is drawn (one_lane.hpp), tabulated level by level, and fitted, a launch each; what stands
/// between them lies element by element in global memory, replicates side by side.
///
/// Tabulating is matrix products: constant tables times each replicate's response vector. With e entries of the
/// response, q_l columns and g_l grid points of the levels before, K_l + 1 abscissae and t tested columns a replicate
/// takes
///     sum_l g_l q_l (e + (1 + t)(K_l + 1)) + e (p + t)
/// multiply-adds (56 x 32 crossed intercepts with one tested column: 36,000 where K is 7 and 6, the rotations 30,000 of
/// them). A thread takes a bundle of 4 replicates and 8 rows of a table at a time, 32 sums in registers: for 32
/// multiply-adds it loads the bundle's entry and 8 entries of the table, 12 doubles. A multiprocessor of compute
/// capability 9.0 starts 64 multiply-adds a cycle (8.0: 32) and loads 128 bytes, 16 doubles: 32 threads' 32
/// multiply-adds take 16 cycles (32), their loads 24. So loads bound the products to two thirds of the rate of
/// multiply-adds on 9.0 (one replicate a thread, 9 loads for 8 multiply-adds: to 22 %); on 8.0 they do not. Bundles of
/// 8 would balance the two on 9.0, with 234 registers in place of 168 and a third fewer warps; a measurement has to
/// tell.
///
/// Grid points of the levels before are independent of one another: they are spread over warps, neighbouring warps take
/// the same replicates, whose response vectors then come from the nearest cache.
#pragma once

#include "kernels/bundle.hpp"
#include "kernels/interpolant_fit.hpp"

namespace batchlmm::kernels {

/// Replicates that a thread tabulates together.
inline constexpr int bundle_width = 4;
/// Items are padded to whole bundles.
BATCHLMM_INLINE constexpr std::uint64_t whole_bundles(std::uint64_t items) {
  return (items + bundle_width - 1) / bundle_width * bundle_width;
}

/// Arguments of the tabulation of one level. All pointers are the device's.
struct TabulateArguments {
  static constexpr const char* kernel = "tabulate_kernel";  ///< on a device, for messages
  Interpolant table;
  int level = 0;
  std::uint64_t items = 0;      ///< whole bundles
  double* response = nullptr;   ///< table.response x items
  double* tabulated = nullptr;  ///< interpolant_table_size() x items
  double* memory = nullptr;     ///< tabulate_memory() doubles a thread
  std::size_t threads = 0;
};

/// Arguments of fits on what is tabulated. All pointers are the device's.
struct InterpolantFitArguments {
  static constexpr const char* kernel = "fit_interpolant_kernel";
  Interpolant table;
  double finish = 0;
  Shape shape;                            ///< its terms are read only
  std::uint64_t items = 0;                ///< that are fitted
  std::uint64_t side_by_side = 0;         ///< items in the arrays
  double* phi = nullptr;                  ///< of the model to fit: grid x side_by_side
  double* optimum = nullptr;              ///< max_interpolated x side_by_side: coordinates, written
  bool nested = false;                    ///< `optimum` holds those of a model inside this one, with the same terms
  const double* null_deviance = nullptr;  ///< of a model inside this one, or null
  std::uint8_t* refused = nullptr;        ///< written; with null_deviance, what it holds stays
  FitResults results;
  double* memory = nullptr;  ///< interpolant_memory() doubles a thread, element by element
  std::size_t threads = 0;
};

/// The kernels that tabulate, and those that fit on a number of levels.
struct TabulateFamily {};
struct InterpolantFamily {
  int levels = 1;
};

inline namespace BATCHLMM_ISA {

/// Doubles of an item's table.
inline std::size_t interpolant_table_size(const Interpolant& t) {
  Arena<Strided> count{};
  (void)make_interpolant_table(t, count);
  return count.used;
}
/// Doubles of memory that one thread needs to tabulate.
inline std::size_t tabulate_memory(const Interpolant& t) {
  Arena<StridedBundles<bundle_width>> count{};
  (void)make_tabulate_scratch(t, count);
  return count.used * bundle_width;
}
/// Doubles of memory that one thread needs to fit.
inline std::size_t interpolant_memory(const Interpolant& t) {
  Arena<Strided> count{};
  (void)make_interpolant_scratch(t, count);
  return count.used;
}

template <>
inline constexpr int rows_at_once<Bundle<bundle_width>> = packed_rows;
/// Packed matrices are aligned to 16 bytes: two entries a load.
template <>
struct TableEntries<Bundle<bundle_width>> {
  static BATCHLMM_INLINE const double* aligned(const double* entries) {
    return static_cast<const double*>(__builtin_assume_aligned(entries, 16));
  }
};

/// Tabulates (bundle, grid point of the levels before) pairs `thread`, ...
/// @tparam Level  a.level
template <int Level>
BATCHLMM_FUNCTION inline void tabulate_one_lane(const TabulateArguments& a, std::size_t thread) {
  using V = Bundle<bundle_width>;
  const Interpolant& t = a.table;
  // Threads of a warp read the same entries of the tables.
  const std::size_t lanes = a.threads < 32 ? a.threads : 32, warps = a.threads / lanes, lane = thread % lanes;
  if (thread >= warps * lanes) return;
  const std::uint64_t bundles = a.items / bundle_width, parents = t.level[Level].parents,
                      tasks = (bundles + lanes - 1) / lanes * parents;
  Arena<StridedBundles<bundle_width>> arena{strided_bundles<bundle_width>(a.memory, thread, a.threads)};
  const auto scratch = make_tabulate_scratch(t, arena);
  for (std::uint64_t task = thread / lanes; task < tasks; task += warps) {
    const std::uint64_t bundle = task / parents * lanes + lane;
    if (bundle >= bundles) continue;
    const auto response = strided_bundles<bundle_width>(a.response, bundle, bundles);
    Arena<StridedBundles<bundle_width>> item{strided_bundles<bundle_width>(a.tabulated, bundle, bundles)};
    const auto table = make_interpolant_table(t, item);
    if constexpr (Level == 0) tabulate_root<V>(t, response, scratch, table);
    tabulate_parent<V>(t, Level, static_cast<int>(task % parents), response, scratch, table);
  }
}

/// Fits items `thread`, `thread` + a.threads, ...
/// @tparam L  a.table.levels
template <int L>
BATCHLMM_FUNCTION inline void fit_interpolant_one_lane(const InterpolantFitArguments& a, std::size_t thread) {
  const Interpolant& t = a.table;
  Arena<Strided> arena{Strided{a.memory + thread, a.threads}};
  const auto scratch = make_interpolant_scratch(t, arena);
  for (std::uint64_t i = thread; i < a.items; i += a.threads) {
    const Strided phi{a.phi + i, a.side_by_side}, optimum{a.optimum + i, a.side_by_side};
    double start[max_interpolated];
    for (int l = 0; l < L; ++l) start[l] = a.nested ? optimum[l] : 0.0;
    const InterpolantOptimum<double> best =
        fit_interpolant<L, double>(t, phi, a.finish, scratch, a.nested ? start : nullptr);
    for (int l = 0; l < L; ++l) optimum[l] = best.u[l];
    bool serves = record_interpolant<double>(a.shape, t, best, 0, i, a.results);
    // The full model holds the null.
    if (a.null_deviance != nullptr)
      serves = serves && a.refused[i] == 0 && a.results.deviance[i] <= a.null_deviance[i] + 1e-8;
    a.refused[i] = serves ? 0 : 1;
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

// The loops of kernel_loops.hpp for one instruction set.
#include "bench/kernel_loops.hpp"
#include "kernels/chi_square.hpp"
#include "kernels/deviance.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::bench {
inline namespace BATCHLMM_ISA {
namespace {

using namespace kernels;
using V = Pack<2>;

IntOf<V> replicates(std::uint64_t first) {
  IntOf<V> r(0);
  for (int l = 0; l < Lanes<V>::width; ++l) set_lane(r, l, first + l);
  return r;
}

template <class T>
double sum_of(const T& x) {
  double total = 0;
  for (int l = 0; l < Lanes<T>::width; ++l) total += lane(x, l);
  return total;
}

double philox_loop(std::uint64_t repetitions) {
  const IntOf<V> r = replicates(0);
  IntOf<V> mixed(0);
  for (std::uint64_t i = 0; i < repetitions; ++i) {
    const PhiloxWords<V> words = philox<V>(1, r, IntOf<V>(i), 0);
    mixed = mixed ^ words.word[0] ^ words.word[1] ^ words.word[2] ^ words.word[3];
  }
  return sum_of(to_double(mixed >> 12));
}

double normals_loop(std::uint64_t repetitions) {
  Normals<V> normals(1, replicates(0), 0);
  V sum(0.0);
  for (std::uint64_t i = 0; i < repetitions; ++i) sum = sum + normals.next();
  return sum_of(sum);
}

double chi_square_loop(std::uint64_t repetitions, double degrees) {
  V sum(0.0);
  for (std::uint64_t i = 0; i < repetitions; ++i)
    sum = sum + chi_square<V>(1, replicates(i * Lanes<V>::width), 1, degrees);
  return sum_of(sum);
}

template <class T, int LK>
double evaluation_loop(const Shape& s, const Design<double>& design, const double* response, const double* lambda,
                       std::uint64_t repetitions, bool derivatives) {
  Arena<T*> count{nullptr};
  (void)make_workspace(s, count);
  const Aligned<T> memory = aligned_array<T>(count.used + s.response);
  Arena<T*> arena{memory.get()};
  const Workspace<T*> w = make_workspace(s, arena);
  T* y = arena.take(s.response);
  for (int e = 0; e < s.response; ++e) y[e] = T(response[e]);
  for (int i = 0; i < s.lambdas; ++i)
    for (int l = 0; l < Lanes<T>::width; ++l) set_lane(w.lambda[i], l, lambda[i] * (1 + 0.01 * l));
  T sum(0.0);
  for (std::uint64_t i = 0; i < repetitions; ++i) {
    sum = sum + evaluate<LK, T>(s, design, y, w, derivatives).deviance;
    asm volatile("" ::: "memory");
  }
  return sum_of(sum);
}

}  // namespace

#define BATCHLMM_TEXT2(x) #x
#define BATCHLMM_TEXT(x) BATCHLMM_TEXT2(x)

extern const KernelLoops kernel_loops;
const KernelLoops kernel_loops{BATCHLMM_TEXT(BATCHLMM_ISA), Lanes<V>::width, philox_loop, normals_loop,
                               chi_square_loop};

EvaluationLoop evaluation_loop_of(const Shape& s);
/// Tiles as the engine makes them: two vectors where the streamed factor has one column.
EvaluationLoop evaluation_loop_of(const Shape& s) {
  if (s.own[0] == 1) return {Lanes<Pack<2>>::width, evaluation_loop<Pack<2>, 1>};
  return {Lanes<Pack<1>>::width, evaluation_loop<Pack<1>, 0>};
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::bench

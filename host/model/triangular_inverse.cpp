#include "host/model/triangular_inverse.hpp"

#include <cstddef>

#include "host/model/blas.hpp"

namespace batchlmm {
namespace {

/// Columns that are not halved again; halves come in multiples of `grain`.
constexpr int undivided = 64, grain = 32;

/// [A 0; B C]^{-1} = [A^{-1} 0; -C^{-1}B A^{-1} C^{-1}] in place.
void invert_triangle(int n, double* a, int ld) {
  if (n <= undivided) {
    int info = 0;
    dtrtri_("L", "N", &n, a, &ld, &info);
    return;
  }
  const double one = 1, minus = -1;
  const int h = (n / 2 + grain - 1) / grain * grain, m = n - h;
  double *b = a + h, *c = b + static_cast<std::ptrdiff_t>(h) * ld;
  invert_triangle(h, a, ld);
  invert_triangle(m, c, ld);
  dtrmm_("R", "L", "N", "N", &m, &h, &minus, a, &ld, b, &ld);
  dtrmm_("L", "L", "N", "N", &m, &h, &one, c, &ld, b, &ld);
}

}  // namespace

void invert_from_cholesky(int n, double* a, int ld) {
  invert_triangle(n, a, ld);
  int info = 0;
  dlauum_("L", &n, a, &ld, &info);
}

}  // namespace batchlmm

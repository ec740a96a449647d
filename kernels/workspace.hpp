/// @file
/// Scratch memory of one tile of lanes. The kernel text indexes arrays through an accessor A: V* on the CPU, a strided
/// view of global memory on the GPU (element by element, lanes side by side, so that a warp's accesses coalesce).
#pragma once

#include <cstddef>

#include "kernels/team.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Array of one lane inside memory shared by `stride` lanes.
struct Strided {
  double* data = nullptr;
  std::size_t stride = 1;
  BATCHLMM_INLINE double& operator[](std::size_t i) const { return data[i * stride]; }
  BATCHLMM_INLINE Strided operator+(std::size_t i) const { return {data + i * stride, stride}; }
};

/// Streamed levels whose share of the cross-products is added together.
inline constexpr int streamed_group = 8;

/// The arrays of one evaluation; sizes follow from the Shape.
template <class A>
struct Workspace {
  // In: lambda. Out: gradient, hessian, information (packed by parameter), beta (p) and x_factor.
  A lambda;       ///< all lambdas, k x k row-major, T = lambda lambda'
  A gradient;     ///< m: derivative by the entries of T
  A hessian;      ///< packed m: exact, by the entries of T
  A information;  ///< packed m: average information
  A beta;         ///< p
  A x_factor;     ///< packed p: Cholesky factor of X'V^{-1}X, and then
  A x_inverse;    ///< p: the reciprocals of its diagonal
  // Elimination.
  A term_t;            ///< T = lambda lambda' of every term, k x k, at the lambda's place
  A t;                 ///< K x K: T of the streamed factor's terms, block diagonal
  A g;                 ///< packed columns(): cross-products
  A dg;                ///< per parameter, packed: their derivatives
  A f;                 ///< streamed_group x K x columns()
  A small;             ///< 4 K x K; for a team as many as it streams levels together
  A streamed_u;        ///< nodes[0] x K x columns()
  A streamed_b;        ///< nodes[0] x K x K
  A node[max_stages];  ///< per node: H, U (own x outer each), B, W, Kinv (own x own each), X_a (lower parameters x own
                       ///< x outer)
  A scratch;           ///< largest own^2 x 4 + own x outer + lower parameters x own^2
  A phi;               ///< packed columns(): adjoint of the log-determinants
  A v;                 ///< columns(): adjoint direction of r^2
  A modes;  ///< c = Z'Py: streamed levels x K, then per stage and node own (only the last node of each stage is kept on
            ///< the GPU's path)
  A dr;     ///< m: derivative of r^2
};

/// Offset of parameter a's triangle in `dg`, and the total when a = m. Parameters of stage t act on outer[t] columns.
template <class S>
BATCHLMM_INLINE int dg_offset(const S& s, int a) {
  int offset = 0;
  for (int i = 0; i < a; ++i) offset += triangle_size(s.outer[s.term[s.parameter_term[i]].stage]);
  return offset;
}
/// Parameters of stages before `stage`: they come first.
template <class S>
BATCHLMM_INLINE int lower_parameters(const S& s, int stage) {
  int m = 0;
  for (int b = 0; b < s.terms; ++b)
    if (s.term[b].stage < stage) m += triangle_size(s.term[b].k);
  return m;
}
/// Elements kept for one node of a stage.
template <class S>
BATCHLMM_INLINE int node_size(const S& s, int stage) {
  const int own = s.own[stage], outer = s.outer[stage];
  return 2 * own * outer + 3 * own * own + lower_parameters(s, stage) * own * outer;
}
/// Length of c = Z'Py over all random effects.
template <class S>
BATCHLMM_INLINE int modes_size(const S& s) {
  int n = 0;
  for (int t = 0; t <= s.stages; ++t) n += s.nodes[t] * s.own[t];
  return n;
}

/// Hands out arrays from one block; with a null base it only counts.
template <class A>
struct Arena {
  A base;
  std::size_t used = 0;
  BATCHLMM_INLINE A take(std::size_t n) {
    A a = base + used;
    used += n;
    return a;
  }
  /// An array that is gone through once an evaluation.
  BATCHLMM_INLINE A take_streamed(std::size_t n) { return take(n); }
};

/// Hands out arrays from a fast block as long as there is room, and from another one then; with null bases it only
/// counts.
template <class A>
struct TeamArena {
  A fast;
  std::size_t room;  ///< of the fast block
  A slow;
  std::size_t fast_used = 0, slow_used = 0;
  BATCHLMM_INLINE A take(std::size_t n) {
    if (fast_used + n > room) return take_streamed(n);
    A a = fast + fast_used;
    fast_used += n;
    return a;
  }
  BATCHLMM_INLINE A take_streamed(std::size_t n) {
    A a = slow + slow_used;
    slow_used += n;
    return a;
  }
};

/// Streamed levels that a team of these sizes factors together: one where a lane is alone.
template <class S>
BATCHLMM_INLINE constexpr int levels_together(const S& s) {
  return decltype(team_of(s))::alone ? 1 : streamed_group;
}

/// @param s      a Shape, FixedShape or TeamShape
/// @param arena  an Arena or TeamArena
template <class S, template <class> class Block, class A>
BATCHLMM_FUNCTION inline Workspace<A> make_workspace(const S& s, Block<A>& arena) {
  const std::size_t m = s.parameters, k = s.own[0], n = s.columns(), together = levels_together(s);
  Workspace<A> w;
  w.lambda = arena.take(s.lambdas);
  w.gradient = arena.take(m);
  w.hessian = arena.take(triangle_size(s.parameters));
  w.information = arena.take(triangle_size(s.parameters));
  w.beta = arena.take(s.p);
  w.x_factor = arena.take(triangle_size(s.p));
  w.x_inverse = arena.take(s.p);
  w.term_t = arena.take(s.lambdas);
  w.t = arena.take(k * k);
  w.g = arena.take(triangle_size(s.columns()));
  w.dg = arena.take(dg_offset(s, s.parameters));
  w.f = arena.take(streamed_group * k * n);
  w.small = arena.take(together * 4 * k * k);
  w.streamed_u = arena.take_streamed(s.nodes[0] * k * n);
  w.streamed_b = arena.take_streamed(s.nodes[0] * k * k);
  std::size_t scratch = m * (s.p + static_cast<std::size_t>(s.p) * s.p) + s.p;
  if (together * (k * n + k * k) > scratch) scratch = together * (k * n + k * k);
  for (int t = 1; t <= s.stages; ++t) {
    w.node[t] = arena.take(static_cast<std::size_t>(s.nodes[t]) * node_size(s, t));
    const std::size_t own = s.own[t], outer = s.outer[t], low = lower_parameters(s, t);
    const std::size_t up = 5 * own * own + own * outer + own + low * own * own;
    const std::size_t down = own * own + (2 + 2 * low) * own * outer + (3 + 2 * low) * own;
    if (up > scratch) scratch = up;
    if (down > scratch) scratch = down;
  }
  w.scratch = arena.take(scratch);
  w.phi = arena.take(triangle_size(s.columns()));
  w.v = arena.take(n);
  w.modes = arena.take(modes_size(s));
  w.dr = arena.take(m);
  return w;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

/// @file
/// The first evaluation of replicates that all start from one point: everything but the response's part is the same for
/// all of them and done once, on the host. What is left is a pass of the response vector through the elimination
/// (eliminate.hpp) and back, and one scoring step with the expected Hessian there: a start that costs a fraction of an
/// evaluation and takes the place of one.
///
/// With the streamed level's M_j = I + C_j'TC_j = LL', F_j = L^{-1}R_j, f_j = L^{-1}y_j over the columns [X | own of
/// the dense stage], and g the response's cross-products with them:
///     g = e + sum F_j'f_j,   z = S g = [beta | modes of the dense stage in the form T c],
///     r^2 = rest + sum f_j'f_j - g'z,   c_j = C_j L^{-T}(f_j - F_j z),   c_dense = g_own - Gamma_own z
/// and the gradient by T is that of the log-determinants, which is shared, less (N / r^2) c c' summed over the levels.
#pragma once

#include "kernels/newton.hpp"

namespace batchlmm::kernels {

/// Constants of one model at one starting point; shapes of one streamed factor, alone or with one dense node.
struct SharedStart {
  int columns = 0;  ///< n = p + own columns of the dense stage, in this order
  int own = 0;
  const double* streamed = nullptr;  ///< per streamed level: L^{-1} (K x K), F (K x n), C L^{-T} (K x K)
  const double* solve = nullptr;     ///< S, n x n, symmetric
  const double* cross = nullptr;     ///< Gamma_own, own x n
  const double* offset = nullptr;    ///< m: the step's part that is shared
  const double* map = nullptr;       ///< m x m: of (N / r^2) s, s the sums of c c' by the entries of T
  const double* l = nullptr;         ///< lambdas: the point's coordinates (covariance.hpp)
  const double* pivot = nullptr;     ///< lambdas
  const double* w = nullptr;         ///< terms
};

inline namespace BATCHLMM_ISA {

template <class A>
struct SharedStartScratch {
  A f;                      ///< streamed levels x K
  A g, z;                   ///< n
  A c;                      ///< K (for a team: of all streamed levels), or own
  A s;                      ///< m
  NewtonScratch<A> newton;  ///< next and step
};

template <class S, template <class> class Block, class A>
BATCHLMM_FUNCTION inline SharedStartScratch<A> make_shared_start_scratch(const S& s, Block<A>& arena) {
  const std::size_t own = s.stages > 0 ? s.own[1] : 0, n = s.p + own, k = s.own[0];
  SharedStartScratch<A> x;
  x.f = arena.take(s.nodes[0] * k);
  x.g = arena.take(n);
  x.z = arena.take(n);
  const std::size_t streamed = decltype(team_of(s))::alone ? k : s.nodes[0] * k;
  x.c = arena.take(own > streamed ? own : streamed);
  x.s = arena.take(s.parameters);
  x.newton.next = {arena.take(s.lambdas), arena.take(s.lambdas), arena.take(s.terms)};
  x.newton.step = arena.take(s.parameters);
  return x;
}

/// x.s: sums of c c' over the levels of every term, by the entries of T (off-diagonal entries count both places).
/// @param response  as in Design
/// @return r^2
template <class V, class S, class Y, class A>
BATCHLMM_FUNCTION inline V shared_sums(const S& s, const SharedStart& shared, const Y& response,
                                       const SharedStartScratch<A>& x) {
  const int K = s.own[0], levels = s.nodes[0], n = shared.columns, own = shared.own, p = n - own;
  const std::size_t stride = static_cast<std::size_t>(K) * (2 * K + n);
  const auto team = team_of(s);
  for (int i = first_mine(team, 0); i < s.parameters; i += team.size()) x.s[i] = V(0.0);
  // Members share T's entries out.
  const auto add = [&](int stage, int begin) {
    for (int b = 0; b < s.terms; ++b) {
      const auto& term = s.term[b];
      if (term.stage != stage) continue;
      const int count = stage == 0 ? 1 : term.levels;
      for (int l = 0; l < count; ++l) {
        const int at = begin + term.column + l * term.k;
        for (int i = 0; i < term.k; ++i)
          for (int j = 0; j <= i; ++j) {
            const int a = term.parameter + triangle(i, j);
            if (!is_mine(team, a)) continue;
            const A to = x.s + a;
            to[0] = fma(x.c[at + i] * V(i == j ? 1.0 : 2.0), V(x.c[at + j]), V(to[0]));
          }
      }
    }
  };
  const int dense = levels * K;
  for (int i = first_mine(team, 0); i < n; i += team.size())
    x.g[i] = i < p ? response[dense + own + i] : response[dense + i - p];
  V r2 = response[dense + n];
  const auto project = [&](int j, int a) {
    const double* inverse = shared.streamed + j * stride;
    V t = V(0.0);
    for (int q = 0; q <= a; ++q) t = fma(V(inverse[a * K + q]), V(response[j * K + q]), t);
    x.f[j * K + a] = t;
  };
  if constexpr (!decltype(team_of(s))::alone) {
    Deal<decltype(team_of(s))> deal(team);
    for (int j = 0; j < levels; ++j)
      for (int a = deal.first(K); a < K; a += team.size()) project(j, a);
    team.sync();
  }
  for (int j = 0; j < levels; ++j) {
    const double* f = shared.streamed + j * stride + K * K;
    for (int a = 0; a < K; ++a) {
      if constexpr (decltype(team_of(s))::alone) project(j, a);
      const V t = x.f[j * K + a];
      r2 = fma(t, t, r2);
      for (int i = first_mine(team, 0); i < n; i += team.size()) x.g[i] = fma(V(f[a * n + i]), t, V(x.g[i]));
    }
  }
  team.sync();
  for (int i = first_mine(team, 0); i < n; i += team.size()) {
    V t = V(0.0);
    for (int q = 0; q < n; ++q) t = fma(V(shared.solve[i * n + q]), V(x.g[q]), t);
    x.z[i] = t;
  }
  team.sync();
  for (int i = 0; i < n; ++i) r2 = fnma(V(x.z[i]), V(x.g[i]), r2);
  for (int i = first_mine(team, 0); i < own; i += team.size()) {
    V t = x.g[p + i];
    for (int q = 0; q < n; ++q) t = fnma(V(shared.cross[i * n + q]), V(x.z[q]), t);
    x.c[i] = t;
  }
  team.sync();
  if (own > 0) add(1, 0);
  team.sync();
  // A member a level; alone, c is that of one level.
  const int c_stride = decltype(team_of(s))::alone ? 0 : K;
  for (int j = first_mine(team, 0); j < levels; j += team.size()) {
    const double *f = shared.streamed + j * stride + K * K, *back = f + K * n;
    for (int a = 0; a < K; ++a) {
      V t = x.f[j * K + a];
      for (int i = 0; i < n; ++i) t = fnma(V(f[a * n + i]), V(x.z[i]), t);
      x.f[j * K + a] = t;
    }
    for (int a = 0; a < K; ++a) {
      V t = V(0.0);
      for (int q = 0; q < K; ++q) t = fma(V(back[a * K + q]), V(x.f[j * K + q]), t);
      x.c[j * c_stride + a] = t;
    }
    if constexpr (decltype(team_of(s))::alone) add(0, 0);
  }
  if constexpr (!decltype(team_of(s))::alone) {
    team.sync();
    for (int j = 0; j < levels; ++j) add(0, j * c_stride);
  }
  team.sync();
  return r2;
}

/// A variance that a scoring step would take below 0 starts at this c rho: from 0 the way back is longer.
inline constexpr double least_scored_ratio = 0.02;

/// The starting point of a response vector's fit into `lambda`, which a team's first member writes.
template <class V, class S, class Y, class A, class L>
BATCHLMM_FUNCTION inline void shared_start(const S& s, const SharedStart& shared, const Y& response,
                                           const SharedStartScratch<A>& x, const L& lambda) {
  const int m = s.parameters;
  const auto team = team_of(s);
  const V r2 = shared_sums<V>(s, shared, response, x);
  const auto ok = r2 > V(0.0);
  const V n_over_r2 = V(s.degrees) / select(ok, r2, V(1.0));
  const NewtonScratch<A>& n = x.newton;
  for (int i = first_mine(team, 0); i < s.lambdas; i += team.size()) {
    n.next.l[i] = V(shared.l[i]);
    n.next.pivot[i] = V(shared.pivot[i]);
  }
  for (int b = first_mine(team, 0); b < s.terms; b += team.size()) n.next.w[b] = V(shared.w[b]);
  for (int i = first_mine(team, 0); i < m; i += team.size()) {
    V t = V(0.0);
    for (int a = 0; a < m; ++a) t = fma(V(shared.map[i * m + a]), V(x.s[a]), t);
    n.step[i] = fma(t, n_over_r2, V(shared.offset[i]));
  }
  team.sync();
  if (!is_first(team)) return;
  const V least = V(4.0 * (1.0 - 1.0 / square_root(square_root(1.0 + least_scored_ratio))));
  for (int b = 0; b < s.terms; ++b) {
    const int i = bounded_coordinate(s.term[b]);
    n.step[i] = maximum(V(n.step[i]), minimum(least - n.next.w[b], V(0.0)));
  }
  from_coordinates<V>(s, n.next, n.step, select(ok, fraction_of_step<V>(s, n), V(0.0)), lambda);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

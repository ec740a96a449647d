/// @file
/// Contrasts' forms (contrast_forms.hpp) from the streaming elimination: after an evaluation with derivatives every
/// node's matrices are there, and a contrast goes down through them as the response's direction does
/// (derivatives.hpp), at the cost of a few products of a matrix and a vector a node. c = Z'u takes the place of Z'Py.
#pragma once

#include "kernels/contrast_forms.hpp"
#include "kernels/deviance.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template <class A>
struct StreamingContrasts {
  A v;      ///< rows x columns(): directions
  A kx;     ///< rows x m x p
  A modes;  ///< rows x own: c of one node
  A bc;     ///< rows x own: of one pair of contrasts
  A xv;     ///< rows x lower parameters x own: X_a v
  A wx;     ///< the same: W'X_a v
  A kxv;    ///< the same: K X_a v
};

template <class S, class A>
BATCHLMM_FUNCTION inline StreamingContrasts<A> make_streaming_contrasts(const S& s, const TestPlan& plan,
                                                                        Arena<A>& arena) {
  const std::size_t rows = plan.rows;
  std::size_t own = s.own[0], low = 0;
  for (int t = 1; t <= s.stages; ++t) {
    const std::size_t n = s.own[t], below = static_cast<std::size_t>(lower_parameters(s, t)) * n;
    if (n > own) own = n;
    if (below > low) low = below;
  }
  StreamingContrasts<A> x;
  x.v = arena.take(rows * s.columns());
  x.kx = arena.take(rows * s.parameters * s.p);
  x.modes = arena.take(rows * own);
  x.bc = arena.take(own);
  x.xv = arena.take(rows * low);
  x.wx = arena.take(rows * low);
  x.kxv = arena.take(rows * low);
  return x;
}

/// Adds what the terms of one node give to K: c_k'E_a B E_b c_l, in both orders of the contrasts.
/// @param B  n x n
/// @param c  rows x n
template <class V, class S, class A>
BATCHLMM_INLINE void add_node_forms(const S& s, const TestPlan& plan, const ContrastForms<A>& f, int stage, int n,
                                    const A& B, const A& c, const A& bc) {
  for_each_contrast_pair(plan, [&](int pair, int row, int row2) {
    const V half = V(row == row2 ? 1.0 : 0.5);
    for (int side = 0; side < (row == row2 ? 1 : 2); ++side) {
      const A ck = c + (side == 0 ? row : row2) * n, cl = c + (side == 0 ? row2 : row) * n;
      for (int b2 = 0; b2 < s.terms; ++b2) {
        const auto& other = s.term[b2];
        if (other.stage != stage) continue;
        for (int k = 0; k < other.k; ++k)
          for (int l = 0; l <= k; ++l) {
            const int a2 = other.parameter + triangle(k, l);
            // B E c_l over all levels of the term.
            for (int i = 0; i < n; ++i) bc[i] = V(0.0);
            for (int level = 0; level < other.levels; ++level) {
              const int o = other.column + level * other.k;
              const V cl_l = cl[o + l], cl_k = cl[o + k];
              for (int i = 0; i < n; ++i) {
                V t = fma(B[i * n + o + k], cl_l, V(bc[i]));
                if (k != l) t = fma(B[i * n + o + l], cl_k, t);
                bc[i] = t;
              }
            }
            for (int b = b2; b < s.terms; ++b) {
              const auto& term = s.term[b];
              if (term.stage != stage) continue;
              for (int i = 0; i < term.k; ++i)
                for (int j = 0; j <= i; ++j) {
                  const int a = term.parameter + triangle(i, j);
                  if (a < a2) continue;
                  V sum = V(0.0);
                  for (int level = 0; level < term.levels; ++level)
                    sum = sum + bilinear<V>(ck, bc, term.column + level * term.k, i, j);
                  const int at = triangle(a, a2) * plan.pairs + pair;
                  f.k[at] = fma(half, sum, V(f.k[at]));
                }
            }
          }
      }
    }
  });
}

/// One node of stage t >= 1.
template <class V, class S, class A>
BATCHLMM_FUNCTION inline void descend_contrasts(const S& s, const TestPlan& plan, const Workspace<A>& w, int stage,
                                                int index, const StreamingContrasts<A>& x, const ContrastForms<A>& f) {
  const int n = s.own[stage], c = s.outer[stage], low = lower_parameters(s, stage), N = s.columns(),
            step = low * n;  // from one contrast to the next
  const Node<A> node(w.node[stage] + static_cast<std::size_t>(index) * node_size(s, stage), n, c);
  for (int row = 0; row < plan.rows; ++row) {
    const A v = x.v + row * N, modes = x.modes + row * n;
    for (int i = 0; i < n; ++i) {
      V t = V(0.0);
      for (int e = 1; e < c; ++e) t = fma(node.u[i * c + e], v[e], t);
      modes[i] = t;
    }
    for (int a = 0; a < low; ++a) {
      const A xa = node.x + a * n * c, xva = x.xv + row * step + a * n, wxa = x.wx + row * step + a * n,
              kxva = x.kxv + row * step + a * n;
      for (int i = 0; i < n; ++i) {
        V t = V(0.0);
        for (int e = 1; e < c; ++e) t = fma(xa[i * c + e], v[e], t);
        xva[i] = t;
      }
      for (int i = 0; i < n; ++i) {
        V t = V(0.0);
        for (int e = 0; e < n; ++e) t = fma(node.w[e * n + i], xva[e], t);
        wxa[i] = t;
      }
      for_each_block(s, stage, [&](int b, int o) {
        const int k = s.term[b].k;
        const A t = w.term_t + s.term[b].lambda;
        for (int i = 0; i < k; ++i) {
          V value = V(0.0);
          for (int q = 0; q < k; ++q) value = fma(t[i * k + q], wxa[o + q], value);
          kxva[o + i] = value;
        }
      });
    }
  }
  add_node_forms<V>(s, plan, f, stage, n, node.b, x.modes, x.bc);
  for_each_contrast_pair(plan, [&](int pair, int row, int row2) {
    // Both orders of the contrasts where they differ.
    const V half = V(row == row2 ? 1.0 : 0.5);
    for (int side = 0; side < (row == row2 ? 1 : 2); ++side) {
      const int r = side == 0 ? row : row2, r2 = side == 0 ? row2 : row;
      for (int a = 0; a < low; ++a) {
        const A kxva = x.kxv + r * step + a * n, wxa = x.wx + r * step + a * n;
        for (int b = 0; b <= a; ++b) {
          const A xvb = x.xv + r2 * step + b * n;
          V t = V(0.0);
          for (int i = 0; i < n; ++i) t = fma(kxva[i], xvb[i], t);
          const int at = triangle(a, b) * plan.pairs + pair;
          f.k[at] = fnma(half, t, V(f.k[at]));
        }
        for (int b = 0; b < s.terms; ++b) {
          const auto& term = s.term[b];
          if (term.stage != stage) continue;
          for (int i = 0; i < term.k; ++i)
            for (int j = 0; j <= i; ++j) {
              V t = V(0.0);
              for (int level = 0; level < term.levels; ++level)
                t = t + bilinear<V>(wxa, x.modes + r2 * n, term.column + level * term.k, i, j);
              const int at = triangle(term.parameter + triangle(i, j), a) * plan.pairs + pair;
              f.k[at] = fnma(half, t, V(f.k[at]));
            }
        }
      }
    }
  });
  for (int row = 0; row < plan.rows; ++row) {
    const A v = x.v + row * N;
    for (int i = 0; i < n; ++i) {
      V t = V(0.0);
      for (int e = 1; e < c; ++e) t = fnma(V(node.h[i * c + e]), V(v[e]), t);
      v[c + i] = t;
    }
  }
}

/// S, D and, for Kenward and Roger, K after an evaluation with derivatives.
/// @param w       as `evaluate` left it
/// @param result  of the evaluation
template <class V, class S, class A>
BATCHLMM_FUNCTION inline void streaming_contrasts(const S& s, const TestPlan& plan, const Workspace<A>& w,
                                                  const Evaluation<V>& result, const V& degrees,
                                                  const StreamingContrasts<A>& x, const ContrastForms<A>& f) {
  const int p = s.p, N = s.columns(), m = s.parameters, stages = s.stages;
  const A l = w.x_factor;
  entries_of_t<V>(s, w.lambda, f.t);
  const V n_over_r2 = degrees / result.r2, n_over_r4 = n_over_r2 / result.r2;
  for (int a = 0; a < m; ++a) {
    f.gradient[a] = w.gradient[a];
    f.dr[a] = w.dr[a];
    for (int b = 0; b <= a; ++b) {
      const int at = triangle(a, b);
      f.hessian[at] = w.hessian[at];
      // The log-determinants' second derivative is -tr(P G P G).
      if (plan.kenward_roger)
        f.info[at] = fma(n_over_r4 * w.dr[a], w.dr[b], fma(V(2.0), V(w.information[at]), -w.hessian[at]));
    }
    if (plan.kenward_roger) f.trace[a] = fnma(n_over_r2, V(w.dr[a]), V(w.gradient[a]));
  }
  for (int row = 0; row < plan.rows; ++row) {
    const A phi = f.phi_l + row * p, contrast = f.l + row * p, v = x.v + row * N;
    V estimate = f.value[row];
    for (int i = 0; i < p; ++i) {
      estimate = fma(contrast[i], w.beta[i], estimate);
      V t = contrast[i];
      for (int e = 0; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(phi[e]), t);
      phi[i] = t * w.x_inverse[i];
    }
    f.estimate[row] = estimate;
    for (int i = p - 1; i >= 0; --i) {
      V t = phi[i];
      for (int e = i + 1; e < p; ++e) t = fnma(V(l[triangle(e, i)]), V(phi[e]), t);
      phi[i] = t * w.x_inverse[i];
    }
    v[0] = V(0.0);
    for (int i = 0; i < p; ++i) v[1 + i] = phi[i];
  }
  for_each_contrast_pair(plan, [&](int pair, int row, int row2) {
    V t = V(0.0);
    for (int i = 0; i < p; ++i) t = fma(f.l[row * p + i], f.phi_l[row2 * p + i], t);
    f.s[pair] = t;
  });
  // X'V^{-1}X changes by dg along T_a: D = -(Phi l)'dg (Phi l), and X's part of K.
  int offset = 0;
  for (int a = 0; a < m; ++a) {
    const A dg = w.dg + offset;
    offset += triangle_size(s.outer[s.term[s.parameter_term[a]].stage]);
    for (int row = 0; row < plan.rows; ++row) {
      const A phi = f.phi_l + row * p, ka = x.kx + (row * m + a) * p;
      for (int i = 0; i < p; ++i) {
        V t = V(0.0);
        for (int e = 0; e < p; ++e) t = fma(dg[packed(1 + i, 1 + e)], phi[e], t);
        ka[i] = t;
      }
    }
    for_each_contrast_pair(plan, [&](int pair, int row, int row2) {
      const A ka = x.kx + (row * m + a) * p, phi = f.phi_l + row2 * p;
      V t = V(0.0);
      for (int i = 0; i < p; ++i) t = fnma(V(ka[i]), V(phi[i]), t);
      f.d[a * plan.pairs + pair] = t;
    });
    for (int row = 0; plan.kenward_roger && row < plan.rows; ++row) {
      const A ka = x.kx + (row * m + a) * p;
      for (int i = 0; i < p; ++i) {
        V t = ka[i];
        for (int e = 0; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(ka[e]), t);
        ka[i] = t * w.x_inverse[i];
      }
    }
  }
  if (!plan.kenward_roger) return;
  for_each_contrast_pair(plan, [&](int pair, int row, int row2) {
    for (int a = 0; a < m; ++a)
      for (int b = 0; b <= a; ++b) {
        const A ka = x.kx + (row * m + a) * p, kb = x.kx + (row2 * m + b) * p, ka2 = x.kx + (row2 * m + a) * p,
                kb2 = x.kx + (row * m + b) * p;
        V t = V(0.0);
        for (int i = 0; i < p; ++i) t = fnma(V(ka[i]), V(kb[i]), t);
        if (row != row2) {
          for (int i = 0; i < p; ++i) t = fnma(V(ka2[i]), V(kb2[i]), t);
          t = V(0.5) * t;
        }
        f.k[triangle(a, b) * plan.pairs + pair] = t;
      }
  });

  int current[max_stages] = {};
  for (int t = 1; t <= stages; ++t) current[t] = s.nodes[t] - 1;
  for (int end = s.nodes[0]; end > 0;) {
    for (int t = stages; t >= 1; --t)
      if (s.node_end[t][current[t]] == end) descend_contrasts<V>(s, plan, w, t, current[t], x, f);
    const int begin = stages > 0 && current[1] > 0 ? s.node_end[1][current[1] - 1] : 0;
    const int K = s.own[0];
    for (int j = end - 1; j >= begin; --j) {
      const A u = w.streamed_u + static_cast<std::size_t>(j) * K * N;
      for (int row = 0; row < plan.rows; ++row)
        for (int i = 0; i < K; ++i) {
          V t = V(0.0);
          for (int e = 1; e < N; ++e) t = fma(u[i * N + e], x.v[row * N + e], t);
          x.modes[row * K + i] = t;
        }
      add_node_forms<V>(s, plan, f, 0, K, w.streamed_b + static_cast<std::size_t>(j) * K * K, x.modes, x.bc);
    }
    end = begin;
    for (int t = 1; t <= stages; ++t)
      if (current[t] > 0 && s.node_end[t][current[t] - 1] == end) --current[t];
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

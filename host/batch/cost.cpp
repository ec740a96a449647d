#include "host/batch/cost.hpp"

#include "kernels/cpu.hpp"
#include "kernels/newton.hpp"
#include "kernels/texts.hpp"

namespace batchlmm {
namespace {

using kernels::lower_parameters;
using kernels::Shape;
using kernels::TermShape;
using kernels::triangle_size;

double triangle(double n) { return 0.5 * n * (n + 1); }

/// Products of four that kernels::trace_of_four takes, on average over the pairs of parameters of two blocks, and the
/// like for one block: parameters on the diagonal need half of an off-diagonal one's.
double pair_work(int k) { return k + 2.0 * (triangle(k) - k); }

/// Calls visit(term, offset of the level's columns) for every level of every term of a stage.
template <class F>
void for_each_level(const Shape& s, int stage, const F& visit) {
  for (int b = 0; b < s.terms; ++b)
    if (s.term[b].stage == stage)
      for (int l = 0; l < s.term[b].levels; ++l) visit(s.term[b], s.term[b].column + l * s.term[b].k);
}

/// add_own of kernels/derivatives.hpp: gradient and second derivatives within one node.
double own_terms(const Shape& s, int stage, bool with_phi, bool with_bb) {
  const double forms = 2 + (with_bb ? 1 : 0) + (with_phi ? 2 : 0);
  double gradient = 0, parameters = 0, work = 0, squares = 0;
  for_each_level(s, stage, [&](const TermShape& term, int) {
    const int k = term.k;
    gradient += 4 * triangle(k);
    parameters += triangle(k);
    work += pair_work(k);
    squares += k + 4 * (triangle(k) - k);
  });
  // Pairs of parameters: one bilinear form and up to three traces each, and their sums.
  return gradient + 0.5 * (work * work + squares) * forms + triangle(parameters) * (forms - 1);
}

struct UpAndDown {
  double value = 0, derivatives = 0;
};

UpAndDown streamed_level(const Shape& s, int first) {
  const double K = s.own[0], N = s.columns(), phi = N - first;
  UpAndDown cost;
  if (s.own[0] == 1) {
    cost.value = 2 * N + 8 + triangle(N);
    cost.derivatives = triangle(N) + N + N + (phi > 0 ? triangle(phi) + 2 * phi : 0) + 12;
    return cost;
  }
  cost.value = K * triangle(K) + triangle(K) * (K + 1) / 2 + K * K * (K + 5) / 6  // T C, M and its factor
               + (N + K) * (triangle(K)) + K * triangle(K)                        // F, L^{-1}C', B
               + K * K * N + K * triangle(N);                                     // U, the update of g
  for (int b = 0; b < s.terms; ++b) {
    if (s.term[b].stage != 0) continue;
    const double k = s.term[b].k;
    cost.derivatives += triangle(N) * (k + 2 * (triangle(k) - k)) + N * triangle(k);
  }
  cost.derivatives += K * N + own_terms(s, 0, phi > 0, true);
  if (phi > 0) cost.derivatives += K * phi * phi + K * K * phi;
  return cost;
}

UpAndDown node(const Shape& s, int stage, int first) {
  const double n = s.own[stage], c = s.outer[stage], low = lower_parameters(s, stage), phi = c > first ? c - first : 0;
  UpAndDown cost;
  double own_dg = 0, own_parameters = 0, own_work = 0, squares = 0;
  for_each_level(s, stage, [&](const TermShape& term, int o) {
    const double k = term.k, rest = n - o;
    cost.value += n * k * k + k * k * (o + 0.5 * (k + 1));  // Gamma Lambda, S
    cost.value += k * (0.5 * rest * rest + rest);           // L^{-1} Lambda'
    cost.value += k * c * (o + k);                          // P
    cost.derivatives += k * n * (o + k);
    cost.derivatives += k * n * rest + k * k * (o + 0.5 * (k + 1)) + k * k * c;  // W, and K and H by it
    squares += k * k;
    own_dg += triangle(c) * pair_work(term.k);
    own_parameters += triangle(k);
    own_work += pair_work(term.k);
  });
  cost.value += n * (n + 1) * (n + 2) / 6 + triangle(c) * n;  // the factor, the update of g
  cost.derivatives += triangle(n) * n + n * n * c;
  // Up: what the stages before bring.
  cost.derivatives +=
      low * (n * n * c + n * n * n + squares * n + 2 * n * triangle(c) + own_work * n) + triangle(low) * n * n;
  // Its own parameters.
  cost.derivatives += own_dg + 0.5 * own_work * own_work;
  // Down.
  cost.derivatives += n * c + own_terms(s, stage, phi > 0, false);
  cost.derivatives += n * phi * phi + n * n * phi;
  cost.derivatives += low * (n * c + n * n + squares + n * phi * phi + 2 * n * n * phi + own_work * (2 + phi));
  cost.derivatives += triangle(low) * (n + n * phi);
  cost.derivatives += n * phi * phi + triangle(n) * phi + n * c;
  return cost;
}

UpAndDown fixed_effects(const Shape& s) {
  const double p = s.p, m = s.parameters;
  UpAndDown cost;
  cost.value = p * (p + 1) * (p + 2) / 6 + 3 * triangle(p) + 4 * p;
  cost.derivatives = m * (p * p + triangle(p) + 3 * p) + triangle(m) * p;
  if (s.reml) cost.derivatives += m * p * p * (p + 1) + triangle(m) * p * p + p * (p + 1) * (2 * p + 1) / 6 + p * p;
  return cost;
}

double newton_step(const Shape& s) {
  const double m = s.parameters;
  double cost = 0;
  for (int b = 0; b < s.terms; ++b) {
    const double k = s.term[b].k, mb = triangle(k);
    cost += k * k * (k + 1) / 2 + mb * mb * 2 + mb * mb + mb * 2 * k * k + 2 * mb * k;  // Jacobian, gradient, curvature
    cost += k * k * k + mb * (k + 2) + 12;                                              // to and from the coordinates
    if (s.term[b].k > 1) cost += mb * m + 30 * (k - 1);                                 // the columns' charts
    for (int b2 = 0; b2 <= b; ++b2) {
      const double mb2 = triangle_size(s.term[b2].k);
      cost += 2 * (mb * mb2 * mb2 + (b == b2 ? triangle(mb) * mb : mb * mb * mb2));
    }
  }
  // The bound-constrained step, by one matrix or both: the coordinates without a bound are eliminated once, how many
  // solves the bounded ones take depends on the bounds that are hit.
  const double free = m - s.terms, terms = s.terms;
  cost += 1.5 * (free * (free * free - 1) / 6 + 4 * triangle(free) + terms * (triangle(free) + (terms + 5) * free));
  cost +=
      1.5 * (3 * free + 2 * (terms * (terms * terms - 1) / 6 + 4 * triangle(terms)) + 10 * terms) + 10 * m + 16 * terms;
  return cost;
}

/// kernels/crossed_intercepts.hpp
UpAndDown crossed_intercepts(const Shape& s) {
  const double levels = s.nodes[0], n = s.own[1], p = s.p, outer = 1 + p;
  const double cubic = n * (n + 1) * (n + 2) / 6;
  UpAndDown cost;
  cost.value = levels * (9 + outer + n + triangle(p + n)) + triangle(n) + cubic + 2 * n;  // weights, Gamma, the factor
  cost.value += cubic + 2 * outer * triangle(n) + triangle(outer) * (n + 1);              // L^{-1}, F, U, F'F
  cost.derivatives = 2 * levels * triangle(n) + cubic;                                    // M and M_b, S^{-1}
  cost.derivatives += n * p + levels * (2 * (p + n) + 6);                                 // c
  cost.derivatives += n * n + 3 * n + 4 * triangle(n) + triangle(n) * (n + 5) + n * n * n + 2.5 * n * n;  // traces
  cost.derivatives += 2 * p * n + 2 * triangle(p) + 5 * p + 30;
  return cost;
}

/// kernels/crossed_terms.hpp
UpAndDown crossed_terms(const Shape& s) {
  const double J = s.nodes[0], L = s.term[1].levels, k1 = s.own[0], k2 = s.term[1].k, m1 = triangle(k1),
               m2 = triangle(k2), streamed = J * k1, n = L * k2, p = s.p, outer = 1 + p, x = s.reml ? p : 0;
  // Sums of products with the levels before, or after, of one row; and of Z_2's rows with each other.
  const double row = 0.5 * n * (n - k2), rows = L * (L - 1) * (L - 2) / 6 * k2 * k2 * k2 + k2 * row;
  UpAndDown cost;
  cost.value = J * (k1 * m1 + m1 * (k1 + 1) / 2 + k1 * k1 * (k1 + 5) / 3 + k1 * m1 + 3 * k1);  // a level's L, Y, B
  cost.value += J * (n + outer) * (m1 + k1 * k1);                                              // F and U
  cost.value += streamed * (triangle(outer) + outer * n + 0.5 * n * (n + k2));                 // Gamma
  cost.value += (streamed + outer) * row + 2 * rows - k2 * row;                                // what levels take
  cost.value += L * ((streamed + outer + n - k2) * 2 * k2 * k2 + 5 * k2 * k2 * k2 + 5 * k2);
  cost.value += triangle(outer) * n;
  cost.derivatives = outer * (streamed * n + row);                                       // Z'W[y | X]
  cost.derivatives += (streamed + n) * (p + triangle(p)) + J * m1 + L * m2;              // c, L_x^{-1}X'WZ
  if (!s.reml) cost.derivatives += p * (J * k1 * k1 + L * k2 * k2 + triangle(m1 + m2));  // what X takes
  cost.derivatives += streamed * row + rows + k1 * k1 * triangle(J) * n;                 // blocks of Q
  cost.derivatives += x * (L * J * k1 * k2 + triangle(L) * k2 * k2 + triangle(J) * k1 * k1);
  const auto sums = [](double blocks, double level_rows, double k, double l) {
    const double mk = triangle(k), ml = triangle(l);
    return blocks * (mk * ml + (mk - k) * (ml - l) + k * l * l) + level_rows * ml * k * k;
  };
  cost.derivatives += sums(triangle(J), J, k1, k1) + sums(triangle(L), L, k2, k2) + sums(L * J, L, k2, k1);
  cost.derivatives += J * (k1 * k1 + m1) + L * (k2 * k2 + m2) + 8 * triangle(m1 + m2);
  return cost;
}

bool is_crossed_terms(const Shape& s) {
  return kernels::is_crossed_terms<1, 2>(s) || kernels::is_crossed_terms<2, 1>(s) || kernels::is_crossed_terms<2, 2>(s);
}

}  // namespace

StreamingCost streaming_cost(const Shape& s) {
  if (kernels::is_crossed_intercepts(s) || is_crossed_terms(s)) {
    const UpAndDown random = kernels::is_crossed_intercepts(s) ? crossed_intercepts(s) : crossed_terms(s),
                    fixed = fixed_effects(s);
    const double value = random.value + fixed.value + 60;
    return {value, value + random.derivatives, newton_step(s)};
  }
  const int first = s.reml ? 1 : 1 + s.p;
  StreamingCost cost;
  const auto add = [&](const UpAndDown& part, double times) {
    cost.value += times * part.value;
    cost.derivatives += times * (part.value + part.derivatives);
  };
  add(streamed_level(s, first), s.nodes[0]);
  for (int t = 1; t <= s.stages; ++t) add(node(s, t, first), s.nodes[t]);
  add(fixed_effects(s), 1);
  const double m = s.parameters;
  cost.value += 60;  // two logarithms
  cost.derivatives += 60 + 4 * triangle(m);
  cost.newton = newton_step(s);
  return cost;
}

std::size_t lane_doubles(const Shape& s) {
  return kernels::with_text(kernels::text_kind(s), [&](auto text) {
    const typename decltype(text)::Sizes sizes(s);
    kernels::Arena<double*> count{nullptr};
    (void)kernels::make_workspace(sizes, count);
    (void)kernels::make_newton<double>(sizes, count);
    return count.used + static_cast<std::size_t>(s.response);
  });
}

double tile_bytes(const Shape& s, bool own_designs) {
  // Designs of their own are one vector wide.
  const int vectors =
      own_designs ? 1 : kernels::with_text(kernels::text_kind(s), [](auto text) { return text.vectors; });
  const int lanes = kernels::cpu_kernels().lanes / 2 * vectors;
  return 8.0 * lanes * static_cast<double>(lane_doubles(s) + (own_designs ? design_doubles(s) : 0));
}

}  // namespace batchlmm

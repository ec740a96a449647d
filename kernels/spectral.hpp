/// @file
/// The exact law of the likelihood-ratio statistic of one variance component, draw by draw.
///
/// With mu the eigenvalues of Z'PZ above 0 (P = I - X(X'X)^{-1}X', multiplicities m), xi those whose log-determinant
/// counts (REML: mu; ML: of Z'Z), N = n - p or n, the statistic is (Crainiceanu and Ruppert 2004, "Likelihood ratio
/// tests in linear mixed models with one variance component", theorem 1)
///
///     N log(U + sum S + C) - min over lambda >= 0 of  g = N log(C + sum S_i / (1 + lambda mu_i)) + sum log(1 + lambda
///     xi_j)
///
/// with independent chi-squares S_i (of m_i degrees of freedom: equal eigenvalues are one), C (the rest of n - p) and U
/// (of as many as fixed effects are dropped).
///
/// **The minimum is the global one.** In x = log(1 + mu_1 lambda), mu_1 the smallest, Q = C + sum S_i / (1 + lambda
/// mu_i) is a sum of r e^x / (...) terms with r = mu_i / mu_1 >= 1: Q, -Q', Q'' decrease, and so does -(log Q)' (a sum
/// of log-convex functions is log-convex). From values at both ends of an interval follow bounds of g' and g'' on all
/// of it: where g' keeps its sign there is no minimum inside, where g'' > 0 at most one. `spectral_statistic` looks at
/// all intervals between shared nodes at once; a draw for which each of them is decided has one minimum, which
/// two-sided cubic interpolation and Newton's method find. The others are for `spectral_search`, which halves intervals
/// until they are decided, or until g cannot come below the best minimum found.
#pragma once

#include "kernels/chi_square.hpp"
#include "kernels/spectral_law.hpp"

namespace batchlmm::kernels {

inline namespace BATCHLMM_ISA {

/// Chi-squares of one replicate a lane, in order.
template <class V>
class SumsOfSquares {
public:
  BATCHLMM_INLINE SumsOfSquares(std::uint64_t seed, const IntOf<V>& replicate)
      : seed_(seed), replicate_(replicate), normals_(seed, replicate, 0) {}
  /// Sums of squared normals and of exponentials (the logarithm of a product of uniforms) up to twelve degrees, a
  /// rejection method beyond.
  BATCHLMM_INLINE V next(double degrees) {
    constexpr int most_summed = 12;
    ++stream_;
    if (degrees > most_summed) return chi_square<V>(seed_, replicate_, stream_, degrees);
    const int m = static_cast<int>(degrees);
    V sum = V(0.0);
    if (m % 2 == 1) {
      const V z = normals_.next();
      sum = z * z;
    }
    if (m < 2) return sum;
    V product = uniform_number();
    for (int i = 1; i < m / 2; ++i) product = product * uniform_number();
    return fma(V(-2.0), logarithm(product), sum);
  }

private:
  BATCHLMM_INLINE V uniform_number() {
    if (have_) {
      have_ = false;
      return spare_;
    }
    const PhiloxWords<V> words = philox<V>(seed_, replicate_, IntOf<V>(draw_++), 1);
    spare_ = uniform<V>(words.word[2], words.word[3]);
    have_ = true;
    return uniform<V>(words.word[0], words.word[1]);
  }
  std::uint64_t seed_;
  IntOf<V> replicate_;
  Normals<V> normals_;        // stream 0
  std::uint64_t draw_ = 0;    // of stream 1
  std::uint32_t stream_ = 1;  // those of rejections follow
  V spare_ = V(0.0);
  bool have_ = false;
};

/// One draw a lane.
template <class V>
struct SpectralDraw {
  const V* s = nullptr;  ///< groups
  V residual, dropped;   ///< C, U
};
/// @param s  groups, of the caller
template <class V>
BATCHLMM_INLINE SpectralDraw<V> draw_spectral(const SpectralLaw& law, std::uint64_t seed, const IntOf<V>& replicate,
                                              V* s) {
  SumsOfSquares<V> chi(seed, replicate);
  for (int i = 0; i < law.groups; ++i) s[i] = chi.next(law.multiplicity[i]);
  SpectralDraw<V> draw;
  draw.s = s;
  draw.residual = chi.next(law.residual);
  draw.dropped = chi.next(law.dropped);
  return draw;
}

/// Q, -Q', Q'' and the log-determinants with their derivatives. Those of ratios of at least 1, whose slope falls, and
/// below 1, whose slope rises, are kept apart.
template <class V>
struct SpectralPoint {
  V x, q, fall, bend, log_determinant;
  V slope_falling, slope_rising, curvature_falling, curvature_rising;
  BATCHLMM_INLINE V slope() const { return slope_falling + slope_rising; }
  BATCHLMM_INLINE V curvature() const { return curvature_falling + curvature_rising; }
};

/// Sum of log_count * log(1 + tau log_ratio): logarithms of products of a few factors.
template <class V>
BATCHLMM_INLINE V spectral_log_determinant(const SpectralLaw& law, const V& tau) {
  constexpr int many = 4;  // up to seven factors of at most 1e40
  V sum = V(0.0), product = V(1.0);
  int factors = 0;
  for (int j = 0; j < law.logs; ++j) {
    const V factor = fma(V(law.log_ratio[j]), tau, V(1.0));
    const int count = static_cast<int>(law.log_count[j]);
    if (count > many) {
      sum = fma(V(law.log_count[j]), logarithm(factor), sum);
      continue;
    }
    for (int i = 0; i < count; ++i) product = product * factor;
    factors += count;
    if (factors < many) continue;
    sum = sum + logarithm(product);
    product = V(1.0);
    factors = 0;
  }
  return factors > 0 ? sum + logarithm(product) : sum;
}

template <class V>
BATCHLMM_INLINE SpectralPoint<V> spectral_point(const SpectralLaw& law, const SpectralDraw<V>& draw, const V& x) {
  const V grown = exponential(x), tau = grown - V(1.0);
  SpectralPoint<V> p;
  p.x = x;
  p.q = draw.residual;
  p.fall = p.bend = p.slope_falling = p.slope_rising = p.curvature_falling = p.curvature_rising = V(0.0);
  for (int i = 0; i < law.groups; ++i) {
    const V f = V(1.0) / fma(V(law.ratio[i]), tau, V(1.0)), t = V(law.ratio[i]) * grown * f;
    const V w = draw.s[i] * f, wt = w * t;
    p.q = p.q + w;
    p.fall = p.fall + wt;
    p.bend = fma(wt, fma(V(2.0), t, V(-1.0)), p.bend);
    if (!law.shared) continue;
    const V counted = V(law.log_count[i]) * t;
    p.slope_falling = p.slope_falling + counted;
    p.curvature_falling = fma(counted, V(1.0) - t, p.curvature_falling);
  }
  for (int j = 0; !law.shared && j < law.logs; ++j) {
    const V t = V(law.log_ratio[j]) * grown / fma(V(law.log_ratio[j]), tau, V(1.0));
    const V counted = V(law.log_count[j]) * t, bent = counted * (V(1.0) - t);
    if (law.log_ratio[j] >= 1) {
      p.slope_falling = p.slope_falling + counted;
      p.curvature_falling = p.curvature_falling + bent;
    } else {
      p.slope_rising = p.slope_rising + counted;
      p.curvature_rising = p.curvature_rising + bent;
    }
  }
  p.log_determinant = spectral_log_determinant(law, tau);
  return p;
}

/// The statistic from Q and the log-determinants at the minimum; `gain` is what is known to be still below.
template <class V>
BATCHLMM_INLINE V spectral_value(const SpectralLaw& law, const V& all, const V& q, const V& log_determinant,
                                 const V& gain) {
  const V value = fma(V(law.n), logarithm(all / q), gain - log_determinant);
  return maximum(value, V(0.0));
}

/// One mu: g = N log(C + S / t) + m log t, t = 1 + lambda mu.
template <class V>
BATCHLMM_INLINE V closed_statistic(const SpectralLaw& law, const SpectralDraw<V>& draw) {
  const double count = law.log_count[0];
  const V s = draw.s[0], all = draw.dropped + s + draw.residual;
  const V t = maximum(s * V((law.n - count) / count) / draw.residual, V(1.0));
  return spectral_value<V>(law, all, draw.residual + s / t, V(count) * logarithm(t), V(0.0));
}

/// @param[out] settled  lanes whose statistic is certain; the others' is to be found by `spectral_search`
template <class V>
BATCHLMM_INLINE V spectral_statistic(const SpectralLaw& law, const SpectralDraw<V>& draw, MaskOf<V>& settled) {
  const V zero = V(0.0), n = V(law.n);
  // At every node Q, -Q', Q''; of the interval with the minimum what is known at its ends.
  V q = zero, fall = zero, bend = zero, g1 = zero, q0 = zero;
  V left_x = zero, left_q = V(1.0), left_g1 = zero, left_g2 = zero;
  V right_x = zero, right_q = V(1.0), right_g1 = zero, right_g2 = zero;
  settled = zero <= zero;
  MaskOf<V> inner = zero < zero;
  const double* terms = law.terms;
  for (int k = 0; k < law.nodes; ++k) {
    const V before_q = q, before_fall = fall, before_g1 = g1, before_bend = bend;
    q = draw.residual;
    fall = bend = zero;
    for (int i = 0; i < law.groups; ++i, terms += 3) {
      const V s = in_register(draw.s[i]);
      q = fma(V(terms[0]), s, q);
      fall = fma(V(terms[1]), s, fall);
      bend = fma(V(terms[2]), s, bend);
    }
    // Q g'.
    g1 = fma(V(law.slope[k]), q, V(-law.n) * fall);
    if (k == 0) {
      q0 = q;
      continue;
    }
    const V squared = before_q * before_q;
    const auto rises = V(law.slope_low[k - 1]) * before_q > n * before_fall;
    const auto falls = V(law.slope_high[k - 1]) * q < n * fall;
    const auto convex =
        fma(V(law.curvature_low[k - 1]), squared, n * fma(bend, before_q, -(before_fall * before_fall))) > zero;
    settled = settled && (rises || falls || convex);
    const auto here = (before_g1 < zero) && !(g1 < zero);
    inner = inner || here;
    if (!any(here)) continue;
    const auto second = [&](double curvature, const V& a, const V& b, const V& c)
                            BATCHLMM_INLINE_LAMBDA { return fma(V(curvature) * a, a, n * fma(c, a, -(b * b))); };
    left_x = select(here, V(law.x[k - 1]), left_x);
    left_q = select(here, before_q, left_q);
    left_g1 = select(here, before_g1, left_g1);
    left_g2 = select(here, second(law.curvature[k - 1], before_q, before_fall, before_bend), left_g2);
    right_x = select(here, V(law.x[k]), right_x);
    right_q = select(here, q, right_q);
    right_g1 = select(here, g1, right_g1);
    right_g2 = select(here, second(law.curvature[k], q, fall, bend), right_g2);
  }
  settled = settled && (V(law.slope_low[law.nodes - 1]) * q > n * fall);
  const V all = draw.dropped + q0;
  V best_q = q0, best_log = zero, gain = zero;
  inner = inner && settled;
  if (any(inner)) {
    // The zero of the cubic that has g' and g'' at both ends.
    const V width = right_x - left_x;
    const V a = left_g1 / left_q, b = right_g1 / right_q;
    const V da = width * left_g2 / (left_q * left_q), db = width * right_g2 / (right_q * right_q);
    const V c2 = fma(V(3.0), b - a, -fma(V(2.0), da, db)), c3 = fma(V(-2.0), b - a, da + db);
    V t = select(inner, -a / (b - a), V(0.5));
    for (int i = 0; i < 3; ++i) {
      const V value = fma(fma(fma(c3, t, c2), t, da), t, a), slope = fma(fma(V(3.0) * c3, t, V(2.0) * c2), t, da);
      t = select(slope > zero, minimum(maximum(t - value / slope, zero), V(1.0)), t);
    }
    V x = select(inner, fma(t, width, left_x), zero);
    MaskOf<V> open = inner;
    constexpr int most_evaluations = 8;
    for (int i = 0; i < most_evaluations && any(open); ++i) {
      const SpectralPoint<V> p = spectral_point<V>(law, draw, x);
      const V share = p.fall / p.q;
      const V first = fma(-n, share, p.slope()), second = fma(n, p.bend / p.q - share * share, p.curvature());
      const V step = -first / second, decrease = V(-0.5) * first * step;
      // The error of what the step foretells is of third order: 1e-4 of a decrease of 1e-9.
      const auto found = open && (second > zero) && (decrease < V(1e-9));
      best_q = select(found, p.q, best_q);
      best_log = select(found, p.log_determinant, best_log);
      gain = select(found, decrease, gain);
      open = open && !found;
      // Inside an interval where g is convex Newton's method, held inside, need not end; that is for the search.
      x = select(open && (second > zero), minimum(maximum(x + step, left_x), right_x), x);
    }
    settled = settled && !open;
  }
  return spectral_value<V>(law, all, best_q, best_log, gain);
}

/// The statistic of one draw whatever its minima, by halving intervals.
inline double spectral_search(const SpectralLaw& law, const SpectralDraw<double>& draw) {
  using Point = SpectralPoint<double>;
  const double n = law.n;
  double rising_count = 0, falling_count = 0;
  for (int j = 0; j < law.logs; ++j) (law.log_ratio[j] >= 1 ? falling_count : rising_count) += law.log_count[j];
  const auto objective = [&](const Point& p) { return fma(n, logarithm(p.q), p.log_determinant); };
  const auto derivative = [&](const Point& p) { return p.slope() - n * p.fall / p.q; };
  const Point origin = spectral_point<double>(law, draw, 0.0);
  double best = objective(origin);
  Point best_point = origin;
  double best_gain = 0;
  const auto offer = [&](const Point& p, double gain) {
    const double value = objective(p) - gain;
    if (!(value < best)) return;
    best = value;
    best_point = p;
    best_gain = gain;
  };
  // Beyond the last interval g only rises. Slopes of ratios above 1 fall to their count.
  constexpr int most_open = 128;
  Point left[most_open], right[most_open];
  int open = 0;
  Point end = origin;
  for (double x = 1;; x *= 2) {
    const Point next = spectral_point<double>(law, draw, x);
    left[open] = end;
    right[open++] = next;
    end = next;
    // Draws whose variance ratio goes beyond e^64 are not met.
    if (x >= 64 || falling_count + end.slope_rising > n * end.fall / end.q) break;
  }
  while (open > 0) {
    --open;
    const Point a = left[open], b = right[open];
    const double fall_a = n * a.fall / a.q, fall_b = n * b.fall / b.q;
    if (b.slope_falling + a.slope_rising > fall_a) continue;  // g rises
    if (a.slope_falling + b.slope_rising < fall_b) continue;  // g falls
    if (!(fma(n, logarithm(b.q), a.log_determinant) < best)) continue;
    const double bent_low = n * (b.bend / a.q - (a.fall / a.q) * (a.fall / a.q)),
                 bent_high = n * (a.bend / b.q - (b.fall / b.q) * (b.fall / b.q));
    if (b.curvature_falling + 0.25 * rising_count + bent_high < 0) continue;  // concave: no minimum inside
    const double width = b.x - a.x;
    const bool convex = a.curvature_falling + bent_low > 0;
    if (convex && !(derivative(a) < 0 && derivative(b) > 0)) continue;
    constexpr double least_width = 1e-9;
    if (convex || width < least_width) {
      // Newton's method between two ends; both ends are offered where the interval has become too short for bounds.
      if (!convex) {
        offer(a, 0);
        offer(b, 0);
        continue;
      }
      double low = a.x, high = b.x, x = 0.5 * (low + high);
      for (int i = 0; i < 100; ++i) {
        const Point p = spectral_point<double>(law, draw, x);
        const double share = p.fall / p.q, first = p.slope() - n * share,
                     second = p.curvature() + n * (p.bend / p.q - share * share);
        const double gain = second > 0 ? 0.5 * first * first / second : 1;
        if (gain < 1e-9 || high - low < 1e-14) {
          offer(p, gain < 1e-9 ? gain : 0);
          break;
        }
        (first < 0 ? low : high) = x;
        x = x - first / second;
        if (!(x > low && x < high)) x = 0.5 * (low + high);
      }
      continue;
    }
    const Point middle = spectral_point<double>(law, draw, 0.5 * (a.x + b.x));
    // The nearer end of the stack is looked at first: small x, where most minima are.
    left[open] = middle;
    right[open++] = b;
    left[open] = a;
    right[open++] = middle;
  }
  const double all = draw.dropped + origin.q;
  return spectral_value<double>(law, all, best_point.q, best_point.log_determinant, best_gain);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

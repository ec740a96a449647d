// The stated costs are those of the kernel text: counted by a value type that counts, and by the kernels' own layout.
#include "host/batch/cost.hpp"

#include <gtest/gtest.h>

#include "kernels/cpu.hpp"
#include "kernels/newton.hpp"
#include "kernels/texts.hpp"
#include "tests/oracle.hpp"

namespace batchlmm::kernels {
inline namespace portable {

/// A double that counts what is computed with it.
struct Counted {
  double v = 0;
  static inline double operations = 0;
  Counted() = default;
  Counted(double x) : v(x) {}  // NOLINT(google-explicit-constructor): stands where a double does
  static Counted of(double x) {
    ++operations;
    return {x};
  }
  explicit operator double() const { return v; }
  friend Counted operator+(Counted a, Counted b) { return of(a.v + b.v); }
  friend Counted operator-(Counted a, Counted b) { return of(a.v - b.v); }
  friend Counted operator*(Counted a, Counted b) { return of(a.v * b.v); }
  friend Counted operator/(Counted a, Counted b) { return of(a.v / b.v); }
  friend Counted operator-(Counted a) { return {-a.v}; }
  friend bool operator<(Counted a, Counted b) { return a.v < b.v; }
  friend bool operator<=(Counted a, Counted b) { return a.v <= b.v; }
  friend bool operator>(Counted a, Counted b) { return a.v > b.v; }
  friend bool operator>=(Counted a, Counted b) { return a.v >= b.v; }
};
template <>
struct Lanes<Counted> {
  static constexpr int width = 1;
  using Mask = bool;
  using Int = std::uint64_t;
};
inline Counted fma(Counted a, Counted b, Counted c) { return Counted::of(a.v * b.v + c.v); }
inline Counted fnma(Counted a, Counted b, Counted c) { return fma(-a, b, c); }
inline Counted square_root(Counted a) { return Counted::of(std::sqrt(a.v)); }
inline Counted select(bool m, Counted a, Counted b) { return m ? a : b; }
inline double lane(Counted a, int) { return a.v; }
inline void set_lane(Counted& a, int, double x) { a.v = x; }
inline std::uint64_t to_bits(Counted a) { return to_bits(a.v); }

}  // namespace portable
}  // namespace batchlmm::kernels

namespace batchlmm {
namespace {

using kernels::Counted;
using oracle::Kind;

/// The streaming elimination can leave the derivatives out, the other texts always take them.
template <class Text>
constexpr bool has_value_alone =
    std::is_same_v<Text, kernels::StreamingText<0>> || std::is_same_v<Text, kernels::StreamingText<1>>;

/// Operations of the kernel text for one replicate of the model.
template <class Text>
StreamingCost counted(const Model& model) {
  const typename Text::Sizes s(model.shape());
  kernels::Arena<Counted*> count{nullptr};
  (void)kernels::make_workspace(s, count);
  (void)kernels::make_newton<Counted>(s, count);
  std::vector<Counted> memory(count.used);
  kernels::Arena<Counted*> arena{memory.data()};
  const auto w = kernels::make_workspace(s, arena);
  kernels::Newton<Counted, Counted*> newton = kernels::make_newton<Counted>(s, arena);
  std::vector<double> starts(s.lambdas, 0.0);
  for (int b = 0; b < s.terms; ++b)
    for (int i = 0; i < s.term[b].k; ++i) starts[s.term[b].lambda + i * s.term[b].k + i] = 0.7;
  for (int i = 0; i < s.lambdas; ++i) w.lambda[i] = starts[i];
  std::vector<Counted> response;
  for (double y : model.response(model.matrices().y)) response.emplace_back(y);
  const auto evaluate = [&](bool derivatives) {
    Counted::operations = 0;
    const kernels::Design<double>& design = model.design();
    if constexpr (has_value_alone<Text>)
      return kernels::evaluate < std::is_same_v<Text, kernels::StreamingText<1>> ? 1 : 0,
             Counted > (s, design, response.data(), w, derivatives);
    else
      return Text::template evaluate_lanes<Counted>(s, design, response.data(), w);
  };
  StreamingCost cost;
  (void)evaluate(false);
  cost.value = Counted::operations;
  const kernels::Evaluation<Counted> e = evaluate(true);
  cost.derivatives = Counted::operations;
  kernels::begin_lane(newton, 0, 1);
  Counted::operations = 0;
  (void)kernels::newton_trip(s, w, newton, e, true, kernels::NewtonOptions{}, starts.data());
  cost.newton = Counted::operations;
  return cost;
}

/// Within a share, and a few operations for very small shapes.
void expect_near(double stated, double counted, double share, const char* what) {
  EXPECT_GT(stated, counted / share - 50) << what;
  EXPECT_LT(stated, counted * share + 50) << what;
}

class Cost : public testing::TestWithParam<std::tuple<Kind, int, Method>> {};

TEST_P(Cost, IsThatOfTheKernelText) {
  const auto [kind, k, method] = GetParam();
  for (std::uint64_t seed : {1, 2, 3}) {
    SCOPED_TRACE(seed);
    const Model model(oracle::random_model(kind, k, seed), method);

    const kernels::TextKind text = kernels::text_kind(model.shape());
    const StreamingCost stated = streaming_cost(model.shape()),
                        found = kernels::with_text(text, [&](auto t) { return counted<decltype(t)>(model); });

    const bool has_value = kernels::with_text(text, [](auto t) { return has_value_alone<decltype(t)>; });
    if (has_value) expect_near(stated.value, found.value, 1.25, "value");
    expect_near(stated.derivatives, found.derivatives, 1.25, "derivatives");
    // One step solves once to 2 (terms + 1) times, as bounds are hit and the exact Hessian is or is not definite.
    expect_near(stated.newton, found.newton, 1.7, "Newton step");
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Cost,
                         testing::Combine(testing::Values(Kind::single, Kind::nested, Kind::crossed,
                                                          Kind::partially_crossed, Kind::nested_and_crossed, Kind::deep,
                                                          Kind::same_factor),
                                          testing::Values(1, 2, 4), testing::Values(Method::ml, Method::reml)));

TEST(LaneDoubles, AreWhatTheKernelsTake) {
  const Model model(oracle::random_model(Kind::nested_and_crossed, 2, 5), Method::reml);
  const kernels::Shape& s = model.shape();

  const std::size_t doubles = lane_doubles(s);

  // The optimizer and the response come on top of what one evaluation takes.
  EXPECT_GT(doubles, kernels::cpu_kernels().scratch(s) + s.response);
  EXPECT_LT(doubles, kernels::cpu_kernels().scratch(s) + s.response + 40u * s.parameters * s.parameters + 1000u);
  EXPECT_GT(tile_bytes(s, true), tile_bytes(s, false) * 0.5);
}

}  // namespace
}  // namespace batchlmm

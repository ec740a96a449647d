#include "kernels/traced_fit.hpp"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <unordered_map>
#include <vector>

#include "kernels/one_lane_strata.hpp"
#include "kernels/strata_derivatives.hpp"
#include "kernels/texts.hpp"
#include "kernels/traced.hpp"
#include "kernels/trip_state.hpp"

namespace batchlmm::kernels {
namespace {

/// Constants that stay in the source: they belong to the text, not to a model.
bool is_literal(double x) {
  for (const double plain : {0.0, 0.25, 0.5, 1.0, 2.0, 4.0})
    if (x == plain || x == -plain) return true;
  return false;
}

/// Doubles that the code keeps in registers at a time: what is needed last is put on the chip when there are more
/// (Belady 1966). Two registers each, of 255; the compiler needs some for itself.
constexpr std::size_t values_in_registers = 102;
/// An input that is not needed for so many operations is loaded anew, and meanwhile takes no register.
constexpr std::size_t reload_distance = 300;
/// Values on the chip at most: where a trip has more they are in the thread's own memory.
constexpr std::size_t most_put_aside = 128;

class Source {
public:
  /// @param input  what stands for the doubles that are inputs
  Source(const Tape& tape, std::vector<std::string> input)
      : tape_(tape), input_(std::move(input)), value_(tape.nodes().size()) {}

  /// @param outputs  what is to be assigned, and the node
  TracedTrip print(const std::vector<std::pair<std::string, int>>& outputs) {
    const std::vector<TraceNode>& nodes = tape_.nodes();
    const std::size_t end = nodes.size();
    // Uses, last one first. Outputs are assigned at the end.
    for (const auto& [name, node] : outputs) value_[node].uses.push_back(end);
    for (std::size_t i = end; i-- > 0;)
      if (!value_[i].uses.empty())
        for (const int operand : operands(nodes[i])) value_[operand].uses.push_back(i);
    for (std::size_t i = 0; i < end; ++i)
      if (!value_[i].uses.empty()) print_node(static_cast<int>(i), nodes[i]);
    // Inputs that are outputs elsewhere are loaded before the first is assigned.
    for (const auto& [name, node] : outputs)
      if (nodes[node].op == TraceOp::input && input_[nodes[node].bits] != name) take(node);
    for (const auto& [name, node] : outputs) {
      if (nodes[node].op == TraceOp::input && input_[nodes[node].bits] == name) continue;
      if (is_kept(nodes[node])) take(node);
      const std::string expression = of(node);
      trip_.source.append("  ").append(name).append(" = ").append(expression).append(";\n");
    }
    trip_.put_aside = static_cast<int>(slots_);
    return std::move(trip_);
  }

private:
  struct Value {
    std::vector<std::size_t> uses;  ///< to come, last one first
    std::string name;               ///< while it is in a register
    int slot = -1;                  ///< where it was put aside
    int times = 0;                  ///< that it was loaded
  };
  /// Operands, each once.
  [[nodiscard]] static std::vector<int> operands(const TraceNode& n) {
    std::vector<int> all;
    for (const int operand : {n.a, n.b, n.c})
      if (operand >= 0 && std::find(all.begin(), all.end(), operand) == all.end()) all.push_back(operand);
    return all;
  }
  /// A double that takes registers.
  [[nodiscard]] static bool is_kept(const TraceNode& n) {
    switch (n.op) {
      case TraceOp::input:
      case TraceOp::add:
      case TraceOp::subtract:
      case TraceOp::multiply:
      case TraceOp::divide:
      case TraceOp::negate:
      case TraceOp::fma:
      case TraceOp::square_root:
      case TraceOp::select:
      case TraceOp::from_bits:
      case TraceOp::to_double:
        return true;
      default:
        return false;
    }
  }
  /// Sees to it that a double is in a register.
  void take(int node) {
    Value& v = value_[node];
    if (!v.name.empty()) return;
    const TraceNode& n = tape_.nodes()[node];
    const bool input = n.op == TraceOp::input;
    v.name = (input ? "i" + std::to_string(n.bits) : "t" + std::to_string(node)) +
             (v.times > 0 || !input ? "_" + std::to_string(v.times) : "");
    ++v.times;
    trip_.source += "  const double " + v.name + " = " +
                    (input ? input_[n.bits] : "m[" + std::to_string(v.slot) + " * aside_stride]") + ";\n";
    resident_.push_back(node);
  }
  /// Takes a double out of its register.
  void drop(std::size_t at) {
    value_[resident_[at]].name.clear();
    resident_[at] = resident_.back();
    resident_.pop_back();
  }
  void put_aside(std::size_t at) {
    const int node = resident_[at];
    Value& v = value_[node];
    if (tape_.nodes()[node].op != TraceOp::input && v.slot < 0) {
      if (free_.empty()) free_.push_back(static_cast<int>(slots_++));
      v.slot = free_.back();
      free_.pop_back();
      trip_.source += "  m[" + std::to_string(v.slot) + " * aside_stride] = " + v.name + ";\n";
    }
    drop(at);
  }
  /// After node i: what is not needed any more goes, and what is needed last where there are too many.
  void make_room(int i) {
    const auto now = static_cast<std::size_t>(i);
    for (const int operand : operands(tape_.nodes()[i])) {
      std::vector<std::size_t>& uses = value_[operand].uses;
      while (!uses.empty() && uses.back() <= now) uses.pop_back();
    }
    for (std::size_t at = resident_.size(); at-- > 0;) {
      Value& v = value_[resident_[at]];
      if (v.uses.empty()) {
        if (v.slot >= 0) free_.push_back(v.slot);
        drop(at);
      } else if (tape_.nodes()[resident_[at]].op == TraceOp::input && v.uses.back() > now + reload_distance) {
        drop(at);
      }
    }
    while (resident_.size() > values_in_registers) {
      std::size_t last = 0;
      for (std::size_t at = 1; at < resident_.size(); ++at)
        if (value_[resident_[at]].uses.back() > value_[resident_[last]].uses.back()) last = at;
      put_aside(last);
    }
  }
  /// What stands for a node in an expression.
  [[nodiscard]] std::string of(int i) {
    const TraceNode& n = tape_.nodes()[i];
    const std::string number = std::to_string(n.bits);
    switch (n.op) {
      case TraceOp::truth:
        return "b" + number;
      case TraceOp::constant:
        return constant(n.bits);
      case TraceOp::word:
        return number + "ull";
      case TraceOp::boolean:
        return n.bits != 0 ? "true" : "false";
      default:
        return is_kept(n) ? value_[i].name : "t" + std::to_string(i);
    }
  }
  std::string constant(std::uint64_t bits) {
    double x;
    std::memcpy(&x, &bits, sizeof x);
    if (is_literal(x)) {
      char text[32];
      std::snprintf(text, sizeof text, "%.2f", x);
      return x < 0 || (x == 0 && bits != 0) ? "(" + std::string(text) + ")" : text;
    }
    const auto [at, added] = constant_.try_emplace(bits, trip_.constants.size());
    if (added) trip_.constants.push_back(x);
    return "c[" + std::to_string(at->second) + "]";
  }
  void print_node(int i, const TraceNode& n) {
    if (n.op <= TraceOp::boolean) return;
    for (const int operand : operands(n))
      if (is_kept(tape_.nodes()[operand])) take(operand);
    ++trip_.operations;
    const char* type = "double";
    std::string e;
    const auto binary = [&](const char* op) { e = of(n.a) + " " + op + " " + of(n.b); };
    const auto call = [&](const char* name) {
      e = std::string(name) + "(" + of(n.a);
      for (const int operand : {n.b, n.c})
        if (operand >= 0) e += ", " + of(operand);
      e += ")";
    };
    const std::string count = std::to_string(n.bits);
    switch (n.op) {
      case TraceOp::add:
        binary("+");
        break;
      case TraceOp::subtract:
        binary("-");
        break;
      case TraceOp::multiply:
        binary("*");
        break;
      case TraceOp::divide:
        binary("/");
        break;
      case TraceOp::negate:
        e = "-" + of(n.a);
        break;
      case TraceOp::fma:
        call("fma");
        break;
      case TraceOp::square_root:
        call("square_root");
        break;
      case TraceOp::select_word:
        type = "unsigned long long";
        [[fallthrough]];
      case TraceOp::select:
        e = of(n.a) + " ? " + of(n.b) + " : " + of(n.c);
        break;
      case TraceOp::less:
        type = "bool";
        binary("<");
        break;
      case TraceOp::less_equal:
        type = "bool";
        binary("<=");
        break;
      case TraceOp::both:
        type = "bool";
        binary("&");
        break;
      case TraceOp::either:
        type = "bool";
        binary("|");
        break;
      case TraceOp::not_:
        type = "bool";
        e = "!" + of(n.a);
        break;
      case TraceOp::to_bits:
        type = "unsigned long long";
        call("to_bits");
        break;
      case TraceOp::from_bits:
        call("from_bits");
        break;
      case TraceOp::add_word:
      case TraceOp::subtract_word:
      case TraceOp::xor_word:
      case TraceOp::or_word:
      case TraceOp::and_word: {
        type = "unsigned long long";
        static constexpr const char* symbols[] = {"+", "-", "^", "|", "&"};
        binary(symbols[static_cast<int>(n.op) - static_cast<int>(TraceOp::add_word)]);
        break;
      }
      case TraceOp::shift_left:
        type = "unsigned long long";
        e = of(n.a) + " << " + count;
        break;
      case TraceOp::shift_right:
        type = "unsigned long long";
        e = of(n.a) + " >> " + count;
        break;
      case TraceOp::differs:
        type = "bool";
        e = of(n.a) + " != " + count + "ull";
        break;
      case TraceOp::multiply_low:
        type = "unsigned long long";
        call("multiply_low");
        break;
      case TraceOp::to_double:
        call("to_double");
        break;
      default:
        break;
    }
    trip_.multiply_adds +=
        n.op == TraceOp::add || n.op == TraceOp::subtract || n.op == TraceOp::multiply || n.op == TraceOp::fma;
    trip_.source += std::string("  const ") + type + " t" + std::to_string(i) + " = " + e + ";\n";
    if (is_kept(n)) {
      value_[i].name = "t" + std::to_string(i);
      resident_.push_back(i);
    }
    make_room(i);
  }

  const Tape& tape_;
  std::vector<std::string> input_;
  std::vector<Value> value_;
  std::vector<int> resident_, free_;  ///< doubles in registers; places on the chip that are free again
  std::size_t slots_ = 0;
  std::unordered_map<std::uint64_t, std::size_t> constant_;
  TracedTrip trip_;
};

/// Records a trip.
/// @param response  entries of the response vector or record
/// @param lay_out   lay_out(arena, w): the arrays of the evaluation's w
/// @param evaluate  evaluate(y, w): the evaluation at w.lambda
template <class W, class LayOut, class Evaluate>
TracedTrip record_trip(const Shape& s, int response, const NewtonOptions& options, const double* starts,
                       std::size_t most, const LayOut& lay_out, const Evaluate& evaluate) {
  Tape tape(most);
  const Tape::Recording recording(tape);
  Arena<Traced*> count{nullptr};
  W w{};
  lay_out(count, w);
  (void)make_newton<Traced>(s, count);
  std::vector<Traced> memory(count.used, Traced(0.0));
  Arena<Traced*> arena{memory.data()};
  lay_out(arena, w);
  Newton<Traced, Traced*> n = make_newton<Traced>(s, arena);

  std::vector<std::string> inputs;
  const auto element = [](const char* array, int i) {
    return std::string(array) + "[" + std::to_string(i) + " * trip_stride]";
  };
  const auto input = [&](const std::string& from) {
    inputs.push_back(from);
    return traced<Traced>(TraceOp::input, -1, -1, -1, inputs.size() - 1);
  };
  std::vector<Traced> y(response);
  for (int e = 0; e < response; ++e) y[e] = input(element("y", e));
  int at = 0;
  for_each_state_array(s, n, w.lambda, [&](Traced* array, int size) {
    for (int i = 0; i < size; ++i) array[i] = input(element("x", at++));
  });
  for_each_state_number(n, [&](Traced& x) { x = input(element("x", at++)); });
  std::uint64_t flags = 0;
  for_each_state_flag(n, [&](TracedMask& m) { m = traced<TracedMask>(TraceOp::truth, -1, -1, -1, flags++); });
  const auto alive = traced<TracedMask>(TraceOp::truth, -1, -1, -1, flags);

  const Evaluation<Traced> e = evaluate(y.data(), w);
  const TracedMask done = newton_trip<Traced>(s, w, n, e, alive, options, starts);

  std::vector<std::pair<std::string, int>> outputs;
  at = 0;
  for_each_state_array(s, n, w.lambda, [&](const Traced* array, int size) {
    for (int i = 0; i < size; ++i) outputs.emplace_back(element("x", at++), array[i].node);
  });
  for_each_state_number(n, [&](const Traced& x) { outputs.emplace_back(element("x", at++), x.node); });
  std::string head;
  for (std::uint64_t f = 0; f < flags; ++f)
    head += "  const bool b" + std::to_string(f) + " = flag[" + std::to_string(f) + "];\n";
  head += "  const bool b" + std::to_string(flags) + " = alive;\n";
  flags = 0;
  for_each_state_flag(
      n, [&](const TracedMask& m) { outputs.emplace_back("flag[" + std::to_string(flags++) + "]", m.node); });
  outputs.emplace_back("r2", e.r2.node);
  outputs.emplace_back("done", done.node);
  TracedTrip trip = Source(tape, std::move(inputs)).print(outputs);
  trip.aside_on_chip = trip.put_aside <= static_cast<int>(most_put_aside);
  trip.source = head + trip.source;
  trip.response = response;
  trip.state = at;
  trip.terms = s.terms;
  trip.parameters = s.parameters;
  trip.lambdas = s.lambdas;
  trip.scratch = 3 * s.lambdas + s.terms + s.parameters;
  return trip;
}

std::optional<TracedTrip> within_limits(TracedTrip trip) {
  if (trip.constants.size() > most_traced_constants) return {};
  return trip;
}

}  // namespace

std::optional<TracedTrip> trace_streaming_trip(const Shape& shape, const Design<double>& design,
                                               const NewtonOptions& options, const double* starts, std::size_t most) {
  try {
    TracedTrip trip = with_text(text_kind(shape), [&](auto text) {
      using Text = decltype(text);
      const typename Text::Sizes sizes(shape);
      using W = decltype(make_workspace(sizes, std::declval<Arena<Traced*>&>()));
      return record_trip<W>(
          shape, shape.response, options, starts, most,
          [&](Arena<Traced*>& arena, W& w) { w = make_workspace(sizes, arena); },
          [&](Traced* y, const W& w) { return Text::template evaluate_lanes<Traced>(sizes, design, y, w); });
    });
    Arena<double*> scratch{nullptr};
    (void)make_shared_start_scratch(shape, scratch);
    trip.scratch += static_cast<int>(scratch.used);
    return within_limits(std::move(trip));
  } catch (const Tape::Full&) {
    return {};
  }
}

std::optional<TracedTrip> trace_strata_trip(const Shape& shape, const StrataModel& model, const NewtonOptions& options,
                                            const double* starts, std::size_t most) {
  using W = StrataPoint<Traced*>;
  try {
    TracedTrip trip = record_trip<W>(
        shape, model.record, options, starts, most,
        [&](Arena<Traced*>& arena, W& w) {
          w.lambda = arena.take(shape.lambdas);
          w.model = &model;
          w.record = arena.take(model.record);
          w.x = make_strata_workspace(shape, model, arena);
          w.r2 = arena.take(1);
        },
        [&](Traced* y, W& w) {
          for (int e = 0; e < model.record; ++e) w.record[e] = y[e];
          const Evaluation<Traced> e = evaluate_strata<Traced>(shape, model, w.record, w, w.x);
          w.r2[0] = e.r2;
          return e;
        });
    trip.strata = true;
    return within_limits(std::move(trip));
  } catch (const Tape::Full&) {
    return {};
  }
}

std::size_t traced_block_bytes(const TracedTrip& trip, int threads) {
  return 8 * static_cast<std::size_t>(trip.response + trip.state + (trip.aside_on_chip ? trip.put_aside : 0)) *
         static_cast<std::size_t>(threads);
}

int traced_block_threads(const TracedTrip& trip, std::size_t on_chip_bytes) {
  for (int threads = 128; threads >= 32; threads /= 2)
    if (traced_block_bytes(trip, threads) <= on_chip_bytes / 2) return threads;
  return 0;
}

std::string traced_fit_source(const TracedTrip& trip, int threads) {
  const std::string constants = std::to_string(std::max<std::size_t>(trip.constants.size(), 1));
  std::string text = R"(#include "kernels/one_lane_strata.hpp"
namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
)";
  text += "constexpr int trip_stride = " + std::to_string(threads) +
          ", trip_response = " + std::to_string(trip.response) + ", trip_state = " + std::to_string(trip.state) +
          ", aside_stride = " + (trip.aside_on_chip ? "trip_stride" : "1") +
          ", trip_local = " + std::to_string(trip.aside_on_chip ? 0 : trip.put_aside) +
          ", trip_scratch = " + std::to_string(trip.scratch) + ";\n";
  text += "struct TripSizes {\n  static constexpr int terms = " + std::to_string(trip.terms) +
          ", parameters = " + std::to_string(trip.parameters) + ", lambdas = " + std::to_string(trip.lambdas) +
          ";\n};\n";
  text += std::string("constexpr bool trip_strata = ") + (trip.strata ? "true" : "false") + ";\n";
  text += "struct TripConstants {\n  double c[" + constants + "];\n};\n";
  text +=
      "BATCHLMM_INLINE void trip(const double (&c)[" + constants +
      "], const volatile double* y, volatile double* x, volatile double* m, bool (&flag)[3], bool alive, double& r2, "
      "bool& done) {\n";
  text += trip.source;
  text += R"(}
}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
#include "kernels/traced_fit_kernel.hpp"
)";
  text += "static_assert(sizeof(batchlmm::kernels::" + std::string(trip.strata ? "Strata" : "") +
          "FitArguments) == " + std::to_string(trip.strata ? sizeof(StrataFitArguments) : sizeof(FitArguments)) +
          ", \"the host's compiler lays arguments out differently\");\n";
  text += trip.strata ? "BATCHLMM_TRACED_STRATA_ENTRY\n" : "BATCHLMM_TRACED_ENTRY\n";
  return text;
}

}  // namespace batchlmm::kernels

#include "kernels/traced.hpp"

#include <array>
#include <cmath>

namespace batchlmm::kernels {
namespace {

thread_local Tape* current_tape = nullptr;

double real(std::uint64_t bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
std::uint64_t bits_of(double x) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

/// What the operation gives for constants.
TraceNode fold(const TraceNode& n, std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  const auto number = [](double x) { return TraceNode{TraceOp::constant, -1, -1, -1, bits_of(x)}; };
  const auto word = [](std::uint64_t x) { return TraceNode{TraceOp::word, -1, -1, -1, x}; };
  const auto truth = [](bool x) { return TraceNode{TraceOp::boolean, -1, -1, -1, x ? std::uint64_t{1} : 0}; };
  switch (n.op) {
    case TraceOp::add:
      return number(real(a) + real(b));
    case TraceOp::subtract:
      return number(real(a) - real(b));
    case TraceOp::multiply:
      return number(real(a) * real(b));
    case TraceOp::divide:
      return number(real(a) / real(b));
    case TraceOp::negate:
      return number(-real(a));
    case TraceOp::fma:
      return number(fma(real(a), real(b), real(c)));
    case TraceOp::square_root:
      return number(square_root(real(a)));
    case TraceOp::select:
      return number(a != 0 ? real(b) : real(c));
    case TraceOp::select_word:
      return word(a != 0 ? b : c);
    case TraceOp::less:
      return truth(real(a) < real(b));
    case TraceOp::less_equal:
      return truth(real(a) <= real(b));
    case TraceOp::both:
      return truth(a != 0 && b != 0);
    case TraceOp::either:
      return truth(a != 0 || b != 0);
    case TraceOp::not_:
      return truth(a == 0);
    case TraceOp::to_bits:
      return word(a);
    case TraceOp::from_bits:
      return number(real(a));
    case TraceOp::add_word:
      return word(a + b);
    case TraceOp::subtract_word:
      return word(a - b);
    case TraceOp::xor_word:
      return word(a ^ b);
    case TraceOp::or_word:
      return word(a | b);
    case TraceOp::and_word:
      return word(a & b);
    case TraceOp::shift_left:
      return word(a << n.bits);
    case TraceOp::shift_right:
      return word(a >> n.bits);
    case TraceOp::differs:
      return truth(a != n.bits);
    case TraceOp::multiply_low:
      return word(multiply_low(a, b));
    case TraceOp::to_double:
      return number(to_double(a));
    default:
      return n;
  }
}

bool is_leaf(TraceOp op) { return op <= TraceOp::boolean; }

}  // namespace

std::size_t Tape::Hash::operator()(const TraceNode& n) const {
  std::size_t h = static_cast<std::size_t>(n.op);
  for (const std::uint64_t x :
       {static_cast<std::uint64_t>(n.a), static_cast<std::uint64_t>(n.b), static_cast<std::uint64_t>(n.c), n.bits})
    h = (h ^ x) * 0x9E3779B97F4A7C15ULL + (h >> 29);
  return h;
}

int Tape::add(TraceNode node) {
  if (!is_leaf(node.op)) {
    const std::array<int, 3> operands{node.a, node.b, node.c};
    bool constant = true;
    std::array<std::uint64_t, 3> value{};
    for (int i = 0; i < 3; ++i) {
      if (operands[i] < 0) continue;
      const TraceNode& of = nodes_[operands[i]];
      constant = constant && (of.op == TraceOp::constant || of.op == TraceOp::word || of.op == TraceOp::boolean);
      value[i] = of.bits;
    }
    if (constant) {
      node = fold(node, value[0], value[1], value[2]);
    } else {
      // What gives one of its operands back, to the bit.
      const auto is = [&](int at, TraceOp op, std::uint64_t bits) {
        return nodes_[at].op == op && nodes_[at].bits == bits;
      };
      const std::uint64_t one = bits_of(1.0);
      switch (node.op) {
        case TraceOp::multiply:
          if (is(node.a, TraceOp::constant, one)) return node.b;
          if (is(node.b, TraceOp::constant, one)) return node.a;
          break;
        case TraceOp::fma:
          if (is(node.a, TraceOp::constant, one)) return add({TraceOp::add, node.b, node.c});
          if (is(node.b, TraceOp::constant, one)) return add({TraceOp::add, node.a, node.c});
          break;
        case TraceOp::select:
        case TraceOp::select_word:
          if (nodes_[node.a].op == TraceOp::boolean) return nodes_[node.a].bits != 0 ? node.b : node.c;
          if (node.b == node.c) return node.b;
          break;
        case TraceOp::both:
          if (nodes_[node.a].op == TraceOp::boolean) return nodes_[node.a].bits != 0 ? node.b : node.a;
          if (nodes_[node.b].op == TraceOp::boolean) return nodes_[node.b].bits != 0 ? node.a : node.b;
          break;
        case TraceOp::either:
          if (nodes_[node.a].op == TraceOp::boolean) return nodes_[node.a].bits != 0 ? node.a : node.b;
          if (nodes_[node.b].op == TraceOp::boolean) return nodes_[node.b].bits != 0 ? node.b : node.a;
          break;
        case TraceOp::negate:
          if (nodes_[node.a].op == TraceOp::negate) return nodes_[node.a].a;
          break;
        default:
          break;
      }
    }
  }
  const auto [at, added] = found_.try_emplace(node, static_cast<int>(nodes_.size()));
  if (added) {
    if (nodes_.size() >= most_) throw Full{};
    nodes_.push_back(node);
  }
  return at->second;
}

Tape& Tape::current() { return *current_tape; }

Tape::Recording::Recording(Tape& tape) : before_(current_tape) { current_tape = &tape; }
Tape::Recording::~Recording() { current_tape = before_; }

}  // namespace batchlmm::kernels

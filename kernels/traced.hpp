/// @file
/// A value type that records what is done with it. The kernel text run on Traced values leaves the list of its
/// operations, every index resolved and every loop unrolled: straight-line code for one model, which a compiler can
/// keep in registers. Bits are those of V = double, operation by operation.
///
/// The text's control flow depends on values only where it asks any(mask), to skip what no lane needs; lanes that do
/// not need it are left alone by what is skipped, so that the answer here is always yes.
#pragma once

#include <cstdint>
#include <limits>
#include <unordered_map>
#include <vector>

#include "kernels/lanes.hpp"

namespace batchlmm::kernels {

/// Operations on doubles, on 64-bit words and on truth values. Operands are nodes of the same tape.
enum class TraceOp : std::uint8_t {
  input,     ///< a double; `bits`: its number
  truth,     ///< a truth value; `bits`: its number
  constant,  ///< a double; `bits`: itself
  word,      ///< a 64-bit word; `bits`: itself
  boolean,   ///< `bits`: 0 or 1
  add,
  subtract,
  multiply,
  divide,
  negate,
  fma,
  square_root,
  select,       ///< a ? b : c, doubles
  select_word,  ///< the same, words
  less,
  less_equal,
  both,
  either,
  not_,
  to_bits,
  from_bits,
  add_word,
  subtract_word,
  xor_word,
  or_word,
  and_word,
  shift_left,   ///< by `bits`
  shift_right,  ///< by `bits`
  differs,      ///< a word from `bits`
  multiply_low,
  to_double
};

struct TraceNode {
  TraceOp op;
  int a = -1, b = -1, c = -1;
  std::uint64_t bits = 0;
  bool operator==(const TraceNode&) const = default;
};

/// The operations in order; an operation that was done before is not done again, and what depends on constants alone is
/// done at once.
class Tape {
public:
  /// What `add` throws where there are more operations than the tape holds.
  struct Full {};

  explicit Tape(std::size_t most = std::numeric_limits<std::size_t>::max()) : most_(most) {}
  [[nodiscard]] const std::vector<TraceNode>& nodes() const { return nodes_; }
  /// @throws Full
  int add(TraceNode node);

  /// The tape that Traced values of this thread write to.
  static Tape& current();
  /// Makes a tape the current one of this thread while it lives.
  class Recording {
  public:
    explicit Recording(Tape& tape);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

  private:
    Tape* before_;
  };

private:
  struct Hash {
    std::size_t operator()(const TraceNode& n) const;
  };
  std::size_t most_;
  std::vector<TraceNode> nodes_;
  std::unordered_map<TraceNode, int, Hash> found_;
};

inline namespace BATCHLMM_ISA {

struct TracedMask {
  int node = -1;
  TracedMask() = default;
  explicit TracedMask(int n) : node(n) {}
};
struct TracedWord {
  int node = -1;
  TracedWord() = default;
  TracedWord(std::uint64_t x) : node(Tape::current().add({TraceOp::word, -1, -1, -1, x})) {}  // NOLINT: broadcast
};
struct Traced {
  int node = -1;
  Traced() = default;
  Traced(double x) {  // NOLINT: broadcast
    std::uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    node = Tape::current().add({TraceOp::constant, -1, -1, -1, bits});
  }
};

template <>
struct Lanes<Traced> {
  static constexpr int width = 1;
  using Mask = TracedMask;
  using Int = TracedWord;
};

template <class T>
T traced(TraceOp op, int a, int b = -1, int c = -1, std::uint64_t bits = 0) {
  T t;
  t.node = Tape::current().add({op, a, b, c, bits});
  return t;
}

inline Traced operator+(Traced a, Traced b) { return traced<Traced>(TraceOp::add, a.node, b.node); }
inline Traced operator-(Traced a, Traced b) { return traced<Traced>(TraceOp::subtract, a.node, b.node); }
inline Traced operator*(Traced a, Traced b) { return traced<Traced>(TraceOp::multiply, a.node, b.node); }
inline Traced operator/(Traced a, Traced b) { return traced<Traced>(TraceOp::divide, a.node, b.node); }
inline Traced operator-(Traced a) { return traced<Traced>(TraceOp::negate, a.node); }
inline TracedMask operator<(Traced a, Traced b) { return traced<TracedMask>(TraceOp::less, a.node, b.node); }
inline TracedMask operator<=(Traced a, Traced b) { return traced<TracedMask>(TraceOp::less_equal, a.node, b.node); }
inline TracedMask operator>(Traced a, Traced b) { return b < a; }
inline TracedMask operator>=(Traced a, Traced b) { return b <= a; }
inline Traced fma(Traced a, Traced b, Traced c) { return traced<Traced>(TraceOp::fma, a.node, b.node, c.node); }
inline Traced fnma(Traced a, Traced b, Traced c) { return fma(-a, b, c); }
inline Traced square_root(Traced a) { return traced<Traced>(TraceOp::square_root, a.node); }
inline Traced select(TracedMask m, Traced a, Traced b) {
  return traced<Traced>(TraceOp::select, m.node, a.node, b.node);
}
inline TracedWord select(TracedMask m, TracedWord a, TracedWord b) {
  return traced<TracedWord>(TraceOp::select_word, m.node, a.node, b.node);
}
inline TracedMask operator&&(TracedMask a, TracedMask b) { return traced<TracedMask>(TraceOp::both, a.node, b.node); }
inline TracedMask operator||(TracedMask a, TracedMask b) { return traced<TracedMask>(TraceOp::either, a.node, b.node); }
inline TracedMask operator!(TracedMask a) { return traced<TracedMask>(TraceOp::not_, a.node); }
/// Whether it can be: false only where it is known to be.
inline bool any(TracedMask m) {
  const TraceNode& n = Tape::current().nodes()[m.node];
  return n.op != TraceOp::boolean || n.bits != 0;
}

inline TracedWord operator+(TracedWord a, TracedWord b) {
  return traced<TracedWord>(TraceOp::add_word, a.node, b.node);
}
inline TracedWord operator-(TracedWord a, TracedWord b) {
  return traced<TracedWord>(TraceOp::subtract_word, a.node, b.node);
}
inline TracedWord operator^(TracedWord a, TracedWord b) {
  return traced<TracedWord>(TraceOp::xor_word, a.node, b.node);
}
inline TracedWord operator|(TracedWord a, TracedWord b) { return traced<TracedWord>(TraceOp::or_word, a.node, b.node); }
inline TracedWord operator&(TracedWord a, TracedWord b) {
  return traced<TracedWord>(TraceOp::and_word, a.node, b.node);
}
inline TracedWord operator<<(TracedWord a, int s) {
  return traced<TracedWord>(TraceOp::shift_left, a.node, -1, -1, static_cast<std::uint64_t>(s));
}
inline TracedWord operator>>(TracedWord a, int s) {
  return traced<TracedWord>(TraceOp::shift_right, a.node, -1, -1, static_cast<std::uint64_t>(s));
}
inline TracedMask operator!=(TracedWord a, std::uint64_t b) {
  return traced<TracedMask>(TraceOp::differs, a.node, -1, -1, b);
}
inline TracedWord to_bits(Traced a) { return traced<TracedWord>(TraceOp::to_bits, a.node); }
inline Traced from_bits(TracedWord a) { return traced<Traced>(TraceOp::from_bits, a.node); }
inline TracedWord multiply_low(TracedWord a, TracedWord b) {
  return traced<TracedWord>(TraceOp::multiply_low, a.node, b.node);
}
inline Traced to_double(TracedWord a) { return traced<Traced>(TraceOp::to_double, a.node); }

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

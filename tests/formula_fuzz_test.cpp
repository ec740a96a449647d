#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/exercise_formula.hpp"
#include "tests/fuzz/formula_corpus.hpp"

namespace batchlmm {
namespace {

/// The same mutations on every machine: std's distributions may differ between libraries, the engine may not.
class Mutator {
public:
  explicit Mutator(std::uint64_t seed) : engine_(seed) {}

  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(engine_() % bound); }

  std::string mutated(std::string text) {
    for (std::size_t times = 1 + below(4); times > 0; --times) {
      const std::size_t at = below(text.size() + 1);
      const std::size_t length = 1 + below(6);
      switch (below(5)) {
        case 0:
          text.insert(at, fuzz::kFragments[below(fuzz::kFragments.size())]);
          break;
        case 1:
          text.erase(at, length);
          break;
        case 2:
          text.insert(at, text.substr(below(text.size() + 1), length * 2));
          break;
        case 3:
          text.replace(at, std::min(length, text.size() - at), fuzz::kFragments[below(fuzz::kFragments.size())]);
          break;
        default:
          if (at < text.size()) text[at] = static_cast<char>(below(256));
      }
    }
    return text;
  }

private:
  std::mt19937_64 engine_;
};

TEST(FormulaFuzz, MutatedFormulasAreModelsOrErrorsWithAPlace) {
  Mutator mutator(20'260'101);
  std::vector<std::string> pool(fuzz::kFormulas.begin(), fuzz::kFormulas.end());
  const std::size_t corpus = pool.size();
  int formulas = 0;

  for (int i = 0; i < 50'000; ++i) {
    const std::string text = mutator.mutated(pool[mutator.below(pool.size())]);
    bool is_formula = false;
    ASSERT_NO_THROW(is_formula = fuzz::exercise_formula(text)) << "mutation " << i << ": " << text;
    if (!is_formula) continue;
    ++formulas;
    // What is still a formula is mutated further.
    if (pool.size() < corpus + 200 && text.size() < 120) pool.push_back(text);
  }

  // Both ways are taken often, else the mutations exercise nothing.
  EXPECT_GT(formulas, 2'000);
  EXPECT_LT(formulas, 48'000);
}

TEST(FormulaFuzz, CorpusHolds) {
  for (const std::string_view formula : fuzz::kFormulas)
    EXPECT_NO_THROW(fuzz::exercise_formula(std::string(formula))) << formula;
}

TEST(FormulaFuzz, LongChainsAreNoHarm) {
  for (const std::string operation : {"+", "-", "*", "/", ":", "%in%", "^", "**2+"}) {
    for (const std::string part : {"x", "a", "g", "1", "(x)", "log(x)"}) {
      std::string chain = part;
      for (int i = 0; i < kMaxDepth - 10; ++i) chain.append(operation).append(part);
      for (const std::string frame : {"y~#+(1|g)", "y~I(#)+(1|g)", "y~(#|g)", "y~(#||g)", "y~(1|#)", "#~(1|g)"}) {
        std::string text = frame;
        text.replace(text.find('#'), 1, chain);
        EXPECT_NO_THROW(fuzz::exercise_formula(text)) << frame << " of " << part << operation;
      }
    }
  }
}

TEST(FormulaFuzz, BytesAreNoHarm) {
  Mutator mutator(7);

  for (int i = 0; i < 5'000; ++i) {
    std::string text;
    for (std::size_t length = mutator.below(40); length > 0; --length) text += static_cast<char>(mutator.below(256));
    EXPECT_NO_THROW(fuzz::exercise_formula(text));
    EXPECT_NO_THROW(fuzz::exercise_formula("y ~ (1 | g) + " + text));
  }
}

}  // namespace
}  // namespace batchlmm

#include "host/inference/reference_law.hpp"

#include <fmt/format.h>

#include <boost/math/special_functions/gamma.hpp>
#include <vector>

#include "host/batch/embedding.hpp"
#include "host/model/model.hpp"

namespace batchlmm {
namespace {

std::string counted(int n, const char* one, const char* many) { return fmt::format("{} {}", n, n == 1 ? one : many); }

}  // namespace

ReferenceLaw reference_law(const Model& null, const Model& full, const Embedding& embedding) {
  const kernels::Shape& s = full.shape();
  std::vector<int> filled(s.terms, 0), null_covariances(s.terms, 0);
  if (!embedding.null_at_zero)
    for (int b = 0; b < null.shape().terms; ++b) {
      const int k = null.shape().term[b].k;
      filled[embedding.term[b]] += k;
      null_covariances[embedding.term[b]] += k * (k - 1) / 2;
    }
  ReferenceLaw law;
  law.fixed_effects = s.p - null.shape().p;
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k;
    law.variances += k - filled[b];
    law.covariances += k * (k - 1) / 2 - null_covariances[b];
  }
  law.df = law.fixed_effects + law.covariances;
  if (law.variances == 0) return law;
  if (law.variances > 1) {
    law.kind = LawKind::none;
    law.df += law.variances;
    return law;
  }
  // The added effect's own covariances vanish with its variance; any other one that is tested is 0 inside the space.
  law.kind = LawKind::mixture;
  return law;
}

std::string ReferenceLaw::description() const {
  std::string tested;
  const auto add = [&](const std::string& what) { tested += (tested.empty() ? "" : " and ") + what; };
  if (fixed_effects > 0) add(counted(fixed_effects, "fixed effect", "fixed effects"));
  if (variances > 0) add(counted(variances, "variance", "variances"));
  if (covariances > 0) add(counted(covariances, "covariance", "covariances"));
  switch (kind) {
    case LawKind::chi_square:
      return fmt::format("chi-square with {} df ({} tested)", df, tested);
    case LawKind::mixture:
      return fmt::format("50:50 mixture of chi-squares with {} and {} df ({} tested, 0 being the variance's bound)", df,
                         df + 1, tested);
    case LawKind::none:
      break;
  }
  return fmt::format(
      "no simple one, chi-square with {} df gives p-values that are too large ({} tested, 0 being the "
      "variances' bound)",
      df, tested);
}

double chi_square_p(int df, double statistic) {
  if (!(statistic > 0)) return 1;
  if (df == 0) return 0;
  return boost::math::gamma_q(0.5 * df, 0.5 * statistic);
}

double p_value(const ReferenceLaw& law, double statistic) {
  if (law.kind != LawKind::mixture) return chi_square_p(law.df, statistic);
  return 0.5 * (chi_square_p(law.df, statistic) + chi_square_p(law.df + 1, statistic));
}

}  // namespace batchlmm

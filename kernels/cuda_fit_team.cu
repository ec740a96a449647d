// Fits by teams of threads: which kernel a mapping takes. The kernels are in cuda_fit_team_*.cu, one mapping each.
#include <type_traits>

#include "kernels/cuda_team.hpp"
#include "kernels/mapping.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

/// f(kernel) with the kernel of a mapping and a text.
template <class F>
auto with_team_kernel(Mapping mapping, TextKind text, const F& f) {
  const auto with_columns = [&](auto team) {
    using Team = decltype(team);
    static_assert(std::is_empty_v<Team>);
    return text == TextKind::one_column ? f(TeamKernel<Team, 1>{}) : f(TeamKernel<Team, 0>{});
  };
  if (mapping == Mapping::lanes) return with_columns(LanesTeam{});
  if (mapping == Mapping::warp) return with_columns(WholeWarpTeam{});
  return with_columns(WholeBlockTeam{});
}

static_assert(limits_of(Mapping::lanes).members == LanesTeam::members &&
              limits_of(Mapping::warp).members == WholeWarpTeam::members &&
              limits_of(Mapping::block).members == WholeBlockTeam::members);

}  // namespace

void launch_teams(const CudaQueue& queue, const FitArguments& a) {
  with_team_kernel(a.mapping, text_kind(a.shape), [&](auto kernel) { kernel.launch(queue, a); });
}

std::size_t resident_teams(const FitFamily& family) {
  return with_team_kernel(family.mapping, family.text, [&](auto kernel) { return kernel.resident_teams(family); });
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

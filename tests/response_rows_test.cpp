// Responses reduced in lanes: Model::response of what X's part has been taken off, the same bits everywhere.
#include "host/model/response_rows.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;

TEST(ResponseRows, AreModelResponses) {
  for (const Kind kind : {Kind::single, Kind::nested, Kind::crossed}) {
    // Arrange
    const auto m = oracle::random_model(kind, 2, 11);
    const Model model(m, Method::reml);
    const ResponseRows rows(model);
    constexpr int items = 19;  // no multiple of any lanes
    std::vector<Eigen::VectorXd> y;
    for (int i = 0; i < items; ++i) y.push_back((m->y.array() * (1 + i) + 1e3 * std::sin(i)).matrix());
    std::vector<const double*> from;
    for (const Eigen::VectorXd& v : y) from.push_back(v.data());
    const auto length = static_cast<std::size_t>(rows.length());
    const auto reduce = [&](const kernels::CpuKernels& isa, int first, int count) {
      std::vector<double> out(length * static_cast<std::size_t>(count));
      std::vector<double*> to;
      for (int i = 0; i < count; ++i) to.push_back(out.data() + static_cast<std::size_t>(i) * length);
      isa.responses->reduce(rows.rows(), count, from.data() + first, to.data());
      return out;
    };

    // Act
    const std::vector<double> reduced = reduce(kernels::cpu_kernels(), 0, items);

    // Assert
    const Eigen::MatrixXd& x = model.x_gauge().columns;
    for (int i = 0; i < items; ++i) {
      const double* at = reduced.data() + static_cast<std::size_t>(i) * length;
      const Eigen::VectorXd centered = y[static_cast<std::size_t>(i)] - m->offset;
      const Eigen::VectorXd ols = x.transpose() * centered / static_cast<double>(centered.size());
      const std::vector<double> expected = model.response(centered - x * ols);
      const double size = centered.norm();
      for (std::size_t e = 0; e + 1 < expected.size(); ++e) EXPECT_NEAR(at[e], expected[e], 1e-12 * size) << e;
      EXPECT_NEAR(at[expected.size() - 1], expected.back(), 1e-12 * size * size);
      for (int c = 0; c < model.shape().p; ++c)
        EXPECT_NEAR(at[expected.size() + static_cast<std::size_t>(c)], ols[c], 1e-12 * size);
    }
    for (const kernels::CpuKernels* isa : kernels::all_cpu_kernels()) {
      EXPECT_EQ(reduce(*isa, 0, items), reduced) << isa->name;
      const std::vector<double> alone = reduce(*isa, 7, 1);
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), reduced.begin() + static_cast<std::ptrdiff_t>(7 * length)))
          << isa->name;
    }
    // The linear part as a matrix.
    const Eigen::VectorXd by_map = model.response_map().transpose() * m->y;
    const std::vector<double> whole = model.response(m->y);
    for (Eigen::Index e = 0; e < by_map.size(); ++e)
      EXPECT_NEAR(by_map[e], whole[static_cast<std::size_t>(e)], 1e-12 * m->y.norm());
  }
}

}  // namespace
}  // namespace batchlmm

#include "host/model/streamed_levels.hpp"

#include <algorithm>

#include "host/model/blas.hpp"

namespace batchlmm {

void read_streamed_levels(const Model& model, double* cross,
                          const std::function<void(int j, const Model::StreamedLevel& level)>& visit) {
  const kernels::Shape& s = model.shape();
  const int levels = s.nodes[0], threads = blas_threads();
  const Eigen::Index columns = 1 + s.p + (s.stages > 0 ? s.own[1] : 0);
  // A batch of levels at a time by all threads; sums in the order of the levels.
  constexpr int batch = 256;
  std::vector<Model::StreamedLevel> read(std::min(batch, levels));
  std::vector<Eigen::MatrixXd> products(read.size());
  for (int begin = 0; begin < levels; begin += batch) {
    const int count = std::min(batch, levels - begin);
    in_parallel(threads, [&](int part) {
      for (int w = count * part / threads; w < count * (part + 1) / threads; ++w) {
        read[w] = model.streamed_level(begin + w);
        const Eigen::MatrixXd& left = read[w].left;
        const int touched = static_cast<int>(left.cols()), rows = static_cast<int>(left.rows());
        const double one = 1, zero = 0;
        products[w].resize(touched, touched);
        if (touched > 0)
          dsyrk_("L", "T", &touched, &rows, &one, left.data(), &rows, &zero, products[w].data(), &touched);
      }
    });
    for (int w = 0; w < count; ++w) {
      const Model::StreamedLevel& level = read[w];
      const auto touched = static_cast<int>(level.touched.size());
      visit(begin + w, level);
      for (int c = 0; c < touched; ++c) {
        double* to = cross + level.touched[c] * columns;
        for (int i = c; i < touched; ++i) to[level.touched[i]] += products[w](i, c);
      }
    }
  }
}

}  // namespace batchlmm

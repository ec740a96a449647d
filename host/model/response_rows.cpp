#include "host/model/response_rows.hpp"

namespace batchlmm {

ResponseRows::ResponseRows(const Model& model) {
  const kernels::Shape& s = model.shape();
  const ModelMatrices& m = model.matrices();
  const Eigen::MatrixXd& x = model.x_gauge().columns;
  std::vector<int> stage_first(static_cast<std::size_t>(s.stages) + 2, s.nodes[0] * s.own[0]);
  for (int t = 1; t <= s.stages; ++t) stage_first[t + 1] = stage_first[t] + s.nodes[t] * s.own[t];
  for (int j = 0; j < s.nodes[0]; ++j) {
    const Model::StreamedLevel level = model.streamed_level(j);
    first_.push_back(static_cast<int>(row_.size()));
    for (std::size_t i = 0; i < level.rows.size(); ++i) {
      const int row = level.rows[i];
      row_.push_back(row);
      offset_.push_back(m.offset[row]);
      for (int a = 0; a < s.own[0]; ++a)
        basis_.push_back(a < level.basis.cols() ? level.basis(static_cast<Eigen::Index>(i), a) : 0.0);
      for (int c = 0; c < s.p; ++c) x_.push_back(x(row, c));
      for (int b = 0; b < s.terms; ++b) {
        const kernels::TermShape& term = s.term[b];
        if (term.stage == 0) continue;
        const int t = model.term_of(b), within = term.levels > 1 ? m.random[t].level_of_row[row] * term.k : 0,
                  at =
                      stage_first[term.stage] + model.node_of(term.stage, j) * s.own[term.stage] + term.column + within;
        for (int q = 0; q < term.k; ++q) {
          target_.push_back(at + q);
          z_.push_back(model.z_gauge(t).columns(row, q));
        }
      }
    }
  }
  first_.push_back(static_cast<int>(row_.size()));
  rows_.rows = static_cast<int>(row_.size());
  rows_.positions = s.nodes[0];
  rows_.own = s.own[0];
  rows_.p = s.p;
  rows_.outer = rows_.rows > 0 ? static_cast<int>(z_.size()) / rows_.rows : 0;
  rows_.length = s.response;
  rows_.first = first_.data();
  rows_.row = row_.data();
  rows_.offset = offset_.data();
  rows_.basis = basis_.data();
  rows_.x = x_.data();
  rows_.target = target_.data();
  rows_.z = z_.data();
}

}  // namespace batchlmm

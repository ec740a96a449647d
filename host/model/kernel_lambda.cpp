#include "host/model/kernel_lambda.hpp"

namespace batchlmm {

std::vector<double> kernel_lambda(const Model& model, const std::vector<Eigen::MatrixXd>& lambda) {
  const kernels::Shape& s = model.shape();
  std::vector<double> out(s.lambdas, 0.0);
  for (int b = 0; b < s.terms; ++b) {
    const Eigen::MatrixXd l = model.from_user_lambda(b, lambda[model.term_of(b)]);
    for (int i = 0; i < s.term[b].k; ++i)
      for (int j = 0; j < s.term[b].k; ++j) out[s.term[b].lambda + i * s.term[b].k + j] = l(i, j);
  }
  return out;
}

}  // namespace batchlmm

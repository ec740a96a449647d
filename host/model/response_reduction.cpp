#include "host/model/response_reduction.hpp"

#include <algorithm>
#include <utility>

#include "host/model/device_layout.hpp"
#include "host/model/response_rows.hpp"

namespace batchlmm {
namespace {

namespace k = kernels;

/// Doubles of a panel of responses, at most.
constexpr int panel_doubles = 1 << 23;
/// Terms of a sum of squares that one item adds.
constexpr int piece = 64;

/// A sparse matrix on the host; its entries come in any order.
struct Entries {
  struct Entry {
    int row, column;
    double value;
  };
  std::vector<Entry> all;
  std::vector<int> begin, column;
  std::vector<double> value;

  k::SparseMatrix compress(int rows, int columns) {
    std::stable_sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) {
      return a.row != b.row ? a.row < b.row : a.column < b.column;
    });
    begin.assign(rows + 1, 0);
    for (const Entry& e : all) {
      ++begin[e.row + 1];
      column.push_back(e.column);
      value.push_back(e.value);
    }
    for (int i = 0; i < rows; ++i) begin[i + 1] += begin[i];
    return {rows, columns, static_cast<int>(all.size()), nullptr, nullptr, nullptr};
  }
};

}  // namespace

ResponseReduction::ResponseReduction(const Model& model, std::shared_ptr<k::LargeDevice> device)
    : device_(std::move(device)) {
  const k::Shape& s = model.shape();
  const ModelMatrices& m = model.matrices();
  const Eigen::MatrixXd& x = model.x_gauge().columns;
  const int K = s.own[0];
  n_ = static_cast<int>(m.y.size());
  p_ = s.p;
  response_ = s.response;
  own_rows_ = s.nodes[0] * K;
  outer_rows_ = s.response - 1 - own_rows_;
  panel_ = std::clamp(panel_doubles / n_, 1, 256);
  pieces_ = (n_ + piece - 1) / piece;

  const ResponseRows layout(model);
  const k::ResponseRows& rows_of = layout.rows();
  Entries own, basis, outer;
  for (int j = 0; j < rows_of.positions; ++j)
    for (int i = rows_of.first[j]; i < rows_of.first[j + 1]; ++i) {
      const int row = rows_of.row[i];
      for (int a = 0; a < std::min(K, rows_of.first[j + 1] - rows_of.first[j]); ++a) {
        const double value = rows_of.basis[i * K + a];
        own.all.push_back({j * K + a, row, value});
        basis.all.push_back({row, j * K + a, value});
      }
      for (int c = 0; c < p_; ++c) outer.all.push_back({outer_rows_ - p_ + c, row, x(row, c)});
      for (int e = i * rows_of.outer; e < (i + 1) * rows_of.outer; ++e)
        outer.all.push_back({rows_of.target[e] - own_rows_, row, rows_of.z[e]});
    }
  own_ = own.compress(own_rows_, n_);
  basis_ = basis.compress(n_, own_rows_);
  outer_ = outer.compress(outer_rows_, n_);
  const std::vector<double> x_values(x.data(), x.data() + x.size()), offsets(m.offset.data(), m.offset.data() + n_);
  DeviceArrays arrays;
  for (auto [from, to] : {std::pair{&own, &own_}, {&basis, &basis_}, {&outer, &outer_}}) {
    arrays.add(from->begin, to->begin);
    arrays.add(from->column, to->column);
    arrays.add(from->value, to->value);
  }
  arrays.add(x_values, x_);
  arrays.add(offsets, offset_);
  constants_ = arrays.upload(*device_);

  const auto rows = static_cast<std::size_t>(length()), columns = static_cast<std::size_t>(panel_);
  const auto lay_out = [&](DeviceLayout& there, DeviceLayout& here) {
    y_ = there.take(n_ * columns);
    out_ = there.take(rows * columns);
    again_ = there.take(own_rows_ * columns);
    partial_ = there.take(pieces_ * columns);
    squares_ = there.take(columns);
    y_here_ = here.take(n_ * columns);
    out_here_ = here.take(rows * columns);
    squares_here_ = here.take(columns);
  };
  DeviceLayout there(nullptr), here(nullptr);
  lay_out(there, here);
  memory_ = device_->allocate(there.bytes());
  host_memory_ = device_->allocate_host(here.bytes());
  DeviceLayout take_there(memory_.get()), take_here(host_memory_.get());
  lay_out(take_there, take_here);
}

void ResponseReduction::reduce(const double* y, std::size_t count, double* out) {
  const int rows = length();
  const std::size_t n = n_, panel = panel_;
  double* const ols = out_ + response_;
  for (std::size_t begin = 0; begin < count; begin += panel) {
    const std::size_t used = std::min(panel, count - begin);
    std::copy_n(y + begin * n, used * n, y_here_);
    // A panel has all its columns: the libraries choose their way by the sizes.
    std::fill(y_here_ + used * n, y_here_ + panel * n, 0.0);
    device_->upload(y_, y_here_, panel * n * sizeof(double));
    device_->run(k::SubtractOffset{y_, offset_, n_}, panel * n);
    if (p_ > 0) {
      // X'X = n I in X's gauge.
      device_->gemm(true, p_, panel_, n_, 1.0 / n_, x_, n_, y_, n_, 0, ols, rows);
      device_->gemm(false, n_, panel_, p_, -1, x_, n_, ols, rows, 1, y_, n_);
    }
    // The levels' own part, and once more what rounding left of it.
    device_->spmm(own_, panel_, 1, y_, n_, 0, out_, rows);
    device_->spmm(basis_, panel_, -1, out_, rows, 1, y_, n_);
    device_->spmm(own_, panel_, 1, y_, n_, 0, again_, own_rows_);
    device_->spmm(basis_, panel_, -1, again_, own_rows_, 1, y_, n_);
    device_->run(k::AddColumns{out_, again_, own_rows_, rows, own_rows_}, panel * own_rows_);
    if (outer_rows_ > 0) device_->spmm(outer_, panel_, 1, y_, n_, 0, out_ + own_rows_, rows);
    device_->run(k::SquarePieces{y_, n_, piece, pieces_, partial_}, panel * pieces_);
    device_->run(k::SumPieces{partial_, squares_, pieces_, pieces_, 1}, panel);
    device_->download(out_here_, out_, panel * rows * sizeof(double));
    device_->download(squares_here_, squares_, panel * sizeof(double));
    device_->wait();
    for (std::size_t i = 0; i < used; ++i) {
      out_here_[i * rows + response_ - 1] = squares_here_[i];
      std::copy_n(out_here_ + i * rows, rows, out + (begin + i) * rows);
    }
  }
}

}  // namespace batchlmm

/// @file
/// The device of kernels/large_device.hpp on the host: OpenBLAS in place of the vendor's libraries, and the text of the
/// steps item after item. Nothing happens before `wait`, as late as a device may be; memory begins as NaN.
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "host/model/blas.hpp"
#include "kernels/large_device.hpp"
#include "kernels/large_steps.hpp"

namespace batchlmm::oracle {

/// Memory that several queues share, as those of one device do.
struct HostLargeMemory {
  std::atomic<std::size_t> taken{0};
  std::size_t bytes = std::size_t{1} << 32;
  std::atomic<bool> lost{false};  ///< from now on every `wait` says so
};

class HostLargeDevice final : public kernels::LargeDevice {
public:
  explicit HostLargeDevice(std::shared_ptr<HostLargeMemory> memory = std::make_shared<HostLargeMemory>())
      : memory_(std::move(memory)) {}
  HostLargeDevice(const HostLargeDevice&) = delete;
  HostLargeDevice& operator=(const HostLargeDevice&) = delete;
  ~HostLargeDevice() override = default;

  std::shared_ptr<std::byte> allocate(std::size_t bytes) override {
    if (memory_->taken.fetch_add(bytes) + bytes > memory_->bytes) {
      memory_->taken -= bytes;
      throw kernels::DeviceMemoryError("the host's device has no memory left");
    }
    auto* at = new std::byte[bytes];
    std::memset(at, 0xff, bytes);
    return {at, [memory = memory_, bytes](const std::byte* p) {
              memory->taken -= bytes;
              delete[] p;
            }};
  }
  std::shared_ptr<std::byte> allocate_host(std::size_t bytes) override {
    auto* at = new std::byte[bytes];
    std::memset(at, 0xff, bytes);
    return {at, [](const std::byte* p) { delete[] p; }};
  }
  std::size_t usable_bytes() override { return memory_->bytes - memory_->taken; }

  void upload(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void zero(void* to, std::size_t bytes) override {
    later({to}, {static_cast<double>(bytes)}, [=] { std::memset(to, 0, bytes); });
  }
  /// Takes down what is called and checks that it is the same for the same key; nothing is repeated.
  void repeat(std::uint64_t key, const std::function<void()>& work) override {
    calls_.clear();
    work();
    const auto [known, is_new] = sequences_.try_emplace(key, calls_);
    if (!is_new && known->second != calls_) throw ComputationError("a sequence of calls is not the one before");
    ++repeated[is_new ? 0 : 1];
  }
  int repeated[2] = {0, 0};  ///< sequences that were new, and that were not
  void wait() override {
    if (memory_->lost) throw DeviceLost({"wait", "lost", "the host's device is lost", "here", 0});
    for (const auto& work : queue_) work();
    queue_.clear();
  }

  void prepare_potrf(int /*n*/, double* /*a*/, int /*ld*/) override {}
  void potrf(int n, double* a, int ld, int* info) override {
    later({a, info}, {static_cast<double>(n), static_cast<double>(ld)}, [=] { dpotrf_("L", &n, a, &ld, info); });
  }
  void trsm(int n, int columns, const double* l, int ldl, double* b, int ldb) override {
    later({l, b},
          {static_cast<double>(n), static_cast<double>(columns), static_cast<double>(ldl), static_cast<double>(ldb)},
          [=] {
            const double one = 1;
            dtrsm_("L", "L", "N", "N", &n, &columns, &one, l, &ldl, b, &ldb);
          });
  }
  void syrk(bool transposed, int n, int k, double alpha, const double* a, int lda, double beta, double* c,
            int ldc) override {
    later({a, c},
          {static_cast<double>(transposed), static_cast<double>(n), static_cast<double>(k), static_cast<double>(alpha),
           static_cast<double>(lda), static_cast<double>(beta), static_cast<double>(ldc)},
          [=] { dsyrk_("L", transposed ? "T" : "N", &n, &k, &alpha, a, &lda, &beta, c, &ldc); });
  }
  void syr2k(int n, int k, double alpha, const double* a, int lda, const double* b, int ldb, double* c,
             int ldc) override {
    later({a, b, c},
          {static_cast<double>(n), static_cast<double>(k), static_cast<double>(alpha), static_cast<double>(lda),
           static_cast<double>(ldb), static_cast<double>(ldc)},
          [=] {
            const double one = 1;
            dsyr2k_("L", "N", &n, &k, &alpha, a, &lda, b, &ldb, &one, c, &ldc);
          });
  }
  void symm(int m, int n, const double* a, int lda, const double* b, int ldb, double* c, int ldc) override {
    later({a, b, c},
          {static_cast<double>(m), static_cast<double>(n), static_cast<double>(lda), static_cast<double>(ldb),
           static_cast<double>(ldc)},
          [=] {
            const double one = 1, zero = 0;
            dsymm_("L", "L", &m, &n, &one, a, &lda, b, &ldb, &zero, c, &ldc);
          });
  }
  void gemm(bool transposed, int m, int n, int k, double alpha, const double* a, int lda, const double* b, int ldb,
            double beta, double* c, int ldc) override {
    later({a, b, c},
          {static_cast<double>(transposed), static_cast<double>(m), static_cast<double>(n), static_cast<double>(k),
           static_cast<double>(alpha), static_cast<double>(lda), static_cast<double>(ldb), static_cast<double>(beta),
           static_cast<double>(ldc)},
          [=] { dgemm_(transposed ? "T" : "N", "N", &m, &n, &k, &alpha, a, &lda, b, &ldb, &beta, c, &ldc); });
  }
  void spmm(const kernels::SparseMatrix& a, int columns, double alpha, const double* b, int ldb, double beta, double* c,
            int ldc) override {
    later({a.value, b, c},
          {static_cast<double>(columns), static_cast<double>(alpha), static_cast<double>(ldb),
           static_cast<double>(beta), static_cast<double>(ldc)},
          [=] {
            for (int column = 0; column < columns; ++column)
              for (int i = 0; i < a.rows; ++i) {
                double t = 0;
                for (int w = a.begin[i]; w < a.begin[i + 1]; ++w)
                  t += a.value[w] * b[a.column[w] + static_cast<std::ptrdiff_t>(column) * ldb];
                double& to = c[i + static_cast<std::ptrdiff_t>(column) * ldc];
                to = alpha * t + (beta == 0 ? 0 : beta * to);
              }
          });
  }
  void gemv(bool transposed, int m, int n, double alpha, const double* a, int lda, const double* x,
            double* y) override {
    later({a, x, y},
          {static_cast<double>(transposed), static_cast<double>(m), static_cast<double>(n), static_cast<double>(alpha),
           static_cast<double>(lda)},
          [=] {
            const double zero = 0;
            const int one = 1;
            dgemv_(transposed ? "T" : "N", &m, &n, &alpha, a, &lda, x, &one, &zero, y, &one);
          });
  }
  void run(const kernels::LargeStep& step, std::size_t items) override {
    later({}, {static_cast<double>(step.index()), static_cast<double>(items)}, [=] {
      std::visit(
          [&](const auto& arguments) {
            for (std::size_t i = 0; i < items; ++i) kernels::run_item(arguments, i);
          },
          step);
    });
  }

private:
  void copy(void* to, const void* from, std::size_t bytes) {
    later({to, from}, {static_cast<double>(bytes)}, [=] {
      if (bytes > 0) std::memcpy(to, from, bytes);
    });
  }
  /// @param call  what tells it from others
  void later(const std::vector<const void*>& pointers, const std::vector<double>& numbers, std::function<void()> work) {
    calls_.push_back({pointers, numbers});
    queue_.push_back(std::move(work));
  }
  struct Call {
    std::vector<const void*> pointers;
    std::vector<double> numbers;
    bool operator==(const Call&) const = default;
  };

  std::shared_ptr<HostLargeMemory> memory_;
  std::vector<std::function<void()>> queue_;
  std::vector<Call> calls_;
  std::map<std::uint64_t, std::vector<Call>> sequences_;
};

}  // namespace batchlmm::oracle

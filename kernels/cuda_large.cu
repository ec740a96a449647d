// A queue on a CUDA device for models with a large Schur complement: cuBLAS, cuSOLVER, and one kernel that runs the
// text of a step, an item a thread.
#include "kernels/cuda_large.hpp"

#include <algorithm>
#include <map>
#include <string>

#include "kernels/cuda.hpp"
#include "kernels/cuda_check.hpp"
#include "kernels/cuda_libraries.hpp"
#include "kernels/cuda_pool.hpp"
#include "kernels/large_steps.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

constexpr unsigned block_threads = 128;
/// Share of the device's free memory that all queues together may take.
constexpr double memory_share = 0.5;
/// cuBLAS's workspace. One of a queue's own, since a handle's default one makes results depend on other streams.
constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

template <class Step>
__global__ void __launch_bounds__(block_threads)
    large_step_kernel(const __grid_constant__ Step step, const std::size_t items) {
  const std::size_t item = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (item < items) run_item(step, item);
}

class CudaLargeDevice final : public LargeDevice {
public:
  explicit CudaLargeDevice(int device) : device_(device), blas_(cublas()), solver_(cusolver()) {
    use();
    try {
      check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
      // Queues outnumber cores: their threads sleep while they wait.
      check(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming | cudaEventBlockingSync),
            "cudaEventCreateWithFlags");
      blas_.check(blas_.create(&blas_handle_), "cublasCreate");
      blas_.check(blas_.set_stream(blas_handle_, stream_), "cublasSetStream");
      workspace_ = allocate(workspace_bytes);
      blas_.check(blas_.set_workspace(blas_handle_, workspace_.get(), workspace_bytes), "cublasSetWorkspace");
      solver_.check(solver_.create(&solver_handle_), "cusolverDnCreate");
      solver_.check(solver_.set_stream(solver_handle_, stream_), "cusolverDnSetStream");
    } catch (...) {
      release();
      throw;
    }
  }
  CudaLargeDevice(const CudaLargeDevice&) = delete;
  CudaLargeDevice& operator=(const CudaLargeDevice&) = delete;
  ~CudaLargeDevice() override { release(); }

  std::shared_ptr<std::byte> allocate(std::size_t bytes) override {
    use();
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      throw DeviceMemoryError("CUDA device " + std::to_string(device_) + ": " + std::to_string(bytes >> 20) +
                              " MiB of memory are wanted, and are not free");
    }
    check(error, "cudaMalloc");
    // At exit the driver may be gone already, and has then freed it.
    std::shared_ptr<std::byte> owned(static_cast<std::byte*>(memory), [](std::byte* p) {
      (void)cudaFree(p);
      (void)cudaGetLastError();
    });
    // The libraries load whole tiles, of triangles too: what they do not use is no stray number.
    zero(memory, bytes);
    return owned;
  }
  std::shared_ptr<std::byte> allocate_host(std::size_t bytes) override {
    use();
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable), "cudaHostAlloc");
    return {static_cast<std::byte*>(memory), [](std::byte* p) {
              (void)cudaFreeHost(p);
              (void)cudaGetLastError();
            }};
  }
  std::size_t usable_bytes() override {
    use();
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return static_cast<std::size_t>(memory_share * static_cast<double>(free));
  }

  void upload(void* to, const void* from, std::size_t bytes) override {
    use();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync to the device");
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    use();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync from the device");
  }
  void zero(void* to, std::size_t bytes) override {
    use();
    check(cudaMemsetAsync(to, 0, bytes, stream_), "cudaMemsetAsync");
  }
  void wait() override {
    use();
    check(cudaEventRecord(done_, stream_), "cudaEventRecord");
    check(cudaEventSynchronize(done_), "cudaEventSynchronize, after steps of a large model");
  }

  void repeat(std::uint64_t key, const std::function<void()>& work) override {
    use();
    Recording& recording = recordings_[key];
    if (recording.graph != nullptr) {
      check(cudaGraphLaunch(recording.graph, stream_), "cudaGraphLaunch");
      return;
    }
    // At first as it is: workspaces are made then.
    if (recording.calls++ == 1) record(recording, work);
    if (recording.graph != nullptr)
      check(cudaGraphLaunch(recording.graph, stream_), "cudaGraphLaunch");
    else
      work();
  }

  void prepare_potrf(int n, double* a, int ld) override {
    use();
    // One for each order, kept: recordings go on using it.
    FactorWorkspace& workspace = factor_workspaces_[n];
    if (workspace.memory != nullptr) return;
    solver_.check(solver_.dpotrf_buffer_size(solver_handle_, CUBLAS_FILL_MODE_LOWER, n, a, ld, &workspace.length),
                  "cusolverDnDpotrf_bufferSize");
    workspace.memory = allocate(sizeof(double) * static_cast<std::size_t>(std::max(workspace.length, 1)));
  }
  void potrf(int n, double* a, int ld, int* info) override {
    prepare_potrf(n, a, ld);
    const FactorWorkspace& workspace = factor_workspaces_[n];
    solver_.check(solver_.dpotrf(solver_handle_, CUBLAS_FILL_MODE_LOWER, n, a, ld,
                                 reinterpret_cast<double*>(workspace.memory.get()), workspace.length, info),
                  "cusolverDnDpotrf");
  }
  void trsm(int n, int columns, const double* l, int ldl, double* b, int ldb) override {
    use();
    const double one = 1;
    blas_.check(blas_.dtrsm(blas_handle_, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT,
                            n, columns, &one, l, ldl, b, ldb),
                "cublasDtrsm");
  }
  void syrk(bool transposed, int n, int k, double alpha, const double* a, int lda, double beta, double* c,
            int ldc) override {
    use();
    blas_.check(blas_.dsyrk(blas_handle_, CUBLAS_FILL_MODE_LOWER, transposed ? CUBLAS_OP_T : CUBLAS_OP_N, n, k, &alpha,
                            a, lda, &beta, c, ldc),
                "cublasDsyrk");
  }
  void syr2k(int n, int k, double alpha, const double* a, int lda, const double* b, int ldb, double* c,
             int ldc) override {
    use();
    const double one = 1;
    blas_.check(
        blas_.dsyr2k(blas_handle_, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, n, k, &alpha, a, lda, b, ldb, &one, c, ldc),
        "cublasDsyr2k");
  }
  void symm(int m, int n, const double* a, int lda, const double* b, int ldb, double* c, int ldc) override {
    use();
    const double one = 1, zero = 0;
    blas_.check(
        blas_.dsymm(blas_handle_, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER, m, n, &one, a, lda, b, ldb, &zero, c, ldc),
        "cublasDsymm");
  }
  void gemm(bool transposed, int m, int n, int k, double alpha, const double* a, int lda, const double* b, int ldb,
            double beta, double* c, int ldc) override {
    use();
    blas_.check(blas_.dgemm(blas_handle_, transposed ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &alpha, a, lda,
                            b, ldb, &beta, c, ldc),
                "cublasDgemm");
  }
  void spmm(const SparseMatrix& a, int columns, double alpha, const double* b, int ldb, double beta, double* c,
            int ldc) override {
    use();
    const Cusparse& sparse = cusparse();
    if (sparse_handle_ == nullptr) {
      sparse.check(sparse.create(&sparse_handle_), "cusparseCreate");
      sparse.check(sparse.set_stream(sparse_handle_, stream_), "cusparseSetStream");
    }
    // The descriptors are of the host alone; the calls take what they need of them.
    const SparseDescriptors d(sparse, a, columns, b, ldb, c, ldc);
    // The only way of the library for this layout with the same bits in every run.
    constexpr cusparseSpMMAlg_t algorithm = CUSPARSE_SPMM_CSR_ALG3;
    std::size_t bytes = 0;
    sparse.check(
        sparse.spmm_buffer_size(sparse_handle_, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE,
                                &alpha, d.a, d.b, &beta, d.c, CUDA_R_64F, algorithm, &bytes),
        "cusparseSpMM_bufferSize");
    if (bytes > sparse_workspace_bytes_) {
      sparse_workspace_ = allocate(bytes);
      sparse_workspace_bytes_ = bytes;
    }
    sparse.check(sparse.spmm(sparse_handle_, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE, &alpha,
                             d.a, d.b, &beta, d.c, CUDA_R_64F, algorithm, sparse_workspace_.get()),
                 "cusparseSpMM");
  }
  void gemv(bool transposed, int m, int n, double alpha, const double* a, int lda, const double* x,
            double* y) override {
    use();
    const double zero = 0;
    blas_.check(
        blas_.dgemv(blas_handle_, transposed ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, &alpha, a, lda, x, 1, &zero, y, 1),
        "cublasDgemv");
  }
  void run(const LargeStep& step, std::size_t items) override {
    use();
    const auto blocks = static_cast<unsigned>((items + block_threads - 1) / block_threads);
    std::visit(
        [&](const auto& arguments) {
          large_step_kernel<<<blocks, block_threads, 0, stream_>>>(arguments, items);
          check(cudaGetLastError(), std::string("launch of large_step_kernel, step ") + std::to_string(step.index()));
        },
        step);
  }

private:
  /// The calls for one key as a graph: one launch in place of a hundred, each of which all queues would wait for.
  struct Recording {
    int calls = 0;
    cudaGraphExec_t graph = nullptr;  ///< null where it has not been, or cannot be, recorded
  };
  /// Where a library does what cannot be recorded, there is no graph.
  void record(Recording& recording, const std::function<void()>& work) {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    bool complete = true;
    try {
      work();
    } catch (const ComputationError&) {
      complete = false;
    }
    cudaGraph_t graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(stream_, &graph);
    if (complete && ended == cudaSuccess && cudaGraphInstantiate(&recording.graph, graph, 0) != cudaSuccess)
      recording.graph = nullptr;
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
  }

  /// Descriptors of one product's matrices.
  struct SparseDescriptors {
    SparseDescriptors(const Cusparse& library, const SparseMatrix& matrix, int columns, const double* from, int ld_from,
                      double* to, int ld_to)
        : sparse(library) {
      try {
        sparse.check(sparse.create_csr(&a, matrix.rows, matrix.columns, matrix.values, const_cast<int*>(matrix.begin),
                                       const_cast<int*>(matrix.column), const_cast<double*>(matrix.value),
                                       CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO, CUDA_R_64F),
                     "cusparseCreateCsr");
        sparse.check(sparse.create_dense(&b, matrix.columns, columns, ld_from, const_cast<double*>(from), CUDA_R_64F,
                                         CUSPARSE_ORDER_COL),
                     "cusparseCreateDnMat");
        sparse.check(sparse.create_dense(&c, matrix.rows, columns, ld_to, to, CUDA_R_64F, CUSPARSE_ORDER_COL),
                     "cusparseCreateDnMat");
      } catch (...) {
        release();
        throw;
      }
    }
    SparseDescriptors(const SparseDescriptors&) = delete;
    SparseDescriptors& operator=(const SparseDescriptors&) = delete;
    ~SparseDescriptors() { release(); }
    void release() const {
      if (a != nullptr) (void)sparse.destroy_sparse(a);
      if (b != nullptr) (void)sparse.destroy_dense(b);
      if (c != nullptr) (void)sparse.destroy_dense(c);
    }
    const Cusparse& sparse;
    cusparseSpMatDescr_t a = nullptr;
    cusparseDnMatDescr_t b = nullptr, c = nullptr;
  };

  /// The device is current for a thread, not for the program.
  void use() const { check(cudaSetDevice(device_), "cudaSetDevice"); }
  void release() {
    if (cudaSetDevice(device_) == cudaSuccess && stream_ != nullptr) (void)cudaStreamSynchronize(stream_);
    for (auto& [key, recording] : recordings_)
      if (recording.graph != nullptr) (void)cudaGraphExecDestroy(recording.graph);
    if (sparse_handle_ != nullptr) (void)cusparse().destroy(sparse_handle_);
    if (solver_handle_ != nullptr) (void)solver_.destroy(solver_handle_);
    if (blas_handle_ != nullptr) (void)blas_.destroy(blas_handle_);
    if (done_ != nullptr) (void)cudaEventDestroy(done_);
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
    (void)cudaGetLastError();
  }

  int device_;
  const Cublas& blas_;
  const Cusolver& solver_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t done_ = nullptr;
  cublasHandle_t blas_handle_ = nullptr;
  cusolverDnHandle_t solver_handle_ = nullptr;
  cusparseHandle_t sparse_handle_ = nullptr;
  struct FactorWorkspace {
    std::shared_ptr<std::byte> memory;
    int length = 0;
  };
  std::shared_ptr<std::byte> workspace_, sparse_workspace_;
  std::map<int, FactorWorkspace> factor_workspaces_;  ///< of cuSOLVER, by order
  std::size_t sparse_workspace_bytes_ = 0;
  std::map<std::uint64_t, Recording> recordings_;
};

}  // namespace
}  // namespace BATCHLMM_ISA

int cuda_large_devices() {
  const int devices = static_cast<int>(usable_cuda_devices().size());
  (void)cublas();
  (void)cusolver();
  return devices;
}

std::unique_ptr<LargeDevice> make_cuda_large_device(int which) {
  return std::make_unique<CudaLargeDevice>(usable_cuda_devices().at(which));
}

}  // namespace batchlmm::kernels

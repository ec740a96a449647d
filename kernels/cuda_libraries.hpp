/// @file
/// The toolkit's libraries, opened at first use: they are shared objects of hundreds of megabytes, and linked with the
/// program they would be loaded before it says its first word. Where one is missing, what does not need it still runs.
#pragma once

#include <cublas_v2.h>
#include <cusolverDn.h>
#include <cusparse.h>

#include <source_location>
#include <string>
#include <vector>

namespace batchlmm::kernels {

/// An open shared object; stays open until the process ends.
class CudaLibrary {
public:
  /// Looks for the file as the system's loader does, then in the toolkit's folders: of CUDA_HOME and CUDA_PATH,
  /// /usr/local/cuda, and the one of the build.
  /// @param soname  "libcublas.so.13"
  /// @throws BackendUnavailable naming the file, and why the loader did not take it
  explicit CudaLibrary(const std::string& soname);

  /// @param name  as the library exports it ("cublasDgemm_v2")
  /// @throws BackendUnavailable naming the function and the file
  template <class Function>
  void find(const char* name, Function& function) const {
    function = reinterpret_cast<Function>(address(name));
  }
  /// Where the file was found: what the loader was given.
  [[nodiscard]] const std::string& file() const { return file_; }

private:
  [[nodiscard]] void* address(const char* name) const;

  std::string soname_, file_;
  void* handle_ = nullptr;
};

/// "libcublas.so.13" of ("libcublas", 13).
std::string cuda_soname(const std::string& name, int major);

/// cuBLAS: the functions that are used, by their names without the version.
struct Cublas {
  decltype(&cublasCreate_v2) create;
  decltype(&cublasDestroy_v2) destroy;
  decltype(&cublasSetStream_v2) set_stream;
  decltype(&cublasSetWorkspace_v2) set_workspace;
  decltype(&cublasGetStatusName) status_name;
  decltype(&cublasGetStatusString) status_string;
  decltype(&cublasDgemm_v2) dgemm;
  decltype(&cublasDgemv_v2) dgemv;
  decltype(&cublasDsymm_v2) dsymm;
  decltype(&cublasDsyrk_v2) dsyrk;
  decltype(&cublasDsyr2k_v2) dsyr2k;
  decltype(&cublasDtrsm_v2) dtrsm;

  /// @throws DeviceMemoryError, DeviceError naming the call, unless it succeeded
  void check(cublasStatus_t status, const char* call, std::source_location at = std::source_location::current()) const;
};

/// cuSOLVER's dense part.
struct Cusolver {
  decltype(&cusolverDnCreate) create;
  decltype(&cusolverDnDestroy) destroy;
  decltype(&cusolverDnSetStream) set_stream;
  decltype(&cusolverDnDpotrf_bufferSize) dpotrf_buffer_size;
  decltype(&cusolverDnDpotrf) dpotrf;

  /// @throws DeviceMemoryError, DeviceError naming the call, unless it succeeded
  static void check(cusolverStatus_t status, const char* call,
                    std::source_location at = std::source_location::current());
};

struct Cusparse {
  decltype(&cusparseCreate) create;
  decltype(&cusparseDestroy) destroy;
  decltype(&cusparseSetStream) set_stream;
  decltype(&cusparseGetErrorName) status_name;
  decltype(&cusparseGetErrorString) status_string;
  decltype(&cusparseCreateCsr) create_csr;
  decltype(&cusparseDestroySpMat) destroy_sparse;
  decltype(&cusparseCreateDnMat) create_dense;
  decltype(&cusparseDestroyDnMat) destroy_dense;
  decltype(&cusparseSpMM_bufferSize) spmm_buffer_size;
  decltype(&cusparseSpMM) spmm;

  /// @throws DeviceError naming the call, unless it succeeded
  void check(cusparseStatus_t status, const char* call,
             std::source_location at = std::source_location::current()) const;
};

/// Opened by the first call, once a process; any thread may call.
/// @throws BackendUnavailable where the library or one of its functions is missing
const Cublas& cublas();
const Cusolver& cusolver();
const Cusparse& cusparse();

}  // namespace batchlmm::kernels

#include "kernels/cuda_libraries.hpp"

#include <dlfcn.h>

#include <cstdlib>

#include "batchlmm/error.hpp"
#include "kernels/cuda_library_status.hpp"
#include "kernels/cuda_runtime_compiler.hpp"
#include "kernels/large_device.hpp"

namespace batchlmm::kernels {
namespace {

/// Folders where toolkits have their libraries, in the order in which they are searched; "" is the loader's own way.
std::vector<std::string> library_folders() {
  std::vector<std::string> folders{""};
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const char* home = std::getenv(variable); home != nullptr && *home != '\0')
      for (const char* lib : {"/lib64/", "/lib/"}) folders.push_back(std::string(home) + lib);
  folders.emplace_back("/usr/local/cuda/lib64/");
  folders.emplace_back(BATCHLMM_CUDA_LIBRARIES "/");
  return folders;
}

/// @param error  the library's name for it
[[noreturn]] void fail(const char* call, const std::string& error, const std::string& text,
                       const std::source_location& at) {
  std::string file = at.file_name();
  if (const auto folder = file.rfind("kernels/"); folder != std::string::npos) file = file.substr(folder);
  throw DeviceError({call, error, text, file + ":" + std::to_string(at.line()), -1});
}

const CudaLibrary& cublas_library() {
  static const CudaLibrary library(cuda_soname("libcublas", CUBLAS_VER_MAJOR));
  return library;
}
const CudaLibrary& cusparse_library() {
  static const CudaLibrary library(cuda_soname("libcusparse", CUSPARSE_VER_MAJOR));
  return library;
}
const CudaLibrary& cusolver_library() {
  // It needs both: where they have been found, they are there for it too.
  (void)cublas_library();
  (void)cusparse_library();
  static const CudaLibrary library(cuda_soname("libcusolver", CUSOLVER_VER_MAJOR));
  return library;
}

/// Opens a library and says how that went.
template <class Open>
CudaLibraryStatus status_of(const std::string& soname, const Open& open) {
  CudaLibraryStatus status;
  status.name = soname;
  try {
    status.file = open();
    status.usable = true;
  } catch (const BackendUnavailable& error) {
    status.why = error.what();
  }
  return status;
}

}  // namespace

std::string cuda_soname(const std::string& name, int major) { return name + ".so." + std::to_string(major); }

CudaLibrary::CudaLibrary(const std::string& soname) : soname_(soname) {
  std::string why;
  for (const std::string& folder : library_folders()) {
    file_ = folder + soname;
    handle_ = dlopen(file_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) return;
    // The first answer tells most: what the loader misses, in the file itself or in one that it needs.
    const char* error = dlerror();
    if (why.empty() && error != nullptr) why = error;
  }
  throw BackendUnavailable("the cuda backend cannot be used: expected the CUDA toolkit's " + soname +
                           " where the loader looks, in CUDA_HOME or under /usr/local/cuda; found none (" + why + ")");
}

void* CudaLibrary::address(const char* name) const {
  void* found = dlsym(handle_, name);
  if (found == nullptr)
    throw BackendUnavailable(std::string("the cuda backend cannot be used: expected the function ") + name + " in " +
                             file_ + "; found none");
  return found;
}

const Cublas& cublas() {
  static const Cublas functions = [] {
    const CudaLibrary& library = cublas_library();
    Cublas f{};
    library.find("cublasCreate_v2", f.create);
    library.find("cublasDestroy_v2", f.destroy);
    library.find("cublasSetStream_v2", f.set_stream);
    library.find("cublasSetWorkspace_v2", f.set_workspace);
    library.find("cublasGetStatusName", f.status_name);
    library.find("cublasGetStatusString", f.status_string);
    library.find("cublasDgemm_v2", f.dgemm);
    library.find("cublasDgemv_v2", f.dgemv);
    library.find("cublasDsymm_v2", f.dsymm);
    library.find("cublasDsyrk_v2", f.dsyrk);
    library.find("cublasDsyr2k_v2", f.dsyr2k);
    library.find("cublasDtrsm_v2", f.dtrsm);
    return f;
  }();
  return functions;
}

const Cusolver& cusolver() {
  static const Cusolver functions = [] {
    const CudaLibrary& library = cusolver_library();
    Cusolver f{};
    library.find("cusolverDnCreate", f.create);
    library.find("cusolverDnDestroy", f.destroy);
    library.find("cusolverDnSetStream", f.set_stream);
    library.find("cusolverDnDpotrf_bufferSize", f.dpotrf_buffer_size);
    library.find("cusolverDnDpotrf", f.dpotrf);
    return f;
  }();
  return functions;
}

const Cusparse& cusparse() {
  static const Cusparse functions = [] {
    const CudaLibrary& library = cusparse_library();
    Cusparse f{};
    library.find("cusparseCreate", f.create);
    library.find("cusparseDestroy", f.destroy);
    library.find("cusparseSetStream", f.set_stream);
    library.find("cusparseGetErrorName", f.status_name);
    library.find("cusparseGetErrorString", f.status_string);
    library.find("cusparseCreateCsr", f.create_csr);
    library.find("cusparseDestroySpMat", f.destroy_sparse);
    library.find("cusparseCreateDnMat", f.create_dense);
    library.find("cusparseDestroyDnMat", f.destroy_dense);
    library.find("cusparseSpMM_bufferSize", f.spmm_buffer_size);
    library.find("cusparseSpMM", f.spmm);
    return f;
  }();
  return functions;
}

void Cublas::check(cublasStatus_t status, const char* call, std::source_location at) const {
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw DeviceMemoryError(std::string("cuBLAS: no memory for ") + call);
  if (status != CUBLAS_STATUS_SUCCESS) fail(call, status_name(status), status_string(status), at);
}

void Cusolver::check(cusolverStatus_t status, const char* call, std::source_location at) {
  if (status == CUSOLVER_STATUS_ALLOC_FAILED) throw DeviceMemoryError(std::string("cuSOLVER: no memory for ") + call);
  // The library has no texts for its states.
  if (status != CUSOLVER_STATUS_SUCCESS)
    fail(call, "cusolverStatus_t " + std::to_string(status), "cuSOLVER says no more", at);
}

void Cusparse::check(cusparseStatus_t status, const char* call, std::source_location at) const {
  if (status != CUSPARSE_STATUS_SUCCESS) fail(call, status_name(status), status_string(status), at);
}

std::vector<CudaLibraryStatus> cuda_libraries() {
  return {status_of(cuda_soname("libcublas", CUBLAS_VER_MAJOR),
                    [] {
                      (void)cublas();
                      return cublas_library().file();
                    }),
          status_of(cuda_soname("libcusolver", CUSOLVER_VER_MAJOR),
                    [] {
                      (void)cusolver();
                      return cusolver_library().file();
                    }),
          status_of(cuda_soname("libcusparse", CUSPARSE_VER_MAJOR),
                    [] {
                      (void)cusparse();
                      return cusparse_library().file();
                    }),
          status_of(runtime_compiler_name(), runtime_compiler_file)};
}

}  // namespace batchlmm::kernels

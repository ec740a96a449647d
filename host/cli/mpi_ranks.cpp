#include "host/cli/mpi_ranks.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "batchlmm/error.hpp"

namespace batchlmm::cli {

std::optional<BatchlmmRanks> start_ranks() {
  // What Open MPI and launchers that speak PMI say to those that they start.
  const char* size = nullptr;
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (size == nullptr) size = std::getenv(name);
  if (size == nullptr || std::atoi(size) < 2) return {};
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string path = (program.parent_path() / "libbatchlmm_mpi.so").string();
  // MPI's own modules look for its symbols among those that all see.
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (module == nullptr)
    throw InputError("started by mpirun, but the MPI module cannot be opened: " + std::string(dlerror()) +
                     " (it is built where CMake finds MPI)");
  const auto start = reinterpret_cast<BatchlmmStartRanks>(dlsym(module, "batchlmm_start_ranks"));
  BatchlmmRanks ranks{};
  if (start == nullptr || start(&ranks) != 0) throw InputError("started by mpirun, but MPI does not start: " + path);
  return ranks;
}

}  // namespace batchlmm::cli

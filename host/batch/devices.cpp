#include "host/batch/devices.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "host/batch/backend.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm {
namespace {

double gib(std::uint64_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0 * 1024.0); }

}  // namespace

Devices find_devices() {
  Devices found;
  found.threads = thread_count(0);
  found.instruction_set = kernels::cpu_kernels().name;
  found.lanes = kernels::cpu_kernels().lanes;
  for (const kernels::CpuKernels* k : kernels::all_cpu_kernels()) found.instruction_sets.emplace_back(k->name);
  found.cuda = kernels::cuda_inventory();
  found.status = kernels::cuda_status();
  found.libraries = kernels::cuda_libraries();
  return found;
}

std::string devices_text(const Devices& devices) {
  std::string out =
      fmt::format("cpu     {} thread{}, instruction set {}, {} replicates side by side\n", devices.threads,
                  devices.threads == 1 ? "" : "s", devices.instruction_set, devices.lanes);
  if (devices.cuda.devices.empty()) out += "cuda    " + devices.cuda.why + "\n";
  for (const kernels::CudaDeviceInfo& d : devices.cuda.devices) {
    out += fmt::format("cuda {}  ", d.number);
    if (!d.name.empty())
      out += fmt::format("{}, compute capability {}.{}, {} multiprocessors, {:.1f} GiB", d.name, d.major, d.minor,
                         d.multiprocessors, gib(d.total_bytes));
    if (d.usable)
      out += fmt::format(", {:.1f} GiB free\n", gib(d.free_bytes));
    else
      out += fmt::format("{}not usable: {}\n", d.name.empty() ? "" : "; ", d.why);
  }
  if (!devices.cuda.devices.empty())
    out += fmt::format("driver  CUDA {}, runtime {}\n", devices.cuda.driver, devices.cuda.runtime);
  for (const kernels::CudaLibraryStatus& library : devices.libraries)
    out += library.usable ? fmt::format("library {}: {}\n", library.name, library.file)
                          : fmt::format("library {}: not usable: {}\n", library.name, library.why);
  return out;
}

std::string devices_json(const Devices& devices) {
  using Json = nlohmann::ordered_json;
  Json json;
  json["cpu"] = {{"threads", devices.threads},
                 {"instruction_set", devices.instruction_set},
                 {"lanes", devices.lanes},
                 {"instruction_sets", devices.instruction_sets}};
  Json cuda;
  cuda["usable"] = devices.status.usable;
  cuda["why"] = devices.status.usable ? Json(nullptr) : Json(devices.status.why);
  const auto or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  cuda["driver"] = or_null(devices.cuda.driver);
  cuda["runtime"] = or_null(devices.cuda.runtime);
  cuda["devices"] = Json::array();
  for (const kernels::CudaDeviceInfo& d : devices.cuda.devices)
    cuda["devices"].push_back({{"number", d.number},
                               {"name", d.name},
                               {"compute_capability", fmt::format("{}.{}", d.major, d.minor)},
                               {"multiprocessors", d.multiprocessors},
                               {"memory_bytes", d.total_bytes},
                               {"free_bytes", d.usable ? Json(d.free_bytes) : Json(nullptr)},
                               {"usable", d.usable},
                               {"why", or_null(d.why)}});
  cuda["libraries"] = Json::array();
  for (const kernels::CudaLibraryStatus& library : devices.libraries)
    cuda["libraries"].push_back({{"name", library.name},
                                 {"usable", library.usable},
                                 {"file", or_null(library.file)},
                                 {"why", or_null(library.why)}});
  json["cuda"] = std::move(cuda);
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace batchlmm

#include <CLI/App.hpp>
#include <memory>

#include "host/batch/devices.hpp"
#include "host/cli/commands.hpp"

namespace batchlmm::cli {

Run add_devices_command(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "devices", "List the processors and CUDA devices that can be used here, and why others cannot");
  command->add_flag("--json", *json, "Print JSON");
  return [json]() -> Outcome {
    const Devices devices = find_devices();
    return *json ? devices_json(devices) : devices_text(devices);
  };
}

}  // namespace batchlmm::cli

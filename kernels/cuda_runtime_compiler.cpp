#include "kernels/cuda_runtime_compiler.hpp"

#include <nvrtc.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>

#include "batchlmm/error.hpp"
#include "kernels/cuda_libraries.hpp"
#include "kernels/runtime_headers.hpp"

namespace batchlmm::kernels {
namespace {

namespace fs = std::filesystem;

/// Headers of the standard library that the kernel text includes; all of them are kernels/runtime_std.hpp.
constexpr const char* standard_headers[] = {"cmath", "cstddef", "cstdint", "cstring", "limits", "type_traits"};
constexpr const char* standard_text = "#include \"kernels/runtime_std.hpp\"\n";

struct Nvrtc {
  decltype(&nvrtcVersion) version;
  decltype(&nvrtcGetErrorString) error_string;
  decltype(&nvrtcCreateProgram) create;
  decltype(&nvrtcDestroyProgram) destroy;
  decltype(&nvrtcCompileProgram) compile;
  decltype(&nvrtcGetProgramLogSize) log_size;
  decltype(&nvrtcGetProgramLog) log;
  decltype(&nvrtcGetCUBINSize) cubin_size;
  decltype(&nvrtcGetCUBIN) cubin;

  void check(nvrtcResult result, const char* call) const {
    if (result != NVRTC_SUCCESS)
      throw ComputationError(std::string("NVRTC: ") + call + " failed: " + error_string(result));
  }
};

const CudaLibrary& nvrtc_library() {
  static const CudaLibrary library(runtime_compiler_name());
  return library;
}

const Nvrtc& nvrtc() {
  static const Nvrtc functions = [] {
    const CudaLibrary& library = nvrtc_library();
    Nvrtc f{};
    library.find("nvrtcVersion", f.version);
    library.find("nvrtcGetErrorString", f.error_string);
    library.find("nvrtcCreateProgram", f.create);
    library.find("nvrtcDestroyProgram", f.destroy);
    library.find("nvrtcCompileProgram", f.compile);
    library.find("nvrtcGetProgramLogSize", f.log_size);
    library.find("nvrtcGetProgramLog", f.log);
    library.find("nvrtcGetCUBINSize", f.cubin_size);
    library.find("nvrtcGetCUBIN", f.cubin);
    return f;
  }();
  return functions;
}

std::vector<std::string> options(int compute_capability) {
  return {"--gpu-architecture=sm_" + std::to_string(compute_capability), "-std=c++20", "-default-device", "-fmad=false",
          "-DBATCHLMM_ISA=traced",
          // A trip is straight-line code already. What more the optimizer does to it lengthens the lives of its values:
          // politeness takes 94 registers so and 142 otherwise, its slopes none and 36 bytes of spills.
          "--Ofast-compile=min", "--ptxas-options=-v"};
}

/// All that the machine code depends on.
std::string key_of(const Nvrtc& compiler, const std::string& source, const std::vector<std::string>& how) {
  int major = 0, minor = 0;
  compiler.check(compiler.version(&major, &minor), "nvrtcVersion");
  std::string key = "NVRTC " + std::to_string(major) + "." + std::to_string(minor) + "\n";
  for (const std::string& option : how) key += option + "\n";
  for (std::size_t h = 0; h < runtime_header_count; ++h) key += runtime_headers[h].text;
  return key + source;
}

/// Fowler, Noll and Vo's hash, for file names: a file holds its whole key, and is not taken for another's.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return h;
}

// A file: a line that says what it is, the lengths of key and code, and both.
constexpr const char* magic = "batchlmm kernel 1\n";

std::optional<std::vector<char>> read_code(const fs::path& file, const std::string& key) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return {};
  const std::string content{std::istreambuf_iterator<char>(in), {}};
  const std::size_t head = std::strlen(magic);
  std::uint64_t lengths[2];
  if (content.size() < head + sizeof lengths || content.compare(0, head, magic) != 0) return {};
  std::memcpy(lengths, content.data() + head, sizeof lengths);
  const std::size_t at = head + sizeof lengths;
  if (lengths[0] != key.size() || content.size() != at + lengths[0] + lengths[1]) return {};
  if (content.compare(at, key.size(), key) != 0) return {};
  return std::vector<char>(content.begin() + static_cast<std::ptrdiff_t>(at + key.size()), content.end());
}

/// Under another name first, so that nobody reads half a file. A folder that cannot be written keeps nothing.
void write_code(const fs::path& file, const std::string& key, const std::vector<char>& code) {
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  const fs::path temporary = file.string() + "." + std::to_string(getpid());
  {
    std::ofstream out(temporary, std::ios::binary);
    const std::uint64_t lengths[2] = {key.size(), code.size()};
    out << magic;
    out.write(reinterpret_cast<const char*>(lengths), sizeof lengths);
    out << key;
    out.write(code.data(), static_cast<std::streamsize>(code.size()));
    out.close();
    if (!out) {
      fs::remove(temporary, error);
      return;
    }
  }
  fs::rename(temporary, file, error);
  if (error) fs::remove(temporary, error);
}

std::string first_error(const std::string& log) {
  std::istringstream lines(log);
  std::string first;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("error") != std::string::npos) return line;
    if (first.empty()) first = line;
  }
  return first;
}

}  // namespace

std::string runtime_compiler_name() { return cuda_soname("libnvrtc", CUDART_VERSION / 1000); }

std::string runtime_compiler_file() {
  (void)nvrtc();
  return nvrtc_library().file();
}

std::string runtime_code_folder() {
  if (const char* own = std::getenv("BATCHLMM_CACHE"); own != nullptr) return own;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0')
    return std::string(cache) + "/batchlmm";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return std::string(home) + "/.cache/batchlmm";
  return {};
}

RuntimeCode compile_at_run_time(const std::string& source, int compute_capability) {
  const Nvrtc& compiler = nvrtc();
  const std::vector<std::string> how = options(compute_capability);
  const std::string key = key_of(compiler, source, how), folder = runtime_code_folder();
  RuntimeCode code;
  fs::path file;
  if (!folder.empty()) {
    char name[32];
    std::snprintf(name, sizeof name, "%016llx.cubin", static_cast<unsigned long long>(hash_of(key)));
    file = fs::path(folder) / name;
    if (auto kept = read_code(file, key)) {
      code.cubin = std::move(*kept);
      code.from_disk = true;
      return code;
    }
  }

  std::vector<const char*> names, texts, arguments;
  for (std::size_t h = 0; h < runtime_header_count; ++h) {
    names.push_back(runtime_headers[h].name);
    texts.push_back(runtime_headers[h].text);
  }
  for (const char* name : standard_headers) {
    names.push_back(name);
    texts.push_back(standard_text);
  }
  for (const std::string& option : how) arguments.push_back(option.c_str());
  nvrtcProgram program = nullptr;
  compiler.check(
      compiler.create(&program, source.c_str(), "fit.cu", static_cast<int>(names.size()), texts.data(), names.data()),
      "nvrtcCreateProgram");
  struct Destroy {
    const Nvrtc& compiler;
    nvrtcProgram& program;
    ~Destroy() { (void)compiler.destroy(&program); }
  } const destroy{compiler, program};
  const nvrtcResult result = compiler.compile(program, static_cast<int>(arguments.size()), arguments.data());
  std::size_t size = 0;
  compiler.check(compiler.log_size(program, &size), "nvrtcGetProgramLogSize");
  code.log.resize(size);
  compiler.check(compiler.log(program, code.log.data()), "nvrtcGetProgramLog");
  if (result != NVRTC_SUCCESS)
    throw ComputationError("NVRTC: a kernel made for this model does not compile: " + first_error(code.log));
  compiler.check(compiler.cubin_size(program, &size), "nvrtcGetCUBINSize");
  code.cubin.resize(size);
  compiler.check(compiler.cubin(program, code.cubin.data()), "nvrtcGetCUBIN");
  if (!file.empty()) write_code(file, key, code.cubin);
  return code;
}

}  // namespace batchlmm::kernels

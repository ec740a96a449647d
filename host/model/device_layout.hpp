/// @file
/// Arrays in a device's memory, or in memory of the host that its copies reach fastest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/large_device.hpp"

namespace batchlmm {

/// Arrays one after the other in a block of memory; measures where the block is null.
class DeviceLayout {
public:
  /// In doubles: leading dimensions that are multiples of it, and where arrays begin.
  static constexpr std::size_t alignment = 16;
  static std::size_t aligned(std::size_t n) { return (n + alignment - 1) / alignment * alignment; }

  explicit DeviceLayout(std::byte* base) : base_(base) {}
  template <class T = double>
  T* take(std::size_t n) {
    T* at = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + 8 * used_);
    used_ += aligned((n * sizeof(T) + 7) / 8);
    return at;
  }
  [[nodiscard]] std::size_t bytes() const { return 8 * used_; }

private:
  std::byte* base_;
  std::size_t used_ = 0;
};

/// Constants on the way to a device.
class DeviceArrays {
public:
  /// @param values   must be there until `upload` returns
  /// @param pointer  is set by `upload`
  template <class T>
  void add(const std::vector<T>& values, const T*& pointer) {
    const std::size_t bytes = values.size() * sizeof(T);
    parts_.push_back({values.data(), bytes, at_, &pointer,
                      [](void* to, std::byte* base) { *static_cast<const T**>(to) = reinterpret_cast<T*>(base); }});
    at_ += 8 * DeviceLayout::aligned((bytes + 7) / 8);
  }
  /// Everything in one block.
  std::shared_ptr<std::byte> upload(kernels::LargeDevice& device) {
    std::shared_ptr<std::byte> memory = device.allocate(std::max<std::size_t>(at_, 8));
    for (const Part& part : parts_) {
      part.set(part.pointer, memory.get() + part.at);
      if (part.bytes > 0) device.upload(memory.get() + part.at, part.from, part.bytes);
    }
    device.wait();
    return memory;
  }

private:
  struct Part {
    const void* from;
    std::size_t bytes, at;
    void* pointer;
    void (*set)(void*, std::byte*);
  };
  std::vector<Part> parts_;
  std::size_t at_ = 0;
};

}  // namespace batchlmm

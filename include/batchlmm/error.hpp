/// @file
/// Exceptions of the library. Every message is one line that says what was expected, what was found, and where.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

namespace batchlmm {

/// Base of every exception that the library throws on purpose.
class Error : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// The caller's input cannot be used: a file, a table, a formula, a model or an option. The command line exits with 2.
class InputError : public Error {
public:
  using Error::Error;
};

/// A table cannot be read, or a column is missing or has the wrong type.
class DataError : public InputError {
public:
  using InputError::InputError;
};

/// A formula cannot be parsed or evaluated. `what()` is the one-line message; `caret()` shows the place.
class FormulaError : public InputError {
public:
  /// @param message   what was expected and found
  /// @param formula   the whole text of the formula
  /// @param position  byte offset of the fault in `formula` (0-based, at most its size)
  FormulaError(const std::string& message, std::string formula, std::size_t position)
      : InputError(message), formula_(std::move(formula)), position_(position) {}
  [[nodiscard]] const std::string& formula() const noexcept { return formula_; }
  [[nodiscard]] std::size_t position() const noexcept { return position_; }
  /// Two lines: the formula, and a caret under the place (characters are counted, not bytes of UTF-8).
  [[nodiscard]] std::string caret() const {
    std::size_t column = 0;
    for (std::size_t i = 0; i < position_ && i < formula_.size(); ++i)
      column += (static_cast<unsigned char>(formula_[i]) & 0xC0U) != 0x80U ? 1 : 0;
    return formula_ + "\n" + std::string(column, ' ') + "^";
  }

private:
  std::string formula_;
  std::size_t position_;
};

/// Formula and data are readable but do not make a model that can be fitted (or two that can be compared).
class ModelError : public InputError {
public:
  using InputError::InputError;
};

/// An output cannot be written.
class OutputError : public InputError {
public:
  using InputError::InputError;
};

/// The backend that was asked for is not usable here: not built in, or no device.
class BackendUnavailable : public InputError {
public:
  using InputError::InputError;
};

/// The computation itself failed (a library call, a device). The command line exits with 1.
class ComputationError : public Error {
public:
  using Error::Error;
};

/// What a device's library said.
struct DeviceFailure {
  std::string call;   ///< that failed, or the kernel that was found to have failed
  std::string error;  ///< the error's name, as the library spells it
  std::string text;   ///< what the library says of it
  std::string place;  ///< file:line of the call
  int device = -1;    ///< number of the device; -1: none
};

/// A call of a device's library failed.
class DeviceError : public ComputationError {
public:
  explicit DeviceError(DeviceFailure failure) : ComputationError(message(failure)), failure_(std::move(failure)) {}
  [[nodiscard]] const DeviceFailure& failure() const noexcept { return failure_; }

private:
  static std::string message(const DeviceFailure& f) {
    return (f.device < 0 ? std::string("CUDA: ") : "CUDA device " + std::to_string(f.device) + ": ") + f.call +
           " failed: " + f.text + " (" + f.error + ", " + f.place + ")";
  }
  DeviceFailure failure_;
};

/// The device cannot be used any more by this process. Results that had come back are valid.
class DeviceLost : public DeviceError {
public:
  using DeviceError::DeviceError;
};

}  // namespace batchlmm

/// @file
/// One trip of a fit (fit_lanes) as straight-line source for one model: the evaluation and the iteration of Newton's
/// method, recorded from the kernel text (traced.hpp). Values of the model are not in the source, so that it is the
/// same for models of one structure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/jobs.hpp"
#include "kernels/strata.hpp"

namespace batchlmm::kernels {

/// The body of a function of C++ and of CUDA,
///     void trip(const double (&c)[constants], const volatile double* y, volatile double* x, volatile double* m,
///               bool (&flag)[3], bool alive, double& r2, bool& done)
/// with y the response vector or record, x and flag the state (trip_state.hpp), and m for what finds no register;
/// element e at e * trip_stride.
struct TracedTrip {
  std::string source;
  std::vector<double> constants;
  int response = 0, state = 0, put_aside = 0;  ///< lengths of y, x and m
  int terms = 0, parameters = 0, lambdas = 0;  ///< of the shape
  int scratch = 0;                             ///< doubles that fit_by_trips needs beside
  bool aside_on_chip = true;                   ///< m is on the chip, else in the thread's own memory
  bool strata = false;                         ///< y is a record
  std::size_t operations = 0;                  ///< all of them
  std::size_t multiply_adds = 0;               ///< fma, multiplications and additions of doubles among them
};

/// Trips with more operations are not worth being recorded: their code would not stay in a multiprocessor's
/// instruction cache. An estimate until it has been measured.
inline constexpr std::size_t most_traced_operations = 16'000;
/// The constants are a kernel's argument, all of which may take 32,764 bytes.
inline constexpr std::size_t most_traced_constants = 3'500;

/// @return none where there are more operations than `most`, or more constants than a kernel takes
std::optional<TracedTrip> trace_streaming_trip(const Shape& shape, const Design<double>& design,
                                               const NewtonOptions& options, const double* starts,
                                               std::size_t most = most_traced_operations);
std::optional<TracedTrip> trace_strata_trip(const Shape& shape, const StrataModel& model, const NewtonOptions& options,
                                            const double* starts, std::size_t most = most_traced_operations);

/// Bytes of on-chip memory that a block takes.
std::size_t traced_block_bytes(const TracedTrip& trip, int threads);
/// Threads of a block, at most 128, so that two blocks find room in so many bytes of on-chip memory; 0: none do.
int traced_block_threads(const TracedTrip& trip, std::size_t on_chip_bytes);

/// A whole source file for a compiler at run time: the trip, the text around it and the entry point
///     fit(FitArguments or StrataFitArguments, TripConstants, counter)
/// @param threads  of a block
std::string traced_fit_source(const TracedTrip& trip, int threads);

}  // namespace batchlmm::kernels

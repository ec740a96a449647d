/// @file
/// One number of a distribution from one block of random numbers.
#pragma once

#include "kernels/normal.hpp"

namespace batchlmm::study {

inline double uniform_between(const kernels::PhiloxWords<double>& words, double low, double high) {
  return low + (high - low) * kernels::uniform<double>(words.word[0], words.word[1]);
}
inline double normal_with(const kernels::PhiloxWords<double>& words, double mean, double sd) {
  double first = 0, unused = 0;
  kernels::normal_pair<double>(words, first, unused);
  return mean + sd * first;
}

}  // namespace batchlmm::study

#include "host/model/blas.hpp"

#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>

extern "C" {
void openblas_set_num_threads(int threads);
int openblas_get_num_threads();
}

namespace batchlmm {
namespace {

// OpenBLAS has one setting for the whole process: the first user saves it, the last one restores it.
std::mutex serial_mutex;
int serial_users = 0;
int saved_threads = 1;

}  // namespace

SerialBlas::SerialBlas() {
  const std::lock_guard lock(serial_mutex);
  if (serial_users++ > 0) return;
  saved_threads = openblas_get_num_threads();
  openblas_set_num_threads(1);
}

SerialBlas::~SerialBlas() {
  const std::lock_guard lock(serial_mutex);
  if (--serial_users == 0) openblas_set_num_threads(saved_threads);
}

int blas_threads() { return std::max(1, openblas_get_num_threads()); }

void in_parallel(int tasks, const std::function<void(int)>& task) {
  std::vector<std::thread> pool;
  for (int t = 1; t < tasks; ++t) pool.emplace_back(task, t);
  task(0);
  for (std::thread& t : pool) t.join();
}

}  // namespace batchlmm

// The toolkit's libraries and the functions that are used of them. None needs a device for that.
#include <gtest/gtest.h>

#include "kernels/cuda_library_status.hpp"

namespace batchlmm {
namespace {

TEST(CudaLibraries, HaveEveryFunctionThatIsUsed) {
  const auto libraries = kernels::cuda_libraries();
  if (libraries.empty()) GTEST_SKIP() << "this build has no CUDA backend";
  int missing = 0;
  std::string why;
  for (const kernels::CudaLibraryStatus& library : libraries) {
    SCOPED_TRACE(library.name);
    EXPECT_EQ(library.why.empty(), library.usable);
    EXPECT_EQ(library.why.find('\n'), std::string::npos);
    if (library.usable) {
      EXPECT_NE(library.file.find(library.name), std::string::npos);
      continue;
    }
    // A file that is there must be one that can be used; one that is not is named.
    EXPECT_NE(library.why.find(library.name), std::string::npos);
    EXPECT_EQ(library.why.find("expected the function"), std::string::npos) << library.why;
    ++missing;
    why = library.why;
  }
  if (missing > 0) GTEST_SKIP() << why;
}

}  // namespace
}  // namespace batchlmm

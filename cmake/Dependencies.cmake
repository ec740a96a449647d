# Finds everything that the project is built with; one line says what to install when something is missing.
set(missing_packages)

# batchlmm_find(<package> <debian package> [find_package arguments...])
macro(batchlmm_find package debian_package)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    list(APPEND missing_packages ${debian_package})
  endif()
endmacro()

batchlmm_find(Eigen3 libeigen3-dev 3.4 CONFIG)
batchlmm_find(fmt libfmt-dev CONFIG)
batchlmm_find(nlohmann_json nlohmann-json3-dev CONFIG)
batchlmm_find(Boost libboost-math-dev 1.74)
batchlmm_find(Threads libc6-dev)
batchlmm_find(CLI11 libcli11-dev CONFIG)
batchlmm_find(tomlplusplus libtomlplusplus-dev CONFIG)
if(BATCHLMM_BUILD_TESTS)
  batchlmm_find(GTest libgtest-dev)
endif()

# BLAS and LAPACK by OpenBLAS, whose threads and core type the code sets itself.
find_library(BATCHLMM_OPENBLAS_LIBRARY openblas)
find_path(BATCHLMM_CBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas)
mark_as_advanced(BATCHLMM_OPENBLAS_LIBRARY BATCHLMM_CBLAS_INCLUDE_DIR)
if(NOT BATCHLMM_OPENBLAS_LIBRARY OR NOT BATCHLMM_CBLAS_INCLUDE_DIR)
  list(APPEND missing_packages libopenblas-dev)
endif()

if(missing_packages)
  list(JOIN missing_packages " " missing_packages)
  message(FATAL_ERROR "Not found, or too old: apt-get install ${missing_packages} (./run installs what is missing)")
endif()

find_package(BatchlmmArrow REQUIRED)

# CUDA backend: kernels/*.cu where a CUDA compiler is found, kernels/no_cuda*.cpp (entry points that throw
# BackendUnavailable) elsewhere. No #ifdef reaches the code.
if(NOT BATCHLMM_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "BATCHLMM_CUDA must be AUTO, ON or OFF, found \"${BATCHLMM_CUDA}\"")
endif()

set(BATCHLMM_HAS_CUDA OFF)
if(NOT BATCHLMM_CUDA STREQUAL OFF)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(BATCHLMM_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(BATCHLMM_NVCC)
    if(BATCHLMM_NVCC)
      set(CMAKE_CUDA_COMPILER "${BATCHLMM_NVCC}")
    endif()
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    # CMake 3.25 does not know yet that nvcc has C++20 (since 12.0).
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    set(BATCHLMM_HAS_CUDA ON)
    message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(BATCHLMM_CUDA STREQUAL ON)
    message(FATAL_ERROR "BATCHLMM_CUDA is ON, but no CUDA compiler was found: put nvcc on PATH or set CUDACXX")
  endif()
endif()
if(NOT BATCHLMM_HAS_CUDA)
  message(STATUS "CUDA: not found, CPU only")
endif()

function(batchlmm_add_cuda_backend target)
  if(BATCHLMM_HAS_CUDA)
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/kernels/*.cu")
  endif()
  if(sources)
    target_sources(${target} PRIVATE ${sources})
    # Device code has an inline namespace of its own, like every instruction set (kernels/lanes.hpp).
    set_source_files_properties(${sources} PROPERTIES COMPILE_DEFINITIONS BATCHLMM_ISA=cuda)
    set_target_properties(${target} PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_RUNTIME_LIBRARY None)
    # One architecture a thread: this is by far the longest compilation.
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-O3;--threads=2;-fmad=false;--expt-relaxed-constexpr;-Xcompiler=-ffp-contract=off>")
    target_link_libraries(${target} PRIVATE CUDA::cudart_static)
    # The toolkit's libraries are opened at run time; only their headers are needed here.
    file(GLOB library_users CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/kernels/cuda_*.cpp")
    target_sources(${target} PRIVATE ${library_users})
    set_source_files_properties(
      ${library_users} PROPERTIES COMPILE_DEFINITIONS "BATCHLMM_CUDA_LIBRARIES=\"${CUDAToolkit_LIBRARY_DIR}\""
                                  COMPILE_OPTIONS "-isystem;$<JOIN:${CUDAToolkit_INCLUDE_DIRS},;-isystem;>")
    # The text of the kernels, for the compiler at run time.
    set(runtime_headers "${PROJECT_BINARY_DIR}/generated/runtime_headers.cpp")
    file(GLOB kernel_headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/kernels/*.hpp")
    add_custom_command(
      OUTPUT "${runtime_headers}"
      COMMAND
        "${CMAKE_COMMAND}" -D "ROOT=${PROJECT_SOURCE_DIR}" -D "OUTPUT=${runtime_headers}" -P
        "${PROJECT_SOURCE_DIR}/cmake/RuntimeHeaders.cmake"
      DEPENDS ${kernel_headers} "${PROJECT_SOURCE_DIR}/cmake/RuntimeHeaders.cmake"
      COMMENT "Writing the kernels' text for the compiler at run time"
      VERBATIM)
    target_sources(${target} PRIVATE "${runtime_headers}")
  else()
    file(GLOB stand_ins CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/kernels/no_cuda*.cpp")
    target_sources(${target} PRIVATE ${stand_ins})
  endif()
endfunction()

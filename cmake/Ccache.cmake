# Compilations are cached where ccache is installed: presets that differ only in the backend share their host objects, and
# so do clones in other folders.
find_program(BATCHLMM_CCACHE ccache)
mark_as_advanced(BATCHLMM_CCACHE)
if(BATCHLMM_CCACHE AND PROJECT_IS_TOP_LEVEL)
  foreach(language IN ITEMS CXX CUDA)
    if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER
          "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${BATCHLMM_CCACHE}")
    endif()
  endforeach()
endif()

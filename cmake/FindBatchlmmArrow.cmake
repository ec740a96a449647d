# Finds Apache Arrow C++ and Parquet and defines the imported target batchlmm_arrow.
#
# A system package (ArrowConfig.cmake, ParquetConfig.cmake) is taken where there is one. Debian 12 has none, so the
# second source is the pyarrow wheel, which ships headers and versioned shared libraries: they are linked by full path.
# Searched are, in this order, BATCHLMM_PYARROW (the package's folder), .venv of the source tree, and python3.

if(TARGET batchlmm_arrow)
  set(BatchlmmArrow_FOUND TRUE)
  return()
endif()

include(FindPackageHandleStandardArgs)
find_package(Arrow CONFIG QUIET)
find_package(Parquet CONFIG QUIET)
if(TARGET Arrow::arrow_shared AND TARGET Parquet::parquet_shared)
  add_library(batchlmm_arrow INTERFACE IMPORTED GLOBAL)
  target_link_libraries(batchlmm_arrow INTERFACE Parquet::parquet_shared Arrow::arrow_shared)
  set(BATCHLMM_ARROW_VERSION "${Arrow_VERSION}")
  set(BATCHLMM_ARROW_SOURCE "system package")
else()
  set(BATCHLMM_PYARROW "" CACHE PATH "Folder of the pyarrow package whose Arrow libraries are used")
  set(pyarrow_folders "${BATCHLMM_PYARROW}")
  if(PROJECT_SOURCE_DIR)
    file(GLOB venv_folders "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/pyarrow")
    list(APPEND pyarrow_folders ${venv_folders})
  endif()
  find_path(
    BATCHLMM_PYARROW_INCLUDE_DIR arrow/api.h
    PATHS ${pyarrow_folders}
    PATH_SUFFIXES include
    NO_DEFAULT_PATH)
  if(NOT BATCHLMM_PYARROW_INCLUDE_DIR)
    find_program(BATCHLMM_PYTHON3 python3)
    mark_as_advanced(BATCHLMM_PYTHON3)
    if(BATCHLMM_PYTHON3)
      execute_process(
        COMMAND "${BATCHLMM_PYTHON3}" -c "import pyarrow; print(pyarrow.get_include())"
        OUTPUT_VARIABLE python_include
        OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
      if(python_include)
        find_path(BATCHLMM_PYARROW_INCLUDE_DIR arrow/api.h PATHS "${python_include}" NO_DEFAULT_PATH)
      endif()
    endif()
  endif()
  mark_as_advanced(BATCHLMM_PYARROW_INCLUDE_DIR)

  if(BATCHLMM_PYARROW_INCLUDE_DIR)
    cmake_path(GET BATCHLMM_PYARROW_INCLUDE_DIR PARENT_PATH pyarrow_folder)
    # libarrow.so.2600 and libparquet.so.2600: one version number, no unversioned link.
    file(GLOB arrow_library "${pyarrow_folder}/libarrow.so.*")
    file(GLOB parquet_library "${pyarrow_folder}/libparquet.so.*")
    if(arrow_library AND parquet_library)
      list(GET arrow_library 0 arrow_library)
      list(GET parquet_library 0 parquet_library)
      file(STRINGS "${BATCHLMM_PYARROW_INCLUDE_DIR}/arrow/util/config.h" version_line
           REGEX "define ARROW_VERSION_STRING")
      string(REGEX REPLACE ".*\"(.*)\".*" "\\1" BATCHLMM_ARROW_VERSION "${version_line}")
      add_library(batchlmm_arrow_core SHARED IMPORTED GLOBAL)
      set_target_properties(
        batchlmm_arrow_core PROPERTIES IMPORTED_LOCATION "${arrow_library}" INTERFACE_SYSTEM_INCLUDE_DIRECTORIES
                                                                            "${BATCHLMM_PYARROW_INCLUDE_DIR}")
      add_library(batchlmm_arrow SHARED IMPORTED GLOBAL)
      set_target_properties(
        batchlmm_arrow
        PROPERTIES IMPORTED_LOCATION "${parquet_library}"
                   INTERFACE_INCLUDE_DIRECTORIES "${BATCHLMM_PYARROW_INCLUDE_DIR}"
                   INTERFACE_LINK_LIBRARIES batchlmm_arrow_core)
      set(BATCHLMM_ARROW_SOURCE "${pyarrow_folder}")
    endif()
  endif()
endif()

find_package_handle_standard_args(
  BatchlmmArrow
  REQUIRED_VARS BATCHLMM_ARROW_SOURCE
  VERSION_VAR BATCHLMM_ARROW_VERSION
  REASON_FAILURE_MESSAGE
    "install libarrow-dev and libparquet-dev, or the wheel: python3 -m venv .venv && .venv/bin/pip install pyarrow")

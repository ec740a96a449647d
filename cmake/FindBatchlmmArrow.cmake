# Finds Apache Arrow C++ with Parquet and defines the imported target batchlmm_arrow.
#
# A system package (ArrowConfig.cmake, ParquetConfig.cmake) is taken where there is one. Debian 12 has none, so the
# second source is the pyarrow wheel, which carries the headers and versioned shared libraries: these are linked by full
# path. Searched are, in this order: BATCHLMM_PYARROW (the package's folder), .venv in the source tree, python3's own.
# Wheels tagged manylinux_2_28 use the C++11 ABI of libstdc++, as distributions do.

if(TARGET batchlmm_arrow)
  set(BatchlmmArrow_FOUND TRUE)
  return()
endif()

set(BATCHLMM_PYARROW "" CACHE PATH "Folder of the pyarrow package whose Arrow libraries are used")

set(arrow_place)
find_package(Arrow CONFIG QUIET)
find_package(Parquet CONFIG QUIET)
if(TARGET Arrow::arrow_shared AND TARGET Parquet::parquet_shared AND NOT BATCHLMM_PYARROW)
  add_library(batchlmm_arrow INTERFACE IMPORTED GLOBAL)
  target_link_libraries(batchlmm_arrow INTERFACE Parquet::parquet_shared Arrow::arrow_shared)
  set(arrow_version "${Arrow_VERSION}")
  set(arrow_place "${Arrow_DIR}")
else()
  set(folders "${BATCHLMM_PYARROW}" ${BATCHLMM_PYARROW_AT_BUILD})
  file(GLOB venv_folders "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/pyarrow")
  list(APPEND folders ${venv_folders})
  find_program(BATCHLMM_PYTHON3 python3)
  mark_as_advanced(BATCHLMM_PYTHON3)
  if(NOT venv_folders AND BATCHLMM_PYTHON3)
    execute_process(
      COMMAND "${BATCHLMM_PYTHON3}" -c
              "import importlib.util as u; s = u.find_spec('pyarrow'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE python_folder
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    list(APPEND folders ${python_folder})
  endif()
  foreach(folder IN LISTS folders)
    # One version each (libarrow.so.2600), and no unversioned link.
    file(GLOB arrow_library "${folder}/libarrow.so.*")
    file(GLOB parquet_library "${folder}/libparquet.so.*")
    if(arrow_library AND parquet_library AND EXISTS "${folder}/include/parquet/arrow/reader.h")
      set(arrow_place "${folder}")
      break()
    endif()
  endforeach()
  if(arrow_place)
    list(GET arrow_library 0 arrow_library)
    list(GET parquet_library 0 parquet_library)
    file(STRINGS "${arrow_place}/include/arrow/util/config.h" arrow_version REGEX "define ARROW_VERSION_STRING")
    string(REGEX REPLACE ".*\"(.*)\".*" "\\1" arrow_version "${arrow_version}")
    add_library(batchlmm_arrow_core SHARED IMPORTED GLOBAL)
    set_target_properties(batchlmm_arrow_core PROPERTIES IMPORTED_LOCATION "${arrow_library}"
                                                         INTERFACE_INCLUDE_DIRECTORIES "${arrow_place}/include")
    add_library(batchlmm_arrow SHARED IMPORTED GLOBAL)
    set_target_properties(batchlmm_arrow PROPERTIES IMPORTED_LOCATION "${parquet_library}"
                                                    INTERFACE_LINK_LIBRARIES batchlmm_arrow_core)
    # For the package that is installed: the same wheel serves who links with it.
    set(BATCHLMM_PYARROW_AT_BUILD "${arrow_place}")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  BatchlmmArrow
  REQUIRED_VARS arrow_place
  VERSION_VAR arrow_version
  REASON_FAILURE_MESSAGE
    "Apache Arrow C++: install libarrow-dev and libparquet-dev, or the wheel (python3 -m venv .venv && .venv/bin/pip install pyarrow)")

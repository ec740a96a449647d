# cmake --install: the library, its headers and the package that find_package(batchlmm) reads.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/batchlmm")
install(TARGETS batchlmm EXPORT batchlmm ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
if(TARGET batchlmm_cli)
  install(TARGETS batchlmm_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/batchlmm" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
# The headers under include/batchlmm are thin: what they include stands under batchlmm/detail.
foreach(layer IN LISTS library_layers)
  install(
    DIRECTORY "${PROJECT_SOURCE_DIR}/host/${layer}"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/batchlmm/detail/host"
    FILES_MATCHING
    PATTERN "*.hpp")
endforeach()
install(EXPORT batchlmm NAMESPACE batchlmm:: FILE batchlmmTargets.cmake DESTINATION "${package_dir}")
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/batchlmmConfig.cmake.in"
                              "${PROJECT_BINARY_DIR}/generated/batchlmmConfig.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/generated/batchlmmConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/generated/batchlmmConfig.cmake"
              "${PROJECT_BINARY_DIR}/generated/batchlmmConfigVersion.cmake"
              "${PROJECT_SOURCE_DIR}/cmake/FindBatchlmmArrow.cmake" DESTINATION "${package_dir}")

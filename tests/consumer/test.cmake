# The test package.consumer: installs BUILD into a folder of its own, then configures, builds and runs the consumer.
#   cmake -D BUILD=... -D SOURCE=... -D WORK=... -D DATA=... -D GENERATOR=... -D CXX=... -D CXX_FLAGS=... -P test.cmake
function(check)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT RESULT_VARIABLE status)
  if(status)
    message(FATAL_ERROR "exit status ${status}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK}")
check("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix")
check("${CMAKE_COMMAND}" -S "${SOURCE}" -B "${WORK}/build" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${CXX}"
      "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}" "-DCMAKE_PREFIX_PATH=${WORK}/prefix" -DCMAKE_BUILD_TYPE=Release)
check("${CMAKE_COMMAND}" --build "${WORK}/build")
check("${WORK}/build/consumer" "${DATA}")
check("${WORK}/prefix/bin/batchlmm" --version)

# Warnings of every C++ target of the project. Contraction is off in host code too: where the target has fused
# multiply-adds at hand, results must not depend on which of them the compiler chose to use.
function(batchlmm_set_warnings target)
  target_compile_options(
    ${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall> $<$<COMPILE_LANGUAGE:CXX>:-Wextra>
                      $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
  if(BATCHLMM_WERROR)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
  endif()
endfunction()

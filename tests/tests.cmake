# Flow tests: several modules together on librdkafka's in-process cluster.
# Numbered from simple to hard: the first that fails is the cause.
if(MILLRACE_TESTS)
  file(GLOB FLOW_TESTS CONFIGURE_DEPENDS tests/flow/[0-9]*.c)
  foreach(source ${FLOW_TESTS})
    get_filename_component(name ${source} NAME_WE)
    add_executable(flow_${name} ${source} tests/flow/flow.c)
    target_link_libraries(flow_${name} PRIVATE millrace_pipeline PkgConfig::CMOCKA)
    add_test(NAME flow_${name} COMMAND flow_${name})
    set_tests_properties(flow_${name} PROPERTIES TIMEOUT 120)
  endforeach()
endif()

# Oracles: Python compares what a driver of ours says with what others say.
if(MILLRACE_TESTS)
  add_executable(codec_driver tests/support/oracle/codec_driver.c)
  target_link_libraries(codec_driver PRIVATE millrace_pipeline)
  add_test(NAME oracle_codec COMMAND ${CMAKE_SOURCE_DIR}/tests/support/python
    ${CMAKE_SOURCE_DIR}/tests/support/codec_oracle.py $<TARGET_FILE:codec_driver> 8000 1)
  set_tests_properties(oracle_codec PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
  add_test(NAME oracle_container COMMAND ${CMAKE_SOURCE_DIR}/tests/support/python
    ${CMAKE_SOURCE_DIR}/tests/support/container_oracle.py $<TARGET_FILE:millrace>)
  set_tests_properties(oracle_container PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
endif()

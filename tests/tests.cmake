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

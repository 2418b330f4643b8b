# The demo, shortened: it fails unless a replay gives the live scores again,
# bit for bit.
if(MILLRACE_TESTS)
  add_test(NAME demo COMMAND millrace demo --json --events 12000)
  set_tests_properties(demo PROPERTIES TIMEOUT 180)
endif()

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
  # A whole worker for each of its cases.
  target_sources(flow_0030-all_answers PRIVATE tests/support/spine_log.c
    tests/support/random_model.c)
  target_include_directories(flow_0030-all_answers PRIVATE tests/support)
  set_tests_properties(flow_0030-all_answers PROPERTIES TIMEOUT 400)
endif()

# Oracles: Python compares what a driver of ours says with what others say.
if(MILLRACE_TESTS)
  add_executable(codec_driver tests/support/oracle/codec_driver.c)
  target_link_libraries(codec_driver PRIVATE millrace_pipeline)
  add_test(NAME oracle_codec COMMAND ${CMAKE_SOURCE_DIR}/tests/support/python
    ${CMAKE_SOURCE_DIR}/tests/support/codec_oracle.py $<TARGET_FILE:codec_driver> 2000 1)
  set_tests_properties(oracle_codec PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
  add_executable(text_driver tests/support/oracle/text_driver.c)
  target_link_libraries(text_driver PRIVATE millrace_pipeline)
  add_executable(tokenizer_driver tests/support/oracle/tokenizer_driver.c)
  target_link_libraries(tokenizer_driver PRIVATE millrace_pipeline)
  add_test(NAME oracle_tokenizer COMMAND ${CMAKE_SOURCE_DIR}/tests/support/python
    ${CMAKE_SOURCE_DIR}/tests/support/tokenizer_oracle.py
    $<TARGET_FILE:tokenizer_driver> 1500 1)
  set_tests_properties(oracle_tokenizer PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
  add_test(NAME oracle_container COMMAND ${CMAKE_SOURCE_DIR}/tests/support/python
    ${CMAKE_SOURCE_DIR}/tests/support/container_oracle.py $<TARGET_FILE:millrace>)
  set_tests_properties(oracle_container PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
  add_test(NAME oracle_replay COMMAND ${CMAKE_SOURCE_DIR}/tests/support/python
    ${CMAKE_SOURCE_DIR}/tests/support/replay_oracle.py $<TARGET_FILE:millrace>)
  set_tests_properties(oracle_replay PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
  add_test(NAME oracle_operations COMMAND ${CMAKE_SOURCE_DIR}/tests/support/python
    ${CMAKE_SOURCE_DIR}/tests/support/operations_oracle.py $<TARGET_FILE:millrace>
    ${CMAKE_SOURCE_DIR})
  set_tests_properties(oracle_operations PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 60)
  add_test(NAME oracle_recommend COMMAND ${CMAKE_SOURCE_DIR}/tests/support/python
    ${CMAKE_SOURCE_DIR}/tests/support/recommend_oracle.py $<TARGET_FILE:millrace>
    ${CMAKE_SOURCE_DIR})
  set_tests_properties(oracle_recommend PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
  foreach(what fraud items)
    add_test(NAME quality_${what} COMMAND ${CMAKE_SOURCE_DIR}/tests/support/python
      ${CMAKE_SOURCE_DIR}/tests/support/quality_oracle.py ${what}
      $<TARGET_FILE:millrace> ${CMAKE_SOURCE_DIR})
    set_tests_properties(quality_${what} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
  endforeach()
endif()

# The model's layers a second time, in double, where finite differences have
# digits to spare; on plain loops instead of the vector kernels.
if(MILLRACE_TESTS)
  add_executable(test_gradients tests/unit/test_gradients.c
    tests/support/kernels_ref.c model/params.c model/matrix.c
    model/behaviour.c model/behaviour_train.c)
  target_compile_definitions(test_gradients PRIVATE MILLRACE_REAL_DOUBLE)
  target_include_directories(test_gradients PRIVATE model tests/support)
  target_link_libraries(test_gradients PRIVATE PkgConfig::OPENBLAS
    PkgConfig::XXHASH PkgConfig::CMOCKA Threads::Threads m)
  add_test(NAME test_gradients COMMAND test_gradients)
  add_executable(test_heads tests/unit/test_heads.c
    tests/support/kernels_ref.c model/params.c model/matrix.c
    model/head_layers.c model/heads.c)
  target_compile_definitions(test_heads PRIVATE MILLRACE_REAL_DOUBLE)
  target_include_directories(test_heads PRIVATE model tests/support)
  target_link_libraries(test_heads PRIVATE PkgConfig::OPENBLAS
    PkgConfig::XXHASH PkgConfig::CMOCKA Threads::Threads m)
  add_test(NAME test_heads COMMAND test_heads)
endif()

# A schema registry of the tests' own.
if(MILLRACE_TESTS)
  pkg_check_modules(OPENSSL REQUIRED IMPORTED_TARGET openssl)
  foreach(name test_registry test_hold)
    target_sources(${name} PRIVATE tests/support/registry/server.c
      tests/support/registry/tls.c)
    target_include_directories(${name} PRIVATE tests/support/registry)
    target_link_libraries(${name} PRIVATE PkgConfig::OPENSSL)
  endforeach()
endif()

# Wrappers that the linker puts around calls of the program's own code; what
# they do stands in the test that has them.
if(MILLRACE_TESTS)
  target_link_options(test_no_leakage PRIVATE -Wl,--wrap=windows_apply)
  target_link_options(test_label_leakage PRIVATE -Wl,--wrap=windows_read)
  foreach(name test_no_malloc test_text)
    target_link_options(${name} PRIVATE -Wl,--wrap=malloc
      -Wl,--wrap=calloc -Wl,--wrap=realloc -Wl,--wrap=aligned_alloc)
  endforeach()
  target_link_options(flow_0008-no_thread PRIVATE -Wl,--wrap=pthread_create)
endif()

# The model's bench scores with a model of random weights.
if(MILLRACE_BENCH)
  target_sources(bench_model PRIVATE tests/support/random_model.c)
  target_include_directories(bench_model PRIVATE tests/support)
endif()

# A model directory without training, for benches and end-to-end tests.
if(MILLRACE_TESTS OR MILLRACE_BENCH)
  add_executable(random_model_dir tests/tools/random_model_dir.c
    tests/support/random_model.c)
  target_include_directories(random_model_dir PRIVATE tests/support)
  target_link_libraries(random_model_dir PRIVATE millrace_pipeline)
endif()

# The program with fault points and sabotage (tests/faults/faults.h), by
# wrappers around calls of its own objects.
function(add_faults target)
  target_sources(${target} PRIVATE tests/faults/faults.c tests/faults/wrappers.c)
  foreach(call state_open_partition state_close_partition state_committed
      state_rewind state_restored restore_step stage_users_apply
      admit_judge history_apply store_write store_writes_row sink_kafka_open
      producer_send producer_flush rd_kafka_consumer_group_metadata
      rd_kafka_send_offsets_to_transaction
      rd_kafka_commit_transaction worker_free)
    target_link_options(${target} PRIVATE -Wl,--wrap=${call})
  endforeach()
endfunction()
if(MILLRACE_TESTS)
  add_executable(millrace_faults pipeline/cli/main.c)
  add_faults(millrace_faults)
  target_link_libraries(millrace_faults PRIVATE millrace_pipeline)
  if(NOT MILLRACE_SANITIZE)
    target_link_libraries(millrace_faults PRIVATE PkgConfig::JEMALLOC)
  endif()
endif()

# A worker as a process of its own, and a library that makes calls fail.
if(MILLRACE_TESTS)
  add_executable(faults_worker tests/faults/worker_driver.c
    tests/support/spine_log.c tests/support/random_model.c)
  add_faults(faults_worker)
  target_include_directories(faults_worker PRIVATE tests/support)
  target_link_libraries(faults_worker PRIVATE millrace_pipeline
    PkgConfig::CMOCKA ${CMAKE_DL_LIBS})
  add_library(faults_preload MODULE tests/faults/preload.c)
  target_link_libraries(faults_preload PRIVATE ${CMAKE_DL_LIBS})
  set_target_properties(faults_preload PROPERTIES PREFIX "")
endif()

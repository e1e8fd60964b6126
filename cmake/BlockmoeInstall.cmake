# BlockmoeInstall.cmake: `cmake --install`; find_package(blockmoe) then gives blockmoe::blockmoe.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/blockmoe)
set_target_properties(blockmoe PROPERTIES VERSION ${PROJECT_VERSION}
                                          SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
install(
  TARGETS blockmoe
  EXPORT blockmoeTargets
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/blockmoe DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET blockmoe_cli)
  install(TARGETS blockmoe_cli)
endif()

install(
  EXPORT blockmoeTargets
  NAMESPACE blockmoe::
  DESTINATION ${config_dir})
configure_package_config_file(cmake/blockmoeConfig.cmake.in blockmoeConfig.cmake INSTALL_DESTINATION ${config_dir}
                              NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break callers.
write_basic_package_version_file(blockmoeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/blockmoeConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/blockmoeConfigVersion.cmake
              cmake/BlockmoeCudart.cmake
        DESTINATION ${config_dir})

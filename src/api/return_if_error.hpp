// return_if_error.hpp: leaves a function that returns a Status or a Result as soon as a check fails.
#pragma once

#include "blockmoe/status.hpp"

#define BLOCKMOE_RETURN_IF_ERROR(expression)                                   \
  do {                                                                         \
    if (::blockmoe::Status error_ = (expression); !error_.ok()) return error_; \
  } while (false)

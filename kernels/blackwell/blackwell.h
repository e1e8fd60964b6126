// blackwell.h: the Blackwell path's row for operator.cpp.
#pragma once

#include "path.h"

namespace blockmoe::kernels::blackwell {

PathEntry path_entry();

}  // namespace blockmoe::kernels::blackwell

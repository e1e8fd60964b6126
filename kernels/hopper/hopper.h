// hopper.h: the Hopper path's row for operator.cpp.
#pragma once

#include "path.h"

namespace blockmoe::kernels::hopper {

PathEntry path_entry();

}  // namespace blockmoe::kernels::hopper

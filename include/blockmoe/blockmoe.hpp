// blockmoe.hpp: all of the C++ API.
#pragma once

#include "blockmoe/expert_parallel.hpp"
#include "blockmoe/moe.hpp"
#include "blockmoe/status.hpp"
#include "blockmoe/tensor.hpp"
#include "blockmoe/version.h"

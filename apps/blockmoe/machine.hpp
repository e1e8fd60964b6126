// machine.hpp: where the figures of a report come from.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "blockmoe/moe.hpp"

namespace blockmoe::cli {

struct Machine {
  std::string gpu, driver, cuda;  // empty where no GPU took part
  std::string host;               // the processor's model
};

// This machine, with `device` as its GPU where it is one.
Machine machine_with(const DeviceInfo& device);

// {"gpu", "driver", "cuda", "host"}; null where empty.
nlohmann::ordered_json to_json(const Machine& machine);

}  // namespace blockmoe::cli

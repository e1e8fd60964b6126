// cpu_backend.hpp: the layer on the host's cores. The flow of a call is in run.cpp; why it is so, docs/cpu.md.
#pragma once

#include "api/backend.hpp"
#include "cpu/instruction_set.hpp"

namespace blockmoe::cpu {

const api::BackendEntry& backend_entry();

/// What backend_entry().plan does, for a given instruction set instead of the machine's best: tests and benchmarks hold
/// the paths against each other. `unsupported` where the machine lacks it.
Result<api::BackendPlan> plan_for(const api::PlanRequest& request, InstructionSet set);

}  // namespace blockmoe::cpu

"""The functions of libblockmoe_core.so (bindings/python/module.cpp), loaded by TVM-FFI."""

import os
import pathlib

import tvm_ffi

_module = tvm_ffi.load_module(pathlib.Path(__file__).with_name("libblockmoe_core.so"))

version = _module.version
make_plan = _module.make_plan
plan_workspace_bytes = _module.plan_workspace_bytes
plan_path = _module.plan_path
plan_explain = _module.plan_explain
plan_bind = _module.plan_bind
bound_run = _module.bound_run
bound_run_prerouted = _module.bound_run_prerouted
bound_route = _module.bound_route
make_ep_group = _module.make_ep_group
ep_group_workspace_bytes = _module.ep_group_workspace_bytes
ep_group_explain = _module.ep_group_explain
ep_group_way = _module.ep_group_way
ep_group_check = _module.ep_group_check
ep_group_bind = _module.ep_group_bind
bound_ep_group_run = _module.bound_ep_group_run
fused_moe = _module.fused_moe
fused_moe_prerouted = _module.fused_moe_prerouted

# The parent's plans have threads that a child does not.
os.register_at_fork(after_in_child=_module.forget_plans)

# The values of blockmoe::Backend, blockmoe::IntermediateType, blockmoe::Policy and blockmoe::EpWay.
BACKENDS = {"auto": 0, "cpu": 1, "portable": 2, "hopper": 3, "blackwell": 4}

INTERMEDIATE_TYPES = {"e4m3": 0, "e4m3x2": 1}

POLICIES = {"auto": 0, "reference_b200": 1, "cutlass": 2, "trtllm": 3}
EP_WAYS = {"auto": 0, "gather": 1, "exchange": 2}
EP_EXCHANGE_CTAS = 16  # kEpExchangeCtas


def policy_number(name: str) -> int:
    """Raises ValueError for a name that no policy has."""
    try:
        return POLICIES[name]
    except KeyError:
        raise ValueError(f'policy: "{name}", expected {", ".join(POLICIES)}') from None


def intermediate_type_number(name: str) -> int:
    """Raises ValueError for a name that no intermediate type has."""
    try:
        return INTERMEDIATE_TYPES[name]
    except KeyError:
        raise ValueError(f'intermediate_type: "{name}", expected {", ".join(INTERMEDIATE_TYPES)}') from None


def backend_number(name: str) -> int:
    """Raises ValueError for a name that no backend has."""
    try:
        return BACKENDS[name]
    except KeyError:
        raise ValueError(f'backend: "{name}", expected {", ".join(BACKENDS)}') from None

#include "api_c_call.h"

/* The structs as version 0.1 laid them out, and what has been added since. */
_Static_assert(sizeof(blockmoe_error) == 1024, "blockmoe_error");
_Static_assert(sizeof(blockmoe_device_info) == 88, "blockmoe_device_info");
_Static_assert(sizeof(blockmoe_geometry) == 40, "blockmoe_geometry");
_Static_assert(sizeof(blockmoe_options) == 56, "blockmoe_options");
_Static_assert(sizeof(blockmoe_tensor) == 88, "blockmoe_tensor");
_Static_assert(sizeof(blockmoe_weights) == 456, "blockmoe_weights");
_Static_assert(sizeof(blockmoe_activations) == 272, "blockmoe_activations");
_Static_assert(sizeof(blockmoe_prerouted_activations) == 360, "blockmoe_prerouted_activations");
_Static_assert(sizeof(blockmoe_workspace_need) == 24, "blockmoe_workspace_need");

static void* address(int slot) {
  return (void*)((uintptr_t)slot << 44);
}

static blockmoe_tensor tensor(void* data, int32_t dtype, int32_t rank, int64_t a, int64_t b, int64_t c) {
  const int64_t shape[3] = {a, b, c};
  return blockmoe_tensor_contiguous(data, dtype, BLOCKMOE_DEVICE_CPU, 0, rank, shape);
}

c_call c_call_make(void* output, void* workspace) {
  c_call call;
  call.geometry = blockmoe_geometry_init();
  call.device = blockmoe_device_info_init();
  call.device.sm_count = 2;
  call.options = blockmoe_options_init();
  call.weights = blockmoe_weights_init();
  call.weights.routed_scaling_factor = 2.5f;
  call.weights.local_expert_offset = 32;
  call.weights.routing_bias = tensor(address(1), BLOCKMOE_BFLOAT16, 1, 256, 0, 0);
  call.weights.gemm1_weights = tensor(address(2), BLOCKMOE_FLOAT8_E4M3, 3, 32, 4096, 7168);
  call.weights.gemm1_weights_scale = tensor(address(3), BLOCKMOE_FLOAT32, 3, 32, 32, 56);
  call.weights.gemm2_weights = tensor(address(4), BLOCKMOE_FLOAT8_E4M3, 3, 32, 7168, 2048);
  call.weights.gemm2_weights_scale = tensor(address(5), BLOCKMOE_FLOAT32, 3, 32, 56, 16);
  call.activations = blockmoe_activations_init();
  call.activations.routing_logits = tensor(address(6), BLOCKMOE_FLOAT32, 2, 16, 256, 0);
  call.activations.hidden_states = tensor(address(8), BLOCKMOE_FLOAT8_E4M3, 2, 16, 7168, 0);
  call.activations.hidden_states_scale = tensor(address(9), BLOCKMOE_FLOAT32, 2, 56, 16, 0);
  call.output = tensor(output, BLOCKMOE_BFLOAT16, 2, 16, 7168, 0);
  call.workspace = workspace;
  call.workspace_bytes = 4096;
  return call;
}

blockmoe_status c_call_run(const c_call* call, blockmoe_error* error) {
  blockmoe_plan* plan = NULL;
  blockmoe_bound_plan* bound = NULL;
  blockmoe_status status = blockmoe_plan_create(&call->geometry, 4096, &call->device, &call->options, &plan, error);
  if (status == BLOCKMOE_OK) status = blockmoe_plan_bind(plan, &call->weights, &bound, error);
  blockmoe_plan_destroy(plan); /* what it bound lives on */
  if (status == BLOCKMOE_OK) {
    status = blockmoe_bound_plan_run(bound, &call->activations, &call->output, call->workspace, call->workspace_bytes,
                                     NULL, error);
  }
  blockmoe_bound_plan_destroy(bound);
  return status;
}

/* The same call as ../cpp/main.cpp, through the C ABI: every output is silu(1), 0x3f3b in bf16. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockmoe/blockmoe.h"

enum { TOKENS = 3, EXPERTS = 4, HIDDEN = 128, INTERMEDIATE = 128, ONE = 0x38, SILU_OF_ONE = 0x3f3b };

static uint8_t w13[EXPERTS * 2 * INTERMEDIATE * HIDDEN];
static float w13_scale[EXPERTS * 2];
static uint8_t w2[EXPERTS * HIDDEN * INTERMEDIATE];
static float w2_scale[EXPERTS];
static float logits[TOKENS * EXPERTS];
static uint8_t hidden[TOKENS * HIDDEN];
static float hidden_scale[TOKENS];
static uint16_t output[TOKENS * HIDDEN];

static blockmoe_error error;

static void require(blockmoe_status status) {
  if (status == BLOCKMOE_OK) return;
  fprintf(stderr, "%s\n", error.message);
  exit(1);
}

static blockmoe_tensor tensor(const void* data, int32_t dtype, int32_t rank, int64_t a, int64_t b, int64_t c) {
  const int64_t shape[] = {a, b, c};
  return blockmoe_tensor_contiguous(data, dtype, BLOCKMOE_DEVICE_CPU, 0, rank, shape);
}

static void fill(float* values, size_t count, float value) {
  for (size_t i = 0; i < count; ++i) values[i] = value;
}

int main(void) {
  error = blockmoe_error_init();
  memset(w13, ONE, sizeof w13);
  memset(w2, ONE, sizeof w2);
  memset(hidden, ONE, sizeof hidden);
  fill(w13_scale, EXPERTS * 2, 1.0f);
  fill(w2_scale, EXPERTS, 1.0f / INTERMEDIATE);
  fill(hidden_scale, TOKENS, 1.0f / HIDDEN);

  blockmoe_device_info device = blockmoe_device_info_init();
  require(blockmoe_query_device(BLOCKMOE_DEVICE_CPU, 0, &device, &error));
  blockmoe_geometry geometry = blockmoe_geometry_init();
  geometry.experts = EXPERTS;
  geometry.local_experts = EXPERTS;
  geometry.hidden = HIDDEN;
  geometry.intermediate = INTERMEDIATE;
  geometry.top_k = 1;
  geometry.n_group = 1;
  geometry.topk_group = 1;
  blockmoe_plan* plan = NULL;
  require(blockmoe_plan_create(&geometry, TOKENS, &device, NULL, &plan, &error));

  blockmoe_weights weights = blockmoe_weights_init();
  weights.gemm1_weights = tensor(w13, BLOCKMOE_FLOAT8_E4M3, 3, EXPERTS, 2 * INTERMEDIATE, HIDDEN);
  weights.gemm1_weights_scale = tensor(w13_scale, BLOCKMOE_FLOAT32, 3, EXPERTS, 2, 1);
  weights.gemm2_weights = tensor(w2, BLOCKMOE_FLOAT8_E4M3, 3, EXPERTS, HIDDEN, INTERMEDIATE);
  weights.gemm2_weights_scale = tensor(w2_scale, BLOCKMOE_FLOAT32, 3, EXPERTS, 1, 1);
  blockmoe_bound_plan* bound = NULL;
  require(blockmoe_plan_bind(plan, &weights, &bound, &error));

  blockmoe_activations activations = blockmoe_activations_init();
  activations.routing_logits = tensor(logits, BLOCKMOE_FLOAT32, 2, TOKENS, EXPERTS, 0);
  activations.hidden_states = tensor(hidden, BLOCKMOE_FLOAT8_E4M3, 2, TOKENS, HIDDEN, 0);
  activations.hidden_states_scale = tensor(hidden_scale, BLOCKMOE_FLOAT32, 2, 1, TOKENS, 0);
  const blockmoe_tensor output_tensor = tensor(output, BLOCKMOE_BFLOAT16, 2, TOKENS, HIDDEN, 0);

  blockmoe_workspace_need need = blockmoe_workspace_need_init();
  require(blockmoe_plan_workspace(plan, &need, &error));
  const size_t bytes = (size_t)((need.bytes + need.alignment - 1) / need.alignment * need.alignment);
  void* workspace = aligned_alloc((size_t)need.alignment, bytes);
  require(blockmoe_bound_plan_run(bound, &activations, &output_tensor, workspace, bytes, NULL, &error));

  for (size_t i = 0; i < TOKENS * HIDDEN; ++i) {
    if (output[i] != SILU_OF_ONE) {
      fprintf(stderr, "output %zu is 0x%04x, expected 0x%04x\n", i, output[i], SILU_OF_ONE);
      return 1;
    }
  }
  printf("blockmoe %s, %s: %d outputs as expected\n", blockmoe_version_string(), blockmoe_plan_path(plan),
         TOKENS * HIDDEN);

  free(workspace);
  blockmoe_bound_plan_destroy(bound);
  blockmoe_plan_destroy(plan);
  return 0;
}

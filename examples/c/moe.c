/* One call of a small layer on the CPU, from C11.
 *
 * Every e4m3 code is 1.0 and the scales make each gate and up value 1, so every output is 2.5 * silu(1) = 1.828. */
#include <blockmoe/blockmoe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T = 5, E = 16, H = 256, I = 128 }; /* tokens, experts (all on this rank), widths */

static uint8_t w13[E * 2 * I * H], w2[E * H * I], hidden[T * H];
static float w13_scale[E * (2 * I / 128) * (H / 128)], w2_scale[E * (H / 128) * (I / 128)];
static float logits[T * E], hidden_scale[H / 128 * T];
static uint16_t output[T * H];
static blockmoe_error error;

static void check(blockmoe_status status) {
  if (status == BLOCKMOE_OK) return;
  fprintf(stderr, "%s\n", error.message);
  exit(1);
}

static blockmoe_tensor tensor(const void* data, int32_t dtype, int32_t rank, int64_t a, int64_t b, int64_t c) {
  const int64_t shape[] = {a, b, c};
  return blockmoe_tensor_contiguous(data, dtype, BLOCKMOE_DEVICE_CPU, 0, rank, shape);
}

static void fill(float* values, size_t bytes, float value) {
  for (size_t i = 0; i < bytes / sizeof *values; ++i) values[i] = value;
}

int main(void) {
  const uint8_t one = 0x38; /* 1.0 in e4m3 */
  memset(w13, one, sizeof w13);
  memset(w2, one, sizeof w2);
  memset(hidden, one, sizeof hidden);
  fill(w13_scale, sizeof w13_scale, 1.0f / H);
  fill(w2_scale, sizeof w2_scale, 1.0f / I);
  fill(hidden_scale, sizeof hidden_scale, 1.0f);
  error = blockmoe_error_init();

  /* Once a model: sizes, the largest T, the device. */
  blockmoe_device_info device = blockmoe_device_info_init();
  check(blockmoe_query_device(BLOCKMOE_DEVICE_CPU, 0, &device, &error));
  blockmoe_geometry geometry = blockmoe_geometry_init();
  geometry.experts = geometry.local_experts = E;
  geometry.hidden = H;
  geometry.intermediate = I;
  geometry.top_k = 4;
  geometry.n_group = 4;
  geometry.topk_group = 2;
  blockmoe_plan* plan = NULL;
  check(blockmoe_plan_create(&geometry, T, &device, NULL, &plan, &error));

  /* Once a layer: its weights, which stay where they are. */
  blockmoe_weights weights = blockmoe_weights_init();
  weights.routed_scaling_factor = 2.5f;
  weights.gemm1_weights = tensor(w13, BLOCKMOE_FLOAT8_E4M3, 3, E, 2 * I, H);
  weights.gemm1_weights_scale = tensor(w13_scale, BLOCKMOE_FLOAT32, 3, E, 2 * I / 128, H / 128);
  weights.gemm2_weights = tensor(w2, BLOCKMOE_FLOAT8_E4M3, 3, E, H, I);
  weights.gemm2_weights_scale = tensor(w2_scale, BLOCKMOE_FLOAT32, 3, E, H / 128, I / 128);
  blockmoe_bound_plan* bound = NULL;
  check(blockmoe_plan_bind(plan, &weights, &bound, &error));

  /* Each step: any T up to the plan's, any stream. */
  blockmoe_activations activations = blockmoe_activations_init();
  activations.routing_logits = tensor(logits, BLOCKMOE_FLOAT32, 2, T, E, 0);
  activations.hidden_states = tensor(hidden, BLOCKMOE_FLOAT8_E4M3, 2, T, H, 0);
  activations.hidden_states_scale = tensor(hidden_scale, BLOCKMOE_FLOAT32, 2, H / 128, T, 0);
  const blockmoe_tensor result = tensor(output, BLOCKMOE_BFLOAT16, 2, T, H, 0);

  blockmoe_workspace_need need = blockmoe_workspace_need_init();
  check(blockmoe_plan_workspace(plan, &need, &error));
  const size_t bytes = (size_t)((need.bytes + need.alignment - 1) / need.alignment * need.alignment);
  void* workspace = aligned_alloc((size_t)need.alignment, bytes);
  check(blockmoe_bound_plan_run(bound, &activations, &result, workspace, bytes, NULL, &error));

  for (size_t i = 0; i < sizeof output / sizeof *output; ++i) {
    if (output[i] != 0x3fea) return 1; /* 1.828125, the bf16 next to 2.5 * silu(1) */
  }
  printf("%s: %d outputs, all 1.828\n", blockmoe_plan_path(plan), T * H);

  free(workspace);
  blockmoe_bound_plan_destroy(bound);
  blockmoe_plan_destroy(plan);
  return 0;
}

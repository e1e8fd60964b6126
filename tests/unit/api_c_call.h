/* api_c_call.h: one whole call written in C, for api_c_test.cpp. */
#ifndef BLOCKMOE_TESTS_API_C_CALL_H
#define BLOCKMOE_TESTS_API_C_CALL_H

#include "blockmoe/blockmoe.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A call of the DeepSeek-V3 geometry, T = 16, on the CPU. Inputs have addresses but no memory. */
typedef struct c_call { /* NOLINT(readability-identifier-naming): C */
  blockmoe_geometry geometry;
  blockmoe_device_info device;
  blockmoe_options options;
  blockmoe_weights weights;
  blockmoe_activations activations;
  blockmoe_tensor output;
  void* workspace;
  size_t workspace_bytes;
} c_call;

/* `output` holds [16, 7168] bf16, `workspace` 4096 bytes; both 256-byte aligned. */
c_call c_call_make(void* output, void* workspace);

/* Plan, bind, run and destroy. */
blockmoe_status c_call_run(const c_call* call, blockmoe_error* error);

#ifdef __cplusplus
}
#endif

#endif

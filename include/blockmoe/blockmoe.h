/*
 * blockmoe.h: the operator for C11 and for everything that calls C. What the fields, shapes, layouts and promises mean
 * stands in moe.hpp, field by field under the same names.
 *
 *   blockmoe_error error = blockmoe_error_init();
 *   blockmoe_device_info device = blockmoe_device_info_init();
 *   blockmoe_geometry geometry = blockmoe_geometry_init();
 *   blockmoe_plan* plan = NULL;
 *   if (blockmoe_query_device(BLOCKMOE_DEVICE_CUDA, 0, &device, &error) != BLOCKMOE_OK ||
 *       blockmoe_plan_create(&geometry, 4096, &device, NULL, &plan, &error) != BLOCKMOE_OK) {
 *     fprintf(stderr, "%s\n", error.message);
 *   }
 *
 * Every call that can fail returns a blockmoe_status and takes a blockmoe_error, which may be NULL, for the message.
 * No call throws, keeps a global state or keeps a pointer to a struct that was passed. Handles are immutable and may be
 * used from several threads; destroying one must be ordered after its last use.
 *
 * Structs that begin with struct_size are made by their blockmoe_..._init(), which compiles the size into the caller.
 * The library reads and writes only that many bytes; fields added later stand at the end, with 0 meaning "as before".
 *
 * The layer over several GPUs (blockmoe_ep_...): expert_parallel.hpp, likewise field by field.
 */
#ifndef BLOCKMOE_BLOCKMOE_H
#define BLOCKMOE_BLOCKMOE_H
/* NOLINTBEGIN(modernize-*, cppcoreguidelines-*, readability-identifier-naming): C, whoever includes it */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "blockmoe/export.h"
#include "blockmoe/version.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Enumerations travel as int32_t, so that a value of a later version is only a number here. */

typedef int32_t blockmoe_status;
enum {
  BLOCKMOE_OK = 0,
  BLOCKMOE_INVALID_ARGUMENT = 1, /* the message names the argument, what it is and what it must be */
  BLOCKMOE_UNSUPPORTED = 2,      /* well-formed, but this machine or this build can't run it */
  BLOCKMOE_DEVICE_ERROR = 3,     /* the system, driver or runtime refused work */
  BLOCKMOE_OUT_OF_MEMORY = 4     /* host memory */
};

/* dtype */
enum { BLOCKMOE_FLOAT32 = 0, BLOCKMOE_BFLOAT16 = 1, BLOCKMOE_FLOAT8_E4M3 = 2, BLOCKMOE_INT32 = 3 };

/* device_type */
enum { BLOCKMOE_DEVICE_CPU = 0, BLOCKMOE_DEVICE_CUDA = 1 };

/* backend */
enum {
  BLOCKMOE_BACKEND_AUTOMATIC = 0,
  BLOCKMOE_BACKEND_CPU = 1,
  BLOCKMOE_BACKEND_PORTABLE = 2,
  BLOCKMOE_BACKEND_HOPPER = 3,
  BLOCKMOE_BACKEND_BLACKWELL = 4
};

/* policy */
enum {
  BLOCKMOE_POLICY_AUTOMATIC = 0,
  BLOCKMOE_POLICY_REFERENCE_B200 = 1,
  BLOCKMOE_POLICY_CUTLASS = 2,
  BLOCKMOE_POLICY_TRTLLM = 3
};

/* intermediate type */
enum { BLOCKMOE_INTERMEDIATE_E4M3 = 0, BLOCKMOE_INTERMEDIATE_E4M3X2 = 1 };

/* ep way */
enum { BLOCKMOE_EP_AUTOMATIC = 0, BLOCKMOE_EP_GATHER = 1, BLOCKMOE_EP_EXCHANGE = 2 };

/* workspace init */
enum { BLOCKMOE_WORKSPACE_ANYTHING = 0, BLOCKMOE_WORKSPACE_ZEROED_ONCE = 1 };

enum { BLOCKMOE_MAX_RANK = 4 };

/* Filled by the call that it is passed to: the code that it returned and one message, empty when ok; cut to fit. */
typedef struct blockmoe_error {
  uint32_t struct_size;
  blockmoe_status code;
  char message[1016]; /* ends with a NUL */
} blockmoe_error;

typedef struct blockmoe_device_info {
  uint32_t struct_size;
  int32_t device_type;
  int32_t device_index;
  int32_t compute_capability;
  int32_t sm_count;
  int32_t shared_memory_per_block;
  char name[64]; /* ends with a NUL */
} blockmoe_device_info;

typedef struct blockmoe_geometry {
  uint32_t struct_size;
  int32_t experts;
  int64_t hidden;
  int64_t intermediate;
  int32_t local_experts;
  int32_t top_k;
  int32_t n_group;
  int32_t topk_group;
} blockmoe_geometry;

/* Frozen. Off where both are 0. */
typedef struct blockmoe_pruning {
  int32_t max_local_picks;
  float min_weight_share;
} blockmoe_pruning;

typedef struct blockmoe_options {
  uint32_t struct_size;
  int32_t backend;
  int32_t gate_first; /* 0 or 1 */
  int32_t max_sms;
  int32_t max_threads;
  blockmoe_pruning pruning;
  int32_t policy;
  int32_t no_trtllm_gemm1; /* 0 or 1 */
  int32_t no_trtllm_gemm2; /* 0 or 1 */
  int32_t mma_gemm2_m_threshold;
  int32_t trtllm_gemm2_m_threshold;
  int32_t batch_invariant; /* 0 or 1 */
  int32_t intermediate_type;
} blockmoe_options;

/* Frozen. `data` of an input is only read; all zeros is an absent optional tensor. */
typedef struct blockmoe_tensor {
  void* data;
  int32_t dtype;
  int32_t device_type;
  int32_t device_index;
  int32_t rank;
  int64_t shape[BLOCKMOE_MAX_RANK];
  int64_t stride[BLOCKMOE_MAX_RANK]; /* in elements; that of a dimension of size 1 is not looked at */
} blockmoe_tensor;

typedef struct blockmoe_weights {
  uint32_t struct_size;
  int32_t local_expert_offset;
  float routed_scaling_factor;
  blockmoe_tensor routing_bias;
  blockmoe_tensor gemm1_weights;
  blockmoe_tensor gemm1_weights_scale;
  blockmoe_tensor gemm2_weights;
  blockmoe_tensor gemm2_weights_scale;
} blockmoe_weights;

typedef struct blockmoe_activations {
  uint32_t struct_size;
  blockmoe_tensor routing_logits;
  blockmoe_tensor hidden_states;
  blockmoe_tensor hidden_states_scale;
} blockmoe_activations;

typedef struct blockmoe_prerouted_activations {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  blockmoe_tensor topk_ids;
  blockmoe_tensor topk_weights;
  blockmoe_tensor hidden_states;
  blockmoe_tensor hidden_states_scale;
} blockmoe_prerouted_activations;

typedef struct blockmoe_workspace_need {
  uint32_t struct_size;
  int32_t init;
  uint64_t bytes;
  uint64_t alignment;
} blockmoe_workspace_need;

/* Frozen. Where ranks tell each other, on the host, how far they are; all zeros: nowhere. */
typedef struct blockmoe_ep_board {
  void* context;
  void (*post)(void* context, int32_t rank, int64_t calls);
  int64_t (*read)(void* context, int32_t rank);
} blockmoe_ep_board;

typedef struct blockmoe_ep_options {
  uint32_t struct_size;
  int32_t way;
  int32_t pieces;
  int32_t comm_sms;
  int32_t serial; /* 0 or 1 */
  int32_t timeout_ms;
  const int32_t* expert_map;
  blockmoe_ep_board board;
} blockmoe_ep_options;

typedef struct blockmoe_ep_group blockmoe_ep_group;
typedef struct blockmoe_bound_ep_group blockmoe_bound_ep_group;
typedef struct blockmoe_plan blockmoe_plan;
typedef struct blockmoe_bound_plan blockmoe_bound_plan;

/* The library that runs, which need not be the one that these headers came with: major * 10000 + minor * 100 + patch,
 * to be compared with BLOCKMOE_VERSION_NUMBER; and "major.minor.patch". */
BLOCKMOE_API uint32_t blockmoe_version(void);
BLOCKMOE_API const char* blockmoe_version_string(void);

BLOCKMOE_API blockmoe_status blockmoe_query_device(int32_t device_type, int32_t device_index,
                                                   blockmoe_device_info* info, blockmoe_error* error);
BLOCKMOE_API blockmoe_status blockmoe_describe_device(const char* name, blockmoe_device_info* info,
                                                      blockmoe_error* error);

/* `options` may be NULL. *plan is written only when the call succeeds, and is then the caller's to destroy. */
BLOCKMOE_API blockmoe_status blockmoe_plan_create(const blockmoe_geometry* geometry, int64_t max_tokens,
                                                  const blockmoe_device_info* device, const blockmoe_options* options,
                                                  blockmoe_plan** plan, blockmoe_error* error);
/* NULL is accepted. Bound plans that were made from it live on. */
BLOCKMOE_API void blockmoe_plan_destroy(blockmoe_plan* plan);

BLOCKMOE_API blockmoe_status blockmoe_plan_workspace(const blockmoe_plan* plan, blockmoe_workspace_need* need,
                                                     blockmoe_error* error);
/* For a NULL plan: BLOCKMOE_BACKEND_AUTOMATIC and "". The strings live as long as the plan. */
BLOCKMOE_API int32_t blockmoe_plan_backend(const blockmoe_plan* plan);
BLOCKMOE_API const char* blockmoe_plan_path(const blockmoe_plan* plan);
BLOCKMOE_API const char* blockmoe_plan_gemm1_path(const blockmoe_plan* plan);
BLOCKMOE_API const char* blockmoe_plan_gemm2_path(const blockmoe_plan* plan);
BLOCKMOE_API const char* blockmoe_plan_explain(const blockmoe_plan* plan);

/* *bound is written only when the call succeeds, and is then the caller's to destroy. */
BLOCKMOE_API blockmoe_status blockmoe_plan_bind(const blockmoe_plan* plan, const blockmoe_weights* weights,
                                                blockmoe_bound_plan** bound, blockmoe_error* error);
/* NULL is accepted. On a CUDA device, destroy it after the work that it launched has finished. */
BLOCKMOE_API void blockmoe_bound_plan_destroy(blockmoe_bound_plan* bound);

/* `stream` is a cudaStream_t. */
BLOCKMOE_API blockmoe_status blockmoe_bound_plan_run(const blockmoe_bound_plan* bound,
                                                     const blockmoe_activations* activations,
                                                     const blockmoe_tensor* output, void* workspace,
                                                     size_t workspace_bytes, void* stream, blockmoe_error* error);

BLOCKMOE_API blockmoe_status blockmoe_bound_plan_run_prerouted(const blockmoe_bound_plan* bound,
                                                               const blockmoe_prerouted_activations* activations,
                                                               const blockmoe_tensor* output, void* workspace,
                                                               size_t workspace_bytes, void* stream,
                                                               blockmoe_error* error);

BLOCKMOE_API blockmoe_status blockmoe_bound_plan_route(const blockmoe_bound_plan* bound,
                                                       const blockmoe_tensor* routing_logits,
                                                       const blockmoe_tensor* topk_ids,
                                                       const blockmoe_tensor* topk_weights, void* stream,
                                                       blockmoe_error* error);

/* `nccl_comm` is an ncclComm_t. `ep_options` and `options` may be NULL. *group is written only when the call succeeds, and is then
 * the caller's to destroy. */
BLOCKMOE_API blockmoe_status blockmoe_ep_group_create(const blockmoe_geometry* layer, int64_t max_tokens,
                                                      const blockmoe_device_info* device, void* nccl_comm,
                                                      const blockmoe_ep_options* ep_options,
                                                      const blockmoe_options* options, blockmoe_ep_group** group,
                                                      blockmoe_error* error);
/* NULL is accepted. Bound groups that were made from it live on. */
BLOCKMOE_API void blockmoe_ep_group_destroy(blockmoe_ep_group* group);
BLOCKMOE_API blockmoe_status blockmoe_ep_group_workspace(const blockmoe_ep_group* group, blockmoe_workspace_need* need,
                                                         blockmoe_error* error);
/* For a NULL group: -1, 0, "" and BLOCKMOE_EP_AUTOMATIC. The string lives as long as the group. */
BLOCKMOE_API int32_t blockmoe_ep_group_rank(const blockmoe_ep_group* group);
BLOCKMOE_API int32_t blockmoe_ep_group_ranks(const blockmoe_ep_group* group);
BLOCKMOE_API const char* blockmoe_ep_group_explain(const blockmoe_ep_group* group);
BLOCKMOE_API int32_t blockmoe_ep_group_way(const blockmoe_ep_group* group, int64_t most_tokens);
BLOCKMOE_API blockmoe_status blockmoe_ep_group_check(const blockmoe_ep_group* group, void* stream, int32_t timeout_ms,
                                                     blockmoe_error* error);
/* As blockmoe_plan_bind. */
BLOCKMOE_API blockmoe_status blockmoe_ep_group_bind(const blockmoe_ep_group* group, const blockmoe_weights* weights,
                                                    blockmoe_bound_ep_group** bound, blockmoe_error* error);
BLOCKMOE_API void blockmoe_bound_ep_group_destroy(blockmoe_bound_ep_group* bound);
BLOCKMOE_API blockmoe_status blockmoe_bound_ep_group_run(const blockmoe_bound_ep_group* bound,
                                                         const blockmoe_activations* activations,
                                                         const blockmoe_tensor* output, void* workspace,
                                                         size_t workspace_bytes, void* stream, int64_t most_tokens,
                                                         blockmoe_error* error);

/* Initialisers: zeros, the size, and the defaults of moe.hpp. */

static inline blockmoe_error blockmoe_error_init(void) {
  blockmoe_error error;
  memset(&error, 0, sizeof error);
  error.struct_size = sizeof error;
  return error;
}

static inline blockmoe_device_info blockmoe_device_info_init(void) {
  blockmoe_device_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  return info;
}

static inline blockmoe_geometry blockmoe_geometry_init(void) {
  blockmoe_geometry geometry;
  memset(&geometry, 0, sizeof geometry);
  geometry.struct_size = sizeof geometry;
  geometry.experts = 256;
  geometry.hidden = 7168;
  geometry.intermediate = 2048;
  geometry.local_experts = 32;
  geometry.top_k = 8;
  geometry.n_group = 8;
  geometry.topk_group = 4;
  return geometry;
}

static inline blockmoe_options blockmoe_options_init(void) {
  blockmoe_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  return options;
}

static inline blockmoe_ep_options blockmoe_ep_options_init(void) {
  blockmoe_ep_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  return options;
}

static inline blockmoe_weights blockmoe_weights_init(void) {
  blockmoe_weights weights;
  memset(&weights, 0, sizeof weights);
  weights.struct_size = sizeof weights;
  weights.routed_scaling_factor = 1.0f;
  return weights;
}

static inline blockmoe_activations blockmoe_activations_init(void) {
  blockmoe_activations activations;
  memset(&activations, 0, sizeof activations);
  activations.struct_size = sizeof activations;
  return activations;
}

static inline blockmoe_prerouted_activations blockmoe_prerouted_activations_init(void) {
  blockmoe_prerouted_activations activations;
  memset(&activations, 0, sizeof activations);
  activations.struct_size = sizeof activations;
  return activations;
}

static inline blockmoe_workspace_need blockmoe_workspace_need_init(void) {
  blockmoe_workspace_need need;
  memset(&need, 0, sizeof need);
  need.struct_size = sizeof need;
  return need;
}

/* A row-major tensor without gaps, of `rank` sizes. A rank above BLOCKMOE_MAX_RANK is one that every call refuses. */
static inline blockmoe_tensor blockmoe_tensor_contiguous(const void* data, int32_t dtype, int32_t device_type,
                                                         int32_t device_index, int32_t rank, const int64_t* shape) {
  blockmoe_tensor tensor;
  uint64_t step = 1;
  int32_t axis = rank < BLOCKMOE_MAX_RANK ? rank : BLOCKMOE_MAX_RANK;
  memset(&tensor, 0, sizeof tensor);
  tensor.data = (void*)data; /* the library writes through an output only */
  tensor.dtype = dtype;
  tensor.device_type = device_type;
  tensor.device_index = device_index;
  tensor.rank = rank;
  while (axis-- > 0) {
    tensor.shape[axis] = shape[axis];
    tensor.stride[axis] = (int64_t)step;
    step *= (uint64_t)shape[axis];
  }
  return tensor;
}

#ifdef __cplusplus
}
#endif

/* NOLINTEND(modernize-*, cppcoreguidelines-*, readability-identifier-naming) */
#endif

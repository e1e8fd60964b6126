"""FlashInfer's operator as a runner of flashinfer-bench calls it: the baseline that the benchmark's published times are compared with.

It runs on Blackwell (sm_100) alone. *Not run*: held to the signature that flashinfer-python 0.6.8.post1 has.
"""

from flashinfer.fused_moe import RoutingMethodType, WeightLayout, trtllm_fp8_block_scale_moe


def run(
    routing_logits,
    routing_bias,
    hidden_states,
    hidden_states_scale,
    gemm1_weights,
    gemm1_weights_scale,
    gemm2_weights,
    gemm2_weights_scale,
    local_expert_offset,
    routed_scaling_factor,
):
    local_experts, _, intermediate = gemm2_weights.shape
    return trtllm_fp8_block_scale_moe(
        routing_logits=routing_logits,
        routing_bias=routing_bias,
        hidden_states=hidden_states,
        hidden_states_scale=hidden_states_scale,
        gemm1_weights=gemm1_weights,
        gemm1_weights_scale=gemm1_weights_scale,
        gemm2_weights=gemm2_weights,
        gemm2_weights_scale=gemm2_weights_scale,
        num_experts=routing_logits.shape[1],
        top_k=8,
        n_group=8,
        topk_group=4,
        intermediate_size=intermediate,
        local_expert_offset=local_expert_offset,
        local_num_experts=local_experts,
        routed_scaling_factor=routed_scaling_factor,
        routing_method_type=int(RoutingMethodType.DeepSeekV3),
        use_shuffled_weight=False,
        weight_layout=int(WeightLayout.MajorK),
        tune_max_num_tokens=max(8192, len(hidden_states)),
    )

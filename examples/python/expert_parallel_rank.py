"""The calls that the ranks of an engine make, two of them here in turn: plan once, bind once a layer, run each step.

Every rank sees all tokens and their logits and computes its own experts; the sum over the ranks, which an engine's all-reduce
makes, is the layer. Output and workspace are allocated once: a step allocates nothing.
"""

import numpy as np

import blockmoe

RANKS, EXPERTS, HIDDEN, INTERMEDIATE, MAX_TOKENS = 2, 16, 256, 128, 64
LOCAL = EXPERTS // RANKS
ROUTING = {"top_k": 4, "n_group": 4, "topk_group": 2}


class Rank:
    """What one rank keeps: its experts' weights, bound, and memory for a step."""

    def __init__(self, rank: int) -> None:
        plan = blockmoe.Plan(
            MAX_TOKENS,
            "cpu",
            experts=EXPERTS,
            local_experts=LOCAL,
            hidden=HIDDEN,
            intermediate=INTERMEDIATE,
            **ROUTING,
        )
        one = np.uint8(0x38)  # 1.0 in e4m3
        weights = blockmoe.Weights(
            gemm1_weights=np.full((LOCAL, 2 * INTERMEDIATE, HIDDEN), one),
            gemm1_weights_scale=np.full((LOCAL, 2 * INTERMEDIATE // 128, HIDDEN // 128), 1 / HIDDEN, np.float32),
            gemm2_weights=np.full((LOCAL, HIDDEN, INTERMEDIATE), one),
            gemm2_weights_scale=np.full((LOCAL, HIDDEN // 128, INTERMEDIATE // 128), 1 / INTERMEDIATE, np.float32),
            local_expert_offset=rank * LOCAL,
            routed_scaling_factor=2.5,
        )
        self.bound = plan.bind(weights)
        self.output = np.empty((MAX_TOKENS, HIDDEN), np.uint16)  # bf16
        self.workspace = np.empty(plan.workspace_bytes, np.uint8)

    def step(self, logits: np.ndarray, hidden: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """[T, H] float32: this rank's part of every token's row."""
        output = self.bound.run(logits, hidden, scale, self.output[: len(hidden)], workspace=self.workspace)
        return (output.astype(np.uint32) << 16).view(np.float32)


def main() -> None:
    ranks = [Rank(rank) for rank in range(RANKS)]
    rng = np.random.default_rng(0)
    for tokens in (1, 64, 7):
        logits = rng.standard_normal((tokens, EXPERTS), np.float32)
        hidden = np.full((tokens, HIDDEN), np.uint8(0x38))
        scale = np.ones((HIDDEN // 128, tokens), np.float32)
        layer = sum(rank.step(logits, hidden, scale) for rank in ranks)
        # Every gate and up value is 1, and the weights of a token's picks come to 2.5 whoever computes them.
        assert np.allclose(layer, 2.5 / (1 + np.exp(-1)), rtol=0.01)
    print(f"{RANKS} ranks, steps of 1, 64 and 7 tokens: all 1.828")


if __name__ == "__main__":
    main()

"""The layer in float64, written from its definition (docs/numerics.md, docs/python.md) and sharing no code with the library."""

import dataclasses

import ml_dtypes
import numpy as np

BLOCK = 128  # values that share a scale


@dataclasses.dataclass
class Layer:
    """Sizes and contents of one call; e4m3 codes are uint8."""

    routing_logits: np.ndarray  # [T, E] f32
    routing_bias: np.ndarray  # [E] f32
    hidden_states: np.ndarray  # [T, H] codes
    hidden_states_scale: np.ndarray  # [H/128, T] f32
    gemm1_weights: np.ndarray  # [L, 2I, H] codes
    gemm1_weights_scale: np.ndarray  # [L, 2I/128, H/128] f32
    gemm2_weights: np.ndarray  # [L, H, I] codes
    gemm2_weights_scale: np.ndarray  # [L, H/128, I/128] f32
    local_expert_offset: int
    routed_scaling_factor: float
    top_k: int
    n_group: int
    topk_group: int

    @property
    def routing(self) -> dict[str, int]:
        return {"top_k": self.top_k, "n_group": self.n_group, "topk_group": self.topk_group}


def random_layer(tokens: int, *, seed: int = 0, offset: int = 0, local: int = 16) -> Layer:
    """16 experts in 4 groups, H = 256, I = 128; scales of both signs, as the benchmark's."""
    experts, hidden, intermediate = 16, 256, 128
    rng = np.random.default_rng(seed)

    def codes(*shape: int) -> np.ndarray:
        values = np.clip(rng.standard_normal(shape), -2, 2).astype(ml_dtypes.float8_e4m3fn)
        return values.view(np.uint8)

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return Layer(
        routing_logits=floats(tokens, experts),
        routing_bias=(floats(experts) / 10).astype(ml_dtypes.bfloat16).astype(np.float32),
        hidden_states=codes(tokens, hidden),
        hidden_states_scale=floats(hidden // BLOCK, tokens),
        gemm1_weights=codes(local, 2 * intermediate, hidden),
        gemm1_weights_scale=floats(local, 2 * intermediate // BLOCK, hidden // BLOCK),
        gemm2_weights=codes(local, hidden, intermediate),
        gemm2_weights_scale=floats(local, hidden // BLOCK, intermediate // BLOCK),
        local_expert_offset=offset,
        routed_scaling_factor=2.5,
        top_k=4,
        n_group=4,
        topk_group=2,
    )


def picks_of(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Experts [T, top_k] int32 and their weights [T, top_k] f32, the largest s + bias first."""
    s = 1 / (1 + np.exp(-layer.routing_logits.astype(np.float64)))
    b = s + layer.routing_bias
    tokens, experts = b.shape
    groups = b.reshape(tokens, layer.n_group, -1)
    group_scores = np.sort(groups, axis=2)[:, :, -2:].sum(axis=2)
    kept = np.argsort(-group_scores, axis=1, kind="stable")[:, : layer.topk_group]
    is_kept = np.zeros((tokens, layer.n_group), bool)
    np.put_along_axis(is_kept, kept, True, axis=1)
    b = np.where(np.repeat(is_kept, experts // layer.n_group, axis=1), b, -np.inf)
    ids = np.argsort(-b, axis=1, kind="stable")[:, : layer.top_k]
    picked = np.take_along_axis(s, ids, axis=1)
    weights = picked / (picked.sum(axis=1, keepdims=True) + 1e-20) * layer.routed_scaling_factor
    return ids.astype(np.int32), weights.astype(np.float32)


def decoded(codes: np.ndarray) -> np.ndarray:
    return codes.view(ml_dtypes.float8_e4m3fn).astype(np.float64)


def weight(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return decoded(codes) * np.repeat(np.repeat(scale, BLOCK, axis=-2), BLOCK, axis=-1)


def requantised(rows: np.ndarray) -> np.ndarray:
    """Through e4m3 and back, one scale for 128 values of a row."""
    blocks = rows.reshape(len(rows), -1, BLOCK)
    scale = np.maximum(np.abs(blocks).max(axis=2, keepdims=True), 2.0**-100) / 448
    codes = np.clip(blocks / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    return (codes.astype(np.float64) * scale).reshape(rows.shape)


def reference(layer: Layer, *, requantises: bool = True) -> np.ndarray:
    """[T, H] float64, the intermediate requantised as the contract says, or as it is."""
    ids, weights = picks_of(layer)
    return mixture(layer, ids, weights, requantises=requantises)


def mixture(layer: Layer, ids: np.ndarray, weights: np.ndarray, *, requantises: bool = True) -> np.ndarray:
    """The experts `ids` of each token with their `weights`; what is not on this rank counts nothing."""
    tokens = decoded(layer.hidden_states) * np.repeat(layer.hidden_states_scale.T, BLOCK, axis=1)
    output = np.zeros(tokens.shape)
    for local in range(len(layer.gemm1_weights)):
        token, place = np.nonzero(ids == layer.local_expert_offset + local)
        if len(token) == 0:
            continue
        both = tokens[token] @ weight(layer.gemm1_weights[local], layer.gemm1_weights_scale[local]).T
        up, gate = np.split(both, 2, axis=1)
        inner = gate / (1 + np.exp(-gate)) * up
        if requantises:
            inner = requantised(inner)
        rows = inner @ weight(layer.gemm2_weights[local], layer.gemm2_weights_scale[local]).T
        np.add.at(output, token, rows * weights[token, place][:, None])
    return output


def relative_error(output: np.ndarray, expected: np.ndarray) -> float:
    """Relative L2."""
    return float(np.linalg.norm(output - expected) / np.linalg.norm(expected))


GATE_CPU = 0.003  # docs/numerics.md: against an oracle that requantises too
GATE_CUDA = 0.005
GATE_TWO_TERMS = 0.002  # of intermediate_type e4m3x2, against one that does not

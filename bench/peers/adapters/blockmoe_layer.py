"""blockmoe itself: what every process times beside its peer."""

import torch

from . import Peer

SIZES = ("experts", "local_experts", "hidden", "intermediate", "top_k", "n_group", "topk_group")


class Blockmoe(Peer):
    title = "blockmoe"
    backend = "auto"

    def __init__(self, layer):
        super().__init__(layer)
        import blockmoe

        self.weights = blockmoe.Weights(
            gemm1_weights=layer.w13,
            gemm1_weights_scale=layer.w13_scale,
            gemm2_weights=layer.w2,
            gemm2_weights_scale=layer.w2_scale,
            routed_scaling_factor=layer.geometry.routed_scaling_factor,
        )

    def candidates(self, step):
        import blockmoe

        g = self.layer.geometry
        sizes = {name: getattr(g, name) for name in SIZES}
        plan = blockmoe.Plan(step.tokens, self.layer.device, backend=self.backend, **sizes)
        self.path = plan.path
        bound = plan.bind(self.weights)
        workspace = torch.empty(plan.workspace_bytes, dtype=torch.uint8, device=self.layer.device)
        self.output = torch.empty(step.tokens, g.hidden, dtype=torch.bfloat16, device=self.layer.device)

        def call():
            bound.run(step.logits, step.hidden, step.hidden_scale, self.output, workspace=workspace)

        return {plan.path: call}

"""blockmoe's portable backend: what any NVIDIA GPU from sm_80 on gets."""

from .blockmoe_layer import Blockmoe


class BlockmoePortable(Blockmoe):
    title = "blockmoe, portable backend"
    backend = "portable"

"""What both of DeepGEMM's adapters need: the package, and scales in the layout that its kernels read."""

import os
import pathlib
import tempfile

import torch


def load():
    """The package. It compiles its kernels at the first call of each shape; all processes share what was compiled."""
    os.environ.setdefault("CUDA_HOME", "/usr/local/cuda")
    os.environ.setdefault("DG_JIT_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "peers-deepgemm"))
    import deep_gemm

    return deep_gemm


def with_rows_fastest(scale: torch.Tensor) -> torch.Tensor:
    """[..., rows, columns] f32 with rows as the fast axis, padded to 16 bytes: TMA's layout for the scales of a product's rows."""
    *groups, rows, columns = scale.shape
    made = torch.zeros(*groups, columns, (rows + 3) // 4 * 4, device=scale.device)
    made = made[..., :rows].transpose(-1, -2)
    return made.copy_(scale)

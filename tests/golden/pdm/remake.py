"""Write votes.npz anew from the recorded run of the released PDM code.

Run `python -m tests.golden.pdm.remake` with `../shared/oracle/pdm` beside the checkout.
"""

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tests.paths import ORACLE

RECORDED = ORACLE / "pdm"
HERE = Path(__file__).parent
SCRIPTS = ("matching", "permis")
TENSORS = ("Q", "K")
# Features are stored in steps of 2^-17, in three bytes. The recorded votes do not change: a test
# checks this, and at 10 bits (float16) they would.
STEPS = 2**17


def as_bytes(features: np.ndarray) -> np.ndarray:
    """Round features (N, C) and split them into byte planes (3, N, C), which compress better."""
    steps = np.round(features * STEPS).astype("<i4") + 2**23
    return np.stack([(steps >> shift).astype(np.uint8) for shift in (0, 8, 16)])


def from_bytes(planes: np.ndarray) -> torch.Tensor:
    """Undo `as_bytes`: (N, C) float32, exact."""
    low, middle, high = planes.astype(np.int32)
    steps = low + (middle << 8) + (high << 16) - 2**23
    return torch.from_numpy(steps.astype(np.float32) / STEPS)


def enlarge(counts: np.ndarray) -> torch.Tensor:
    """Turn vote counts (64, 64) into the heat map of the released code, (512, 512)."""
    votes = torch.from_numpy(counts).float()
    heat = F.interpolate((votes / votes.max())[None, None], (512, 512), mode="bilinear")
    return heat[0, 0]


def counts_in(heat: np.ndarray) -> np.ndarray:
    """Find the vote counts (64, 64) that a recorded heat map (512, 512) was enlarged from.

    Enlarging is linear in both directions, so its inverse gives the counts up to their largest one.
    The right largest one gives the recorded map again, to the last bit.
    """
    weights = F.interpolate(torch.eye(64, dtype=torch.float64)[None], 512, mode="linear")[0].numpy()
    inverse = np.linalg.pinv(weights)  # (512, 64)
    votes = inverse.T @ heat.astype(np.float64) @ inverse
    for most in range(1, 256):
        counts = np.round(votes * most).astype(np.uint8)
        if torch.equal(enlarge(counts), torch.from_numpy(heat)):
            return counts
    raise ValueError("heat: no map of votes")


def remade() -> dict[str, np.ndarray]:
    """Read what votes.npz holds from the recorded files."""
    mask = np.load(RECORDED / "ref_mask64.npy")
    arrays = {"mask": mask}
    for picture, cells in (("ref", mask.reshape(-1)), ("tgt", slice(None))):
        with np.load(RECORDED / f"{picture}_features.npz") as features:
            for tensor in TENSORS:
                stored = as_bytes(features[f"step49.att2.self.{tensor}"][cells])
                arrays[f"{picture}_{tensor}"] = stored
    for script in SCRIPTS:
        for tensor in TENSORS:
            heat = np.load(RECORDED / f"pdm_{script}_heatmap_{tensor}.npy")
            arrays[f"votes_{script}_{tensor}"] = counts_in(heat)
    return arrays


if __name__ == "__main__":
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **remade())
    (HERE / "votes.npz").write_bytes(packed.getvalue())

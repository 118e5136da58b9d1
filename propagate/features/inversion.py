"""DDIM in both directions: from a clean latent to noise, and back to the level that is read.

a_t is the cumulative alpha of the noise schedule at timestep t, and eps(z, t) is the noise that the
U-Net predicts in z. A step from one level to another (Song et al. 2021, eq. 12, deterministic) is

    z_to = sqrt(a_to) (z_from - sqrt(1 - a_from) eps) / sqrt(a_from) + sqrt(1 - a_to) eps
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

# (latents (B, C, h, w) float32, timestep) -> predicted noise of the same shape.
NoisePredictor = Callable[[torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Inversion:
    """How a latent is inverted to noise.

    Attributes:
        steps: Number of visited levels of the schedule.
        iterations: U-Net forwards per step. 1 is DDIM inversion: the noise at the end of the step
            is predicted from the latent at its start. More is fixed-point inversion (AIDI, Pan et
            al. 2023): it is predicted again from the latest estimate of the end.
    """

    steps: int
    iterations: int = 1

    def __post_init__(self) -> None:
        for field in ("steps", "iterations"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{field}: an integer, 1 or more, not {value!r}")


def invert(
    predict: NoisePredictor,
    latents: torch.Tensor,
    timesteps: Sequence[int],
    alphas: torch.Tensor,
    iterations: int = 1,
) -> torch.Tensor:
    """Find the noisy latents that denoise to the given ones.

    Args:
        predict: The U-Net.
        latents: (B, C, h, w) float32, clean; they count as level a_0, as in Stable Diffusion.
        timesteps: Levels to visit, from the cleanest to the noisiest.
        alphas: (T,) cumulative alphas of the schedule.
        iterations: See `Inversion`.

    Returns:
        (B, C, h, w) at the last timestep.
    """
    here = alphas[0]
    for timestep in timesteps:
        there = alphas[timestep]
        guess = latents
        for _ in range(iterations):
            guess = _step(latents, predict(guess, timestep), here, there)
        latents, here = guess, there
    return latents


def denoise(
    predict: NoisePredictor, latents: torch.Tensor, timesteps: Sequence[int], alphas: torch.Tensor
) -> torch.Tensor:
    """Denoise latents from the first timestep to the last.

    Args:
        predict: The U-Net.
        latents: (B, C, h, w) float32 at the first timestep.
        timesteps: Levels to visit, from the noisiest to the cleanest.
        alphas: (T,) cumulative alphas of the schedule.

    Returns:
        (B, C, h, w) at the last timestep.
    """
    for above, below in pairwise(timesteps):
        latents = _step(latents, predict(latents, above), alphas[above], alphas[below])
    return latents


def noise_from_velocity(
    velocity: torch.Tensor, latents: torch.Tensor, alpha: torch.Tensor
) -> torch.Tensor:
    """Convert a v-prediction (Salimans & Ho 2022), as of Stable Diffusion 2.1, to noise."""
    return alpha.sqrt() * velocity + (1 - alpha).sqrt() * latents


def _step(
    latents: torch.Tensor, noise: torch.Tensor, here: torch.Tensor, there: torch.Tensor
) -> torch.Tensor:
    clean = (latents - (1 - here).sqrt() * noise) / here.sqrt()
    return there.sqrt() * clean + (1 - there).sqrt() * noise

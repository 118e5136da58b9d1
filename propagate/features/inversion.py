"""DDIM in both directions: from a clean latent up to noise, and down to the level that is read.

a_t is the noise schedule's cumulative alpha at timestep t, eps(z, t) the noise that the U-Net sees
in z. A step between two levels keeps the noise and exchanges the weights (Song et al. 2021, eq. 12,
without randomness):

    z_to = sqrt(a_to) (z_from - sqrt(1 - a_from) eps) / sqrt(a_from) + sqrt(1 - a_to) eps
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

# (latents (B, C, h, w) float32, timestep) -> the noise in them, of the same shape.
NoisePredictor = Callable[[torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Inversion:
    """How a latent is taken up to noise.

    Attributes:
        steps: Levels of the schedule that are visited.
        iterations: U-Net forwards per step. 1: DDIM inversion, which takes the noise of the step's
            end from where the step begins; more: fixed-point inversion (AIDI, Pan et al. 2023),
            which takes it from the end as known so far.
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
    """Find the noisy latents from which denoising leads to these.

    Args:
        predict: The U-Net.
        latents: (B, C, h, w) float32, clean; they are taken to lie at a_0, as in Stable Diffusion.
        timesteps: Levels to visit, from the cleanest to the noisiest.
        alphas: (T,) cumulative alphas of the schedule.
        iterations: See `Inversion`.

    Returns:
        (B, C, h, w) at the last of the timesteps.
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
    """Take noisy latents down from the first of the timesteps to the last.

    Args:
        predict: The U-Net.
        latents: (B, C, h, w) float32 at the first timestep.
        timesteps: Levels to visit, from the noisiest on; with one alone, nothing happens.
        alphas: (T,) cumulative alphas of the schedule.

    Returns:
        (B, C, h, w) at the last of the timesteps.
    """
    for above, below in pairwise(timesteps):
        latents = _step(latents, predict(latents, above), alphas[above], alphas[below])
    return latents


def noise_from_velocity(
    velocity: torch.Tensor, latents: torch.Tensor, alpha: torch.Tensor
) -> torch.Tensor:
    """The noise in latents, from a U-Net trained for v (Salimans & Ho 2022), such as SD 2.1's."""
    return alpha.sqrt() * velocity + (1 - alpha).sqrt() * latents


def _step(
    latents: torch.Tensor, noise: torch.Tensor, here: torch.Tensor, there: torch.Tensor
) -> torch.Tensor:
    clean = (latents - (1 - here).sqrt() * noise) / here.sqrt()
    return there.sqrt() * clean + (1 - there).sqrt() * noise

"""DDIM up and down: against diffusers' sampler, written-out loops, and each other."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from propagate.features.inversion import Inversion, denoise, invert, noise_from_velocity

LEVELS = [1, 251, 501, 751]
ALPHAS = DDIMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
).alphas_cumprod


def latents() -> torch.Tensor:
    return torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(3))


def predict(noisy: torch.Tensor, timestep: int) -> torch.Tensor:
    """A smooth stand-in for a U-Net that depends on both of its inputs."""
    return torch.sin(noisy + timestep / 300) * (0.3 + timestep / 2000)


def test_ddim_inversion_takes_each_steps_noise_from_where_it_begins() -> None:
    start = latents()
    inverted = invert(predict, start, LEVELS, ALPHAS)
    value, here = float(start[1, 2, 3, 4]), float(ALPHAS[0])
    for level in LEVELS:
        there = float(ALPHAS[level])
        noise = math.sin(value + level / 300) * (0.3 + level / 2000)
        clean = (value - math.sqrt(1 - here) * noise) / math.sqrt(here)
        value, here = math.sqrt(there) * clean + math.sqrt(1 - there) * noise, there
    assert float(inverted[1, 2, 3, 4]) == pytest.approx(value, rel=1e-5)


def test_fixed_point_inversion_takes_it_from_the_end_as_known_so_far() -> None:
    start = latents()
    inverted = invert(predict, start, LEVELS, ALPHAS, iterations=3)
    value, here = float(start[0, 0, 0, 0]), float(ALPHAS[0])
    for level in LEVELS:
        there, end = float(ALPHAS[level]), value
        for _ in range(3):
            noise = math.sin(end + level / 300) * (0.3 + level / 2000)
            clean = (value - math.sqrt(1 - here) * noise) / math.sqrt(here)
            end = math.sqrt(there) * clean + math.sqrt(1 - there) * noise
        value, here = end, there
    assert float(inverted[0, 0, 0, 0]) == pytest.approx(value, rel=1e-5)


def test_denoising_undoes_fixed_point_inversion_but_not_ddim_inversion() -> None:
    start = latents()
    # What lies at a_0 lies, to denoising, at the first level; the step between counts as well.
    first = invert(predict, start, LEVELS[:1], ALPHAS, iterations=50)

    def distance(iterations: int) -> float:
        noisy = invert(predict, start, LEVELS, ALPHAS, iterations)
        return float((denoise(predict, noisy, LEVELS[::-1], ALPHAS) - first).abs().max())

    assert distance(50) < 1e-4
    assert distance(4) < distance(1) / 10
    assert distance(1) > 0.1


def test_denoising_is_that_of_diffusers() -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == LEVELS[::-1]
    noisy = expected = latents()
    for level in LEVELS[:0:-1]:
        expected = scheduler.step(predict(expected, level), level, expected).prev_sample  # pyright: ignore
    assert not torch.allclose(expected, noisy)
    torch.testing.assert_close(denoise(predict, noisy, LEVELS[::-1], ALPHAS), expected)


def test_denoising_from_a_level_to_itself_changes_nothing() -> None:
    assert torch.equal(denoise(predict, latents(), [751], ALPHAS), latents())


def test_the_noise_is_found_in_a_velocity() -> None:
    clean, noise, alpha = latents(), latents().flip(0), ALPHAS[300]
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    at = torch.tensor([300])
    noisy = scheduler.add_noise(clean, noise, at)  # pyright: ignore
    velocity = scheduler.get_velocity(clean, noise, at)  # pyright: ignore
    torch.testing.assert_close(noise_from_velocity(velocity, noisy, alpha), noise)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps: an integer, 1 or more"),
        ({"steps": 4.0}, "steps: an integer"),
        ({"steps": 4, "iterations": 0}, "iterations: an integer, 1 or more"),
    ],
)
def test_nonsense_is_refused_as_an_inversion(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Inversion(**settings)

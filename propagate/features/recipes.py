"""Recipes: named readings, from the literature and our own."""

from dataclasses import dataclass

from propagate.features.inversion import Inversion
from propagate.features.reading import FIRST_ATTENTION, LAST_ATTENTION, UP_BLOCK, Reading


@dataclass(frozen=True, slots=True)
class Recipe:
    """A reading and a prompt.

    Attributes:
        reading: What is read.
        prompt: The prompt if no class is named.
    """

    reading: Reading
    prompt: str = ""


RECIPES: dict[str, Recipe] = {
    # Ours: DIFT's block and noise level with one fixed noise, so one forward per frame.
    "default": Recipe(Reading(UP_BLOCK, 51)),
    # Tang et al. 2023 with SD 2.1, as Tsingularity/dift (MIT) runs it: `dift` on video,
    # `dift-semantic` between images of a class.
    "dift": Recipe(Reading(UP_BLOCK, 51, ensemble=8)),
    "dift-semantic": Recipe(Reading("up_blocks.1", 261, ensemble=8)),
    # Samuel et al. 2024, section 5: 4 inversion steps of AIDI, read at the noisiest level, at the
    # first self-attention of the last layer (fig. 2). The paper does not give the number of AIDI's
    # iterations: 4 is our choice.
    "paper": Recipe(
        Reading(FIRST_ATTENTION, 999, tensor="qk", inversion=Inversion(steps=4, iterations=4))
    ),
    # The released code, dvirsamuel/PDM: 50 steps up, 49 down to the cleanest level, read at the
    # last self-attention, with queries and keys kept apart. The latent is a sample of the VAE's
    # posterior, for which that code sets no seed.
    "official": Recipe(
        Reading(LAST_ATTENTION, 1, tensor="qk", inversion=Inversion(steps=50), posterior_seed=0),
        prompt="A photo",
    ),
}


def check_recipe(name: str | None) -> None:
    """Refuse a name that no recipe has; None is the model's own.

    Raises:
        ValueError: No recipe has it; the message lists the names.
    """
    if name is not None and name not in RECIPES:
        raise ValueError(f"no recipe is named {name!r}; there are {', '.join(RECIPES)}")

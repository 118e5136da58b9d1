"""Named choices of what is read, from the literature and our own."""

from dataclasses import dataclass

from propagate.features.inversion import Inversion
from propagate.features.reading import FIRST_ATTENTION, LAST_ATTENTION, UP_BLOCK, Reading


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to read, and what the U-Net is told meanwhile.

    Attributes:
        reading: What is read.
        prompt: The prompt where no class is named.
    """

    reading: Reading
    prompt: str = ""


RECIPES: dict[str, Recipe] = {
    # Ours: DIFT's block and noise level with one fixed noise, so one forward per frame.
    "default": Recipe(Reading(UP_BLOCK, 51)),
    # Tang et al. 2023 with SD 2.1, as Tsingularity/dift (MIT) runs it: on video, and across
    # pictures of a class.
    "dift": Recipe(Reading(UP_BLOCK, 51, ensemble=8)),
    "dift-semantic": Recipe(Reading("up_blocks.1", 261, ensemble=8)),
    # Samuel et al. 2024, section 5: 4 inversion steps after AIDI, read at the noisiest level, the
    # first self-attention of the last layer (fig. 2). It does not say how often AIDI iterates:
    # 4 times is our choice.
    "paper": Recipe(
        Reading(FIRST_ATTENTION, 999, tensor="qk", inversion=Inversion(steps=4, iterations=4))
    ),
    # What dvirsamuel/PDM computes: 50 steps up, 49 down to the cleanest level, last self-attention;
    # a sample of the VAE's posterior, for which it sets no seed. It keeps Q and K apart.
    "official": Recipe(
        Reading(LAST_ATTENTION, 1, tensor="qk", inversion=Inversion(steps=50), posterior_seed=0),
        prompt="A photo",
    ),
}

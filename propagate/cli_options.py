"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class DtypeName(StrEnum):
    """Precision of the U-Net."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Model = Annotated[
    str, typer.Option(help="Preset (see `propagate models`), diffusers folder, or hub id.")
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="What is read of a Stable Diffusion model: default, dift, dift-semantic, paper, "
        "official. [what the preset or its folder says, else default]"
    ),
]
Device = Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N.")]
Dtype = Annotated[DtypeName, typer.Option(help="Precision of the U-Net.")]
Template = Annotated[str, typer.Option(help="The prompt around class names.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")]
MaxFrames = Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the files of an earlier run.")
]

"""The command `propagate features`: parse, call the public function, print."""

from pathlib import Path
from typing import Annotated

import typer

from propagate.terminal import progress_of, say


def features(
    clip: Annotated[
        str, typer.Argument(metavar="CLIP", help="A video file or a folder of images.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    mask: Annotated[
        Path | None,
        typer.Option(
            "-m",
            "--mask",
            metavar="MASK",
            help="Mask of one frame (index PNG): also write how like its objects everything is.",
        ),
    ] = None,
    frame: Annotated[
        int,
        typer.Option(
            min=0, help="Frame of the mask, counted from 0. What colours mean is fixed on it."
        ),
    ] = 0,
    model: Annotated[
        str, typer.Option(help="Preset (see `propagate models`), diffusers folder, or hub id.")
    ] = "tiny",
    recipe: Annotated[
        str | None,
        typer.Option(help="What is read: default, dift, dift-semantic, paper, official."),
    ] = None,
    device: Annotated[
        str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(help="Precision of the U-Net: auto, float32, bfloat16, float16.")
    ] = "auto",
    max_frames: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many frames.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier call.")
    ] = False,
) -> None:
    """Write videos of what the model sees.

    OUT/<name>/pca.mp4: each frame beside the three principal components of its features, as red,
    green and blue. With a mask also OUT/<name>/similarity.mp4: how like each object the features
    are, a panel for each object. Colours mean the same in all frames.

    Example: propagate features clip.mp4 -m first.png -o out
    """
    from propagate.features import load_backbone
    from propagate.features_video import write_feature_videos
    from propagate.io.live import label
    from propagate.io.masks import read_mask

    reference = None if mask is None else read_mask(mask)
    if reference is not None and reference.binary:
        say(f"{reference.source}: black and white: one object, id 1")
    try:
        backbone = load_backbone(model, device=device, dtype=dtype, recipe=recipe)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--recipe, --dtype") from error
    with progress_of(label(clip)) as progress:
        written = write_feature_videos(
            backbone,
            clip,
            out,
            mask=reference,
            frame=frame,
            max_frames=max_frames,
            overwrite=overwrite,
            progress=progress,
        )
    print(f"{written.folder}: {', '.join(written.written)}; {written.frames} frames")

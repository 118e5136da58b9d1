"""The command `propagate features`: parse, call the public function, print."""

from pathlib import Path
from typing import Annotated

import typer

from propagate.cli.options import (
    BackboneChoice,
    MaskChoice,
    MaxFrames,
    MaxPixels,
    Out,
    Overwrite,
    limited_to,
    read_given_mask,
    say_mask,
    spread,
)
from propagate.cli.terminal import progress_of
from propagate.errors import counted


@spread
def features(
    *,
    clip: Annotated[
        str, typer.Argument(metavar="CLIP", help="A video file or a folder of images.")
    ],
    out: Out,
    mask: Annotated[
        Path | None,
        typer.Option(
            "-m",
            "--mask",
            metavar="MASK",
            help="Mask of one frame. Also write the similarity to its objects.",
        ),
    ] = None,
    frame: Annotated[
        int,
        typer.Option(
            min=0, help="Frame of the mask, counted from 0. The colours are fitted to this frame."
        ),
    ] = 0,
    model: BackboneChoice,
    mask_reading: MaskChoice,
    max_pixels: MaxPixels = None,
    max_frames: MaxFrames = None,
    overwrite: Overwrite = False,
) -> None:
    """Write videos of what the model sees.

    OUT/<name>/pca.mp4 shows each frame beside the first three principal components of its features,
    as red, green and blue. With a mask, OUT/<name>/similarity.mp4 shows the similarity to each
    object, one panel per object. Colours have the same meaning in all frames.

    Example: propagate features clip.mp4 -m first.png -o out
    """
    from propagate.images.feature_views import write_feature_videos
    from propagate.io.decode.live import live_display_name

    options = limited_to(max_pixels)
    reference = read_given_mask(mask, mask_reading, options)
    backbone = model.load()
    say_mask(reference)
    with progress_of(live_display_name(clip)) as progress:
        written = write_feature_videos(
            backbone,
            clip,
            out,
            mask=reference,
            frame=frame,
            source_options=options,
            max_frames=max_frames,
            overwrite=overwrite,
            progress=progress,
        )
    print(f"{written.folder}: {', '.join(written.written)}; {counted(written.frames, 'frame')}")

"""Follow the objects of a project's references through its video: one call of the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.records import Mask, Progress
from propagate.run_options import RunOptions
from propagate.studio.settings import StudioSettings

if TYPE_CHECKING:
    from propagate.pipeline import Propagator


def follow(
    propagator: "Propagator",
    source: str,
    references: Mapping[int, Mask],
    out: Path,
    name: str,
    settings: StudioSettings,
    *,
    start_again: bool,
    progress: Progress,
) -> None:
    """Write `out/name/`, or go on with it.

    Args:
        propagator: The model.
        source: The video.
        references: Frame -> mask.
        out: Folder for the folders of videos.
        name: Of the video's folder.
        settings: How the video is decoded.
        start_again: Whether the folder holds a run of other references, which is replaced.
        progress: Called after each frame; what it raises ends the run.

    Raises:
        PropagateError: As `Propagator.run`.
    """
    options = RunOptions(source_options=settings.source_options, overwrite=start_again)
    propagator.run(
        source, references, out, options, name=name, keep_finished=True, progress=progress
    )

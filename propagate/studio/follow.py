"""Follow the objects of a project's references through its video: one call of the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.records import Mask, OnResult, Progress
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
    progress: Progress,
    on_result: OnResult,
) -> None:
    """Write `out/name/`, or go on with it; masks that the references do not change stay.

    It is `propagate run SOURCE -m out/name/references -o out --update --backwards new`.

    Args:
        propagator: The model.
        source: The video.
        references: Frame -> mask.
        out: Folder for the folders of videos.
        name: Of the video's folder.
        settings: How the video is decoded.
        progress: Called after each frame; what it raises ends the run.
        on_result: Called with each frame whose mask was computed.

    Raises:
        PropagateError: As `Propagator.run`.
    """
    options = RunOptions(source_options=settings.source_options, backwards="new", update=True)
    propagator.run(
        source,
        references,
        out,
        options,
        name=name,
        keep_finished=True,
        progress=progress,
        on_result=on_result,
    )

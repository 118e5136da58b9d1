"""The files of a run that hold all its frames: `masks.json` and `overlay.mp4`."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from propagate.errors import OutputError
from propagate.io.masks.display_colours import DisplayColours
from propagate.io.masks.masks_json import MasksJsonWriter
from propagate.io.write.layout import OVERLAY, RUN_LENGTHS
from propagate.io.write.overlay import OverlayWriter
from propagate.records import Frame


class CombinedFiles:
    """Writes the combined files that a run asks for. They are started with the first frame."""

    def __init__(
        self,
        folder: Path,
        run_lengths: bool,
        overlay: bool,
        fps: Fraction | None,
        colours: DisplayColours,
        names: Mapping[int, str],
        labels: bool,
    ) -> None:
        """Choose the files.

        Args:
            folder: The folder of the run.
            run_lengths: Whether to write `masks.json`.
            overlay: Whether to write `overlay.mp4`.
            fps: Frames per second of the overlay; None: unknown.
            colours, names, labels: See `OverlayWriter`.
        """
        self._folder, self._fps = folder, fps
        self._colours, self._names, self._labels = colours, names, labels
        self._run_lengths, self._overlay = run_lengths, overlay
        self._writers: list[MasksJsonWriter | OverlayWriter] | None = None

    @property
    def are_wanted(self) -> bool:
        """Whether there is any file to write."""
        return self._run_lengths or self._overlay

    def add(
        self,
        frame: Frame,
        mask: np.ndarray,
        refined: np.ndarray | None,
        scores: Mapping[int, float],
    ) -> None:
        """Add a frame.

        Args:
            frame: The frame.
            mask: (H, W) uint8 object ids, for `masks.json`.
            refined: The refined mask, (H, W) uint8, if there is one; the overlay shows it.
            scores: Score by object id.

        Raises:
            OutputError: If it cannot be written.
        """
        if self._writers is None:
            self._writers = self._open(frame)
        for writer in self._writers:
            if isinstance(writer, OverlayWriter):
                writer.write(frame.image, mask if refined is None else refined, frame.time)
            else:
                writer.write(
                    mask, index=frame.index, name=frame.name, time_s=frame.time_s, scores=scores
                )

    def close(self) -> None:
        """Complete all files, also when one of them fails.

        Raises:
            OutputError: If a file cannot be written.
        """
        failure: OutputError | None = None
        for writer in self._take_writers():
            try:
                writer.close()
            except OutputError as error:
                failure = error
        if failure is not None:
            raise failure

    def discard(self) -> None:
        """Remove what was written."""
        for writer in self._take_writers():
            writer.discard()

    def _open(self, frame: Frame) -> list[MasksJsonWriter | OverlayWriter]:
        height, width, _ = frame.image.shape
        writers: list[MasksJsonWriter | OverlayWriter] = []
        if self._run_lengths:
            writers.append(MasksJsonWriter(self._folder / RUN_LENGTHS, height, width))
        if self._overlay:
            overlay = OverlayWriter(
                *(self._folder / OVERLAY, self._fps, width, height),
                colours=self._colours,
                names=self._names,
                labels=self._labels,
            )
            writers.append(overlay)
        return writers

    def _take_writers(self) -> list[MasksJsonWriter | OverlayWriter]:
        writers, self._writers = self._writers or [], []
        return writers

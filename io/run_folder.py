"""The folder of one run: masks as they come, the report last, nothing half-written."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from propagate.errors import OutputError
from propagate.io.files import remove_partial_files, write_atomically
from propagate.io.masks import RleWriter, write_mask
from propagate.io.overlay import OverlayWriter
from propagate.records import Frame, Result

FORMATS = ("png", "rle")
MARKER = ".run.json"
REPORT = "result.json"
INCOMPLETE = "incomplete.json"
MASKS = "masks"
REFINED = "refined"


def read_report(path: str | Path) -> dict[str, Any] | None:
    """Read the report of a finished run; None where there is none.

    Args:
        path: The folder of the run.

    Raises:
        OutputError: The report cannot be read.
    """
    file = Path(path) / REPORT
    if not file.exists():
        return None
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{file}: not a readable report ({error}): remove the folder and run it again"
        ) from error


class RunFolder:
    """Takes the results of one video. Use it in a `with` block.

        masks/00000.png ...   palette PNGs in DAVIS layout, under the frames' own names
        refined/00000.png ... with `refined`: a refiner's masks, beside the others
        masks.json            run lengths, with format "rle"
        overlay.mp4           with `overlay`; of refined masks, if there are any
        result.json           the report; written last, so its presence means that all is there
        incomplete.json       the report in its place, with the error, when the run broke off

    Every file appears whole or not at all. When the block fails, the frames so far are kept; if
    there are none, nothing stays behind.
    """

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, Any],
        *,
        formats: tuple[str, ...] = ("png",),
        overlay: bool = False,
        refined: bool = False,
        fps: Fraction | None = None,
        overwrite: bool = False,
    ) -> None:
        """Claim the folder.

        Args:
            path: The folder; made where there is none.
            settings: All that decides the masks. An unfinished run of the same settings is
                replaced; one of others is left alone.
            formats: Of "png" and "rle".
            overlay: Whether to write `overlay.mp4`.
            refined: Whether every frame comes with a refined mask.
            fps: Of the overlay.
            overwrite: Whether to remove the files of another or a finished run first.

        Raises:
            OutputError: The folder holds a finished run or other files, or cannot be written to.
            ValueError: A format is unknown.
        """
        unknown = set(formats) - set(FORMATS)
        if unknown:
            raise ValueError(f"formats: of {', '.join(FORMATS)}, not {', '.join(sorted(unknown))}")
        self.path = Path(path)
        self._formats, self._overlay, self._fps = formats, overlay, fps
        self._refined = refined
        self._writers: list[RleWriter | OverlayWriter] = []
        self._frames: list[dict[str, Any]] = []
        self._report = dict(settings)
        self._claim(overwrite)

    def _claim(self, overwrite: bool) -> None:
        fingerprint = hashlib.sha256(json.dumps(self._report, sort_keys=True).encode()).hexdigest()
        marker = json.dumps({"settings_sha256": fingerprint}).encode()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            present = {entry.name for entry in self.path.iterdir()}
            if REPORT in present and not overwrite:
                raise OutputError(
                    f"{self.path}: a finished run is in this folder; pass --overwrite to replace "
                    "it, or another folder with -o"
                )
            if present and not overwrite and not self._is_ours(marker):
                raise OutputError(
                    f"{self.path}: the folder holds files of another run; pass --overwrite to "
                    "replace them, or another folder with -o"
                )
            # Before all else, so that a run killed from here on can be run again.
            write_atomically(self.path / MARKER, marker)
            # Of an unfinished run too: its last masks would outlive a shorter second one.
            self._clear()
            remove_partial_files(self.path)
            for folder in self._mask_folders:
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be used as output folder ({error.strerror}); "
                "choose another one with -o"
            ) from error

    @property
    def _mask_folders(self) -> list[Path]:
        """Those of this run."""
        wanted = {MASKS: "png" in self._formats, REFINED: self._refined}
        return [self.path / name for name, is_wanted in wanted.items() if is_wanted]

    def _is_ours(self, marker: bytes) -> bool:
        path = self.path / MARKER
        return path.exists() and path.read_bytes() == marker

    def _clear(self) -> None:
        """Remove what runs write, the report first; files of anybody else stay."""
        for name in (REPORT, INCOMPLETE, "masks.json", "overlay.mp4"):
            (self.path / name).unlink(missing_ok=True)
        for folder in (self.path / MASKS, self.path / REFINED):
            for mask in folder.glob("*.png"):
                mask.unlink()
            remove_partial_files(folder)
            # No empty folder of refined masks beside a run without them.
            with suppress(OSError):
                folder.rmdir()

    def write(self, frame: Frame, result: Result, refined: np.ndarray | None = None) -> None:
        """Write one frame in every format.

        Args:
            frame: The frame.
            result: What was found in it.
            refined: Its refined mask, (H, W) uint8 object ids, in a folder with `refined`.

        Raises:
            OutputError: It cannot be written.
            ValueError: There is a refined mask where none was announced, or the other way round.
        """
        if (refined is not None) != self._refined:
            raise ValueError(f"refined: a mask with refined=True only, which is {self._refined}")
        if not self._frames:
            self._open_writers(frame)
        if "png" in self._formats:
            write_mask(self.path / MASKS / f"{frame.name}.png", result.mask)
        if refined is not None:
            write_mask(self.path / REFINED / f"{frame.name}.png", refined)
        for writer in self._writers:
            if isinstance(writer, OverlayWriter):
                shown = result.mask if refined is None else refined
                writer.write(frame.image, shown, frame.time)
            else:
                writer.write(
                    result.mask,
                    index=frame.index,
                    name=frame.name,
                    time_s=frame.time_s,
                    scores=result.scores,
                )
        objects = {
            str(i): {
                "score": round(score, 4),
                "margin": round(result.margins[i], 4),
                "state": result.states[i],
            }
            for i, score in result.scores.items()
        }
        self._frames.append({"name": frame.name, "time_s": frame.time_s, "objects": objects})

    def _open_writers(self, frame: Frame) -> None:
        height, width, _ = frame.image.shape
        if "rle" in self._formats:
            self._writers.append(RleWriter(self.path / "masks.json", height, width))
        if self._overlay:
            overlay = OverlayWriter(self.path / "overlay.mp4", self._fps, width, height)
            self._writers.append(overlay)

    def report(self, **entries: Any) -> None:
        """Add entries to the report that is written at the end."""
        self._report.update(entries)

    @property
    def written(self) -> list[str]:
        """What is in the folder, for a person: "masks/ (80 PNG)", "overlay.mp4", ..."""
        masks = [f"{folder.name}/ ({len(self._frames)} PNG)" for folder in self._mask_folders]
        return masks + [
            name
            for name in ("masks.json", "overlay.mp4", REPORT, INCOMPLETE)
            if (self.path / name).exists()
        ]

    def __enter__(self) -> Self:
        """Return the folder itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the files; write the report last."""
        if error is None:
            self._close_writers()
            self._write_report(REPORT, complete=True)
            for name in (INCOMPLETE, MARKER):
                (self.path / name).unlink(missing_ok=True)
            return
        reason = " ".join(str(error).split()) or type(error).__name__
        try:
            if not self._frames:
                # Nothing to protect from a second attempt with, say, the right mask.
                self._vacate()
                return
            # What was asked for and what is there agree up to the last frame written.
            self._close_writers()
            self._write_report(INCOMPLETE, complete=False, error=reason)
        except OutputError as second:
            # The first failure says why; a full disk fails here again.
            error.add_note(str(second))

    def _vacate(self) -> None:
        """Remove the marker, and the folders unless somebody's files are in them."""
        with suppress(OSError):
            (self.path / MARKER).unlink(missing_ok=True)
        for folder in (*self._mask_folders, self.path):
            with suppress(OSError):
                folder.rmdir()

    def _close_writers(self) -> None:
        writers, self._writers = self._writers, []
        failure: OutputError | None = None
        for writer in writers:
            try:
                writer.close()
            except OutputError as error:
                failure = error
        if failure is not None:
            raise failure

    def _write_report(self, name: str, **entries: Any) -> None:
        report = {**self._report, **entries, "frames": len(self._frames), "per_frame": self._frames}
        write_atomically(self.path / name, (json.dumps(report, indent=1) + "\n").encode())

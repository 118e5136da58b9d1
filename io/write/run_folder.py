"""The folder of one run: masks as they come, the report last, nothing half-written."""

import hashlib
import json
import logging
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from propagate.errors import MaskError, OutputError
from propagate.io.masks.masks_json import MasksJsonWriter
from propagate.io.masks.png import mask_file, read_ids, write_mask
from propagate.io.masks.rle import decode_mask, encode_rle
from propagate.io.write.files import PartialFile, is_partial, remove_partial_files, write_atomically
from propagate.io.write.layout import (
    FRAMES,
    INCOMPLETE,
    MARKER,
    MASKS,
    OVERLAY,
    REFINED,
    REPORT,
    RUN_LENGTHS,
    STATE,
)
from propagate.io.write.lock import LOCK, take_lock
from propagate.io.write.overlay import OverlayWriter
from propagate.io.write.run_state import (
    FrameLog,
    RunProgress,
    StateError,
    read_log,
    read_state,
    write_state,
)
from propagate.records import Frame, Result

log = logging.getLogger(__name__)

FORMATS = ("png", "rle")


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


def find_finished(
    path: str | Path,
    settings: Mapping[str, Any],
    formats: Sequence[str] = ("png",),
    overlay: bool = False,
) -> dict[str, Any] | None:
    """Read the report of a finished run that needs not be run again; None where there is none.

    Args:
        path: The folder of the run.
        settings: All that decides the masks: those of the run must be the same.
        formats: See `RunFolder`; what is asked for must be there.
        overlay: See `RunFolder`.

    Raises:
        OutputError: The report cannot be read.
    """
    path = Path(path)
    report = read_report(path)
    asked = {MASKS: "png" in formats, RUN_LENGTHS: "rle" in formats, OVERLAY: overlay}
    if (
        report is None
        or any(report.get(name) != value for name, value in _plain(settings).items())
        or not all((path / name).exists() for name, is_asked in asked.items() if is_asked)
    ):
        return None
    if any((path / name).exists() for name in (*_WORK_FILES, LOCK)):
        # Killed after its last file, while it cleared up.
        with take_lock(path):
            _clear_up(path)
    return report


class RunFolder:
    """Takes the results of one video. Use it in a `with` block.

        masks/00000.png ...   palette PNGs in DAVIS layout, under the frames' own names
        refined/00000.png ... with `refined`: a refiner's masks, beside the others
        masks.json            run lengths, with format "rle"
        overlay.mp4           with `overlay`; of refined masks, if there are any
        result.json           the report; written last, so its presence means that all is there
        incomplete.json       the report in its place, with the error, when the run broke off

    Every file appears whole or not at all. When the block fails, the frames so far are kept; if
    there are none, nothing stays behind. One process at a time has the folder (`io.lock`).

    A run whose state is saved now and then can be gone on with after any end, a kill included:

        with RunFolder(path, settings, made_by=versions) as folder:
            for frame in the first folder.done frames:
                folder.rewrite(frame)                 # what has to be made in one go
            session.load(folder.session)
            for frame in the rest:
                folder.write(frame, result)
                folder.save(session.dump(), frame, seconds, {"match": seconds})

    Attributes:
        path: The folder.
        done: How many frames an interrupted run of the same settings has done.
        session: What was remembered after them; None where `done` is 0.
        seconds: What was spent on them.
        stage_s: Of those, by stage.
        resumed_at: The frames at which this run has gone on, this time included.
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
        made_by: Mapping[str, str] | None = None,
    ) -> None:
        """Claim the folder.

        Args:
            path: The folder; made where there is none.
            settings: All that decides the masks. An unfinished run of the same settings is
                gone on with, or replaced; one of others is left alone.
            formats: Of "png" and "rle".
            overlay: Whether to write `overlay.mp4`.
            refined: Whether every frame comes with a refined mask.
            fps: Of the overlay.
            overwrite: Whether to remove the files of an earlier run first, whatever it was.
            made_by: Versions, device: what must be the same for a run to go on from a saved state.
                None: an unfinished run is always replaced.

        Raises:
            OutputError: The folder holds a finished run or other files, another process has it, or
                it cannot be written to.
            ValueError: A format is unknown.
        """
        unknown = set(formats) - set(FORMATS)
        if unknown:
            raise ValueError(f"formats: of {', '.join(FORMATS)}, not {', '.join(sorted(unknown))}")
        self.path = Path(path)
        self._formats, self._overlay, self._fps = formats, overlay, fps
        self._refined = refined
        self._writers: list[MasksJsonWriter | OverlayWriter] | None = None
        self._report = dict(settings)
        self._made_by = None if made_by is None else {**made_by, "formats": ", ".join(formats)}
        self.done, self.session = 0, None
        self.seconds = 0.0
        self.stage_s: Mapping[str, float] = {}
        self.resumed_at: tuple[int, ...] = ()
        self._log_bytes = self._last_crc32 = 0
        # What was logged of the frames that are still to be rewritten.
        self._earlier: Iterator[dict[str, Any]] = iter(())
        self._to_rewrite = 0
        self._claim(overwrite)
        self._count = self._to_rewrite = self.done

    def _claim(self, overwrite: bool) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(self.path)
            try:
                self._prepare(overwrite)
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be used as output folder ({error.strerror}); "
                "choose another one with -o"
            ) from error

    def _prepare(self, overwrite: bool) -> None:
        fingerprint = hashlib.sha256(json.dumps(self._report, sort_keys=True).encode()).hexdigest()
        marker = json.dumps({"settings_sha256": fingerprint}).encode()
        # Another process may be asking for the lock right now; one may have been killed before
        # it had written its marker.
        names = {entry.name for entry in self.path.iterdir()}
        present = {n for n in names if not n.startswith(LOCK) and not is_partial(n)}
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
        names = set() if overwrite else self._restore()
        # Of an unfinished run too: its last masks would outlive a shorter second one.
        self._clear(keep=names)
        remove_partial_files(self.path)
        for folder in self._mask_folders:
            folder.mkdir(exist_ok=True)
        self._log = FrameLog(self.path, self._log_bytes)

    def _restore(self) -> set[str]:
        """Take up what is saved of an unfinished run; return the names of its frames."""
        if self._made_by is None:
            return set()
        try:
            saved = read_state(self.path, self._made_by)
            if saved is None:
                return set()
            progress, session = saved
            names = {entry["name"] for entry in read_log(self.path, progress)}
            for folder in self._mask_folders:
                if missing := names - {mask.stem for mask in folder.glob("*.png")}:
                    raise StateError(f"{folder.name}/{min(missing)}.png is missing")
        except StateError as error:
            log.warning("%s: %s; starting over", self.path, error)
            return set()
        self.done, self.session = progress.frames, session
        self.seconds, self.stage_s = progress.seconds, progress.stage_s
        self.resumed_at = (*progress.resumed_at, progress.frames)
        self._log_bytes, self._last_crc32 = progress.log_bytes, progress.last_crc32
        self._earlier = read_log(self.path, progress)
        return names

    @property
    def _mask_folders(self) -> list[Path]:
        """Those of this run."""
        wanted = {MASKS: "png" in self._formats, REFINED: self._refined}
        return [self.path / name for name, is_wanted in wanted.items() if is_wanted]

    def _is_ours(self, marker: bytes) -> bool:
        path = self.path / MARKER
        return path.exists() and path.read_bytes() == marker

    def _clear(self, keep: set[str]) -> None:
        """Remove what runs write but the masks to keep, the report first; files of others stay."""
        for name in (REPORT, INCOMPLETE, RUN_LENGTHS, OVERLAY):
            (self.path / name).unlink(missing_ok=True)
        if not keep:
            for name in (STATE, FRAMES):
                (self.path / name).unlink(missing_ok=True)
        for folder in (self.path / MASKS, self.path / REFINED):
            for mask in folder.glob("*.png"):
                if mask.stem not in keep:
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
            ValueError: There is a refined mask where none was announced, or the other way round;
                or frames are still to be rewritten.
        """
        if (refined is not None) != self._refined:
            raise ValueError(f"refined: a mask with refined=True only, which is {self._refined}")
        if self._to_rewrite:
            raise ValueError(f"frame {frame.name}: {self._to_rewrite} before it are not rewritten")
        self._lock.check()
        if "png" in self._formats:
            write_mask(mask_file(self.path / MASKS, frame.name), result.mask)
        if refined is not None:
            write_mask(mask_file(self.path / REFINED, frame.name), refined)
        self._add(frame, result.mask, refined, result.scores)
        entry: dict[str, Any] = {"name": frame.name, "time_s": frame.time_s, "objects": {}}
        for i, score in result.scores.items():
            entry["objects"][str(i)] = [score, result.margins[i], result.states[i]]
        if "png" not in self._formats and self._made_by is not None:
            entry["masks"] = {e["id"]: e["segmentation"]["counts"] for e in encode_rle(result.mask)}
        self._log.add(entry)
        self._count += 1

    def save(
        self, session: bytes, frame: Frame, seconds: float, stage_s: Mapping[str, float]
    ) -> None:
        """Save how far the run is: after a kill it can go on from here.

        Args:
            session: What is remembered after the frame.
            frame: The last one written.
            seconds: Spent so far.
            stage_s: Of those, by stage.

        Raises:
            OutputError: It cannot be written.
        """
        if self._made_by is None:
            raise ValueError("save: in a folder with made_by only")
        self._lock.check()
        crc32 = zlib.crc32(frame.image.tobytes())
        progress = RunProgress(
            self._count, self._log.sync(), crc32, seconds, dict(stage_s), self.resumed_at
        )
        write_state(self.path, progress, session, self._made_by)

    def rewrite(self, frame: Frame) -> None:
        """Take one of the `done` frames again, in order, for the files that are made in one go.

        Raises:
            OutputError: It is not the frame that it was, or a mask of it cannot be read.
        """
        entry = next(self._earlier)
        self._to_rewrite -= 1
        changed = (entry["name"], entry["time_s"]) != (frame.name, frame.time_s)
        if changed or (
            not self._to_rewrite and zlib.crc32(frame.image.tobytes()) != self._last_crc32
        ):
            raise OutputError(
                f"{self.path}: frame {frame.index} of the source is not what it was when this run "
                "was interrupted; pass --overwrite to begin anew, or another folder with -o"
            )
        if not self._overlay and "rle" not in self._formats:
            return
        mask = self._mask_of(entry, frame.image.shape[:2])
        refined = _read_own(mask_file(self.path / REFINED, frame.name)) if self._refined else None
        scores = {int(i): score for i, (score, _, _) in entry["objects"].items()}
        self._add(frame, mask, refined, scores)

    def _mask_of(self, entry: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
        if "png" in self._formats:
            return _read_own(mask_file(self.path / MASKS, entry["name"]))
        ids = np.zeros(size, np.uint8)
        for object_id, counts in entry["masks"].items():
            ids[decode_mask(counts, *size)] = int(object_id)
        return ids

    def _add(
        self,
        frame: Frame,
        mask: np.ndarray,
        refined: np.ndarray | None,
        scores: Mapping[int, float],
    ) -> None:
        """Add a frame to the files that hold all frames."""
        if self._writers is None:
            self._writers = self._open_writers(frame)
        for writer in self._writers:
            if isinstance(writer, OverlayWriter):
                writer.write(frame.image, mask if refined is None else refined, frame.time)
            else:
                writer.write(
                    mask, index=frame.index, name=frame.name, time_s=frame.time_s, scores=scores
                )

    def _open_writers(self, frame: Frame) -> list[MasksJsonWriter | OverlayWriter]:
        height, width, _ = frame.image.shape
        writers: list[MasksJsonWriter | OverlayWriter] = []
        if "rle" in self._formats:
            writers.append(MasksJsonWriter(self.path / RUN_LENGTHS, height, width))
        if self._overlay:
            writers.append(OverlayWriter(self.path / OVERLAY, self._fps, width, height))
        return writers

    def report(self, **entries: Any) -> None:
        """Add entries to the report that is written at the end."""
        self._report.update(entries)

    @property
    def can_save(self) -> bool:
        """Whether this run can be gone on with."""
        return self._made_by is not None

    @property
    def written(self) -> list[str]:
        """What is in the folder, for a person: "masks/ (80 PNG)", "overlay.mp4", ..."""
        masks = [f"{folder.name}/ ({self._count} PNG)" for folder in self._mask_folders]
        files = (RUN_LENGTHS, OVERLAY, REPORT, INCOMPLETE)
        return masks + [name for name in files if (self.path / name).exists()]

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
        try:
            self._lock.check()
        except OutputError as lost:
            # The files are another process's now.
            self._discard_writers(lost)
            if error is None:
                raise
        else:
            if error is not None:
                self._break_off(error)
                return
            self._close_writers()
            self._write_report(REPORT, complete=True)
            _clear_up(self.path)
        finally:
            self._log.close()
            self._lock.release()
            if not self._count:
                # Unless somebody's files are in it.
                with suppress(OSError):
                    self.path.rmdir()

    def _break_off(self, error: BaseException) -> None:
        """Keep the frames so far, and say why there are no more."""
        reason = " ".join(str(error).split()) or type(error).__name__
        if not self._count:
            # Nothing to protect from a second attempt with, say, the right mask.
            self._discard_writers(error)
            self._vacate()
            return
        try:
            if self._to_rewrite:
                # They would hold less than what is there, and can be made again.
                self._discard_writers(error)
            # What was asked for and what is there agree up to the last frame written.
            self._close_writers()
            self._write_report(INCOMPLETE, complete=False, error=reason)
        except OutputError as second:
            # The first failure says why; a full disk fails here again.
            error.add_note(str(second))
            self._discard_writers(error)
        if not (self.path / STATE).exists():
            with suppress(OSError):
                (self.path / FRAMES).unlink(missing_ok=True)

    def _vacate(self) -> None:
        """Remove all that was written: the first frame broken off in its middle too.

        The marker goes last: files without it would be taken for another run's.
        """
        with suppress(OSError, OutputError):
            self._clear(keep=set())
            remove_partial_files(self.path)
            (self.path / MARKER).unlink(missing_ok=True)

    def _close_writers(self) -> None:
        writers, self._writers = self._writers or [], []
        failure: OutputError | None = None
        for writer in writers:
            try:
                writer.close()
            except OutputError as error:
                failure = error
        if failure is not None:
            raise failure

    def _discard_writers(self, error: BaseException) -> None:
        writers, self._writers = self._writers or [], []
        for writer in writers:
            writer.__exit__(type(error), error, None)

    def _write_report(self, name: str, **entries: Any) -> None:
        head = json.dumps({**self._report, **entries, "frames": self._count}, indent=1)
        partial = PartialFile(self.path / name)
        with partial.writing():
            with partial.path.open("w") as file:
                file.write(head.removesuffix("\n}") + ',\n "per_frame": [')
                separator = "\n  "
                for entry in self._log.entries():
                    file.write(separator + json.dumps(_shown(entry)))
                    separator = ",\n  "
                file.write("\n ]\n}\n")
            partial.commit()


# What is in the folder of a run as long as it is not finished.
_WORK_FILES = (INCOMPLETE, STATE, FRAMES, MARKER)


def _clear_up(path: Path) -> None:
    """Leave nothing but results; the marker goes last."""
    for name in _WORK_FILES:
        (path / name).unlink(missing_ok=True)


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A frame as the report has it."""
    objects = {
        i: {"score": round(score, 4), "margin": round(margin, 4), "state": state}
        for i, (score, margin, state) in entry["objects"].items()
    }
    return {"name": entry["name"], "time_s": entry["time_s"], "objects": objects}


def _read_own(path: Path) -> np.ndarray:
    """Read a mask that this run wrote."""
    try:
        return read_ids(path, max_pixels=sys.maxsize)
    except MaskError as error:
        raise OutputError(
            f"{path}: this run wrote it, but it is no longer readable ({error.message})",
            "pass {overwrite=True} to start again",
        ) from error


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a report gives them back: keys are text, tuples are lists."""
    return json.loads(json.dumps(settings))

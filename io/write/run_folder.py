"""The folder of one run: masks are written frame by frame, the report last."""

import json
import logging
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from propagate.errors import MaskError, OutputError, hide_secrets
from propagate.io.masks.display_colours import DisplayColours
from propagate.io.masks.png import SUFFIX, mask_file, mask_files, read_ids, write_mask
from propagate.io.masks.rle import decode_mask, encode_rle
from propagate.io.write.combined import CombinedFiles
from propagate.io.write.earlier_run import (
    Earlier,
    keep_what_stays,
    refuse_others,
    remove_work_files,
    take_over,
)
from propagate.io.write.files import (
    guard_output_folder,
    guard_writing,
    remove_partial_files,
    write_atomically,
)
from propagate.io.write.kept_frames import (
    Keys,
    ranges_of,
)
from propagate.io.write.layout import (
    FRAMES,
    INCOMPLETE,
    KEPT,
    MARKER,
    MASKS,
    OVERLAY,
    PAGE,
    REFERENCES,
    REFINED,
    REPORT,
    RUN_LENGTHS,
    STATE,
)
from propagate.io.write.lock import take_lock
from propagate.io.write.project import ObjectLooks, read_project
from propagate.io.write.report import write_report
from propagate.io.write.run_state import (
    FrameLog,
    RunProgress,
    read_log,
    write_state,
)
from propagate.records import Frame, Mask, Result

log = logging.getLogger(__name__)

FORMATS = ("png", "rle")


class RunFolder:
    """Writes the results of one video. Use it in a `with` block.

        masks/00000.png ...   palette PNGs like those of DAVIS, named after the frames
        refined/00000.png ... with `refined`: the masks of a refiner
        masks.json            with format "rle": run lengths
        overlay.mp4           with `overlay`; it shows the refined masks, if there are any
        references/00000.png  the masks that were given
        project.json          names and colours of objects, where a person chose them
        result.json           the report; written last, so a folder that has one is complete
        incomplete.json       in place of the report, if the run ended with an error

    Every file appears complete or not at all. If the block fails, the frames so far are kept; if
    there are none, nothing is left. Only one process at a time can use the folder (see `lock`).

    A run that saves its state can be resumed, even after a kill:

        with RunFolder(path, settings, made_by=versions) as folder:
            for frame in the first folder.done frames:
                folder.rewrite(frame)                 # for files that hold all frames
            session.load(folder.session)
            for frame in the rest:
                folder.write(frame, result)
                folder.save(session.dump(), frame, seconds, {"match": seconds})

    With `depends`, masks of a run of other references stay where they depend on nothing that has
    changed. The frames in `kept` are rewritten too, each in its turn. All other masks that are
    there are stale: each stays until its frame is written, also if this run breaks off. Those that
    are left go before the report is written.

    Attributes:
        path: The folder.
        done: Number of frames that an interrupted run of the same settings has done.
        session: The saved session after these frames; None if `done` is 0.
        seconds: Time spent on them.
        stage_s: The same by stage.
        resumed_at: The frames at which this run was resumed, this time included.
        batch_size, frames_at_once: What an interrupted run computed with; see `RunProgress`.
        kept: First and last index of each range of later frames whose masks stay.
        frame_count: Frames of the video, if an earlier run reached its end.
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
        depends: Callable[[Mapping[str, Any]], Keys] | None = None,
        names: Mapping[int, str] | None = None,
        labels: bool = True,
    ) -> None:
        """Lock and prepare the folder.

        Args:
            path: The folder; it need not exist.
            settings: Everything that decides the masks. An unfinished run of the same settings is
                resumed or replaced; one of other settings is an error.
            formats: Of "png" and "rle".
            overlay: Whether to write `overlay.mp4`.
            refined: Whether every frame comes with a refined mask.
            fps: Frames per second of the overlay; None: unknown.
            overwrite: Whether to remove the files of any earlier run first.
            made_by: Versions and device, which must be the same for a run to be resumed. None: an
                unfinished run is always replaced.
            depends: Reads from settings what each mask depends on. With it, the folder may hold a
                run that differs in its references only.
            names: Of objects, by id; those in `project.json` in the folder come first.
            labels: Whether objects are labelled in the overlay.

        Raises:
            OutputError: If the folder holds a finished run or other files, another process uses it,
                or it cannot be written to; or its `project.json` cannot be used.
            ValueError: If a format is unknown.
        """
        unknown = set(formats) - set(FORMATS)
        if unknown:
            raise ValueError(f"formats: of {', '.join(FORMATS)}, not {', '.join(sorted(unknown))}")
        self.path = Path(path)
        self._pngs, self._refined = "png" in formats, refined
        looks = read_project(self.path).over(ObjectLooks(names or {}))
        self._names, self._colours = looks.names, DisplayColours(looks.colours)
        self._combined = CombinedFiles(
            *(self.path, "rle" in formats, overlay, fps, self._colours, self._names, labels)
        )
        self._report = dict(settings)
        self._depends = depends
        self._made_by = None if made_by is None else {**made_by, "formats": ", ".join(formats)}
        self.done, self.session = 0, None
        self.seconds = 0.0
        self.stage_s: Mapping[str, float] = {}
        self.resumed_at: tuple[int, ...] = ()
        self.batch_size: int | None = None
        self.frames_at_once: int | None = None
        self._log_bytes = self._last_crc32 = 0
        # The log entries of the frames that are still to be rewritten.
        self._earlier: Iterator[dict[str, Any]] = iter(())
        self.kept: list[tuple[int, int]] = []
        self.frame_count: int | None = None
        self._kept: Iterator[tuple[int, Mapping[str, Any]]] = iter(())
        self._stale: set[str] = set()  # names of frames
        self._begun: str | None = None  # name of the frame that is being written
        with guard_output_folder(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(self.path)
            try:
                self._prepare(overwrite)
            except BaseException:
                self._lock.release()
                # Only an empty folder goes.
                with suppress(OSError):
                    self.path.rmdir()
                raise
        self._count = self._to_rewrite = self.done

    # --- preparing the folder --------------------------------------------------------------------

    def _prepare(self, overwrite: bool) -> None:
        marker = json.dumps({"settings": self._report}, sort_keys=True).encode()
        folders = self._mask_folders
        if not overwrite and not keep_what_stays(
            self.path, self._report, self._made_by, self._depends, folders
        ):
            refuse_others(self.path, self._report, marker)
        # First of all, so that a run that is killed from here on can be repeated.
        write_atomically(self.path / MARKER, marker)
        names = (
            set() if overwrite else self._take_over(take_over(self.path, self._made_by, folders))
        )
        # Also the masks of an unfinished run: a shorter second run would not replace the last ones.
        if self._depends is not None and not overwrite:
            self._stale = _names_in(folders) - names
        self._clear(keep=names, stale=self._stale)
        remove_partial_files(self.path)
        for folder in folders:
            folder.mkdir(exist_ok=True)
        self._log = FrameLog(self.path, self._log_bytes)

    def _take_over(self, earlier: Earlier) -> set[str]:
        """Note what is there of an unfinished run; return the names of its frames."""
        if (progress := earlier.progress) is not None:
            self.done, self.session = progress.frames, earlier.session
            self.seconds, self.stage_s = progress.seconds, progress.stage_s
            self.resumed_at = (*progress.resumed_at, progress.frames)
            self.batch_size, self.frames_at_once = progress.batch_size, progress.frames_at_once
            self._log_bytes, self._last_crc32 = progress.log_bytes, progress.last_crc32
            self._earlier = read_log(self.path, progress)
        self.frame_count = earlier.frame_count
        self.kept = ranges_of(index for index, _ in earlier.kept)
        self._kept = iter(earlier.kept)
        return earlier.names

    @property
    def _mask_folders(self) -> list[Path]:
        """The folders of masks that this run writes."""
        wanted = {MASKS: self._pngs, REFINED: self._refined}
        return [self.path / name for name, is_wanted in wanted.items() if is_wanted]

    def _clear(self, keep: Collection[str] = (), stale: Collection[str] = ()) -> None:
        """Remove the files of runs, the report first.

        The masks of the frames in `keep` and `stale` stay; if none are kept, a new log begins.
        """
        for name in (REPORT, INCOMPLETE, RUN_LENGTHS, OVERLAY, PAGE):
            (self.path / name).unlink(missing_ok=True)
        if not keep:
            for name in (STATE, FRAMES, KEPT):
                (self.path / name).unlink(missing_ok=True)
        for folder in (self.path / MASKS, self.path / REFINED):
            for mask in folder.glob(f"*{SUFFIX}"):
                if mask.stem not in keep and mask.stem not in stale:
                    mask.unlink()
            remove_partial_files(folder)
            # A run without refined masks must not leave an empty folder for them.
            with suppress(OSError):
                folder.rmdir()

    # --- writing frames --------------------------------------------------------------------------

    def write(self, frame: Frame, result: Result, refined: np.ndarray | None = None) -> None:
        """Write one frame in every format.

        Args:
            frame: The frame.
            result: Its result.
            refined: Its refined mask, (H, W) uint8 object ids; only with `refined=True`.

        Raises:
            OutputError: If it cannot be written.
            ValueError: If there is a refined mask without `refined=True`, or none with it; or if
                frames are still to be rewritten.
        """
        if (refined is not None) != self._refined:
            raise ValueError(f"refined: a mask with refined=True only, which is {self._refined}")
        if self._to_rewrite:
            raise ValueError(f"frame {frame.name}: {self._to_rewrite} before it are not rewritten")
        self._lock.check()
        self._begun = frame.name
        if self._pngs:
            write_mask(mask_file(self.path / MASKS, frame.name), result.mask)
        if refined is not None:
            write_mask(mask_file(self.path / REFINED, frame.name), refined)
        if self._are_new(result.states):
            self._colours.add(frame.image, result.mask)
        self._combined.add(frame, result.mask, refined, result.scores)
        entry: dict[str, Any] = {"name": frame.name, "time_s": frame.time_s, "objects": {}}
        for i, score in result.scores.items():
            entry["objects"][str(i)] = [score, result.margins[i], result.states[i]]
        if not self._pngs and self._made_by is not None:
            entry["masks"] = {e["id"]: e["segmentation"]["counts"] for e in encode_rle(result.mask)}
        self._log.add(entry)
        self._stale.discard(frame.name)
        self._count += 1
        self._begun = None

    def save(
        self,
        session: bytes,
        frame: Frame,
        seconds: float,
        stage_s: Mapping[str, float],
        batch_size: int | None = None,
        frames_at_once: int | None = None,
    ) -> None:
        """Save the state of the run, from which it can be resumed.

        Args:
            session: The session after the frame.
            frame: The last frame written.
            seconds: Time spent so far.
            stage_s: The same by stage.
            batch_size, frames_at_once: See `RunProgress`.

        Raises:
            OutputError: If it cannot be written.
            ValueError: If the folder was opened without `made_by`.
        """
        if self._made_by is None:
            raise ValueError("save: in a folder with made_by only")
        self._lock.check()
        crc32 = zlib.crc32(frame.image.tobytes())
        progress = RunProgress(
            *(self._count, self._log.sync(), crc32, seconds, dict(stage_s), self.resumed_at),
            batch_size=batch_size,
            frames_at_once=frames_at_once,
        )
        write_state(self.path, progress, session, self._made_by)

    def rewrite(self, frame: Frame) -> None:
        """Take the next frame, one of the first `done` or a kept one, as it is.

        Raises:
            OutputError: If the frame has changed, or a mask of it cannot be read.
        """
        if self._to_rewrite:
            entry = next(self._earlier)
            self._to_rewrite -= 1
        else:
            entry = next(entry for index, entry in self._kept if index == self._count)
            self._log.add(entry)
            self._count += 1
        changed = (entry["name"], entry["time_s"]) != (frame.name, frame.time_s)
        if changed or (
            self._count == self.done
            and not self._to_rewrite
            and zlib.crc32(frame.image.tobytes()) != self._last_crc32
        ):
            raise OutputError(
                f"{self.path}: frame {frame.index} of the source has changed since this run was "
                "interrupted",
                "pass {overwrite=True} to start again, or choose another folder ({out})",
            )
        new = self._are_new({int(i): state for i, (_, _, state) in entry["objects"].items()})
        if not (self._combined.are_wanted or new):
            return
        mask = self._earlier_mask(entry, frame.image.shape[:2])
        if new:
            self._colours.add(frame.image, mask)
        if not self._combined.are_wanted:
            return
        refined = None
        if self._refined:
            refined = _read_own_mask(mask_file(self.path / REFINED, frame.name))
        scores = {int(i): score for i, (score, _, _) in entry["objects"].items()}
        self._combined.add(frame, mask, refined, scores)

    def _earlier_mask(self, entry: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
        if self._pngs:
            return _read_own_mask(mask_file(self.path / MASKS, entry["name"]))
        ids = np.zeros(size, np.uint8)
        for object_id, counts in entry["masks"].items():
            ids[decode_mask(counts, *size)] = int(object_id)
        return ids

    def keep_reference(self, frame: Frame, mask: Mask) -> None:
        """Write the mask that was given for a frame.

        One that was read from there is left alone: a person may have changed the file, or taken it
        away, since the run began. Masks of other frames stay too.

        Raises:
            OutputError: If it cannot be written.
        """
        path = mask_file(self.path / REFERENCES, frame.name)
        if Path(mask.source).absolute() == path.absolute():
            return
        path.parent.mkdir(exist_ok=True)
        write_mask(path, mask.ids)

    def _are_new(self, states: Mapping[int, str]) -> bool:
        """Whether a frame shows an object that has no colour yet."""
        shown = {i for i, state in states.items() if state != "absent"}
        return not shown <= self._colours.colours.keys()

    def report(self, **entries: Any) -> None:
        """Add entries to the report that is written at the end."""
        self._report.update(entries)

    @property
    def can_save(self) -> bool:
        """Whether this run can be saved and resumed."""
        return self._made_by is not None

    @property
    def written(self) -> list[str]:
        """Name what is in the folder, for people: "masks/ (80 PNG)", "overlay.mp4", ..."""
        masks = [f"{folder.name}/ ({self._count} PNG)" for folder in self._mask_folders]
        files = (RUN_LENGTHS, OVERLAY, REPORT, INCOMPLETE, PAGE)
        given = len(mask_files(self.path / REFERENCES))
        references = [f"{REFERENCES}/ ({given} PNG)"] if given else []
        return masks + references + [name for name in files if (self.path / name).exists()]

    # --- the end ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Return the folder itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Complete the files; write the report last."""
        try:
            self._lock.check()
        except OutputError:
            # The files now belong to another process.
            self._combined.discard()
            if error is None:
                raise
        else:
            if error is not None:
                self._end_with(error)
                return
            try:
                self._remove_stale()
                self._combined.close()
                self._write_report(REPORT, complete=True)
            except OutputError as failure:
                self._combined.discard()
                self._end_with(failure)
                raise
            remove_work_files(self.path)
        finally:
            self._log.close()
            self._lock.release()
            if not self._count:
                # The folder stays if it holds other files.
                with suppress(OSError):
                    self.path.rmdir()

    def _end_with(self, error: BaseException) -> None:
        """Keep the frames so far, and write why there are no more."""
        self._settle_begun()
        reason = hide_secrets(" ".join(str(error).split())) or type(error).__name__
        if not self._count and not self.kept and not self._stale:
            # The next attempt, with the right mask for example, must find the folder free.
            self._combined.discard()
            self._remove_all()
            return
        try:
            if self._to_rewrite:
                # The combined files would lack frames; the next attempt makes them again.
                self._combined.discard()
            # They hold all frames up to the last one written.
            self._combined.close()
            self._write_report(INCOMPLETE, complete=False, error=reason)
        except OutputError as second:
            # The first error is the cause; on a full disk, writing fails here again.
            error.add_note(str(second))
            self._combined.discard()
            # Its space may be enough for the report, or for one without frames.
            try:
                self._write_report(INCOMPLETE, complete=False, error=reason)
            except OutputError:
                entries = {**self._report, "complete": False, "error": reason}
                with suppress(OutputError):
                    write_report(self.path / INCOMPLETE, {**entries, "frames": self._count}, [])
        if not (self.path / STATE).exists():
            with suppress(OSError):
                (self.path / FRAMES).unlink(missing_ok=True)

    def _settle_begun(self) -> None:
        """Count the frame that was being written, if it is in the log; else remove its masks."""
        if self._begun is None:
            return
        with suppress(OSError, OutputError):
            names = [entry["name"] for entry in self._log.entries()]
            if names[-1:] == [self._begun]:
                self._count = len(names)
            elif self._begun not in self._stale:
                for folder in self._mask_folders:
                    mask_file(folder, self._begun).unlink(missing_ok=True)

    def _remove_all(self) -> None:
        """Remove everything this run wrote, also the files of a first frame that failed."""
        with suppress(OSError, OutputError):
            self._clear()
            remove_partial_files(self.path)
            # Last, for the reason given at `_WORK_FILES`.
            (self.path / MARKER).unlink(missing_ok=True)

    def _remove_stale(self) -> None:
        """Remove masks of frames that this run does not have."""
        for name in self._stale:
            for folder in self._mask_folders:
                file = mask_file(folder, name)
                with guard_writing(file):
                    file.unlink(missing_ok=True)

    def _write_report(self, name: str, **entries: Any) -> None:
        looks = ObjectLooks(self._names, self._colours.colours).to_json()
        entries = {**self._report, **entries, "objects": looks, "frames": self._count}
        write_report(self.path / name, entries, self._log.entries())


def _names_in(folders: Iterable[Path]) -> set[str]:
    """Name the frames that have a mask in any of the folders."""
    return {mask.stem for folder in folders for mask in mask_files(folder)}


def _read_own_mask(path: Path) -> np.ndarray:
    """Read a mask that this run wrote."""
    try:
        return read_ids(path, max_pixels=sys.maxsize)
    except MaskError as error:
        raise OutputError(error.message, "pass {overwrite=True} to start again") from error

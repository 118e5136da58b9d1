"""The folder of one run: masks are written frame by frame, the report last."""

import json
import logging
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from propagate.errors import MaskError, OutputError, hide_secrets
from propagate.io.masks.png import SUFFIX, mask_file, read_ids, write_mask
from propagate.io.masks.rle import decode_mask, encode_rle
from propagate.io.write.combined import CombinedFiles
from propagate.io.write.files import (
    REPLACE_HINT,
    guard_output_folder,
    is_partial,
    remove_partial_files,
    write_atomically,
)
from propagate.io.write.kept_frames import (
    Entries,
    Keys,
    have_files,
    ranges_of,
    read_kept,
    read_kept_head,
    reported_entries,
    without_references,
    write_kept,
)
from propagate.io.write.layout import (
    FRAMES,
    INCOMPLETE,
    KEPT,
    MARKER,
    MASKS,
    OVERLAY,
    PROJECT,
    REFERENCES,
    REFINED,
    REPORT,
    RUN_LENGTHS,
    STATE,
)
from propagate.io.write.lock import LOCK, take_lock
from propagate.io.write.report import differences, read_report, write_report
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
# Most settings that a message names.
MOST_DIFFERENCES = 3
# Files that are in the folder only while its run is not finished. The marker is removed last: files
# without it are taken for those of another run.
_WORK_FILES = (INCOMPLETE, STATE, FRAMES, KEPT, MARKER)
# Files of a person, in the folder before the first run and after the last.
_OWN_FILES = (REFERENCES, PROJECT)


def find_finished(
    path: str | Path,
    settings: Mapping[str, Any],
    formats: Sequence[str] = ("png",),
    overlay: bool = False,
) -> dict[str, Any] | None:
    """Read the report of a finished run that need not be repeated; None if there is none.

    Args:
        path: The folder of the run.
        settings: Everything that decides the masks; the run must have the same.
        formats: See `RunFolder`; the run must have written these.
        overlay: See `RunFolder`.

    Raises:
        OutputError: If the report cannot be read.
    """
    path = Path(path)
    report = read_report(path)
    wanted = {MASKS: "png" in formats, RUN_LENGTHS: "rle" in formats, OVERLAY: overlay}
    if (
        report is None
        or differences(report, settings)
        or not all((path / name).exists() for name, is_wanted in wanted.items() if is_wanted)
    ):
        return None
    if any((path / name).exists() for name in (*_WORK_FILES, LOCK)):
        # The run was killed after it had written the report.
        with take_lock(path):
            _remove_work_files(path)
    return report


def refuse_finished(path: Path, settings: Mapping[str, Any], *, unless_same: bool = False) -> None:
    """Refuse a folder that holds a finished run; name the settings that differ.

    Args:
        path: The folder.
        settings: Of the run that is to be written there, as far as they are known.
        unless_same: Whether a run of the same settings is no reason to refuse.

    Raises:
        OutputError: There is one, or its report cannot be read.
    """
    report = read_report(path)
    if report is None:
        return
    found = differences(report, settings)
    if not found and unless_same:
        return
    how = f" with other settings: {'; '.join(found[:MOST_DIFFERENCES])}" if found else ""
    raise OutputError(f"{path}: a finished run is in this folder{how}", REPLACE_HINT)


class RunFolder:
    """Writes the results of one video. Use it in a `with` block.

        masks/00000.png ...   palette PNGs in DAVIS layout, named after the frames
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
    changed. The frames in `kept` are rewritten too, each in its turn.

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

        Raises:
            OutputError: If the folder holds a finished run or other files, another process uses it,
                or it cannot be written to.
            ValueError: If a format is unknown.
        """
        unknown = set(formats) - set(FORMATS)
        if unknown:
            raise ValueError(f"formats: of {', '.join(FORMATS)}, not {', '.join(sorted(unknown))}")
        self.path = Path(path)
        self._pngs, self._refined = "png" in formats, refined
        self._combined = CombinedFiles(self.path, "rle" in formats, overlay, fps)
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
        self._kept: Iterator[tuple[int, dict[str, Any]]] = iter(())
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
        if not overwrite and not self._keep_what_stays():
            self._refuse_others(marker)
        # First of all, so that a run that is killed from here on can be repeated.
        write_atomically(self.path / MARKER, marker)
        names = set() if overwrite else self._restore()
        # Also the masks of an unfinished run: a shorter second run would not replace the last ones.
        self._clear(keep=names)
        remove_partial_files(self.path)
        for folder in self._mask_folders:
            folder.mkdir(exist_ok=True)
        self._log = FrameLog(self.path, self._log_bytes)

    def _refuse_others(self, marker: bytes) -> None:
        """Refuse a folder with a finished run, or with files that are not of this run."""
        # Another process may be asking for the lock at this moment, and a process may have been
        # killed before it had written its marker.
        names = {entry.name for entry in self.path.iterdir()}
        present = {
            n for n in names if not n.startswith(LOCK) and not is_partial(n) and n not in _OWN_FILES
        }
        if REPORT in present:
            refuse_finished(self.path, self._report)
        path = self.path / MARKER
        if present and not (path.exists() and path.read_bytes() == marker):
            self._refuse_unfinished(_settings_in(path))

    def _refuse_unfinished(self, before: Mapping[str, Any] | None) -> None:
        """Refuse the files of another run that was not finished; name what differs, if it is known.

        Precision is chosen by the machine, so a run that goes on elsewhere may only have to ask for
        the one that it began with.
        """
        hint = "pass {overwrite=True} to replace them, or choose another folder ({out})"
        found = [] if before is None else differences(before, self._report)
        # A live source is another one each time it is read.
        found = [line for line in found if not line.startswith("started ")]
        if before is None or not found:
            raise OutputError(f"{self.path}: the folder holds files of another run", hint)
        if all(line.startswith("dtype was") for line in found):
            hint = (
                f"pass {{dtype={before['dtype']}}} to go on, or {{overwrite=True}} to start again"
            )
        raise OutputError(
            f"{self.path}: an unfinished run of other settings is in this folder: "
            f"{'; '.join(found[:MOST_DIFFERENCES])}",
            hint,
        )

    def _keep_what_stays(self) -> bool:
        """Turn a run that differs in its references only into an unfinished one of these.

        Whenever this process is killed, the folder holds the earlier run or the new one.

        Returns:
            Whether there was one.

        Raises:
            OutputError: There is a run that differs in more.
        """
        if self._depends is None or self._made_by is None:
            return False
        report = read_report(self.path)
        before = _settings_in(self.path / MARKER) if report is None else report
        if before is None:
            return False
        if found := differences(before, without_references(self._report)):
            raise OutputError(
                f"{self.path}: a run of other settings is in this folder: "
                f"{'; '.join(found[:MOST_DIFFERENCES])}",
                REPLACE_HINT,
            )
        try:
            old, new = self._depends(before), self._depends(self._report)
        except KeyError:
            raise OutputError(
                f"{self.path}: the run in this folder does not say which objects its references "
                "name, so all of it has to be computed again",
                REPLACE_HINT,
            ) from None
        goes_on = False
        if report is not None:
            count, entries = report["frames"], reported_entries(report)
            made_by = {name: report["versions"].get(name, "") for name in self._made_by}
            made_by |= {"device": report["device"].partition(":")[0]}
            made_by |= {"formats": self._made_by["formats"]}
        else:
            count, entries, made_by, done = self._unfinished_entries()
            goes_on = old.session_key(done) == new.session_key(done) and all(
                old.mask_key(i) == new.mask_key(i) for i in range(done)
            )
            if goes_on:
                entries = read_kept(self.path, done)
        staying = ((i, entry) for i, entry in entries if old.mask_key(i) == new.mask_key(i))
        write_kept(self.path, have_files(staying, self._mask_folders, SUFFIX), count, made_by)
        if not goes_on:
            for name in (STATE, FRAMES):
                (self.path / name).unlink(missing_ok=True)
        return True

    def _unfinished_entries(self) -> tuple[int | None, Entries, Mapping[str, str], int]:
        """Give what is known of an unfinished run, and how many frames its saved state has."""
        assert self._made_by is not None
        head = read_kept_head(self.path) or {"frames": None, "made_by": self._made_by}
        try:
            saved = read_state(self.path, self._made_by)
            done = 0 if saved is None else saved[0].frames
            logged = [] if saved is None else list(enumerate(read_log(self.path, saved[0])))
        except StateError:
            done, logged = 0, []
        entries = [*logged, *read_kept(self.path, done)]
        return head["frames"], entries, head["made_by"], done

    def _restore(self) -> set[str]:
        """Load what is there of an unfinished run; return the names of its frames."""
        return self._restore_state() | self._restore_kept()

    def _restore_kept(self) -> set[str]:
        """Find the frames that stay of a run of other references."""
        head = read_kept_head(self.path)
        if head is None or self._made_by is None:
            return set()
        if other := [
            name for name, value in self._made_by.items() if head["made_by"][name] != value
        ]:
            log.warning(
                "%s: its masks were made with another %s; starting over", self.path, other[0]
            )
            return set()
        staying = list(have_files(read_kept(self.path, self.done), self._mask_folders, SUFFIX))
        self.frame_count = head["frames"]
        self.kept = ranges_of(index for index, _ in staying)
        self._kept = iter([(index, dict(entry)) for index, entry in staying])
        return {entry["name"] for _, entry in staying}

    def _restore_state(self) -> set[str]:
        """Load the saved state of an unfinished run; return the names of its frames."""
        if self._made_by is None:
            return set()
        try:
            saved = read_state(self.path, self._made_by)
            if saved is None:
                return set()
            progress, session = saved
            names = {entry["name"] for entry in read_log(self.path, progress)}
            for folder in self._mask_folders:
                if missing := names - {mask.stem for mask in _masks_in(folder)}:
                    raise StateError(f"{mask_file(Path(folder.name), min(missing))} is missing")
        except StateError as error:
            log.warning("%s: %s; starting over", self.path, error)
            return set()
        self.done, self.session = progress.frames, session
        self.seconds, self.stage_s = progress.seconds, progress.stage_s
        self.resumed_at = (*progress.resumed_at, progress.frames)
        self.batch_size, self.frames_at_once = progress.batch_size, progress.frames_at_once
        self._log_bytes, self._last_crc32 = progress.log_bytes, progress.last_crc32
        self._earlier = read_log(self.path, progress)
        return names

    @property
    def _mask_folders(self) -> list[Path]:
        """The folders of masks that this run writes."""
        wanted = {MASKS: self._pngs, REFINED: self._refined}
        return [self.path / name for name, is_wanted in wanted.items() if is_wanted]

    def _clear(self, keep: set[str]) -> None:
        """Remove the files of runs, the report first, except the masks of the frames in `keep`."""
        for name in (REPORT, INCOMPLETE, RUN_LENGTHS, OVERLAY):
            (self.path / name).unlink(missing_ok=True)
        if not keep:
            for name in (STATE, FRAMES, KEPT):
                (self.path / name).unlink(missing_ok=True)
        for folder in (self.path / MASKS, self.path / REFINED):
            for mask in _masks_in(folder):
                if mask.stem not in keep:
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
        if self._pngs:
            write_mask(mask_file(self.path / MASKS, frame.name), result.mask)
        if refined is not None:
            write_mask(mask_file(self.path / REFINED, frame.name), refined)
        self._combined.add(frame, result.mask, refined, result.scores)
        entry: dict[str, Any] = {"name": frame.name, "time_s": frame.time_s, "objects": {}}
        for i, score in result.scores.items():
            entry["objects"][str(i)] = [score, result.margins[i], result.states[i]]
        if not self._pngs and self._made_by is not None:
            entry["masks"] = {e["id"]: e["segmentation"]["counts"] for e in encode_rle(result.mask)}
        self._log.add(entry)
        self._count += 1

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
        if not self._combined.are_wanted:
            return
        mask = self._earlier_mask(entry, frame.image.shape[:2])
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

    def keep_reference(self, frame: Frame, ids: np.ndarray | None) -> None:
        """Write the mask that was given for a frame; without one, remove that of an earlier run.

        Raises:
            OutputError: If it cannot be written.
        """
        path = mask_file(self.path / REFERENCES, frame.name)
        if ids is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(exist_ok=True)
        write_mask(path, ids)

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
        files = (RUN_LENGTHS, OVERLAY, REPORT, INCOMPLETE)
        return masks + [name for name in files if (self.path / name).exists()]

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
                self._combined.close()
                self._write_report(REPORT, complete=True)
            except OutputError as failure:
                self._combined.discard()
                self._end_with(failure)
                raise
            _remove_work_files(self.path)
        finally:
            self._log.close()
            self._lock.release()
            if not self._count:
                # The folder stays if it holds other files.
                with suppress(OSError):
                    self.path.rmdir()

    def _end_with(self, error: BaseException) -> None:
        """Keep the frames so far, and write why there are no more."""
        reason = hide_secrets(" ".join(str(error).split())) or type(error).__name__
        if not self._count and not self.kept:
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

    def _remove_all(self) -> None:
        """Remove everything this run wrote, also the files of a first frame that failed."""
        with suppress(OSError, OutputError):
            self._clear(keep=set())
            remove_partial_files(self.path)
            # Last, for the reason given at `_WORK_FILES`.
            (self.path / MARKER).unlink(missing_ok=True)

    def _write_report(self, name: str, **entries: Any) -> None:
        entries = {**self._report, **entries, "frames": self._count}
        write_report(self.path / name, entries, self._log.entries())


def _settings_in(marker: Path) -> Mapping[str, Any] | None:
    """Read the settings of an unfinished run; None if they are not known."""
    try:
        return dict(json.loads(marker.read_bytes())["settings"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remove_work_files(path: Path) -> None:
    for name in _WORK_FILES:
        (path / name).unlink(missing_ok=True)


def _masks_in(folder: Path) -> Iterator[Path]:
    return folder.glob(f"*{SUFFIX}")


def _read_own_mask(path: Path) -> np.ndarray:
    """Read a mask that this run wrote."""
    try:
        return read_ids(path, max_pixels=sys.maxsize)
    except MaskError as error:
        raise OutputError(error.message, "pass {overwrite=True} to start again") from error

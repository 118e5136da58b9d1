"""A project: a video, its folder, what a person labelled, and what a run made of it.

The folder is that of a run, so that the command line can go on with it:

    references/00137.png   ids of a frame that a person labelled
    project.json           names and colours of the objects
    masks/00000.png ...    what a run wrote, with its report
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from propagate.dependence import Dependence
from propagate.errors import MaskError
from propagate.io.masks.png import mask_file, read_ids, write_mask
from propagate.io.write.kept_frames import ranges_of
from propagate.io.write.layout import (
    FRAMES,
    KEPT,
    MARKER,
    MASKS,
    REFERENCES,
    REPORT,
    STATE,
)
from propagate.io.write.lock import is_held
from propagate.io.write.project import ObjectLooks
from propagate.records import Mask
from propagate.studio.answers import Refused
from propagate.studio.events import Events
from propagate.studio.frames import Frames
from propagate.studio.project_file import (
    ProjectObject,
    default_object,
    is_object_id,
    read_project,
    write_project,
)
from propagate.studio.references import References, describe
from propagate.studio.run_files import Track, read_run_files, swap_in_report
from propagate.studio.stale import dependence_of, stale_frames
from propagate.studio.watching import Stamps, stamps_of_labels, stamps_of_run


class Project:
    """One video and all that is known of it. All methods may be called from any thread.

    Attributes:
        id: What clients call it.
        name: Of the video's folder.
        source: The video, as reports name it.
        folder: Where everything is kept.
        frames: Its frames.
        events: What happens to it.
    """

    def __init__(
        self,
        project_id: str,
        name: str,
        source: str,
        folder: Path,
        frames: Frames,
        job: Callable[[], dict[str, Any] | None],
    ) -> None:
        """Read what the folder holds, and start to read the frames. Nothing is written.

        Args:
            project_id, name, source, folder, frames: As the attributes.
            job: Returns the job of this project.
        """
        self.id, self.name, self.source, self.folder = project_id, name, source, folder
        self._job = job
        # Whoever changes files holds `_writes`. The values below change under `_lock`, which is
        # held for moments only.
        self._writes, self._lock = threading.RLock(), threading.RLock()
        self._revision = 1
        self._computed: set[int] = set()
        self._old: set[int] = set()  # those of an earlier run, not computed again yet
        self._tracks: dict[int, Mapping[str, Track]] = {}
        self._made_with: Dependence | None = None  # what the masks depend on
        self._looks = ObjectLooks()  # what the run calls its objects, and how it shows them
        self._seen_run: Stamps = ()
        self._seen_labels: Stamps = ()
        self.events = Events(self.to_json, self.look)
        self.frames = frames
        names = self.frames.names
        self._numbers = None if names is None else {n: index for index, n in enumerate(names)}
        self._references = References(
            folder / REFERENCES, self.frames.size, self.frames.name_of, names
        )
        self._objects: dict[int, ProjectObject] = {}
        self._read_run()
        self._read_objects()
        self._seen_labels = stamps_of_labels(folder)
        frames.start(self._tell_count)

    # --- what there is ---------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return all that the page shows."""
        frames, references, job = self.frames, self._references.known, self._job()
        with self._lock:
            height, width = frames.size
            fps = frames.info.fps
            return {
                "id": self.id,
                "name": self.name,
                "width": width,
                "height": height,
                "frame_count": frames.count,
                "counted": frames.counted,
                "fps": None if fps is None else float(fps),
                "objects": [
                    {"id": i, "name": item.name, "colour": item.colour}
                    for i, item in sorted(self._objects.items())
                ],
                "references": {str(i): list(r.object_ids) for i, r in references.items()},
                "computed": ranges_of(self._computed),
                "stale": ranges_of(self._stale()),
                "job": job,
                "revision": self._revision,
                "notes": [*frames.notes, *self._references.notes],
            }

    def timeline(self) -> dict[str, Any]:
        """Return scores, margins and states of all objects on all frames."""
        with self._lock:
            tracks, count = dict(self._tracks), self.frames.count
        series: dict[str, dict[str, list[Any]]] = {}
        for i in sorted({i for track in tracks.values() for i in track}, key=int):
            nothing = (None, None, None)
            found = [tracks.get(frame, {}).get(i, nothing) for frame in range(count)]
            series[i] = {
                name: [track[place] for track in found]
                for place, name in enumerate(("score", "margin", "state"))
            }
        return {"frames": count, "objects": series}

    @property
    def objects(self) -> dict[int, ProjectObject]:
        """The objects by id."""
        with self._lock:
            return dict(self._objects)

    def scores(self, index: int) -> dict[int, float]:
        """Return the scores of the objects on a frame."""
        with self._lock:
            return {int(i): track[0] for i, track in self._tracks.get(index, {}).items()}

    def masks(self) -> dict[int, Mask]:
        """Read all references, as a run takes them.

        Raises:
            MaskError: One cannot be read.
        """
        with self._writes:
            self.look()
            return self._references.masks()

    def reference(self, index: int) -> np.ndarray:
        """Return what a person labelled on a frame: (H, W) uint8 ids.

        Raises:
            Refused: The frame is not labelled.
            MaskError: The file cannot be read.
        """
        return self._references.read(index)

    def mask_png(self, index: int) -> bytes:
        """Return the mask of a frame as an index PNG.

        Raises:
            Refused: There is none.
        """
        try:
            return self._mask_file(index).read_bytes()
        except OSError:
            raise Refused(404, f"frame {index}: has no mask yet") from None

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask of a frame, (H, W) uint8 ids; None if there is none.

        Raises:
            MaskError: The file cannot be read.
        """
        with self._lock:
            if index not in self._computed:
                return None
        return read_ids(self._mask_file(index)).astype(np.uint8)

    # --- what a person changes -------------------------------------------------------------------

    def set_reference(self, index: int, ids: np.ndarray) -> None:
        """Label a frame with ids, (H, W) uint8; without an object they say that none is visible.

        Raises:
            Refused: There is no such frame.
            MaskError: There is void (255), but no object.
            OutputError: It cannot be written.
        """
        self.frames.check(index)
        with self._writes:
            self.look()
            self._references.write(index, ids)
            is_new = self._name(self._references.known[index].object_ids)
            if is_new or read_project(self.folder)[0] is None:
                write_project(self.folder, self.source, self.objects)
        self.tell_change()

    def delete_reference(self, index: int) -> None:
        """Take back what was labelled on a frame.

        Raises:
            Refused: The frame is not labelled.
        """
        with self._writes:
            self.look()
            self._references.delete(index)
        self.tell_change()

    def set_objects(self, objects: Mapping[int, ProjectObject]) -> None:
        """Replace the list of objects. One that is left out goes from all references.

        Raises:
            MaskError, OutputError: A file cannot be read or written.
        """
        with self._writes:
            self.look()
            self._references.remove_objects(set(range(1, 255)) - set(objects))
            with self._lock:
                self._objects = dict(objects)
            write_project(self.folder, self.source, objects)
        self.tell_change()

    def swap(self, a: int, b: int, frames: Sequence[int] | None) -> None:
        """Exchange two ids in the references, masks and scores of a range of frames.

        Args:
            a, b: The ids.
            frames: The first and the last frame; None: all. Then the masks of a finished run are
                still those of its references.

        Raises:
            Refused: Another program writes into the folder.
            MaskError: An id is none, or a file cannot be read.
            OutputError: A file cannot be written.
        """
        if not (is_object_id(a) and is_object_id(b) and a != b):
            raise MaskError(f"{a} and {b}: not two ids of objects")
        first, last = (0, self.frames.count - 1) if frames is None else frames
        table = np.arange(256, dtype=np.uint8)
        table[[a, b]] = b, a
        with self._writes:
            if is_held(self.folder):
                raise Refused(409, f"{self.name}: another program is following here", "wait for it")
            self.look()
            self._forget_half_a_run(frames is None)
            before = self._references.known
            for index in [i for i in before if first <= i <= last]:
                self._references.write(index, table[self._references.read(index)])
            after = self._references.known
            with self._lock:
                computed = sorted(i for i in self._computed if first <= i <= last)
                made_with = {} if self._made_with is None else dict(self._made_with.checksums)
            for index in computed:
                ids = read_ids(self._mask_file(index)).astype(np.uint8)
                if np.isin(ids, (a, b)).any():
                    write_mask(self._mask_file(index), table[ids])
            if frames is None:
                # Masks whose reference is not the one of the run belong to none any more.
                made_with = {
                    i: after[i].checksum
                    if i in before and before[i].checksum == checksum
                    else f"exchanged {checksum}"
                    for i, checksum in made_with.items()
                }
            names = {self.frames.name_of(index) for index in computed}
            swap_in_report(self.folder, (a, b), names, made_with)
            self._name((a, b))
            write_project(self.folder, self.source, self.objects)
            self._read_run()
        self.tell_change()

    def _forget_half_a_run(self, everywhere: bool) -> None:
        """Let a run that was stopped start again, because what it has saved has other ids.

        Raises:
            MaskError: Ids are to be exchanged on some frames only, and would be found as before.
        """
        if (self.folder / REPORT).exists() or not (self.folder / MARKER).exists():
            return
        if not everywhere:
            raise MaskError(
                f"{self.name}: following has not come to its end",
                "press Follow first, then exchange ids on some frames",
            )
        for name in (STATE, FRAMES, KEPT):
            (self.folder / name).unlink(missing_ok=True)

    def _name(self, object_ids: Sequence[int]) -> bool:
        """Add objects that have no name yet; return whether there is one."""
        with self._lock:
            new = {i for i in object_ids if i not in self._objects}
            self._objects |= {i: default_object(i, self._looks) for i in new}
        return bool(new)

    def _read_objects(self) -> None:
        """Read the objects of the file, and name those that only references have."""
        source, objects = read_project(self.folder, self._looks)
        with self._lock:
            if source is None:  # nobody has named any
                objects |= {i: default_object(i, self._looks) for i in self._objects}
            self._objects = objects
        for reference in self._references.known.values():
            self._name(reference.object_ids)

    # --- what a run does -------------------------------------------------------------------------

    def begin_run(self, references: Mapping[int, Mask]) -> None:
        """Note that a run with these references has begun to write, and which masks stay."""
        with self._writes:  # nobody else reads the run from here on
            self._read_run()
        with self._lock:
            self._made_with = dependence_of({i: describe(m.ids) for i, m in references.items()})
        self.tell_change()

    def take_result(self, index: int, track: Mapping[str, Track]) -> None:
        """Note that a run has written the mask of a frame."""
        with self._lock:
            self._computed.add(index)
            self._old.discard(index)
            self._tracks[index] = track
            self._revision += 1
            revision = self._revision
        told = {i: list(values) for i, values in track.items()}
        self.events.publish("frame", {"index": index, "revision": revision, "objects": told})

    def end_run(self) -> None:
        """Read what a run left that had begun."""
        with self._lock:
            made_with = self._made_with
        self._read_run()
        with self._lock:
            self._made_with = self._made_with or made_with

    def _read_run(self) -> None:
        """Read the masks, scores and references that a run has left in the folder."""
        self._seen_run = stamps_of_run(self.folder)  # before: what changes now is seen next time
        found = read_run_files(self.folder, self._index_of)
        with self._lock:
            tracks = {i: track for i, track in self._tracks.items() if i in found.old}
            self._computed, self._old = set(found.frames), set(found.old)
            self._tracks = tracks | dict(found.tracks)
            self._made_with = found.dependence
            self._looks = found.looks.over(self._looks)

    # --- what other programs do ------------------------------------------------------------------

    def look(self) -> None:
        """Take over what another program has changed in the folder, and tell everybody.

        It is cheap where nothing has changed. While this program follows, nobody else can.
        """
        with self._writes:
            labels, run_changed = stamps_of_labels(self.folder), False
            if (job := self._job()) is None or job["kind"] != "follow":
                run_changed = stamps_of_run(self.folder) != self._seen_run
            if labels == self._seen_labels and not run_changed:
                return
            before = self._labels()
            if labels != self._seen_labels:
                self._seen_labels = labels
                self._references.read_again()
            if run_changed:
                self._read_run()
            self._read_objects()
            changed = self._labels() != before
        if run_changed or changed:
            self.tell_change()
        if run_changed:
            self.events.publish("outside", {})

    def _labels(self) -> tuple[Any, ...]:
        return self._references.known, self._references.notes, self.objects

    def tell_change(self) -> None:
        """Count a change, and tell everybody."""
        with self._lock:
            self._revision += 1
        self.events.publish("project")

    def close(self) -> None:
        """End the threads of the frames, and all streams of events."""
        self.frames.close()
        self.events.close()

    def _stale(self) -> set[int]:
        if self._made_with is None:
            return set(self._old)
        now = dependence_of(self._references.known)
        return self._old | stale_frames(self._made_with, now, self._computed)

    def _tell_count(self) -> None:
        self.events.publish("counted", {"frame_count": self.frames.count})
        self.tell_change()

    def _mask_file(self, index: int) -> Path:
        return mask_file(self.folder / MASKS, self.frames.name_of(index))

    def _index_of(self, name: str) -> int | None:
        if self._numbers is not None:
            return self._numbers.get(name)
        return int(name) if name.isdecimal() and name.isascii() and len(name) >= 5 else None

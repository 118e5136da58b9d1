"""The masks that a person gave, one index PNG for each labelled frame."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from propagate.errors import MaskError, PropagateError
from propagate.io.masks.ids import check_size, checksum
from propagate.io.masks.places import places_by_name
from propagate.io.masks.png import mask_file, mask_files, read_ids, write_mask
from propagate.io.write.files import make_output_folder
from propagate.records import BACKGROUND_ID, VOID_ID, Mask
from propagate.studio.answers import Refused
from propagate.studio.watching import Stamp, stamp


@dataclass(frozen=True, slots=True)
class Reference:
    """A frame that a person labelled.

    Attributes:
        object_ids: The objects in it.
        checksum: As the report of a run names it.
    """

    object_ids: tuple[int, ...]
    checksum: str


def describe(ids: np.ndarray) -> Reference:
    """Describe ids, (H, W) uint8."""
    return Reference(Mask(ids=ids).object_ids, checksum(ids))


class References:
    """The labelled frames of a video. One thread at a time may change them.

    Attributes:
        known: Frame -> what it holds. It is replaced as a whole, so that any thread may read it.
        notes: Lines about files that cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        size: tuple[int, int],
        name_of: Callable[[int], str],
        names: list[str] | None,
    ) -> None:
        """Read what is there.

        Args:
            folder: Holds the PNGs; it need not exist.
            size: (H, W) of the frames.
            name_of: Gives the name of a frame.
            names: All names of a source whose frames have names of their own.
        """
        self._folder, self._size, self._name_of = folder, size, name_of
        self._names = names
        self.known: Mapping[int, Reference] = {}
        self._files: dict[int, Path] = {}
        # What was read of each file, and its stamp at that time.
        self._seen: dict[Path, tuple[Stamp, Reference]] = {}
        self.notes: list[str] = []
        self.read_again()

    def read_again(self) -> None:
        """Read what is there now; files that have not changed are not opened."""
        files = mask_files(self._folder)
        notes: list[str] = []
        found: dict[int, Reference] = {}
        paths: dict[int, Path] = {}
        seen: dict[Path, tuple[Stamp, Reference]] = {}
        try:
            places = places_by_name([file.stem for file in files], self._names) if files else []
        except MaskError as error:
            notes.append(f"{self._folder}: {error.message}")
            places, files = [], []
        for place, file in zip(places, files, strict=True):
            now = stamp(file)
            before, reference = self._seen.get(file, (None, None))
            try:
                if reference is None or before != now:
                    reference = describe(self._read(file))
            except PropagateError as error:
                notes.append(error.message)
                continue
            seen[file] = now, reference
            found[place.index], paths[place.index] = reference, file
        self._files, self._seen, self.notes = paths, seen, notes
        self.known = dict(sorted(found.items()))

    def read(self, index: int) -> np.ndarray:
        """Read a labelled frame: (H, W) uint8 ids.

        Raises:
            Refused: It is not labelled.
            MaskError: The file cannot be read.
        """
        if index not in self.known:
            raise Refused(404, f"frame {index}: is not labelled")
        return self._read(self._file(index))

    def masks(self) -> dict[int, Mask]:
        """Read all of them, as a run takes them.

        Raises:
            MaskError: One cannot be read.
        """
        return {
            index: Mask(ids=self.read(index), source=str(self._file(index))) for index in self.known
        }

    def write(self, index: int, ids: np.ndarray) -> None:
        """Label a frame with ids, (H, W) uint8; without an object they say that none is visible.

        Raises:
            MaskError: There is void (255), but no object.
            OutputError: It cannot be written.
        """
        reference = describe(ids)
        if not reference.object_ids and (ids == VOID_ID).any():
            # Read from the file, 255 alone would be an object.
            raise MaskError(f"frame {index}: has void (255), but no object", "label an object too")
        make_output_folder(self._folder)
        write_mask(self._file(index), ids)
        self._files[index] = self._file(index)
        self.known = dict(sorted({**self.known, index: reference}.items()))

    def delete(self, index: int) -> None:
        """Take a label back.

        Raises:
            Refused: The frame is not labelled.
        """
        if index not in self.known:
            raise Refused(404, f"frame {index}: is not labelled")
        self._files.pop(index).unlink(missing_ok=True)
        self.known = {i: reference for i, reference in self.known.items() if i != index}

    def remove_objects(self, gone: Collection[int]) -> None:
        """Remove objects everywhere. A frame that showed nothing else is no longer labelled.

        Raises:
            MaskError, OutputError: A file cannot be read or written.
        """
        for index, reference in dict(self.known).items():
            here = [i for i in reference.object_ids if i in gone]
            if not here:
                continue
            if len(here) == len(reference.object_ids):
                self.delete(index)
            else:
                ids = self.read(index)
                self.write(index, np.where(np.isin(ids, here), BACKGROUND_ID, ids).astype(np.uint8))

    def _file(self, index: int) -> Path:
        """Return where a frame is; a person may have named the file in another way."""
        return self._files.get(index, mask_file(self._folder, self._name_of(index)))

    def _read(self, file: Path) -> np.ndarray:
        height, width = self._size
        ids = read_ids(file).astype(np.uint8)
        check_size(Mask(ids=ids, source=str(file)), height, width)
        return ids

"""`masks.json`: the masks of a run as COCO run lengths, written and read."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from propagate.errors import MaskError
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.masks.ids import check_ids
from propagate.io.masks.rle import decode_mask, encode_rle
from propagate.io.write.files import PartialFile, WholeFile

FORMAT = "propagate-rle"


class MasksJsonWriter(WholeFile):
    """Writes `masks.json`: COCO run lengths of every frame and object.

    One JSON object, with one frame on each line:

        {"format": "propagate-rle", "version": 1, "size": [H, W], "frames": [
        {"index": 0, "name": "00000", "time_s": 0.0, "objects": [
            {"id": 1, "segmentation": {"size": [H, W], "counts": "..."},
             "area": 57, "bbox": [x, y, w, h], "score": 0.93}]},
        ...]}

    `pycocotools.mask.decode` takes `segmentation`; `area` and `bbox` are in pixels; `score` is left
    out if none was given. An object that is not in a frame is not in its list, because COCO scorers
    count an empty mask as a wrong one. Each frame is written to the disk at once: memory does not
    grow with the video.
    """

    def __init__(self, path: str | Path, height: int, width: int) -> None:
        """Start the file.

        Args:
            path: The JSON file, in a folder that exists. An existing file is replaced at the end.
            height: Rows of every frame.
            width: Columns of every frame.

        Raises:
            OutputError: If it cannot be written.
        """
        self._shape = (height, width)
        self._separator = "\n"
        self._partial = PartialFile(path)
        head = json.dumps({"format": FORMAT, "version": 1, "size": [height, width]})
        with self._partial.writing():
            self._file = self._partial.path.open("x", encoding="ascii", newline="\n")
            self._file.write(head.removesuffix("}") + ', "frames": [')

    def write(
        self,
        ids: np.ndarray,
        *,
        index: int,
        name: str,
        time_s: float,
        scores: Mapping[int, float] | None = None,
    ) -> None:
        """Add the masks of one frame.

        Args:
            ids: (H, W) uint8.
            index: Position of the frame in the video, from 0.
            name: Name of the frame: the stem of its mask file.
            time_s: Presentation time in seconds.
            scores: Score by object id; objects may be left out.

        Raises:
            OutputError: If it cannot be written.
            ValueError: If `ids` is not uint8 of the writer's size.
        """
        check_ids(ids)
        if ids.shape != self._shape:
            raise ValueError(f"ids: {self._shape}, not {ids.shape}")
        objects = encode_rle(ids)
        for entry in objects:
            if scores is not None and entry["id"] in scores:
                entry["score"] = round(float(scores[entry["id"]]), 4)  # as in `result.json`
        frame = {"index": index, "name": name, "time_s": time_s, "objects": objects}
        with self._partial.writing():
            self._file.write(self._separator + json.dumps(frame, allow_nan=False))
        self._separator = ",\n"

    def close(self) -> None:
        """Complete the file and move it to its final name.

        Raises:
            OutputError: If it cannot be written.
        """
        with self._partial.writing():
            self._file.write("\n]}\n")
            self._file.close()
            self._partial.commit()

    def discard(self) -> None:
        """Remove what was written."""
        # Closing writes what is buffered, which fails again on a full disk.
        with suppress(OSError):
            self._file.close()
        self._partial.discard()


@dataclass(frozen=True, slots=True)
class MasksJson:
    """The content of a `masks.json`.

    Attributes:
        shape: (H, W) of every frame.
        counts: COCO run lengths by frame name and object id.
    """

    shape: tuple[int, int]
    counts: Mapping[str, Mapping[int, str]]

    def masks(self, frame: str) -> dict[int, np.ndarray]:
        """Decode the masks of one frame: (H, W) bool by object id.

        Raises:
            KeyError: If there is no such frame.
            ValueError: If the run lengths of an object are damaged; the message says how.
        """
        return {i: decode_mask(c, *self.shape) for i, c in self.counts[frame].items()}


def read_masks_json(path: str | Path) -> MasksJson:
    """Read a file that `MasksJsonWriter` wrote; the run lengths are not decoded yet.

    Raises:
        MaskError: If there is no such file, or it is damaged or not a `masks.json` of this program.
    """
    try:
        content: Any = json.loads(Path(path).read_text(encoding="ascii"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        height, width = map(int, content["size"])
        counts = {
            str(frame["name"]): {
                int(entry["id"]): str(entry["segmentation"]["counts"]) for entry in frame["objects"]
            }
            for frame in content["frames"]
        }
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise MaskError(
            f"{path}: no readable run lengths of this program", "run it again"
        ) from error
    if height * width > MAX_PIXELS:
        raise MaskError(
            f"{path}: masks of {width}x{height} pixels, more than the limit of {MAX_PIXELS}",
            "give the masks.json of a run",
        )
    return MasksJson((height, width), counts)

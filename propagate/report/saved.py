"""A run as its folder tells of it: the report, finished or not, the masks, and the source."""

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from propagate.errors import MaskError, OutputError, PropagateError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.video import is_live, open_source
from propagate.io.masks.masks_json import MasksJson, read_masks_json
from propagate.io.masks.png import mask_file, read_ids
from propagate.io.write.layout import INCOMPLETE, MASKS, REFINED, REPORT, RUN_LENGTHS
from propagate.io.write.project import ObjectLooks, parse_looks, read_project


class SavedRun:
    """The folder of a run, to be read.

    Attributes:
        folder: The folder.
        result: The content of `result.json`, or of `incomplete.json`.
        is_complete: Whether the run was finished.
        looks: Names and colours of objects; those of `project.json` come first.
    """

    def __init__(self, folder: str | Path) -> None:
        """Read the report.

        Raises:
            OutputError: There is none, or it cannot be read.
        """
        self.folder = Path(folder)
        self.is_complete = (self.folder / REPORT).exists()
        self.result = _read(self.folder, REPORT if self.is_complete else INCOMPLETE)
        looks = ObjectLooks()
        with suppress(ValueError):
            looks = parse_looks(self.result.get("objects") or {})
        self.looks = read_project(self.folder).over(looks)

    @property
    def has_times(self) -> bool:
        """Whether the times of frames are real; those of image folders are not."""
        if decoder := self.result.get("decoder"):
            return decoder != "images"
        # A run that failed does not say what decoded it.
        source = Path(str(self.result.get("source", "")))
        return not (source.is_dir() or source.suffix.lower() == ".zip")

    def mask(self, name: str) -> np.ndarray | None:
        """Read the mask of a frame, refined if there is such a one, (H, W) uint8; None: gone."""
        for folder in (REFINED, MASKS):
            file = mask_file(self.folder / folder, name)
            if file.exists():
                with suppress(MaskError):
                    return read_ids(file).astype(np.uint8)
        if self._run_lengths is None or name not in self._run_lengths.counts:
            return None
        ids = np.zeros(self._run_lengths.shape, np.uint8)
        with suppress(ValueError):
            for object_id, own in self._run_lengths.masks(name).items():
                ids[own] = object_id
        return ids

    @cached_property
    def _run_lengths(self) -> MasksJson | None:
        try:
            return read_masks_json(self.folder / RUN_LENGTHS)
        except MaskError:
            return None

    def images(
        self, names: Collection[str], options: SourceOptions | None = None
    ) -> tuple[dict[str, np.ndarray], str | None]:
        """Read frames of the source again.

        Args:
            names: Of the frames.
            options: How the source is opened; its range is that of the run.

        Returns:
            (H, W, 3) uint8 RGB by name, and one line that says why some are missing, or None.
        """
        source = str(self.result.get("source", ""))
        if not names:
            return {}, None
        if not source or is_live(source):
            return {}, f"A live source ({source}) cannot be read again: masks are shown alone."
        found: dict[str, np.ndarray] = {}
        try:
            with open_source(source, self._options(options)) as frames:
                for frame in frames:
                    if frame.name in names:
                        found[frame.name] = frame.image
                        if len(found) == len(names):
                            return found, None
        except (PropagateError, OSError, ValueError) as error:
            message = error.message if isinstance(error, PropagateError) else str(error)
            reason = " ".join(message.split())
        else:
            reason = f"{source}: frames of the run are not in it"
        alone = "its masks are" if len(names) - len(found) == 1 else "their masks are"
        return (
            found,
            f"The source cannot be read again ({reason}): without it, {alone} shown alone.",
        )

    def _options(self, options: SourceOptions | None) -> SourceOptions:
        """Read the frames that the run read."""
        chosen = None
        if saved := self.result.get("frame_range"):
            with suppress(ValueError, TypeError):
                chosen = FrameRange(**saved)
        options = options or SourceOptions(allow_gaps=True)
        # decord would decode the whole clip, also what comes after the last frame that is shown.
        return replace(
            options,
            decoder="pyav",
            frame_range=chosen,
            follow_timeout_s=None,
            on_damage=self.result.get("on_damage", options.on_damage),
        )

    def references(self) -> dict[int, int]:
        """Return the references: position among the frames of the run, and number in the source."""
        numbers = [int(i) for i in self.result.get("references_sha256", {})]
        frames = self.result["per_frame"]
        if self.has_times:
            # Masks of a video are named after the numbers of their frames.
            places = {f"{number:05d}": number for number in numbers}
            return {
                position: places[frame["name"]]
                for position, frame in enumerate(frames)
                if frame["name"] in places
            }
        saved: Mapping[str, Any] = self.result.get("frame_range") or {}
        start, stride = saved.get("start", 0), saved.get("stride", 1)
        found = {
            (number - start) // stride: number
            for number in sorted(numbers)
            if number >= start and not (number - start) % stride
        }
        return {position: number for position, number in found.items() if position < len(frames)}


def _read(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    try:
        content = json.loads(file.read_bytes())
        for frame in content["per_frame"]:
            _ = frame["name"], frame["time_s"]
            for entry in frame["objects"].values():
                _ = entry["score"], entry["margin"], entry["state"]
    except FileNotFoundError as error:
        raise OutputError(
            f"{folder}: neither {REPORT} nor {INCOMPLETE} is in this folder",
            "give the folder of one video's run, such as out/clip; continue a run that was killed "
            "with the same command",
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise OutputError(
            f"{file}: not a readable report of a run ({type(error).__name__})",
            "run it again",
        ) from error
    return content

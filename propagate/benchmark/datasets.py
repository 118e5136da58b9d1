"""The data sets of benchmarks: sequences of images with truth, and how they are scored."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from propagate.errors import EvaluationError
from propagate.eval.dataset import AUTO, find_truth
from propagate.eval.davis import plan_sequences, score_tree
from propagate.eval.groups import read_groups
from propagate.eval.labels import UnusableMaskError, refuse
from propagate.eval.mask_trees import MaskTree, open_mask_tree
from propagate.eval.missing import say_nothing
from propagate.eval.permis.list import PermisVideo, read_permis_list
from propagate.eval.permis.video import evaluate_permis
from propagate.eval.protocols import SEMI_SUPERVISED, Objects, ProtocolName, find_protocol
from propagate.eval.scores import Scores
from propagate.io.decode.image_folder import image_files
from propagate.io.masks.ids import check_object, mask_from_array
from propagate.records import Mask

# DAVIS scores neither the first nor the last annotated frame.
MIN_FRAMES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scores of a configuration.

    Attributes:
        scores: J and F.
        json: All numbers, as text.
        figures: Numbers other than J and F, as text by name.
    """

    scores: Scores
    json: str
    figures: Mapping[str, str] = field(default_factory=dict)


class DavisData:
    """A DAVIS root. The first annotated mask of each sequence is given to the model."""

    def __init__(
        self,
        root: str | Path,
        *,
        protocol: ProtocolName = "davis2017",
        split: str | None = AUTO,
        resolution: str = "480p",
        sequences: Sequence[str] = (),
        max_frames: int | None = None,
        jobs: int = 1,
    ) -> None:
        """Look through the root; no image is read yet.

        Args:
            root: Holds `JPEGImages` and `Annotations`.
            protocol: "davis2017" or "davis2016".
            split, resolution, jobs: See `evaluate_davis`.
            sequences: Use only these; empty for all of the split.
            max_frames: Use only the first frames of each sequence, so many.

        Raises:
            EvaluationError: If there is no truth, no folder of frames, no such split or sequence,
                or a sequence is too short to score.
            ValueError: If the protocol is unknown, or no frame would be scored.
        """
        _check_max_frames(max_frames)
        rules = find_protocol(protocol, SEMI_SUPERVISED)
        found = find_truth(Path(root), rules, split, resolution)
        self._tree = open_mask_tree(found.masks, what="ground truth")
        listed = self._tree.sequences if found.sequences is None else found.sequences
        self._images = Path(root) / "JPEGImages" / resolution
        if not self._images.is_dir():
            raise EvaluationError(f"{self._images}: no such folder of frames", "give a DAVIS root")
        self._rules, self._max_frames, self._jobs = rules, max_frames, jobs
        self._groups_of = read_groups(rules, Path(root), None, None, None)
        self.sequences = _choose(listed, sequences, found.source)
        self._refuse_short()
        self.title = rules.title + _part(self.sequences, listed, max_frames)
        self.about = {"root": str(root), "sequences": found.source}

    def _refuse_short(self) -> None:
        """Refuse sequences of which no frame could be scored, before anything is run."""
        _, short = plan_sequences(self._scored(), self._rules)
        hint = f"give {self._rules.min_frames} or more, or choose other {{sequences}}"
        refuse([UnusableMaskError(each.path, each.found, hint) for each in short])

    def _scored(self) -> MaskTree:
        """Limit the truth to what is scored."""
        limits: dict[str, frozenset[str]] = {}
        if self._max_frames is not None:
            for name in self.sequences:
                with suppress(EvaluationError):  # no folder of frames: its run fails and says so
                    limits[name] = frozenset(image.stem for image in self.images(name))
        return dataclasses.replace(self._tree, sequences=self.sequences, limits=limits)

    def images(self, sequence: str) -> list[Path]:
        """List the frames to predict, in order."""
        folder = self._images / sequence
        if not folder.is_dir():
            raise EvaluationError(f"{folder}: no such folder of frames", "add it")
        return image_files(folder)[: self._max_frames]

    def references(self, sequence: str) -> dict[int, Mask]:
        """Read the first annotated mask, by the index of its frame."""
        first = next(iter(self._tree.frames(sequence)), "00000")
        ids, source = self.truth(sequence, first), self._tree.where(sequence, first)
        names = [image.stem for image in self.images(sequence)]
        if first not in names:
            raise EvaluationError(
                f"{source}: no frame of this name among the {len(names)} of "
                f"{self._images / sequence}",
                "give masks and frames the same names",
            )
        mask = mask_from_array(ids, str(source))
        check_object(mask)
        if mask.binary:
            raise EvaluationError(f"{source}: black and white", "score it by davis2016")
        return {names.index(first): mask}

    def truth(self, sequence: str, frame: str) -> np.ndarray:
        """Read the true ids of an annotated frame, (H, W) uint8."""
        ids = self._tree.read(sequence, frame).ids
        if ids is None:
            where = self._tree.where(sequence, frame)
            raise EvaluationError(f"{where}: objects overlap", "give each pixel to one of them")
        return (ids > 0).astype(np.uint8) if self._rules.objects is Objects.FOREGROUND else ids

    def score(self, predictions: Path) -> Scored:
        """Score the runs by the protocol."""
        scores = score_tree(
            self._scored(),
            open_mask_tree(predictions),
            self._rules,
            source=self.about["sequences"],
            groups_of=self._groups_of,
            jobs=self._jobs,
        )
        return Scored(scores, scores.to_json())


class PermisData:
    """The videos of a PerMIS list. The masks of the first frame are given to the model."""

    def __init__(
        self,
        root: str | Path,
        permis_list: str | Path,
        *,
        sequences: Sequence[str] = (),
        max_frames: int | None = None,
        jobs: int = 1,
    ) -> None:
        """Read the list; no image is read yet.

        Args:
            root: Root folder of the images, as given to `build_permis_list`.
            permis_list: The file of the list.
            sequences: Use only these videos; empty for all.
            max_frames: Use only the first frames of each video, so many.
            jobs: Number of processes that score.

        Raises:
            EvaluationError: If the list cannot be used, or has no such video, or the root does not
                hold its images.
            ValueError: If no frame would be scored.
        """
        _check_max_frames(max_frames)
        permis = read_permis_list(permis_list)
        self.sequences = _choose([v.name for v in permis.videos], sequences, str(permis_list))
        self._root, self._jobs = Path(root), jobs
        if not self._root.is_dir():
            raise EvaluationError(f"{root}: no such folder of images", "check the path ({root})")
        self._videos = {
            video.name: _cut(video, max_frames)
            for video in permis.videos
            if video.name in self.sequences
        }
        self._permis = dataclasses.replace(permis, videos=tuple(self._videos.values()))
        firsts = [self.images(name)[0] for name in self.sequences]
        if firsts and not any(path.is_file() for path in firsts):
            raise EvaluationError(
                f"{firsts[0]}: no such image, nor that of any other video of the list",
                "give the {root} that the list was built with",
            )
        self.title = "PerMIS-video" + _part(self.sequences, permis.videos, max_frames)
        self.about = {"root": str(root), "list": f"{permis_list}, sha256 {permis.sha256}"}

    def images(self, sequence: str) -> list[Path]:
        """List the frames to predict, in order."""
        return [self._root / image for image in self._videos[sequence].images]

    def references(self, sequence: str) -> dict[int, Mask]:
        """Decode the scored instances of the first frame."""
        ids = self._videos[sequence].truth(0)
        return {0: Mask(ids, source=f"{sequence}, the reference in the list")}

    def truth(self, sequence: str, frame: str) -> np.ndarray:
        """Decode the scored instances of a frame, (H, W) uint8."""
        video = self._videos[sequence]
        return video.truth(video.frame_names.index(frame))

    def score(self, predictions: Path) -> Scored:
        """Score the runs: J and F, and how often a prediction lies on another instance."""
        result = evaluate_permis(self._permis, predictions, jobs=self._jobs, say=say_nothing)
        total = result.identity.total
        figures = {"on-other": f"{100 * total.share:.1f}", "switches": str(total.switches)}
        return Scored(result.scores, result.to_json(), figures)


# Each has a `title`, the names of its `sequences`, and `about`: its source, as text by name.
Dataset = DavisData | PermisData


def _check_max_frames(max_frames: int | None) -> None:
    if max_frames is not None and max_frames < MIN_FRAMES:
        raise ValueError(
            f"max_frames: {MIN_FRAMES} or more, not {max_frames}: the ends of a "
            "sequence are not scored"
        )


def _choose(listed: Sequence[str], wanted: Sequence[str], source: str) -> tuple[str, ...]:
    """Choose the wanted sequences, in the order of the list; all if none is wanted."""
    unknown = sorted(set(wanted) - set(listed))
    if unknown:
        raise EvaluationError(
            f"{', '.join(unknown)}: not among the {len(listed)} sequences of {source}",
            "choose other {sequences}",
        )
    return tuple(name for name in listed if name in wanted or not wanted)


def _part(chosen: Sequence[str], listed: Sequence[object], max_frames: int | None) -> str:
    """Say which part of the data set is used, as the end of a title; empty for all of it."""
    parts = []
    if len(chosen) < len(listed):
        parts.append(f"{len(chosen)} of {len(listed)} sequences")
    if max_frames is not None:
        parts.append(f"the first {max_frames} frames of each")
    return f", only {' and '.join(parts)}" if parts else ""


def _cut(video: PermisVideo, max_frames: int | None) -> PermisVideo:
    images, masks = video.images[:max_frames], video.masks[:max_frames]
    return dataclasses.replace(video, images=images, masks=masks)

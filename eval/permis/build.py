"""Build the PerMIS list from BURST annotations, for PerMIS-video, PerMIS-image and PerMIR.

The paper ("Where's Waldo", NeurIPS 2024, section 4 and appendix C) takes videos of BURST with two
or more instances of one class, drops the frames without them, and uses the first frame as the
reference for the others. For images, it draws three frames per video once. It publishes no list, no
frame rate and no rule for which instances are scored. Its released script (dvirsamuel/PDM 3ac3a12)
draws images only, by another rule, and overwrites the videos of one split with those of the next.
`RULES` and `Choices` decide what this leaves open, and both are stored in the list.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from propagate.errors import EvaluationError
from propagate.eval.burst import Burst, BurstSequence, read_burst
from propagate.eval.permis.list import ImagePart, PermisList, PermisVideo
from propagate.io.masks.rle import mask_area_px
from propagate.records import MAX_OBJECT_ID

_LISTED = 3
# These texts are part of each list: a changed word changes the checksums of new lists.
RULES = {
    "videos": "sequences with at least minimum_instances large instances of one class in one "
    "annotated frame, and an annotated frame after it; one class per video: the one with the most "
    "such frames, then with the most tracks, then of the lowest category id (paper: two or more "
    "instances of one class)",
    "large": "an instance is large in a frame if its mask has minimum_area_share of the pixels of "
    "the frame or more, and at least one (ours; the paper has no limit)",
    "reference": "the first annotated frame that shows minimum_instances large instances of the "
    "class (paper: the first frame, after dropping those without)",
    "objects": "all instances of the class that are large in the reference (paper: not said)",
    "others": "instances of the class that are small in the reference or enter later are not "
    "followed and not scored; a prediction that lies on one lies on another instance",
    "frames": "every annotated frame from the reference on, at the rate of the annotations (val "
    "and test: 1 per second), also where instances have left (paper: the rate is not said)",
    "masks": "as annotated, by people or, in train, in part by a program; where two overlap, the "
    "smaller one is in front",
    "image_object": "per video, the scored instance that is large in most frames after the "
    "reference with minimum_instances large instances of the class; the lowest id among equals",
    "image_frames": "the reference and two of those frames, drawn once: the two with the lowest "
    "sha256 of <seed>/<video>/<frame>; a video with fewer has no part in images and retrieval "
    "(paper: three frames chosen at random once)",
    "pairs": "the reference with each of its two targets (released code: with the first only)",
    "retrieval": "query: the reference; gallery: the three frames of every video, without the "
    "query itself; relevant: the two other frames of the same video (paper: 450 images for 150 "
    "queries)",
}


@dataclass(frozen=True, slots=True)
class Choices:
    """The settings of a PerMIS list.

    Attributes:
        dropped_sources: Source data sets that are left out; upper and lower case do not matter. The
            default is that of the released code; the paper does not mention it.
        minimum_instances: Of one class in one frame; 2 or more. 2 in the paper.
        minimum_area_share: Of the frame's pixels; 0.001 is 30x30 pixels at 1280x720.
        seed: For the frames of the image tasks.
    """

    dropped_sources: tuple[str, ...] = ("AVA", "HACS", "LaSOT")
    minimum_instances: int = 2
    minimum_area_share: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        if self.minimum_instances < 2:
            raise ValueError(f"minimum_instances: 2 or more, not {self.minimum_instances}")
        if not 0 <= self.minimum_area_share < 1:
            raise ValueError(f"minimum_area_share: 0 up to 1, not {self.minimum_area_share}")


def build_permis_list(
    annotations: Sequence[str | Path], images: str | Path, choices: Choices | None = None
) -> PermisList:
    """Build the list from all splits at once.

    The same files, in any order, and the same choices give the same list.

    Args:
        annotations: BURST files with all classes, one per split.
        images: Root folder of the images, `<split>/<data set>/<sequence>/<image>` below it.
        choices: The settings; None for the defaults.

    Returns:
        The list, not yet written.

    Raises:
        EvaluationError: If a file cannot be used, a sequence is given twice, no video is left, or
            images are missing or have another size than their masks.
        ValueError: If no annotation file is given.
    """
    if not annotations:
        raise ValueError("annotations needs at least one BURST file")
    choices = choices or Choices()
    bursts = {Path(path): read_burst(path) for path in annotations}
    sequences = _gather(bursts)
    names = _unique_names(sequences)
    left_out: Counter[str] = Counter()
    videos: list[PermisVideo] = []
    automatic_masks = 0
    dropped = {source.casefold() for source in choices.dropped_sources}
    for key in sorted(sequences):
        sequence, category_names = sequences[key]
        if sequence.dataset.casefold() in dropped:
            left_out["source dropped"] += 1
            continue
        selected = _select(sequence, choices)
        if isinstance(selected, str):
            left_out[selected] += 1
            continue
        video = _make_video(names[key], key[0], sequence, selected, category_names, choices)
        automatic_masks += _count_automatic(sequence, selected, video)
        videos.append(video)
    if not videos:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise EvaluationError(
            f"{', '.join(map(str, annotations))}: no video is left ({reasons or 'no sequence'})",
            "give files with all classes, or drop fewer sources",
        )
    _check_images(videos, Path(images))
    videos.sort(key=lambda video: video.name)
    return PermisList(
        choices=asdict(choices)
        | {"dropped_sources": sorted(choices.dropped_sources), "rules": RULES},
        sources=_describe_sources(bursts),
        counts=_count(videos, len(sequences), left_out, automatic_masks),
        videos=tuple(videos),
    )


# --- selection -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Selected:
    """The part of a sequence that enters the list.

    Attributes:
        category: Id of the class.
        reference: Position of the reference among the annotated frames.
        tracks: Id in the list -> track; the scored ones come first.
        scored: The number of scored instances.
        fit_frames: For each scored id, the frames after the reference, counted from it, in which
            it is one of at least minimum_instances large instances.
    """

    category: int
    reference: int
    tracks: Mapping[int, int]
    scored: int
    fit_frames: Mapping[int, tuple[int, ...]]


def _select(sequence: BurstSequence, choices: Choices) -> _Selected | str:
    """Choose class, reference and instances, or say why the sequence is left out."""
    areas = [
        {t: mask_area_px(m.counts, sequence.height, sequence.width) for t, m in masks.items()}
        for masks in sequence.masks
    ]
    large_px = max(1, choices.minimum_area_share * sequence.height * sequence.width)
    large = [{t for t, area in frame.items() if area >= large_px} for frame in areas]
    tracks_of: dict[int, set[int]] = {}
    for track, category in sequence.categories.items():
        tracks_of.setdefault(category, set()).add(track)
    crowded = {
        category: [i for i, f in enumerate(large) if len(f & tracks) >= choices.minimum_instances]
        for category, tracks in tracks_of.items()
    }
    category = max(crowded, key=lambda c: (len(crowded[c]), len(tracks_of[c]), -c), default=None)
    if category is None or not crowded[category]:
        return f"without {choices.minimum_instances} large instances of a class in one frame"
    reference = crowded[category][0]
    if reference == len(areas) - 1:
        return "without a frame after the reference"
    scored = sorted(large[reference] & tracks_of[category])
    seen = {track for frame in areas[reference:] for track, area in frame.items() if area}
    others = sorted((seen & tracks_of[category]).difference(scored))
    return _Selected(
        category=category,
        reference=reference,
        tracks=dict(enumerate(scored + others, start=1)),
        scored=len(scored),
        fit_frames={
            i: tuple(f - reference for f in crowded[category][1:] if track in large[f])
            for i, track in enumerate(scored, start=1)
        },
    )


def _make_video(
    name: str,
    split: str,
    sequence: BurstSequence,
    selected: _Selected,
    category_names: Mapping[int, str],
    choices: Choices,
) -> PermisVideo:
    if len(selected.tracks) > MAX_OBJECT_ID:
        raise EvaluationError(
            f"{name}: {len(selected.tracks)} instances of "
            f"{category_names[selected.category]!r}, and a mask has room for {MAX_OBJECT_ID}",
            "leave this sequence out of the annotations",
        )
    ids = {track: i for i, track in selected.tracks.items()}
    folder = f"{split}/{sequence.dataset}/{sequence.name}"
    images = sequence.annotated_images[selected.reference :]
    return PermisVideo(
        name=name,
        images=tuple(f"{folder}/{image}" for image in images),
        height=sequence.height,
        width=sequence.width,
        category=category_names[selected.category],
        object_ids=tuple(range(1, selected.scored + 1)),
        other_ids=tuple(range(selected.scored + 1, len(selected.tracks) + 1)),
        tracks=selected.tracks,
        masks=tuple(
            {ids[track]: mask.counts for track, mask in masks.items() if track in ids}
            for masks in sequence.masks[selected.reference :]
        ),
        exhaustive=selected.category not in sequence.not_exhaustive_category_ids,
        image_part=_draw_frames(name, images, selected.fit_frames, choices.seed),
    )


def _draw_frames(
    name: str, images: Sequence[str], fit_frames: Mapping[int, tuple[int, ...]], seed: int
) -> ImagePart | None:
    # Hashes instead of a random generator: the frames of a video depend neither on other videos
    # nor on the version of a library.
    object_id = max(fit_frames, key=lambda i: (len(fit_frames[i]), -i))
    if len(fit_frames[object_id]) < 2:
        return None
    drawn = sorted(
        fit_frames[object_id],
        key=lambda f: hashlib.sha256(f"{seed}/{name}/{images[f]}".encode()).digest(),
    )
    first, second = drawn[:2]
    return ImagePart(object_id, (first, second))


# --- all sequences -------------------------------------------------------------------------------

_Key = tuple[str, str, str]
_Sequences = dict[_Key, tuple[BurstSequence, Mapping[int, str]]]


def _gather(bursts: Mapping[Path, Burst]) -> _Sequences:
    """Collect the sequences of all files by split, data set and name, with their category names."""
    gathered: _Sequences = {}
    origin: dict[_Key, Path] = {}
    for path, burst in bursts.items():
        for sequence in burst.sequences:
            key = (burst.split, sequence.dataset, sequence.name)
            if key in gathered:
                raise EvaluationError(
                    f"{path}: sequence {'/'.join(key)} is also in {origin[key]}",
                    "give each split once, as the file with all classes",
                )
            gathered[key] = (sequence, burst.category_names)
            origin[key] = path
    return gathered


def _unique_names(keys: Iterable[_Key]) -> dict[_Key, str]:
    """Make a folder name for each key, unique even where upper and lower case are the same."""
    names: dict[_Key, str] = {}
    taken: set[str] = set()
    for key in sorted(keys):
        name = plain = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(key)).lstrip(".")
        count = 1
        while name.casefold() in taken:
            count += 1
            name = f"{plain}-{count}"
        taken.add(name.casefold())
        names[key] = name
    return names


def _count_automatic(sequence: BurstSequence, selected: _Selected, video: PermisVideo) -> int:
    scored = {video.tracks[i] for i in video.object_ids}
    frames = sequence.masks[selected.reference :]
    return sum(
        mask.is_gt is False for masks in frames for track, mask in masks.items() if track in scored
    )


def _describe_sources(bursts: Mapping[Path, Burst]) -> tuple[Mapping[str, Any], ...]:
    sources = [
        {
            "split": burst.split,
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "sequences": len(burst.sequences),
        }
        for path, burst in bursts.items()
    ]
    return tuple(sorted(sources, key=lambda source: (source["split"], source["sha256"])))


def _count(
    videos: Sequence[PermisVideo], sequences: int, left_out: Mapping[str, int], automatic_masks: int
) -> dict[str, Any]:
    return {
        "sequences": sequences,
        "left_out": dict(sorted(left_out.items())),
        "videos": len(videos),
        "objects": sum(len(video.object_ids) for video in videos),
        "other_instances": sum(len(video.other_ids) for video in videos),
        "scored_frames": sum(len(video.images) - 1 for video in videos),
        "videos_with_images": sum(video.image_part is not None for video in videos),
        "videos_not_exhaustive": sum(not video.exhaustive for video in videos),
        "scored_masks_by_a_program": automatic_masks,
        "videos_per_category": dict(sorted(Counter(v.category for v in videos).items())),
    }


def _check_images(videos: Sequence[PermisVideo], root: Path) -> None:
    missing = [i for video in videos for i in video.images if not os.path.isfile(root / i)]
    if missing:
        total = sum(len(video.images) for video in videos)
        raise EvaluationError(
            f"{root}: {len(missing)} of {total} images are missing: "
            f"{', '.join(missing[:_LISTED])}{', ...' if len(missing) > _LISTED else ''}",
            "give the folder with <split>/<data set>/<sequence>/<image> below it",
        )
    for video in videos:
        path = root / video.images[0]
        try:
            with Image.open(path) as image:
                size = image.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise EvaluationError(f"{path}: no readable image", "download it again") from error
        if size != (video.width, video.height):
            raise EvaluationError(
                f"{path}: {size[0]}x{size[1]} pixels, its masks {video.width}x{video.height}",
                "give the images at the size of the annotations",
            )

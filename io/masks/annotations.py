"""Reference masks in the JSON of annotation tools: COCO, YouTube-VIS, and this program's own."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco

from propagate.errors import MaskError
from propagate.io.decode.pixel_limit import TOO_LARGE_HINT, too_large
from propagate.io.masks.masks_json import FORMAT, read_masks_json
from propagate.io.masks.places import number_in, places_by_name
from propagate.io.masks.reading import MaskReading
from propagate.io.masks.rle import decode_mask
from propagate.records import MAX_OBJECT_ID, Mask

_READ = "COCO, YouTube-VIS, and masks.json of this program are read"
# Larger files are not annotations of one video.
_MOST_BYTES = 2**30


def read_annotations(
    path: str | Path,
    *,
    frame: int = 0,
    frame_names: Sequence[str] | None = None,
    video: str = "",
    reading: MaskReading | None = None,
) -> dict[int, Mask]:
    """Read the reference masks of a video from a JSON file.

    COCO: the frame of an image is the one that `file_name` names (see `places_by_name`); if the
    only annotated image has a name without a number, it is `frame`. Objects are told apart by
    `track_id` or `instance_id`, else by their category, if no image has one category twice; in one
    image each annotation is an object. YouTube-VIS: an annotation is an object; frames without
    objects are not references. Track ids from 1 to 254 are kept; else objects are numbered from 1
    in the order of their ids.

    Args:
        path: The file.
        frame: See above.
        frame_names: Names of the frames; None: frames have no names but their numbers.
        video: Name of the video, where a file is about several.
        reading: Limits the size; None: as `MaskReading()` says.

    Returns:
        The masks by frame, in increasing order, with the names of their objects.

    Raises:
        MaskError: The file cannot be read, has another format, or does not say which object is
            which.
    """
    path, reading = Path(path), reading or MaskReading()
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise MaskError(f"{path}: more than {_MOST_BYTES} bytes", "give the JSON of one video")
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise MaskError(f"{path}: no readable JSON ({error})", _READ) from error
    if isinstance(content, dict) and content.get("format") == FORMAT:
        own = read_masks_json(path)
        named = {name: own.masks(name) for name in own.counts}
        layers = {name: masks for name, masks in named.items() if masks}
        return _placed(path, layers, {}, frame, frame_names)
    try:
        if isinstance(content, dict) and isinstance(content.get("videos"), list):
            layers, names = _of_youtube_vis(path, content, video, reading)
        elif isinstance(content, dict) and isinstance(content.get("images"), list):
            layers, names = _of_coco(path, content, reading)
        else:
            raise MaskError(f"{path}: {_kind(content)}", f"{_READ}; export one of these")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise MaskError(
            f"{path}: damaged annotations ({type(error).__name__}: {error})", _READ
        ) from error
    return _placed(path, layers, names, frame, frame_names)


Layers = dict[str, dict[int, np.ndarray]]


def _of_coco(
    path: Path, content: Mapping[str, Any], reading: MaskReading
) -> tuple[Layers, dict[int, str]]:
    """Return the layers (H, W) bool of each image, by its stem, and the names of objects."""
    images = {image["id"]: image for image in content["images"]}
    categories = {c["id"]: str(c["name"]) for c in content.get("categories", [])}
    annotations = sorted(content.get("annotations", []), key=lambda one: one["id"])
    annotations = [one for one in annotations if one.get("segmentation")]
    if not annotations:
        raise MaskError(f"{path}: no annotation with a segmentation", "export masks, not boxes")
    keys, are_ids = _identities(path, annotations)
    ids = _numbered(path, keys, keep=are_ids)
    layers: Layers = {}
    names: dict[int, str] = {}
    for one, key in zip(annotations, keys, strict=True):
        image = images.get(one["image_id"])
        if image is None:
            raise MaskError(
                f"{path}: annotation {one['id']} is of the image {one['image_id']}, which is not "
                "among its images",
                "export the images with the annotations",
            )
        size = _size(path, image, reading)
        of_image = layers.setdefault(PurePosixPath(image["file_name"]).stem, {})
        pixels = _segmentation(one["segmentation"], *size)
        number = ids[key]
        of_image[number] = of_image[number] | pixels if number in of_image else pixels
        if one.get("category_id") in categories:
            names.setdefault(number, categories[one["category_id"]])
    return layers, names


def _identities(path: Path, annotations: Sequence[Mapping[str, Any]]) -> tuple[list[Any], bool]:
    """Return what tells the object of each annotation apart, and whether that is an object's id."""

    def of(one: Mapping[str, Any], name: str) -> Any:
        return one.get(name, (one.get("attributes") or {}).get(name))

    for name in ("track_id", "instance_id"):
        found = [of(one, name) for one in annotations]
        if all(isinstance(value, int | str) for value in found):
            return found, True
    if len({one["image_id"] for one in annotations}) == 1:
        return [one["id"] for one in annotations], False
    per_image = Counter((one["image_id"], one["category_id"]) for one in annotations)
    if max(per_image.values()) == 1:
        return [one["category_id"] for one in annotations], False
    raise MaskError(
        f"{path}: several images without track_id, so nothing says which object is which",
        "export with track ids, or give the annotations of one image",
    )


def _of_youtube_vis(
    path: Path, content: Mapping[str, Any], video: str, reading: MaskReading
) -> tuple[Layers, dict[int, str]]:
    videos = content["videos"]

    def name_of(one: Mapping[str, Any]) -> str:
        return str(one.get("name") or PurePosixPath(one["file_names"][0]).parent.name)

    chosen = videos if len(videos) == 1 else [one for one in videos if name_of(one) == video]
    if len(chosen) != 1:
        known = ", ".join(name_of(one) for one in videos[:5])
        raise MaskError(
            f"{path}: about {len(videos)} videos ({known}), none or several named {video!r}",
            "give the file of one video, or name the video as it is named there",
        )
    info = chosen[0]
    categories = {c["id"]: str(c["name"]) for c in content.get("categories", [])}
    annotations = [one for one in content["annotations"] if one["video_id"] == info["id"]]
    annotations.sort(key=lambda one: one["id"])
    ids = _numbered(path, [one["id"] for one in annotations], keep=False)
    size = _size(path, info, reading)
    layers: Layers = {}
    names: dict[int, str] = {}
    for one in annotations:
        number = ids[one["id"]]
        for file, segmentation in zip(info["file_names"], one["segmentations"], strict=True):
            if segmentation:
                stem = PurePosixPath(file).stem
                layers.setdefault(stem, {})[number] = _segmentation(segmentation, *size)
        if one.get("category_id") in categories:
            names[number] = categories[one["category_id"]]
    if not layers:
        raise MaskError(f"{path}: no segmentation of {name_of(info)}", "export masks, not boxes")
    return layers, names


def _numbered(path: Path, keys: Sequence[Any], *, keep: bool) -> dict[Any, int]:
    """Give each object an id: its own where all are 1..254, else 1, 2, ... in order."""
    distinct = list(dict.fromkeys(keys))
    if len(distinct) > MAX_OBJECT_ID:
        raise MaskError(f"{path}: {len(distinct)} objects, at most {MAX_OBJECT_ID} are possible")
    if keep and all(isinstance(key, int) and 1 <= key <= MAX_OBJECT_ID for key in distinct):
        return {key: key for key in distinct}
    if all(isinstance(key, int) for key in distinct):
        distinct.sort()
    return {key: number for number, key in enumerate(distinct, 1)}


def _size(path: Path, image: Mapping[str, Any], reading: MaskReading) -> tuple[int, int]:
    height, width = int(image["height"]), int(image["width"])
    if height < 1 or width < 1 or height * width > reading.max_pixels:
        raise MaskError(f"{path}: {too_large(width, height, reading.max_pixels)}", TOO_LARGE_HINT)
    return height, width


def _segmentation(given: Any, height: int, width: int) -> np.ndarray:
    """Draw polygons, or decode run lengths: (H, W) bool.

    Raises:
        ValueError: They are damaged, or of another size.
    """
    if isinstance(given, Mapping):
        if list(given["size"]) != [height, width]:
            raise ValueError(f"run lengths of {given['size']} in an image of {[height, width]}")
        counts = given["counts"]
        if isinstance(counts, str):
            return decode_mask(counts, height, width)
        runs = np.array(counts, np.int64)
        if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
            raise ValueError("run lengths do not fill the image")
        return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(width, height).T
    polygons = [np.array(polygon, float) for polygon in given]
    for polygon in polygons:
        if (
            polygon.ndim != 1
            or polygon.size < 6
            or polygon.size % 2
            or not np.isfinite(polygon).all()
        ):
            raise ValueError("a polygon is a list x, y, x, y, x, y, ...")
        if polygon.size == 0 or np.abs(polygon).max() > 10 * max(height, width):
            raise ValueError("a polygon lies far outside its image")
    encoded: Any = coco.frPyObjects([polygon.tolist() for polygon in polygons], height, width)
    joined: Any = coco.merge(encoded)
    return decode_mask(joined["counts"].decode("ascii"), height, width)


def _placed(
    path: Path,
    layers: Layers,
    names: Mapping[int, str],
    frame: int,
    frame_names: Sequence[str] | None,
) -> dict[int, Mask]:
    """Join the layers of each image, and find the frame of each."""
    stems = list(layers)
    if len(stems) == 1 and number_in(stems[0]) is None and stems[0] not in (frame_names or ()):
        indices, notes = [frame], [""]
    else:
        places = places_by_name(stems, frame_names)
        indices, notes = [place.index for place in places], [place.note for place in places]
    masks: dict[int, Mask] = {}
    for stem, index, note in sorted(zip(stems, indices, notes, strict=True), key=lambda x: x[1]):
        ids: np.ndarray | None = None
        overlap = 0
        for number, pixels in layers[stem].items():
            ids = np.zeros(pixels.shape, np.uint8) if ids is None else ids
            if pixels.shape != ids.shape:
                raise MaskError(f"{path}: masks of {stem} have different sizes")
            overlap += np.count_nonzero(ids[pixels])
            ids[pixels] = number
        assert ids is not None
        said = [note] if note else []
        if overlap:
            said.append(f"{overlap} pixels of two objects go to the later one")
        masks[index] = Mask(
            ids, source=f"{path} ({stem})", notes=tuple(said), names={i: names[i] for i in names}
        )
    return masks


def _kind(content: Any) -> str:
    """Name the format of a JSON file that is not read."""
    first = content[0] if isinstance(content, list) and content else content
    keys = set(first) if isinstance(first, dict) else set()
    if "shapes" in keys:
        return "JSON of LabelMe"
    if {"annotations", "completions"} & keys and "data" in keys:
        return "JSON of Label Studio"
    if "_via_img_metadata" in keys or any(
        isinstance(value, dict) and "regions" in value
        for value in (first.values() if isinstance(first, dict) else ())
    ):
        return "JSON of the VGG Image Annotator"
    if {"objects", "size"} <= keys:
        return "JSON of Supervisely"
    if "annotations" in keys and "sequences" in content:
        return "JSON of BURST"
    return "JSON of an unknown format"

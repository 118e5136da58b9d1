"""Instances of one labelled picture, found in other single pictures.

Three ways from features to a mask. They say what is done with features; which features those are is
the recipe's affair (`features/recipes.py`).

    default    votes of the reference's cells and the class map, calibrated (`instance.py`)
    paper      equations 1 to 7 of PDM, literally
    official   the votes of PDM's released code

By import, the model, its recipe and precision, and the size in `config` are the caller's choice.
`PUBLISHED` holds those that belong to `paper` and `official`; the command line brings them along.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from skimage.measure import label

from propagate.config import Config
from propagate.features.backbone import Backbone
from propagate.features.extract import Image, frame_pixels
from propagate.features.reading import CROSS_QUERIES, KEYS, QUERIES
from propagate.features.registry import as_backbone
from propagate.images.instance import (
    INSTANCE_SETTINGS,
    PictureFeatures,
    class_token,
    instance_map,
    label_reference,
    learn_instance,
    read_pictures,
)
from propagate.images.pdm import fused_map, prototype, similarity_map, vote_map
from propagate.images.target import learn_target
from propagate.matchers import MaskSettings
from propagate.matching.labels import ids_from_labels
from propagate.records import Mask

if TYPE_CHECKING:
    from propagate.features.unet import DiffusionBackbone

Method = Literal["default", "paper", "official"]


@dataclass(frozen=True, slots=True)
class Published:
    """What a method was published with.

    Attributes:
        recipe: A key of `RECIPES`, for Stable Diffusion.
        short_side_px: For `Config.short_side_px`; both use squares of this size.
        dtype: For `load_backbone`.
    """

    recipe: str
    short_side_px: int
    dtype: str


PUBLISHED: Mapping[str, Published] = {
    "paper": Published("paper", 512, "float32"),
    "official": Published("official", 512, "float32"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The result for one picture.

    Attributes:
        mask: (H, W) uint8 object ids, 0 background.
        scores: Per object id: how surely the picture shows it. "default": `Target.score`, 0..1.
            "paper": the mean of S_DF, which the paper ranks by; it has no scale. "official": the
            mean of the vote map, 0..1.
        present: Per object id: whether the picture shows it, which is whether the mask has a pixel
            of the object. Only "default" leaves an object out by its score.
        maps: Per object id: (h, w) float32, what the masks are made of; 0.5 is the boundary.
    """

    mask: np.ndarray
    scores: dict[int, float]
    present: dict[int, bool]
    maps: dict[int, np.ndarray]


# The map of a picture, with 0.5 at the boundary, and the score.
MapAndScore = tuple[torch.Tensor, float]
Find = Callable[[PictureFeatures], MapAndScore]


class Segmenter:
    """Marks the instances of one labelled picture in other pictures."""

    def __init__(
        self,
        model: str | Backbone,
        image: Image,
        mask: Mask | np.ndarray | None,
        *,
        class_name: str | None = None,
        method: Method = "default",
        present_from: float | None = None,
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "auto",
        compile: bool = False,
        config: Config | None = None,
    ) -> None:
        """Learn the instances.

        Args:
            model: A model name, see `Propagator`, or a loaded backbone, for example
                `Propagator.backbone`. If a class is named, the backbone must have been loaded with
                it.
            image: (H, W, 3) uint8 RGB.
            mask: (H, W) ids, as `Session.step` takes them. None: one object, id 1, which is found
                by its class name (eq. 3).
            class_name: What the objects are, for models that take text. "official" has no classes:
                there the name is used only to find the object where there is no mask, and a model
                that is given by name then gets the template as its prompt.
            method: "default", "paper" or "official".
            present_from: For "default", the lowest score of a picture that shows an object; None:
                `InstanceSettings.appears_from`; 0: every picture shows every object.
            device, dtype, engine, compile: See `Propagator`; not used for a loaded backbone.
            config: The size at which pictures are read, and whether colours count. They only count
                in "default".

        Raises:
            MaskError: The mask cannot be used or has another size, or the class is not found.
            ModelError: A class is named, but the model takes no text.
            ValueError: There is neither a mask nor a class name, or no such method.
        """
        if mask is None and class_name is None:
            raise ValueError("mask: needed where no class is named")
        if method not in get_args(Method):
            raise ValueError(f"method: {', '.join(get_args(Method))}, not {method!r}")
        config = config or Config()
        # The released code uses no classes.
        named = class_name if mask is None or method != "official" else None
        backbone = as_backbone(
            model,
            device=device,
            dtype=dtype,
            engine=engine,
            compile=compile,
            config=replace(config, class_names={1: class_name}) if named else config,
        )
        parts = 1
        if method == "official":
            # Imported here, because diffusers takes seconds and `color` does not need it.
            from propagate.features.unet import DiffusionBackbone

            # The released code keeps queries and keys apart.
            if isinstance(backbone, DiffusionBackbone) and backbone.reading.tensor == "qk":
                backbone, parts = _QueriesAndKeys(backbone), 2
        if method != "default":
            config = replace(config, matcher=config.matcher.without_colors())
        self._backbone, self._config = backbone, config
        self._method, self._class_name = method, class_name
        usual = INSTANCE_SETTINGS.appears_from
        self._present_from = usual if present_from is None else present_from
        self._semantic = named is not None
        reference = self._read(image)
        token = None if named is None else class_token(backbone, named)
        size = frame_pixels(image).shape
        labels, self._object_ids = label_reference(
            reference, (size[0], size[1]), mask, token, class_name
        )
        if method == "official":
            self._semantic = False
        learn = {"default": _calibrated, "paper": _paper, "official": partial(_votes, parts=parts)}
        self._finds: list[Find] = []
        for own in labels[..., 1:].unbind(-1):
            # A void cell is neither instance nor background.
            self._finds.append(learn[method](reference, own, labels.sum(-1) - own, token))

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects to search for."""
        return self._object_ids

    @property
    def settings(self) -> dict[str, Any]:
        """Everything besides model, pictures and masks that decides a result, as plain values."""
        return {
            "method": self._method,
            "present_from": self._present_from if self._method == "default" else None,
            "class_name": self._class_name,
            "config": self._config.to_json(),
            "instance": asdict(INSTANCE_SETTINGS),
        }

    def segment(self, image: Image) -> Segmentation:
        """Mark the instances in a picture.

        The maps are enlarged to the picture. A pixel belongs to the instance with the highest map
        there, if that is above 0.5, and else to the background. "default" then drops specks, and
        the objects that the picture does not show.

        Args:
            image: (H, W, 3) uint8 RGB, of any size.

        Raises:
            DeviceError: It does not fit into the device's memory.
        """
        height, width = frame_pixels(image).shape[:2]
        picture = self._read(image)
        maps, scores = zip(*(find(picture) for find in self._finds), strict=True)
        labels = torch.stack(
            [torch.full_like(maps[0], INSTANCE_SETTINGS.boundary), *maps], dim=-1
        )  # (h, w, 1 + K)
        ids, _, _ = ids_from_labels(
            labels, self._object_ids, (height, width), MaskSettings(), self._backbone.stride
        )
        arrays = [found.float().cpu().numpy() for found in maps]
        mask = ids.cpu().numpy()
        present = dict.fromkeys(self._object_ids, True)
        if self._method == "default":
            for object_id, score in zip(self._object_ids, scores, strict=True):
                present[object_id] = score >= self._present_from
                own = mask == object_id
                kept = without_specks(own) if present[object_id] else np.zeros_like(own)
                mask[own & ~kept] = 0
        present = {i: is_shown and bool((mask == i).any()) for i, is_shown in present.items()}
        return Segmentation(
            mask=mask,
            scores=dict(zip(self._object_ids, scores, strict=True)),
            present=present,
            maps=dict(zip(self._object_ids, arrays, strict=True)),
        )

    def _read(self, image: Image) -> PictureFeatures:
        pixels = frame_pixels(image).cpu().numpy()
        return read_pictures(self._backbone, self._config, [pixels], self._semantic)[0]


def find_by_class(
    backbone: Backbone, image: Image, class_name: str, config: Config | None = None
) -> Mask:
    """Find an object by its class (eq. 3), as a mask for a `Segmenter` that uses no classes.

    Args:
        backbone: Loaded with the class.
        image: (H, W, 3) uint8 RGB.
        class_name: What the object is.
        config: The size at which the picture is read.

    Returns:
        One object, id 1, in whole cells.

    Raises:
        MaskError: The class is not found.
        ModelError: The model takes no text.
    """
    pixels = frame_pixels(image).cpu().numpy()
    picture = read_pictures(backbone, config or Config(), [pixels], semantic=True)[0]
    size = pixels.shape[0], pixels.shape[1]
    token = class_token(backbone, class_name)
    labels, _ = label_reference(picture, size, None, token, class_name)
    cells = labels[..., 1][None, None]
    ids = F.interpolate(cells, size, mode="nearest-exact")[0, 0].byte().cpu().numpy()
    return Mask(ids, source=f"class {class_name!r} of the reference")


def without_specks(mask: np.ndarray) -> np.ndarray:
    """Drop the parts of a mask, (H, W) bool, that are small beside its largest part."""
    parts = np.asarray(label(mask, connectivity=2))
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return (areas >= INSTANCE_SETTINGS.speck_share * areas.max())[parts] & mask


def _calibrated(
    reference: PictureFeatures, own: torch.Tensor, others: torch.Tensor, token: torch.Tensor | None
) -> Find:
    target = learn_target(learn_instance(reference, own, token, others))

    def find(picture: PictureFeatures) -> MapAndScore:
        return instance_map(picture, target.instance), target.score(picture)

    return find


def _paper(
    reference: PictureFeatures, own: torch.Tensor, others: torch.Tensor, token: torch.Tensor | None
) -> Find:
    """Use equations 4 to 7; without a class, S_A alone.

    The paper gives no threshold between instance and background. Here it is the middle between the
    lowest and the highest value of the picture, so the instance is always found somewhere.
    """
    instance = prototype(reference.appearance, _mostly(own))

    def find(picture: PictureFeatures) -> MapAndScore:
        s_df = similarity_map(picture.appearance, instance)
        if token is not None and picture.semantic is not None:
            s_df = fused_map(s_df, similarity_map(picture.semantic, token))
        low, high = s_df.aminmax()
        return (s_df - low) / (high - low).clamp_min(1e-12), float(s_df.mean())

    return find


def _votes(
    reference: PictureFeatures,
    own: torch.Tensor,
    others: torch.Tensor,
    token: torch.Tensor | None,
    parts: int,
) -> Find:
    """Use the mean of the vote maps of queries and keys, or one map of other features.

    The released code takes the best cell of each map as a point for SAM. Without SAM, the boundary
    is at half of the most votes.
    """
    mask = _mostly(own)
    known = reference.appearance.chunk(parts)

    def find(picture: PictureFeatures) -> MapAndScore:
        votes = min(INSTANCE_SETTINGS.official_votes, picture.appearance[0].numel())
        pairs = zip(known, picture.appearance.chunk(parts), strict=True)
        maps = [vote_map(of_reference, mask, of_target, votes) for of_reference, of_target in pairs]
        found = torch.stack(maps).mean(0)
        return found, float(found.mean())

    return find


def _mostly(share: torch.Tensor) -> torch.Tensor:
    """Mark cells with at least half of the largest share: an instance may be tiny."""
    return share >= 0.5 * share.max()


class _QueriesAndKeys:
    """A backbone that gives queries and keys joined, not their mean."""

    def __init__(self, backbone: "DiffusionBackbone") -> None:
        self._backbone = backbone
        self.name, self.device = backbone.name, backbone.device
        self.stride, self.multiple = backbone.stride, backbone.multiple
        self.channels, self.reading = 2 * backbone.channels, backbone.reading
        self.class_tokens = backbone.class_tokens

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat(self._backbone.read(images, [QUERIES, KEYS]), dim=1)

    def extract_both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        queries, keys, semantic = self._backbone.read(images, [QUERIES, KEYS, CROSS_QUERIES])
        return torch.cat([queries, keys], dim=1), semantic

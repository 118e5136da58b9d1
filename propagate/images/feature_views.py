"""Videos of features: principal components as colours, and similarity as heat.

h w   grid of the features          H W   pixels of a frame
C     channels                      K     objects
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import islice
from os import PathLike
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from propagate.config import MATCHERS, Config
from propagate.errors import VideoError
from propagate.features.backbone import Backbone
from propagate.features.extract import extract_features
from propagate.features.read_ahead import with_features
from propagate.io.decode.one_frame import read_frame
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.source import Source
from propagate.io.decode.video import open_source
from propagate.io.masks.given import as_mask
from propagate.io.masks.ids import check_object, check_size
from propagate.io.write.files import WholeFile, guard_output_folder, refuse_existing
from propagate.io.write.panels import draw_caption, fitted_size
from propagate.io.write.video import VideoWriter
from propagate.matching.appearance import appearance_floor, appearance_map, instance_prototypes
from propagate.matching.cells import channel_statistics, normalize
from propagate.matching.labels import labels_from_ids
from propagate.records import Frame, Mask, Progress

Draw = Callable[[Frame, torch.Tensor], list[np.ndarray]]

PCA_VIDEO = "pca.mp4"
SIMILARITY_VIDEO = "similarity.mp4"
# Without colours, so that the videos show only what the model sees.
CONFIG = Config(matcher=MATCHERS["default"].without_colors())
# Each component's range on the fitted frame, without its rare extremes.
RANGE = (0.02, 0.98)
# A component with less than this share of the range of the first is rounding, and stays grey.
LEAST_RANGE = 1e-3
# Quantile of the cosines of an object's own cells on the fitted frame that counts as similarity 1.
FULL_QUANTILE = 0.9
# Largest height and width of a video: players and hardware decoders end at about 4K.
VIDEO_LIMIT = (2160, 3840)
# Brightness of the frame under no heat, and how much full heat covers of it.
FRAME_DIMMED = 0.6
HEAT_COVER = 0.85
# Colours of heat from similarity 0 to the similarity of the instance itself, 1.
HEAT_LEVELS = (0.0, 0.3, 0.6, 0.8, 1.0)
HEAT_COLORS = ((0, 0, 0), (70, 15, 110), (200, 40, 80), (245, 130, 30), (255, 240, 150))


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The first three principal components of a frame's features.

    Attributes:
        mean: (C,) over the cells.
        directions: (C, 3) of length one, the one of largest variance first; the largest entry of
            each is positive.
        low, high: (3,) where colours are 0 and 255.
    """

    mean: torch.Tensor
    directions: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """How the similarity of cells to the objects of a frame is measured.

    Attributes:
        mean, scale: (C,) by which features are standardised.
        prototypes: (K, C) of length one.
        full: (K,) the cosine that counts as 1: a high one among the object's own cells.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    prototypes: torch.Tensor
    full: torch.Tensor


@dataclass(frozen=True, slots=True)
class FeatureVideos:
    """The files that were written.

    Attributes:
        folder: Where it is.
        written: Names of the files.
        frames: How many frames each shows.
    """

    folder: Path
    written: tuple[str, ...]
    frames: int


def fit_components(features: torch.Tensor) -> Components:
    """Find the three directions in which the features of a frame vary most.

    Args:
        features: (C, h, w), C at least 3.
    """
    # In float64 on the CPU, so that the colours are the same on every device.
    cells = features.flatten(1).T.double().cpu()  # (hw, C)
    mean = cells.mean(0)
    centred = cells - mean
    # eigh gives the smallest eigenvalue first.
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -3:].flip(1)  # (C, 3)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))  # (1, 3)
    directions = vectors * largest.sign()
    low, high = (centred @ directions).quantile(torch.tensor(RANGE, dtype=torch.float64), dim=0)
    like = features.new_zeros(())
    return Components(*(part.to(like) for part in (mean, directions, low, high)))


def component_colors(features: torch.Tensor, components: Components) -> np.ndarray:
    """Turn features (C, h, w) into colours (h, w, 3) uint8: one component per colour."""
    centred = features.permute(1, 2, 0) - components.mean  # (h, w, C)
    spread = components.high - components.low  # (3,)
    told = spread > LEAST_RANGE * spread.amax()
    shares = (centred @ components.directions - components.low) / torch.where(told, spread, 1)
    shares = torch.where(told, shares.clamp(0, 1), 0.5)  # (h, w, 3)
    return (255 * shares).round().byte().cpu().numpy()


def learn_likeness(features: torch.Tensor, mask: Mask) -> Likeness:
    """Learn the prototypes of the objects of a frame (PDM, eq. 4).

    Args:
        features: (C, h, w) of the frame.
        mask: Of the frame.
    """
    statistics = channel_statistics(features)
    cells = normalize(features, *statistics)  # (h, w, C)
    ids = torch.from_numpy(mask.ids).to(cells.device)
    grid = (cells.shape[0], cells.shape[1])
    labels = labels_from_ids(ids, list(mask.object_ids), grid, "share")[..., 1:]  # (h, w, K)
    prototypes = F.normalize(instance_prototypes(cells, labels), dim=-1)
    full = appearance_floor(appearance_map(cells, prototypes), labels, FULL_QUANTILE)
    return Likeness(*statistics, prototypes, full)


def similarity_maps(features: torch.Tensor, likeness: Likeness) -> torch.Tensor:
    """PDM's appearance similarity (eq. 5) to each object, on one scale for all frames.

    Args:
        features: (C, h, w) of any frame.
        likeness: From `learn_likeness`.

    Returns:
        (K, h, w) in 0..1. 0: no more similar than any cell. 1: as similar as the object itself.
    """
    cells = normalize(features, likeness.mean, likeness.scale)
    cosines = appearance_map(cells, likeness.prototypes)  # (h, w, K)
    return (cosines / likeness.full.clamp_min(1e-6)).clamp(0, 1).permute(2, 0, 1)


def draw_heat(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Draw a map over a frame as heat; more heat covers more of the darkened grey frame.

    Args:
        image: (H, W, 3) uint8, RGB.
        heat: (h, w) float32 in 0..1; enlarged to (H, W) by linear interpolation.

    Returns:
        (H, W, 3) uint8, RGB, a new array.
    """
    height, width, _ = image.shape
    large = Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR)
    levels = (255 * np.asarray(large)).round().astype(np.uint8)  # (H, W)
    grey = np.asarray(Image.fromarray(image).convert("L"))  # (H, W)
    colors, shown = _heat_table()
    return colors[levels] + (grey[..., None] * shown[levels][..., None]).astype(np.uint8)


def write_feature_videos(
    backbone: Backbone,
    source: Source,
    out: str | PathLike[str],
    *,
    mask: Mask | np.ndarray | None = None,
    frame: int = 0,
    source_options: SourceOptions | None = None,
    max_frames: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FeatureVideos:
    """Write `out/<name of the video>/pca.mp4` and, with a mask, `similarity.mp4`.

    `pca.mp4` shows each frame beside the first three principal components of its features, as red,
    green and blue. `similarity.mp4` shows it beside how like its features are to those of each
    object of the mask, a panel each. Both scales are fixed on one frame, so that a colour means the
    same all along.

    Args:
        backbone: Where features come from: `Propagator.backbone`.
        source: A video file or a folder of images.
        out: Folder for the folders of videos.
        mask: (H, W) ids of the frame `frame`, as `Session.step` takes them.
        frame: The frame that scales are fixed on, counted from 0; it is read ahead of the others.
        source_options: How it is opened, and which of its frames are shown; None: as it is.
        max_frames: Stop after so many.
        overwrite: Whether to replace the files of an earlier call.
        progress: Called after each batch with the frames done and about how many there are.

    Raises:
        VideoError: The source cannot be opened, breaks off, changes its size, or ends before the
            frame. Nothing is kept.
        MaskError: The mask has another size.
        OutputError: The files exist already, or cannot be written.
        ValueError: The number of the frame is negative.
    """
    if mask is not None:
        mask = as_mask(mask, f"mask of frame {frame}")
        check_object(mask)
    options = source_options or SourceOptions()
    fitted = read_frame(source, frame, options)
    if mask is not None:
        check_size(mask, *fitted.image.shape[:2])
    features = extract_features(backbone, CONFIG, [fitted])[0]
    draws: dict[str, Draw] = {PCA_VIDEO: partial(_draw_components, fit_components(features))}
    if mask is not None:
        likeness = learn_likeness(features, mask)
        draws[SIMILARITY_VIDEO] = partial(_draw_similarity, likeness, mask.object_ids)
    done = 0
    with open_source(source, options) as frames, ExitStack() as files:
        info = frames.info
        folder = Path(out) / info.name
        files.enter_context(_claimed(folder, overwrite))
        videos = [
            files.enter_context(PanelVideo(folder / name, draw(fitted, features), info.fps))
            for name, draw in draws.items()
        ]
        total = info.frame_count
        if max_frames is not None:
            total = min(max_frames, total or max_frames)
        with closing(_read(backbone, islice(frames, max_frames), fitted)) as read:
            for shown, features in read:
                for video, draw in zip(videos, draws.values(), strict=True):
                    video.write(draw(shown, features), shown.time)
                done += 1
                if progress is not None:
                    progress(done, total)
    return FeatureVideos(folder, tuple(draws), done)


class PanelVideo(WholeFile):
    """A video of panels side by side, all shrunk alike if they would be too large."""

    def __init__(self, path: Path, panels: Sequence[np.ndarray], fps: Fraction | None) -> None:
        """Start the file.

        Args:
            path: The mp4 file, in a folder that exists.
            panels: As they will come: so many, of this size.
            fps: See `VideoWriter`.

        Raises:
            OutputError: It cannot be written there.
        """
        self._columns = math.ceil(math.sqrt(len(panels)))
        self._rows = math.ceil(len(panels) / self._columns)
        limit = VIDEO_LIMIT[0] // self._rows, VIDEO_LIMIT[1] // self._columns
        height, width, _ = panels[0].shape
        self._height, self._width = fitted_size(height, width, limit)
        size = self._columns * self._width, self._rows * self._height
        self._video = VideoWriter(path, *size, fps)

    def write(self, panels: Sequence[np.ndarray], time: Fraction) -> None:
        """Add a frame: panels (H, W, 3) uint8 RGB, and its time in seconds."""
        picture = np.zeros(
            (self._rows * self._height, self._columns * self._width, 3), dtype=np.uint8
        )
        for i, panel in enumerate(panels):
            if panel.shape[:2] != (self._height, self._width):
                small = Image.fromarray(panel).resize((self._width, self._height))
                panel = np.asarray(small)
            top, left = i // self._columns * self._height, i % self._columns * self._width
            picture[top : top + self._height, left : left + self._width] = panel
        self._video.write(picture, time)

    def close(self) -> None:
        """Complete the file and move it to its final name; `OutputError` if that fails."""
        self._video.close()

    def discard(self) -> None:
        """Remove what was written."""
        self._video.discard()


def _draw_components(
    components: Components, frame: Frame, features: torch.Tensor
) -> list[np.ndarray]:
    height, width, _ = frame.image.shape
    colors = Image.fromarray(component_colors(features, components))
    # Each cell as one block: blurred, a coarse grid would look like a fine one.
    return [frame.image, np.asarray(colors.resize((width, height), Image.Resampling.NEAREST))]


def _draw_similarity(
    likeness: Likeness, object_ids: Sequence[int], frame: Frame, features: torch.Tensor
) -> list[np.ndarray]:
    maps = similarity_maps(features, likeness).cpu().numpy()
    heats = [
        draw_caption(draw_heat(frame.image, heat), f"object {i}")
        for i, heat in zip(object_ids, maps, strict=True)
    ]
    return [frame.image, *heats]


def _read(
    backbone: Backbone, frames: Iterable[Frame], fitted: Frame
) -> Generator[tuple[Frame, torch.Tensor], None, None]:
    """Give each frame with its features (C, h, w), computed in batches, read ahead."""
    with closing(with_features(frames, backbone, CONFIG)) as read:
        for frame, features in read:
            height, width, _ = frame.image.shape
            if frame.image.shape != fitted.image.shape:
                raise VideoError(
                    f"frame {frame.index} is {width}x{height}, frame {fitted.index} "
                    f"{fitted.image.shape[1]}x{fitted.image.shape[0]}: a video that changes its "
                    "size cannot be shown as one; scale it to one size first"
                )
            yield frame, features


@contextmanager
def _claimed(folder: Path, overwrite: bool) -> Iterator[None]:
    """Make a folder without these videos; remove it again if it stays empty."""
    present = [folder / name for name in (PCA_VIDEO, SIMILARITY_VIDEO) if (folder / name).exists()]
    if not overwrite:
        refuse_existing(present)
    with guard_output_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in present:
            path.unlink()
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


@cache
def _heat_table() -> tuple[np.ndarray, np.ndarray]:
    """For each level 0..255: the heat to add, (256, 3) uint8, and the share of the frame."""
    level = np.linspace(0, 1, 256)
    channels = zip(*HEAT_COLORS, strict=True)
    heat = np.stack([np.interp(level, HEAT_LEVELS, channel) for channel in channels], axis=1)
    cover = HEAT_COVER * level
    return (cover[:, None] * heat).astype(np.uint8), FRAME_DIMMED * (1 - cover)

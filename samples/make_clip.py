"""Draw the sample clip: three look-alike cups that cross, hide one another, leave and come back.

The three cups are cut out of one photograph and glide over gravel under a hand-held camera. The
clip is computed from two pictures that come with scikit-image, so the truth is exact: a pixel has
the id of the topmost cup whose outline contains the centre of the pixel.

    python samples/make_clip.py --out samples/clip
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from skimage import data

from propagate.io.masks.png import write_mask
from propagate.io.write.video import VideoWriter

HEIGHT, WIDTH = 256, 384
FRAMES = 90
FPS = Fraction(25)
SEED = 7
CRF = 26

# Outlines of saucer and cup in `skimage.data.coffee`: centre x, y and half axes in pixels, and the
# angle of the first axis in radians. A cup is the union of both ellipses.
ELLIPSES = ((279.0, 219.0, 198.5, 166.5, 0.146), (290.0, 115.0, 117.0, 96.5, 0.140))
CENTRE = (279.0, 200.0)
# Distance from that centre to the farthest point of a cup, and reach of its shadow beyond, in px.
REACH, SHADOW_MARGIN = 225, 25
# The photograph is halved before it is sampled at about half its size: otherwise it would flicker.
HALVED = 2


@dataclass(frozen=True)
class Cup:
    """How one cup looks and moves: (frame, x, y, angle in degrees) at the turning points."""

    id: int
    scale: float
    tint: tuple[float, float, float]
    path: tuple[tuple[float, float, float, float], ...]


# From the bottom of the pile to its top.
CUPS = (
    Cup(2, 0.27, (0.94, 1.0, 1.03), ((0, 306, 92, 150), (70, 84, 146, 195), (89, 74, 120, 200))),
    Cup(1, 0.25, (1.0, 1.0, 1.0), ((0, 72, 80, -15), (72, 305, 108, 30), (89, 312, 96, 35))),
    Cup(
        3,
        0.23,
        (1.05, 0.97, 0.93),
        ((0, 186, 198, 60), (34, 448, 206, 100), (50, 448, 190, 105), (89, 146, 178, 60)),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample clip, its truth and first mask.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    make_clip(parser.parse_args().out)


def make_clip(folder: Path) -> None:
    """Write `clip.mp4`, `first.png` and `truth/00000.png` ... into the folder."""
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    with VideoWriter(folder / "clip.mp4", WIDTH, HEIGHT, FPS, crf=CRF) as video:
        for index, (image, ids) in enumerate(draw_frames()):
            video.write(image, index / FPS)
            write_mask(folder / "truth" / f"{index:05d}.png", ids)
            if index == 0:
                write_mask(folder / "first.png", ids)


def draw_frames() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every frame, (H, W, 3) uint8 RGB, and its true ids, (H, W) uint8."""
    coffee = Image.fromarray(data.coffee()).reduce(HALVED)
    photograph = np.asarray(coffee, dtype=np.float64)
    gravel = np.asarray(data.gravel(), dtype=np.float64)[..., None]
    # Warm stones, not far from the colour of wood and cups.
    ground = np.clip(gravel * (1.04, 0.86, 0.70) + (22, 10, 4), 0, 255)
    for index, (x, y) in enumerate(_camera_path()):
        columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        image = _sample(ground, columns + x, rows + y)
        ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        for cup in CUPS:
            _draw_cup(image, ids, photograph, cup, index)
        yield np.round(image).astype(np.uint8), ids


def _draw_cup(
    image: np.ndarray, ids: np.ndarray, photograph: np.ndarray, cup: Cup, index: int
) -> None:
    """Draw the cup and its shadow into (H, W, 3) float `image` and (H, W) `ids`."""
    centre_x, centre_y, angle = _pose(cup, index)
    reach = REACH * cup.scale + SHADOW_MARGIN
    left, right = (int(np.clip(centre_x + side, 0, WIDTH)) for side in (-reach, reach))
    top, bottom = (int(np.clip(centre_y + side, 0, HEIGHT)) for side in (-reach, reach))
    if left == right or top == bottom:
        return
    columns, rows = np.meshgrid(np.arange(left, right), np.arange(top, bottom))

    def in_photograph(dx: float, dy: float) -> tuple[np.ndarray, np.ndarray]:
        """Map points (dx, dy) off the centres of the pixels to photograph coordinates x, y."""
        across, down = (columns + dx - centre_x) / cup.scale, (rows + dy - centre_y) / cup.scale
        x = across * np.cos(angle) + down * np.sin(angle) + CENTRE[0]
        y = down * np.cos(angle) - across * np.sin(angle) + CENTRE[1]
        return x, y

    thirds = (-1 / 3, 0.0, 1 / 3)
    samples = [_inside(*in_photograph(dx, dy)) for dy in thirds for dx in thirds]
    cover = np.mean(samples, axis=0)  # 0..1 along the outline, as a camera sees it
    view = image[top:bottom, left:right]
    shadow = Image.fromarray(np.uint8(np.roll(cover, (7, 5), axis=(0, 1)) * 255))
    darkness = np.asarray(shadow.filter(ImageFilter.GaussianBlur(5))) / 255 * 0.5
    view *= (1 - darkness)[..., None]
    x, y = in_photograph(0, 0)
    colours = np.clip(_sample(photograph, x / HALVED, y / HALVED) * cup.tint, 0, 255)
    view += (colours - view) * cover[..., None]
    ids[top:bottom, left:right][samples[4]] = cup.id  # The middle one: the pixel's centre.


def _pose(cup: Cup, index: int) -> tuple[float, float, float]:
    """Interpolate centre x, y and angle in radians smoothly, at rest at the turning points."""
    frames, xs, ys, angles = np.array(cup.path).T
    leg = min(int(np.searchsorted(frames, index, side="right")), len(frames) - 1) - 1
    done = (index - frames[leg]) / (frames[leg + 1] - frames[leg])
    done = done * done * (3 - 2 * done)
    x, y, angle = (v[leg] + (v[leg + 1] - v[leg]) * done for v in (xs, ys, angles))
    return float(x), float(y), float(np.radians(angle))


def _camera_path() -> np.ndarray:
    """Corner of the view on the ground in each frame, (FRAMES, 2) as x, y: drift and shake."""
    tremble = np.random.default_rng(SEED).normal(0, 1.5, (FRAMES + 8, 2))
    smooth = np.stack([np.convolve(axis, np.ones(9) / 9, mode="valid") for axis in tremble.T], 1)
    return np.linspace((12, 20), (104, 72), FRAMES) + smooth


def _inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether photograph coordinates lie on the cup, (H, W) bool."""
    inside = np.zeros(x.shape, dtype=bool)
    for centre_x, centre_y, half_width, half_height, turn in ELLIPSES:
        right, down = x - centre_x, y - centre_y
        along = (right * np.cos(turn) + down * np.sin(turn)) / half_width
        across = (down * np.cos(turn) - right * np.sin(turn)) / half_height
        inside |= along**2 + across**2 <= 1
    return inside


def _sample(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate (h, w, C) linearly at x, y (H, W); outside, repeat its border: (H, W, C)."""
    height, width, _ = picture.shape
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    left, top = x.astype(int), y.astype(int)
    right_share, low_share = (x - left)[..., None], (y - top)[..., None]
    upper = picture[top, left] * (1 - right_share) + picture[top, left + 1] * right_share
    lower = picture[top + 1, left] * (1 - right_share) + picture[top + 1, left + 1] * right_share
    return upper * (1 - low_share) + lower * low_share


if __name__ == "__main__":
    main()

"""Decoded pictures as RGB: the right matrix and range, whole chroma, and exact rounding.

FFmpeg's scaler is made for speed: without being asked it leaves out half of the chroma samples,
rounds downwards and takes BT.601 for every file. Its pictures are about one level too dark, single
pixels by more. With the flags below, no pixel is off by more than half a level (pictures of more
than 8 bits in full range: by one). Planar RGB is the form for which this is fast.
"""

from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

# BITEXACT: the same pixels on every processor.
FLAGS = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
# By the number that a file states (ISO/IEC 23001-8). Others are rare, and FFmpeg has no matrix.
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
# A picture above either of these is HD, which has BT.709 if the file states nothing.
SD_WIDTH, SD_HEIGHT = 1279, 576
ONE_DEGREE = 0.0175  # its tangent
# Levels of limited range in full range.
WIDENED = np.rint((np.arange(256).clip(16, 235) - 16) * 255 / 219).astype(np.uint8)


class RgbConverter:
    """Converts the pictures of one source. It keeps FFmpeg's tables from one to the next."""

    def __init__(self) -> None:
        """Make a converter without tables; the first picture gives them."""
        self._reformatter = VideoReformatter()
        self._matrices: dict[float, tuple[int, int, int, int] | None] = {}

    def __call__(self, picture: Any) -> np.ndarray:
        """Convert a decoded picture (`av.VideoFrame`) to (H, W, 3) uint8 RGB, turned upright.

        The display matrix is applied if it is one of the eight orientations: turned by quarters,
        mirrored or both. Any other comes from a damaged file and is ignored.
        Chroma lies in the middle of its luma samples; alpha is ignored.
        """
        kind = picture.format
        is_rgb = kind.is_rgb or kind.has_palette
        converted = self._reformatter.reformat(
            picture,
            format="rgb24" if is_rgb else "gbrp",
            src_colorspace=None if is_rgb else matrix_of(picture),
            src_color_range=None if is_rgb else range_of(picture),
            dst_color_range=None if is_rgb else ColorRange.JPEG,
            interpolation=FLAGS,
            threads=1,
        )
        image = np.asarray(converted.to_ndarray(), np.uint8)
        if is_grey(picture) and range_of(picture) == ColorRange.MPEG:
            image = WIDENED[image]  # FFmpeg takes every grey picture for full range
        return np.ascontiguousarray(upright(image, self._matrix(picture)))

    def _matrix(self, picture: Any) -> tuple[int, int, int, int] | None:
        """Return the display matrix of a picture.

        PyAV frees a picture whose side data was asked for late, so it is asked for once for each
        rotation, which a stream rarely changes.
        """
        rotation = picture.rotation
        if rotation not in self._matrices:
            self._matrices[rotation] = display_matrix(picture)
        return self._matrices[rotation]


def display_matrix(picture: Any) -> tuple[int, int, int, int] | None:
    """Return how a picture is to be shown: (a, b, c, d), or None if nothing is stated.

    The pixel (x, y) is shown at (a x + c y, b x + d y), up to scale and place.
    """
    try:
        stated = picture.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:  # PyAV refuses all side data if it does not know one kind, such as EXIF
        quarters = round(picture.rotation / 90) % 4 if picture.rotation % 90 == 0 else 0
        return ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[quarters]
    if stated is None:
        return None
    values = [int(value) for value in np.frombuffer(stated, np.int32)]
    return (values[0], values[1], values[3], values[4])


def upright(image: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """Turn and mirror an image as a display matrix says.

    Args:
        image: (H, W, ...).
        matrix: (a, b, c, d) as of `display_matrix`. None, or one that is none of the eight
            orientations: the image stays.

    Returns:
        (H, W, ...) or (W, H, ...), a view of the image.
    """
    if matrix is None:
        return image
    a, b, c, d = matrix
    is_straight = _is_much_more(a, b) and _is_much_more(d, c)
    if not is_straight and not (_is_much_more(b, a) and _is_much_more(c, d)):
        return image
    if not is_straight:
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _is_much_more(one: int, other: int) -> bool:
    """Say whether a direction is within a degree of one axis, as FFmpeg has it."""
    return abs(other) < abs(one) * ONE_DEGREE


def matrix_of(picture: Any) -> Colorspace:
    """Return the matrix that a picture states, or the one that players assume.

    Players take BT.709 for an HD picture that states none, and BT.601 for a smaller one.
    """
    is_hd = picture.width > SD_WIDTH or picture.height > SD_HEIGHT
    assumed = Colorspace.ITU709 if is_hd else Colorspace.ITU601
    return MATRICES.get(int(picture.colorspace), assumed)


def range_of(picture: Any) -> ColorRange:
    """Return the range of values: limited if the picture states none, but full if it is grey."""
    full = picture.format.name.startswith("yuvj") or picture.color_range == ColorRange.JPEG
    # As FFmpeg has it, grey is full unless it says otherwise.
    grey = is_grey(picture) and picture.color_range == ColorRange.UNSPECIFIED
    return ColorRange.JPEG if full or grey else ColorRange.MPEG


def is_grey(picture: Any) -> bool:
    """Say whether a picture holds luma only, or luma and alpha."""
    kind = picture.format
    return len(kind.components) < 3 and not (kind.is_rgb or kind.has_palette)

"""Grey pictures of more than 8 bits: one rule for all frames of a clip makes them 8-bit."""

import struct
import warnings
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from propagate.errors import VideoError
from propagate.io.decode.pixel_limit import TOO_LARGE_HINT, TooLargeError, open_image
from propagate.io.decode.source import frames_read

# Formats whose pictures are those of an animation.
SEQUENCES = ("WEBP", "PNG", "GIF")
# The tag of TIFF that says what a page is, and its flag of a smaller version.
SUBFILE_TYPE, REDUCED = 254, 1


@dataclass(frozen=True, slots=True)
class Stretch:
    """Maps the values `low` to `high` to 0..255; values outside become 0 or 255."""

    low: float
    high: float

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Map (H, W) values of any kind to (H, W) uint8. Values that are no numbers become 0."""
        # Grey pictures of one value have no contrast to keep.
        scale = 255 / (self.high - self.low) if self.high > self.low else 0.0
        stretched = (values.astype(np.float64) - self.low) * scale
        return np.nan_to_num(stretched).clip(0, 255).round().astype(np.uint8)

    @property
    def note(self) -> str:
        """Say what is done."""
        return (
            f"grey of more than 8 bits: the values of the first frame, {self.low:g} to "
            f"{self.high:g}, are stretched to 0..255 in all frames"
        )


def stretch_of(values: np.ndarray) -> Stretch:
    """Return the stretch from the lowest to the highest finite value of (H, W) values."""
    finite = values[np.isfinite(values)]
    return Stretch(float(finite.min()), float(finite.max())) if finite.size else Stretch(0, 0)


class PictureReader:
    """Decodes the pictures of one clip to 8-bit RGB.

    Attributes:
        stretch: That of the first picture of more than 8 bits, used for all; None before it.
    """

    def __init__(self, max_pixels: int) -> None:
        """Start a clip whose pictures have at most so many pixels."""
        self._max_pixels = max_pixels
        self.stretch: Stretch | None = None

    def read(self, file: Path, index: int, data: BinaryIO | None = None) -> np.ndarray:
        """Decode a picture to (H, W, 3) uint8 RGB, upright.

        The EXIF orientation is applied. Grey and palette pictures become RGB, transparency is
        dropped, and grey of more than 8 bits (integers or floats) is stretched.

        Args:
            file: The picture.
            index: How many frames were read before it, for the message.
            data: Its content, if it lies in an archive. `file` is then its name for messages.

        Raises:
            VideoError: The file is too large, not a picture, or damaged, or it holds several.
        """
        try:
            with open_image(data or file, self._max_pixels) as image:
                if (count := len(pages_of(image)[0])) > 1:
                    raise VideoError(
                        f"{file}: holds {count} pictures, and a frame is one",
                        "give this file as the video, or save each picture in a file",
                    )
                return self.convert(image)
        except TooLargeError as error:
            raise VideoError(f"{file}: {error}", TOO_LARGE_HINT) from error
        except (OSError, ValueError, SyntaxError) as error:
            raise VideoError(
                f"{file}: cannot be read as an image ({error})",
                (f"{frames_read(index)}; " if index else "") + "replace or remove the file",
            ) from error

    def convert(self, image: Image.Image) -> np.ndarray:
        """Convert an open picture, as `read` does; raise what Pillow raises."""
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "F" or upright.mode.startswith("I"):
            values = np.asarray(upright)
            self.stretch = self.stretch or stretch_of(values)
            upright = Image.fromarray(self.stretch.apply(values))
        return np.array(upright.convert("RGB"))


def pages_of(image: Image.Image) -> tuple[list[int], str | None]:
    """Find the pictures in an open file; the first of them is shown then.

    Pages of a TIFF that hold another page in small are left out, and so are the previews that
    cameras put into a JPEG.

    Returns:
        Their places, and what is wrong after the last of them, if something is.
    """
    if not isinstance(image, TiffImageFile):
        count = getattr(image, "n_frames", 1)
        return list(range(count)) if image.format in SEQUENCES else [0], None
    found, fault = [], None
    with warnings.catch_warnings(action="ignore"):
        for place in count_from(0):
            try:
                image.seek(place)
                is_small = image.tag_v2.get(SUBFILE_TYPE, 0) & REDUCED
            except EOFError:
                break
            except (OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error) as error:
                fault = str(error)
                break
            if not is_small:
                found.append(place)
        image.seek(0)
    return found or [0], fault

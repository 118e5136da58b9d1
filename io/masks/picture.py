"""What the pixels of a mask picture mean: values that are ids, or flat colours.

H, W are the rows and columns of the picture. A colour is one number, 65536 R + 256 G + B.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps

from propagate.errors import MaskError
from propagate.io.masks.ids import whole_ids
from propagate.io.masks.palette import palette
from propagate.io.masks.reading import MaskReading
from propagate.records import VOID_ID

SAVE_AS_INDEX = "save it as an 8-bit index (palette) or grey PNG whose values are object ids"
BLACK, WHITE = 0, 0xFFFFFF
_RGB_WEIGHTS = np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
_USE_ALPHA = "pass {alpha=True} to read the alpha channel"
# More colours than this are a photograph or soft edges, not objects.
_MOST_COLOURS = 64
# Of the pairs of neighbouring object pixels, the part that are two objects. Masks of DAVIS stay
# under 0.05, a grid of touching 3x3 squares has 0.31, dithered colours 0.65 to 0.9.
_MOST_MIXED = 0.4
# An id this large whose pixels mostly touch no other of their own is a dithered colour.
_FEWEST_SCATTERED = 8


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A decoded mask picture.

    Attributes:
        source: Where it came from, for messages.
        values: (H, W) uint8 or bool ids; None if the picture holds colours.
        colours: (H, W) uint32 colours that are not ids yet, black for background; else None.
        notes: How it was understood, where that is not obvious.
    """

    source: str
    values: np.ndarray | None
    colours: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def pixels_of(image: Image.Image, source: str, reading: MaskReading) -> Pixels:
    """Read the pixels of a decoded image. The EXIF orientation is applied.

    Args:
        image: The image.
        source: Where it came from, for messages.
        reading: How it is read.

    Raises:
        MaskError: The pixels are neither ids nor flat colours, or the alpha channel holds the mask.
    """
    if getattr(image, "n_frames", 1) > 1:
        raise MaskError(f"{source}: holds {image.n_frames} pictures", "give one mask in each file")  # type: ignore[attr-defined]
    upright = ImageOps.exif_transpose(image)
    notes = () if upright.size == image.size else ("turned as its EXIF orientation says",)
    if reading.alpha:
        pixels = Pixels(source, _alpha_of(upright, source))
    elif upright.mode == "P":
        pixels = _of_palette(upright, source, reading)
    elif upright.mode in ("RGB", "RGBA", "PA", "RGBX"):
        has_alpha = upright.mode in ("RGBA", "PA")
        colours = np.asarray(upright.convert("RGBA" if has_alpha else "RGB"))
        pixels = _of_colours(colours, source, upright.mode, reading)
    else:
        pixels = _of_values(upright, source)
    return replace(pixels, notes=(*notes, *pixels.notes))


def check_flat(pixels: Pixels) -> None:
    """Refuse a picture of colours with soft edges, and objects whose pixels lie mixed.

    Soft edges of a picture of values: see `mask_from_array`.

    Raises:
        MaskError: Colours lie only along edges, or are dithered.
    """
    if pixels.colours is not None:
        _check_edges(pixels.source, pixels.colours)
    _check_mixed(pixels)


def colour_name(colour: int) -> str:
    """Name a colour for messages.

    >>> colour_name(0x80FF00)
    'rgb(128,255,0)'
    """
    return f"rgb({colour >> 16},{colour >> 8 & 255},{colour & 255})"


def areas_text(areas: Mapping[str, int]) -> str:
    """List what covers how many pixels, the largest first."""
    largest = sorted(areas.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name}: {area} px" for name, area in largest[:8])
    return shown if len(largest) <= 8 else f"{shown}, and {len(largest) - 8} more"


def _alpha_of(image: Image.Image, source: str) -> np.ndarray:
    """Return the alpha channel: (H, W) uint8."""
    if not image.has_transparency_data:
        raise MaskError(f"{source}: has no alpha channel", "leave out {alpha=True}")
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    if ((alpha > 0) & (alpha < 255)).any():
        raise MaskError(
            f"{source}: its alpha channel has soft edges", "threshold it to 0 and 255 first"
        )
    return alpha


def _of_values(image: Image.Image, source: str) -> Pixels:
    """Read a picture of one channel, whose values are ids, with or without alpha."""
    mode, notes = image.mode, ()
    if mode == "LA":  # DAVIS-2016 has one such file, bear/00077.png.
        grey, alpha = (np.asarray(channel) for channel in image.split())
        values, notes = _without_transparent(grey, alpha, source)
    elif mode in ("1", "L") or mode.startswith("I") or mode == "F":
        values = np.asarray(image)
    else:
        raise MaskError(f"{source}: colours instead of ids (mode {mode})", SAVE_AS_INDEX)
    if values.dtype not in (np.uint8, bool):
        values = whole_ids(values, source, "renumber the objects")
    return Pixels(source, values, notes=notes)


def _without_transparent(
    values: np.ndarray, alpha: np.ndarray, source: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Make transparent pixels background. `values`: (H, W) ids or colours; `alpha`: (H, W)."""
    if alpha.min() == alpha.max():
        return values, ()
    if ((alpha > 0) & (alpha < 255)).any():
        raise MaskError(f"{source}: translucent pixels, as of soft edges", SAVE_AS_INDEX)
    if values.min() == values.max():
        raise MaskError(f"{source}: the mask is in the alpha channel", _USE_ALPHA)
    hidden = np.count_nonzero((alpha == 0) & (values != 0))
    notes = (f"{hidden} transparent pixels are background",) if hidden else ()
    return np.where(alpha == 0, 0, values).astype(values.dtype), notes


def _of_colours(colours: np.ndarray, source: str, mode: str, reading: MaskReading) -> Pixels:
    """Read (H, W, 3) or (H, W, 4) uint8 colours."""
    codes, notes = colours[..., :3] @ _RGB_WEIGHTS, ()  # (H, W)
    if colours.shape[2] == 4:
        codes, notes = _without_transparent(codes, colours[..., 3], source)
    used, areas = np.unique(codes, return_counts=True)
    if len(used) > VOID_ID + 1:
        raise _too_many_colours(source, mode, len(used), colours)
    pixels = _ids_or_colours(Pixels(source, None, codes, notes), used, areas, reading)
    if pixels.colours is not None and len(used) > _MOST_COLOURS:
        raise _too_many_colours(source, mode, len(used), colours)
    return pixels


def _too_many_colours(source: str, mode: str, count: int, colours: np.ndarray) -> MaskError:
    has_mask = colours.shape[2] == 4 and colours[..., 3].min() < colours[..., 3].max()
    return MaskError(
        f"{source}: colours instead of ids (mode {mode}, {count} colours)",
        _USE_ALPHA if has_mask else SAVE_AS_INDEX,
    )


def _ids_or_colours(
    pixels: Pixels, used: np.ndarray, areas: np.ndarray, reading: MaskReading
) -> Pixels:
    """Read greys as values and DAVIS' colours as DAVIS' ids; keep other colours.

    Args:
        pixels: With `colours`.
        used: (N,) its colours, increasing.
        areas: (N,) pixels of each.
        reading: How it is read.

    Raises:
        MaskError: No colour is the background.
    """
    codes = pixels.colours
    assert codes is not None
    if (used % 0x010101 == 0).all():
        notes = (
            pixels.notes
            if {*used.tolist()} <= {BLACK, WHITE}
            else (*pixels.notes, "greys in a picture of colours: their values are the ids")
        )
        return Pixels(pixels.source, (codes & 255).astype(np.uint8), notes=notes)
    known = palette() @ _RGB_WEIGHTS  # (256,), one number per colour
    order = np.argsort(known)
    nearest = order[np.searchsorted(known, used, sorter=order).clip(max=order.size - 1)]
    if (known[nearest] == used).all():
        values = nearest[np.searchsorted(used, codes)].astype(np.uint8)
        return Pixels(pixels.source, values, notes=(*pixels.notes, "ids by DAVIS' colours"))
    background = WHITE if reading.value_255 == "background" else BLACK
    if background not in used:
        shown = areas_text(
            {colour_name(c): n for c, n in zip(used.tolist(), areas.tolist(), strict=True)}
        )
        raise MaskError(
            f"{pixels.source}: no pixel is {'white' if background else 'black'}, so nothing is "
            f"background ({shown})",
            "pass {value_255=background} if white is the background"
            if background == BLACK and WHITE in used
            else "paint the background black",
        )
    if background == WHITE:
        if BLACK in used:
            raise MaskError(
                f"{pixels.source}: white is the background, and there is black too",
                "give the black object another colour",
            )
        codes = np.where(codes == WHITE, BLACK, codes)
    return replace(pixels, colours=codes)


def _of_palette(image: Image.Image, source: str, reading: MaskReading) -> Pixels:
    """Read a palette picture: indices are ids, unless index 0 is no background.

    Index 0 is the background where it is black or not used, as in every published data set. A
    palette that was made for the picture, as by reducing the colours of an RGB picture, has black
    anywhere; then colours count, as in an RGB picture.
    """
    values = np.asarray(image)
    table = np.zeros((256, 3), np.uint8)
    found = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    table[: len(found)] = found
    codes = table @ _RGB_WEIGHTS  # (256,)
    used, areas = np.unique(values, return_counts=True)
    if reading.value_255 == "background":
        by_colours = WHITE in codes[used]
    else:
        by_colours = used[0] == 0 and codes[0] != BLACK
    if not by_colours:
        return Pixels(source, values)
    if BLACK not in codes[used] and reading.value_255 != "background":
        shown = areas_text(
            {
                f"{index} {colour_name(int(codes[index]))}": area
                for index, area in zip(used.tolist(), areas.tolist(), strict=True)
            }
        )
        raise MaskError(
            f"{source}: index 0 is {colour_name(int(codes[0]))}, and no index is black, so nothing "
            f"is background ({shown})",
            "make index 0 black, or pass {value_255=background} if white is the background"
            if WHITE in codes[used]
            else "make index 0 the background, and black",
        )
    colours, counts = np.unique(codes[values], return_counts=True)
    pixels = Pixels(source, None, codes[values])
    return _ids_or_colours(pixels, colours, counts, reading)


def _check_edges(source: str, colours: np.ndarray) -> None:
    """Refuse (H, W) colours of which most fill no square of 2x2 pixels."""
    square = colours[:-1, :-1]
    for shifted in (colours[1:, :-1], colours[:-1, 1:], colours[1:, 1:]):
        square = np.where(shifted == square, square, BLACK)
    thin = set(np.unique(colours).tolist()) - set(np.unique(square).tolist())
    count = len(np.unique(colours[colours != BLACK]))
    if len(thin) >= 3 and 2 * len(thin) > count:
        raise MaskError(
            f"{source}: a soft mask: {len(thin)} of its {count} colours lie only along edges",
            "export it without smoothing, so that every object has one colour",
        )


def _check_mixed(pixels: Pixels) -> None:
    """Refuse objects whose pixels are interleaved, as dithering leaves them.

    Raises:
        MaskError: They are.
    """
    image = pixels.values if pixels.values is not None else pixels.colours
    assert image is not None
    if image.dtype == bool:
        return
    is_object = (image != 0) & ((image != VOID_ID) | (pixels.values is None))
    same = mixed = 0
    alone = is_object.copy()  # no neighbour has the same value
    beside = np.zeros_like(alone)  # a neighbour is another object
    for one, other in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        both = is_object[one] & is_object[other]
        equal = image[one] == image[other]
        same += np.count_nonzero(both & equal)
        mixed += np.count_nonzero(both & ~equal)
        for side in (one, other):
            alone[side] &= ~equal
            beside[side] |= both & ~equal
    scattered = False
    for value in np.unique(image[alone & beside]):
        of_value = image == value
        area, apart = np.count_nonzero(of_value), np.count_nonzero(of_value & alone & beside)
        scattered |= area >= _FEWEST_SCATTERED and 2 * apart > area
    if scattered or (mixed > 2 * _FEWEST_SCATTERED and mixed > _MOST_MIXED * (same + mixed)):
        count = len(np.unique(image[is_object]))
        raise MaskError(
            f"{pixels.source}: dithered or recoloured: pixels of its {count} values lie mixed",
            "export it without dithering, or save the original mask as an index PNG",
        )

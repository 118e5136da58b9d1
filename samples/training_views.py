"""Draw two views of a scene made of photographs, and their true matches.

A scene has three layers, each cut from its own photograph: a background, an object and, in a third
of the views, an occluder. Between the views every layer moves, turns, scales and bends by itself,
and each view has its own light, blur and noise. The position of every point in the other view is
known exactly, so no video and no drawn mask is needed.

    n  scenes        S  SIDE, px of a view        c  cells of a view, (S / CELL)^2
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

SIDE = 80
CELL = 4
PHOTO = 96


@dataclass(frozen=True, slots=True)
class Layer:
    """How layers of one kind are laid out and move; lengths are px of a view.

    Attributes:
        reach: Largest distance from the middle.
        move: Twice the standard deviation of their displacement in a view.
        bend: Largest bend in a view.
        present: Share of the views that show them.
    """

    reach: float
    move: float
    bend: float
    present: float


BACKGROUND = Layer(reach=0, move=12, bend=1.5, present=1)
OBJECT = Layer(reach=22, move=16, bend=3.0, present=0.95)
OCCLUDER = Layer(reach=34, move=24, bend=2.0, present=0.35)
LAYERS = (BACKGROUND, OBJECT, OCCLUDER)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One view of n scenes.

    Attributes:
        image: (n, 3, S, S), 0..1.
        share: (n, c), how much of each cell the object covers.
        owner: (n, c), the layer at the middle of each cell, counted from the back.
        place: (n, 2, c), the point of its layer's photograph there, px.
        cell_px: (n, c), how many px of the photograph a cell spans.
        pure: (n, c), the largest share of a cell that one layer has.
    """

    image: torch.Tensor
    share: torch.Tensor
    owner: torch.Tensor
    place: torch.Tensor
    cell_px: torch.Tensor
    pure: torch.Tensor


def make_views(photos: torch.Tensor, count: int, rng: torch.Generator) -> tuple[View, View]:
    """Make two views of each of `count` scenes.

    Args:
        photos: (N, 3, PHOTO, PHOTO) uint8.
        count: n.
        rng: The source of all randomness.
    """
    picks = torch.randint(len(photos), (len(LAYERS), count), generator=rng)
    layers = [_draw(layer, photos[pick], rng) for layer, pick in zip(LAYERS, picks, strict=True)]
    first, second = ([layer[view] for layer in layers] for view in range(2))
    return _compose(first, rng), _compose(second, rng)


def true_matches(
    query: View, memory: View, spread: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find where each cell of one view lies in the other.

    Args:
        query, memory: Two views of the same scenes.
        spread: Standard deviation of the weights, in cells.

    Returns:
        (n, c, c) weights of the memory's cells for each of the query's, which sum to one; and
        (n, c) bool, whether the query's cell is seen in the memory at all: where it is not, its
        weights mean nothing.
    """
    cells = torch.cdist(query.place.transpose(1, 2), memory.place.transpose(1, 2))  # px
    cells = cells / memory.cell_px[:, None, :]
    cells = cells.masked_fill(query.owner[:, :, None] != memory.owner[:, None, :], 1e3)
    weights = torch.softmax(-cells.square() / (2 * spread**2), dim=2)
    return weights, (cells.amin(2) < 0.75) & (query.pure > 0.8)


class _Drawn(NamedTuple):
    """A layer in one view.

    Attributes:
        colors: (n, 3, S, S), 0..1.
        opacity: (n, S, S), 0..1.
        places: (n, 2, S, S), the points of its photograph, px from the middle.
        zoom: (n,), px of the photograph per px of the view.
    """

    colors: torch.Tensor
    opacity: torch.Tensor
    places: torch.Tensor
    zoom: torch.Tensor


def _draw(layer: Layer, photos: torch.Tensor, rng: torch.Generator) -> list[_Drawn]:
    """Draw a layer in both views."""
    count = len(photos)
    colors = photos.float() / 255
    scale = torch.exp(_uniform(rng, count, math.log(0.65), math.log(1.1)))
    angle = torch.randn(count, generator=rng) * 0.15
    centre = torch.zeros(count, 2)
    if layer is BACKGROUND:
        spare = (PHOTO / 2 - SIDE / 2 * scale).clamp_min(0)[:, None]
        centre = (torch.rand(count, 2, generator=rng) * 2 - 1) * spare
    shift = (torch.rand(count, 2, generator=rng) * 2 - 1) * layer.reach
    mirror = (torch.rand(count, generator=rng) < 0.5).float() * 2 - 1
    outline = _Outline.random(count, rng)
    drawn = []
    for _ in range(2):
        zoom = scale * torch.exp(torch.randn(count, generator=rng) * 0.10)
        turn = angle + torch.randn(count, generator=rng) * 0.12
        by = shift + torch.randn(count, 2, generator=rng) * layer.move / 2
        bend = _uniform(rng, count, 0, layer.bend)
        places = _places(zoom, turn, by, bend, mirror, rng) + centre[:, :, None, None]
        grid = (places + (PHOTO - 1) / 2) / (PHOTO - 1) * 2 - 1
        view = F.grid_sample(
            colors,
            grid.flip(1).permute(0, 2, 3, 1),
            padding_mode="reflection",
            align_corners=True,
        )
        if layer is BACKGROUND:
            opacity = torch.ones(count, SIDE, SIDE)
        else:
            present = torch.rand(count, generator=rng) < layer.present
            opacity = outline.opacity(places, zoom) * present[:, None, None]
        drawn.append(_Drawn(view, opacity, places, zoom))
    return drawn


def _places(
    zoom: torch.Tensor,
    turn: torch.Tensor,
    by: torch.Tensor,
    bend: torch.Tensor,
    mirror: torch.Tensor,
    rng: torch.Generator,
) -> torch.Tensor:
    """The point (y, x) of the layer that each pixel of a view shows: (n, 2, S, S)."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
    knots = torch.randn(len(zoom), 2, 4, 4, generator=rng)
    field = F.interpolate(knots, (SIDE, SIDE), mode="bicubic", align_corners=True)
    y, x = (pixels + field * bend[:, None, None, None] - by[:, :, None, None]).unbind(1)
    cos, sin = ((wave(turn) * zoom)[:, None, None] for wave in (torch.cos, torch.sin))
    return torch.stack([cos * y - sin * x, (sin * y + cos * x) * mirror[:, None, None]], 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Outline:
    """Closed curves around the middle of a photograph, as Fourier series of their radius.

    Attributes:
        radius: (n,) px.
        waves, phases: (n, 5), of 1 to 5 waves around.
        stretch: (n,), height to width.
    """

    radius: torch.Tensor
    waves: torch.Tensor
    phases: torch.Tensor
    stretch: torch.Tensor

    @classmethod
    def random(cls, count: int, rng: torch.Generator) -> "_Outline":
        waves = torch.randn(count, 5, generator=rng) * 0.28 / torch.arange(1, 6)
        phases = torch.rand(count, 5, generator=rng) * 2 * math.pi
        radius = _uniform(rng, count, 10, 34)
        return cls(radius, waves, phases, torch.exp(_uniform(rng, count, -0.7, 0.7)))

    def opacity(self, places: torch.Tensor, zoom: torch.Tensor) -> torch.Tensor:
        """One inside, zero outside, over about a pixel: (n, S, S)."""
        root = self.stretch[:, None, None].sqrt()
        y, x = places[:, 0] * root, places[:, 1] / root
        away, around = torch.sqrt(y * y + x * x + 1e-6), torch.atan2(y, x)
        count = torch.arange(1, 6)[None, :, None, None]
        phases = self.phases[:, :, None, None]
        series = (self.waves[:, :, None, None] * torch.cos(count * around[:, None] + phases)).sum(1)
        edge = self.radius[:, None, None] * torch.exp(series)
        return torch.sigmoid((edge - away) / zoom[:, None, None] * 2)


def _compose(layers: list[_Drawn], rng: torch.Generator) -> View:
    """Lay the layers over each other, from the back."""
    image, _, places, zoom = layers[0]
    count = len(image)
    zooms = zoom[:, None, None].expand(count, SIDE, SIDE)
    owner = torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    share = torch.zeros(count, SIDE, SIDE)
    for kind, layer in enumerate(layers[1:], start=1):
        opacity, seen = layer.opacity, layer.opacity > 0.5
        image = image * (1 - opacity[:, None]) + layer.colors * opacity[:, None]
        share = share * (1 - opacity) + (opacity if LAYERS[kind] is OBJECT else 0)
        owner = torch.where(seen, kind, owner)
        places = torch.where(seen[:, None], layer.places, places)
        zooms = torch.where(seen, layer.zoom[:, None, None], zooms)
    image = _seen_by_a_camera(image, rng)
    of_layers = [F.avg_pool2d((owner == k).float(), CELL).flatten(1) for k in range(len(layers))]
    # The pixel behind a cell's middle, half a pixel off: less than what matches may be off by.
    middle = slice(CELL // 2, None, CELL)
    return View(
        image=image,
        share=F.avg_pool2d(share, CELL).flatten(1),
        owner=owner[:, middle, middle].flatten(1),
        place=places[:, :, middle, middle].flatten(2),
        cell_px=zooms[:, middle, middle].flatten(1) * CELL,
        pure=torch.stack(of_layers).amax(0),
    )


def _seen_by_a_camera(image: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Change light and contrast, blur, add noise: (n, 3, S, S)."""
    count = len(image)

    def factor(channels: int, spread: float) -> torch.Tensor:
        return torch.exp(torch.randn(count, channels, 1, 1, generator=rng) * spread)

    image = image.clamp(1e-3, 1) ** factor(1, 0.15)
    image = (image - 0.5) * factor(1, 0.15) + 0.5
    image = image * factor(3, 0.06) * factor(1, 0.12)
    image = _blurred(image, rng)
    noisy = (torch.rand(count, 1, 1, 1, generator=rng) < 0.4).float()
    noise = noisy * _uniform(rng, count, 0, 0.04)[:, None, None, None]
    return (image + torch.randn(image.shape, generator=rng) * noise).clamp(0, 1)


def _blurred(image: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Blur 3 in 10 along a line, as by motion, and 2 in 10 all around, as out of focus."""
    count = len(image)
    kind = torch.rand(count, generator=rng)
    length = torch.where(kind < 0.3, _uniform(rng, count, 1, 6), 0.0)
    angle = _uniform(rng, count, 0, math.pi)[:, None, None]
    defocus = torch.where((kind > 0.3) & (kind < 0.5), _uniform(rng, count, 0.3, 1.0), 0.15)
    spread = torch.where(length > 0, 0.4, defocus)[:, None, None]
    axis = torch.arange(-4.0, 5.0)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    along = y * torch.sin(angle) + x * torch.cos(angle)
    across = x * torch.sin(angle) - y * torch.cos(angle)
    beyond = (along.abs() - length[:, None, None] / 2).clamp_min(0)
    kernel = torch.exp(-(beyond**2 + across**2) / (2 * spread**2))
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    channels = image.shape[0] * image.shape[1]
    padded = F.pad(image, (4, 4, 4, 4), mode="replicate").reshape(1, channels, SIDE + 8, SIDE + 8)
    kernels = kernel[:, None].expand(-1, image.shape[1], -1, -1).reshape(channels, 1, 9, 9)
    return F.conv2d(padded, kernels, groups=channels).reshape(image.shape)


def _uniform(rng: torch.Generator, count: int, low: float, high: float) -> torch.Tensor:
    return torch.rand(count, generator=rng) * (high - low) + low

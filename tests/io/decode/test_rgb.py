"""Colours are those of the standards' own equations, in whatever form a file holds them."""

import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from propagate.io.decode.video import open_video

# Weights of red and blue in luma: ITU-R BT.601, BT.709 and BT.2020.
WEIGHTS = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593)}
# What a file states (ISO/IEC 23001-8).
STATED = {"601": (5, 6), "709": (1,), "2020": (9,)}
WIDTH, HEIGHT = 96, 80

LOSSLESS = [
    # codec, pixel format, bits, luma samples for each chroma sample (across, down)
    ("libx264", "yuv420p", 8, (2, 2)),
    ("libx264", "yuv422p", 8, (2, 1)),
    ("ffv1", "yuv440p", 8, (1, 2)),
    ("libx264", "yuv444p", 8, (1, 1)),
    ("libx264", "yuvj420p", 8, (2, 2)),
    ("libx264", "yuvj422p", 8, (2, 1)),
    ("libx264", "yuvj444p", 8, (1, 1)),
    ("libx264", "yuv420p10le", 10, (2, 2)),
    ("libx264", "yuv422p10le", 10, (2, 1)),
    ("libx264", "yuv444p10le", 10, (1, 1)),
    ("ffv1", "yuv440p10le", 10, (1, 2)),
    ("ffv1", "yuv440p12le", 12, (1, 2)),
    ("ffv1", "yuv420p12le", 12, (2, 2)),
    ("ffv1", "yuv422p12le", 12, (2, 1)),
    ("ffv1", "yuv444p12le", 12, (1, 1)),
    ("ffv1", "yuv411p", 8, (4, 1)),
    ("ffv1", "yuv410p", 8, (4, 4)),
    ("ffv1", "yuva420p", 8, (2, 2)),
]


def planes_of(rgb, standard, bits, full):
    """Luma and chroma of colours in 0 to 1, as numbers of samples, by the equations."""
    kr, kb = WEIGHTS[standard]
    red, green, blue = np.moveaxis(rgb, -1, 0)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))
    unit, most = 2 ** (bits - 8), 2**bits - 1
    if full:
        parts = y * most, u * most + 128 * unit, v * most + 128 * unit
    else:
        parts = (16 + 219 * y) * unit, (128 + 224 * u) * unit, (128 + 224 * v) * unit
    return [np.clip(np.rint(part), 0, most) for part in parts]


def rgb_of(planes, standard, bits, full):
    """The same equations backwards: (H, W, 3) float, 0 to 255, of whole planes."""
    kr, kb = WEIGHTS[standard]
    unit, most = 2 ** (bits - 8), 2**bits - 1
    y, u, v = (np.asarray(plane, float) for plane in planes)
    if full:
        y, u, v = y / most, (u - 128 * unit) / most, (v - 128 * unit) / most
    else:
        y, u, v = (y / unit - 16) / 219, (u / unit - 128) / 224, (v / unit - 128) / 224
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return 255 * np.clip(np.stack([red, green, blue], axis=-1), 0, 1)


def frame_of(planes, pix_fmt):
    """A picture of whole planes (H, W); of chroma, the samples of its grid are kept."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    kind: Any = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    for index, plane in enumerate(frame.planes):
        whole = planes[index] if index < 3 else np.full((height, width), 255)
        down, across = height // plane.height, width // plane.width
        samples = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
        samples[:, : plane.width] = whole[::down, ::across]
        plane.update(samples.tobytes())
    return frame


def write(path, codec, pix_fmt, frames, stated=2, full=None):
    lossless = {"qp": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=lossless)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pix_fmt
        stream.codec_context.colorspace = stated
        if full is not None:
            stream.codec_context.color_range = 2 if full else 1
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.colorspace = stated
            if full is not None:
                frame.color_range = 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def errors_of(path, expected, **options):
    """Signed differences of every frame from what is expected."""
    with open_video(path, **options) as frames:
        shown = [frame.image.astype(float) for frame in frames]
    return np.array([one - other for one, other in zip(shown, expected, strict=True)])


def flat_colours(count=300, size=(32, 32)):
    colours = np.random.default_rng(7).uniform(0.04, 0.96, (count, 1, 1, 3))
    return np.broadcast_to(colours, (count, *size, 3))


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "pix_fmt", "bits", "grid"), LOSSLESS)
@pytest.mark.parametrize("standard", WEIGHTS)
def test_flat_colours_are_off_by_rounding_only(tmp_path, codec, pix_fmt, bits, grid, standard):
    full = pix_fmt.startswith("yuvj")
    planes = [planes_of(rgb, standard, bits, full) for rgb in flat_colours()]
    expected = [rgb_of(three, standard, bits, full) for three in planes]
    frames = [frame_of(three, pix_fmt) for three in planes]
    path = write(tmp_path / "flat.mkv", codec, pix_fmt, frames, STATED[standard][0], full)
    errors = errors_of(path, expected)
    assert np.abs(errors).max() < 0.53
    assert np.abs(errors.mean(axis=(0, 1, 2))).max() < 0.1


@pytest.mark.parametrize(("codec", "pix_fmt", "bits", "grid"), LOSSLESS)
def test_gradients_are_not_darkened(tmp_path, codec, pix_fmt, bits, grid):
    """Luma rises to the right; chroma changes slowly downwards, linear between its samples."""
    full = pix_fmt.startswith("yuvj")
    unit = 2 ** (bits - 8)
    row = (np.arange(HEIGHT) // grid[1] + 0.5) * grid[1] - 0.5  # the middle of each chroma sample
    plane = np.ones((HEIGHT, WIDTH))
    luma = np.rint(unit * (60 + np.arange(WIDTH))) * plane
    chroma = [np.rint(unit * (90 + slope * row))[:, None] * plane for slope in (0.6, 0.75)]
    whole = [unit * (90 + slope * np.arange(HEIGHT))[:, None] * plane for slope in (0.6, 0.75)]
    expected = [rgb_of([luma, *whole], "601", bits, full)]
    frames = [frame_of([luma, *chroma], pix_fmt)]
    path = write(tmp_path / "slope.mkv", codec, pix_fmt, frames, 5, full)
    errors = errors_of(path, expected)[:, 8:-8]
    assert np.abs(errors).max() < 2.2  # chroma is rounded to samples first: up to 1.1 levels
    assert np.abs(errors.mean(axis=(0, 1, 2))).max() < 0.3


def test_deep_pictures_of_full_range_are_up_to_half_a_level_bright(tmp_path):
    """FFmpeg takes 1023 for four times 255, and a bit; that much is left."""
    planes = [planes_of(rgb, "709", 10, True) for rgb in flat_colours()]
    expected = [rgb_of(three, "709", 10, True) for three in planes]
    frames = [frame_of(three, "yuv420p10le") for three in planes]
    path = write(tmp_path / "flat.mkv", "ffv1", "yuv420p10le", frames, 1, True)
    errors = errors_of(path, expected)
    assert np.abs(errors).max() < 1.3
    assert 0 < errors.mean() < 0.6


@pytest.mark.parametrize(
    ("size", "standard"),
    [((576, 720), "601"), ((576, 1024), "601"), ((720, 1280), "709"), ((720, 960), "709")],
)
def test_an_untagged_file_has_the_matrix_that_players_assume(tmp_path, size, standard):
    planes = [planes_of(rgb, standard, 8, False) for rgb in flat_colours(4, size)]
    expected = [rgb_of(three, standard, 8, False) for three in planes]
    frames = [frame_of(three, "yuv420p") for three in planes]
    errors = errors_of(write(tmp_path / "flat.mkv", "ffv1", "yuv420p", frames), expected)
    assert np.abs(errors).max() < 0.53


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("libx264rgb", "rgb24"), ("libx264rgb", "bgr0"), ("qtrle", "rgb24"), ("png", "rgb24")],
)
def test_colours_that_a_file_holds_as_rgb_are_unchanged(tmp_path, codec, pix_fmt):
    colours = np.rint(255 * flat_colours(6)).astype(np.uint8)
    frames = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24") for image in colours
    ]
    lossless = {"qp": "0"} if codec == "libx264rgb" else {}
    with av.open(str(tmp_path / "rgb.mov"), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=lossless)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pix_fmt
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert not errors_of(tmp_path / "rgb.mov", colours).any()


@pytest.mark.parametrize(("pix_fmt", "full"), [("gray", True), ("gray", None), ("gray", False)])
def test_grey_is_grey(tmp_path, pix_fmt, full):
    levels = np.arange(16, 236, 12)
    frames = [frame_of([np.full((HEIGHT, WIDTH), level)], pix_fmt) for level in levels]
    path = write(tmp_path / "grey.mkv", "ffv1", pix_fmt, frames, full=full)
    shown = levels if full is not False else (levels - 16) * 255 / 219
    errors = errors_of(path, np.broadcast_to(shown[:, None, None, None], (len(levels), 1, 1, 3)))
    assert np.abs(errors).max() < 0.53


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p"])
def test_both_decoders_and_a_child_process_give_the_same_pixels(tmp_path, pix_fmt):
    noise = np.random.default_rng(3).uniform(0, 1, (5, HEIGHT, WIDTH, 3))
    frames = [frame_of(planes_of(rgb, "601", 8, False), pix_fmt) for rgb in noise]
    path = write(tmp_path / "noise.mkv", "libx264", pix_fmt, frames, 5)
    kinds = [{}, {"decoder": "pyav"}, {"isolate": True}, {"read_ahead_bytes": 1}]
    shown = []
    for options in kinds:
        with open_video(path, **options) as opened:
            shown.append([frame.image for frame in opened])
            assert opened.info.decoder == (
                "decord" if pix_fmt == "yuv444p" and options in ({}, {"isolate": True}) else "pyav"
            )
    for other in shown[1:]:
        assert np.array_equal(shown[0], other)


# Which pixel of the coded picture is shown at (row, column), written out; h and w of the coded one.
ORIENTATIONS = {
    "identity": ((1, 0, 0, 1), lambda i, j, h, w: (i, j)),
    "mirrored": ((-1, 0, 0, 1), lambda i, j, h, w: (i, w - 1 - j)),
    "upside_down": ((1, 0, 0, -1), lambda i, j, h, w: (h - 1 - i, j)),
    "half_turn": ((-1, 0, 0, -1), lambda i, j, h, w: (h - 1 - i, w - 1 - j)),
    "clockwise": ((0, 1, -1, 0), lambda i, j, h, w: (h - 1 - j, i)),
    "anticlockwise": ((0, -1, 1, 0), lambda i, j, h, w: (j, w - 1 - i)),
    "transposed": ((0, 1, 1, 0), lambda i, j, h, w: (j, i)),
    "other_diagonal": ((0, -1, -1, 0), lambda i, j, h, w: (h - 1 - j, w - 1 - i)),
}


def lossless_clip(path, matrix):
    """Two frames of noise with whole chroma, and a display matrix in the header of the track."""
    rng = np.random.default_rng(3)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        for _ in range(2):
            image = rng.integers(0, 256, (32, 48, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    a, b, c, d = matrix
    values = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data[start : start + 36] = struct.pack(">9i", *values)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_all_eight_orientations_are_applied_to_every_pixel(tmp_path, name, decoder):
    plain = [frame.image for frame in open_video(lossless_clip(tmp_path / "a.mp4", (1, 0, 0, 1)))]
    matrix, source_of = ORIENTATIONS[name]
    with open_video(lossless_clip(tmp_path / "b.mp4", matrix), decoder=decoder) as opened:
        shown = [frame.image for frame in opened]
        assert (opened.info.height, opened.info.width) == shown[0].shape[:2]
    for image, coded in zip(shown, plain, strict=True):
        assert image.shape == ((48, 32, 3) if matrix[0] == 0 else (32, 48, 3))
        for i in range(image.shape[0]):
            for j in range(image.shape[1]):
                assert (image[i, j] == coded[source_of(i, j, 32, 48)]).all()


@pytest.mark.parametrize("matrix", [(1, 1, -1, 1), (0, 0, 0, 0), (1, 0, 1, 0)])
def test_a_matrix_that_is_no_orientation_is_ignored(tmp_path, matrix):
    plain = [frame.image for frame in open_video(lossless_clip(tmp_path / "a.mp4", (1, 0, 0, 1)))]
    shown = [frame.image for frame in open_video(lossless_clip(tmp_path / "b.mp4", matrix))]
    assert all(np.array_equal(one, other) for one, other in zip(plain, shown, strict=True))

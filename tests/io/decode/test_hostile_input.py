"""Input that does harm: damaged videos, pictures too large, weights that run code."""

import json
import os
import pickle
import struct
import subprocess
import sys
import zlib

import av
import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image

from propagate.errors import MaskError, ModelError, VideoError
from propagate.features.registry import load_backbone
from propagate.io.decode.pixel_limit import MAX_PIXELS
from propagate.io.decode.video import open_video
from propagate.io.masks.files import read_mask
from propagate.io.masks.masks_json import read_masks_json
from propagate.io.masks.reading import MaskReading
from propagate.io.masks.references import read_references
from tests.damaged_files import cut_off, with_flips
from tests.paths import ROOT

CORPUS = ROOT.parent / "shared" / "data" / "dev" / "decode"
# One of each container and of the codecs that most files have, all small.
DAMAGED = (
    "daft__sample_video.mp4",
    "fate__mpeg4__packed_bframes.avi",
    "imageio__newtonscradle.gif",
    "moviepy__no_duration.webm",
    "torchcodec__av1_video.mkv",
)


def sources():
    names = DAMAGED if CORPUS.is_dir() else ()
    yield pytest.param(None, id="drawn clip")
    for name in names:
        yield pytest.param(CORPUS / name, id=name)


def frames_and_error(path, **options):
    count = 0
    try:
        with open_video(path, **options) as frames:
            for count, frame in enumerate(frames, start=1):
                assert frame.index == count - 1
    except VideoError as error:
        return count, str(error)
    return count, None


@pytest.mark.parametrize("source", list(sources()))
@pytest.mark.slow
def test_a_damaged_file_gives_frames_and_at_most_one_error(drawn, tmp_path, source):
    data = (source or drawn.mp4).read_bytes()
    whole, error = frames_and_error(source or drawn.mp4)
    assert error is None
    path = tmp_path / f"damaged{(source or drawn.mp4).suffix}"
    damages = [cut_off(data, share) for share in (0.05, 0.5, 0.9)]
    for number, damage in enumerate([*damages, *(with_flips(data, seed) for seed in range(3))]):
        path.write_bytes(damage)
        count, error = frames_and_error(path, isolate=True, deadline_s=30)
        assert count <= 2 * whole, f"damage {number}"
        if error is not None:
            assert str(path) in error
            assert "\n" not in error
            assert "its decoder" not in error  # it neither crashed nor hung
        else:
            assert count


# Pictures too large


def png_of(width, height):
    """A PNG of some hundred bytes that says it is that large: all of it is one run of zeros."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


def gif_of(width, height):
    """A GIF of 40 bytes that says it is that large."""
    size = struct.pack("<HH", width, height)
    return (
        b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
        b"\x2c\0\0\0\0" + size + b"\0\x02\x02\x44\x01\0\x3b"
    )


# Twelve thousand squared is within what FFmpeg allows by itself, and 576 MB.
SIDE = 12_000


def test_the_limit_takes_8k_and_large_photos_and_no_bomb():
    assert MAX_PIXELS > 1.5 * 7680 * 4320
    assert 9504 * 6336 < MAX_PIXELS < SIDE * SIDE


def test_a_png_bomb_is_refused_as_mask_as_reference_and_as_frame(tmp_path):
    bomb = tmp_path / "00000.png"
    bomb.write_bytes(png_of(50_000, 50_000))
    message = rf"{bomb}: 50000x50000 pixels, more than the limit of {MAX_PIXELS}.*max_pixels"
    with pytest.raises(MaskError, match=message):
        read_mask(bomb)
    with pytest.raises(MaskError, match=message):
        read_references(tmp_path)
    with pytest.raises(VideoError, match=message):
        open_video(tmp_path)


READ_ONE = """
import sys
import av, PIL.Image  # their own size is not the reader's
from propagate.errors import VideoError
from propagate.io.decode.video import open_video

def peak_mib():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

before = peak_mib()
try:
    next(open_video(sys.argv[1]))
except VideoError as error:
    print(peak_mib() - before, error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", ["bomb.gif", "00000.png"])
def test_a_bomb_takes_no_memory(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gif_of(SIDE, SIDE) if name == "bomb.gif" else png_of(SIDE, SIDE))
    source = path if name == "bomb.gif" else tmp_path
    command = [sys.executable, "-c", READ_ONE, str(source)]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    grown_mib, error = result.stdout.split(" ", 1)
    assert str(MAX_PIXELS) in error
    assert "raise max_pixels" in error
    assert float(grown_mib) < 50


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("kind", ["video", "folder"])
def test_the_limit_counts_pixels_and_can_be_set(drawn, isolate, kind):
    source = drawn.mp4 if kind == "video" else drawn.folder
    count, error = frames_and_error(source, isolate=isolate, max_pixels=64 * 48)
    assert (count, error) == (len(drawn.images), None)
    with pytest.raises(VideoError, match=r"64x48 pixels, more than the limit of 3071"):
        open_video(source, isolate=isolate, max_pixels=64 * 48 - 1)


def test_the_limit_for_masks_can_be_set(drawn):
    assert read_mask(drawn.mask, MaskReading(max_pixels=64 * 48)).ids.shape == (48, 64)
    with pytest.raises(MaskError, match="more than the limit of 3071"):
        read_mask(drawn.mask, MaskReading(max_pixels=64 * 48 - 1))


def test_a_picture_above_pillows_own_limit_is_read_and_that_limit_stays(drawn, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert frames_and_error(drawn.folder) == (len(drawn.images), None)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_a_video_that_grows_over_the_limit_keeps_its_small_frames(tmp_path):
    path = tmp_path / "growing.ts"
    with path.open("wb") as joined:
        for number, size in enumerate([(64, 48), (640, 480)]):
            part = tmp_path / f"{number}.ts"
            with av.open(str(part), "w") as container:
                stream = container.add_stream("mpeg2video", rate=25)
                stream.width, stream.height = size
                for _ in range(10):
                    image = np.zeros((size[1], size[0], 3), np.uint8)
                    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
            joined.write(part.read_bytes())
    whole, error = frames_and_error(path)
    assert whole > 15  # FFmpeg loses one where the parts meet
    assert error is None
    count, error = frames_and_error(path, max_pixels=64 * 48)
    assert 8 <= count <= 10
    assert error is not None
    assert "if frames of over 3072 pixels are right, raise max_pixels" in error
    assert f"after frame {count - 1}" in error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_among_images_or_masks_is_an_error_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "00000.png")
    with pytest.raises(VideoError, match=r"00000\.png.*it is no file"):
        open_video(tmp_path)
    with pytest.raises(MaskError, match=r"00000\.png.*it is no file"):
        read_mask(tmp_path / "00000.png")


def test_run_lengths_of_a_huge_picture_are_refused(tmp_path):
    path = tmp_path / "masks.json"
    content = {
        "format": "propagate-rle",
        "version": 1,
        "size": [10**6, 10**6],
        "frames": [{"index": 0, "name": "00000", "time_s": 0.0, "objects": []}],
    }
    path.write_text(json.dumps(content))
    with pytest.raises(MaskError, match="masks of 1000000x1000000 pixels"):
        read_masks_json(path)


# Weights


class Payload:
    """What a pickle can do to who loads it; here, it makes a file."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


def only_a_pickle(folder, payload):
    next(folder.glob("*.safetensors")).unlink()
    (folder / "diffusion_pytorch_model.bin").write_bytes(payload)


def a_pickle_named_safetensors(folder, payload):
    next(folder.glob("*.safetensors")).write_bytes(payload)


def an_index_that_names_a_pickle(folder, payload):
    weights = next(folder.glob("*.safetensors"))
    weights.unlink()
    (folder / "evil.bin").write_bytes(payload)
    names = {name: "evil.bin" for name in ("conv_in.weight", "conv_in.bias")}
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (folder / f"{weights.name}.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("as_zip", [False, True], ids=["pickle", "torch.save"])
@pytest.mark.parametrize(
    "plant", [only_a_pickle, a_pickle_named_safetensors, an_index_that_names_a_pickle]
)
def test_a_model_folder_never_runs_code(tmp_path, plant, as_zip):
    folder, place = tmp_path / "model", tmp_path / "was here"
    torch.manual_seed(0)
    unet = UNet2DModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    unet.save_pretrained(folder)
    file = tmp_path / "payload"
    if as_zip:
        torch.save(Payload(place), file)
    else:
        file.write_bytes(pickle.dumps(Payload(place)))
    plant(folder, file.read_bytes())
    with pytest.raises(ModelError, match=str(folder)):
        load_backbone(str(folder), device="cpu")
    assert not place.exists()


def test_the_payload_would_run_if_it_were_loaded(tmp_path):
    place = tmp_path / "was here"
    pickle.loads(pickle.dumps(Payload(place))).close()
    assert place.exists()


@pytest.mark.parametrize(
    ("command", "large"),
    [
        *[("segment", "reference"), ("segment", "mask"), ("segment", "target")],
        *[("find", "reference"), ("find", "mask"), ("find", "target")],
        *[("features", "mask"), ("features", "target")],
    ],
)
def test_the_limit_of_pixels_can_be_set_for_whatever_a_command_opens(
    propagate, drawn, tmp_path, command, large
):
    """All pictures but one are of a quarter of its size."""
    paths = {}
    for name, array in {
        "reference": drawn.images[0],
        "mask": drawn.truth[0],
        "target": drawn.images[3],
    }.items():
        paths[name] = tmp_path / name / f"{name}.png"
        paths[name].parent.mkdir()
        image = Image.fromarray(array)
        image = image if name == large else image.resize((32, 24), Image.Resampling.NEAREST)
        image.save(paths[name])
    reference, target = paths["reference"], paths["target"].parent
    pictures = (target,) if command == "features" else (reference, target)
    arguments = (command, *pictures, "-m", paths["mask"], "-o", tmp_path / "out")
    finished = propagate(*arguments, "--model", "color", "--max-pixels", 64 * 48 - 1)
    assert finished.status == 1
    assert f"{paths[large]}: " in finished.stderr
    assert "64x48 pixels, more than the limit of 3071" in finished.stderr
    again = propagate(*arguments, "--model", "color", "--max-pixels", 64 * 48, "--overwrite")
    assert "more than the limit" not in again.stderr

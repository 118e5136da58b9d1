"""Every bad input is one line: what, where, what to do. What was written stays whole."""

import functools
import json
import os
import re
from contextlib import nullcontext, suppress

import av
import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image

import propagate.features.registry
import propagate.plan
from propagate.errors import MaskError
from propagate.features.colors import ColorBackbone
from propagate.io.decode.video import open_source
from propagate.pipeline import Propagator
from tests.silent_server import server_that_stops
from tests.small_disk import mounted


@pytest.fixture
def run(propagate, drawn, tmp_path):
    """Runs the command on the drawn clip, or on what is given in its place."""

    def call(*options, source=None, mask=None, model="color", out=None):
        return propagate(
            *("run", source or drawn.mp4, "-m", mask or drawn.mask, "-o", out or tmp_path / "out"),
            *("--model", model, "--short-side", 64, *options),
        )

    return call


def error_line(finished):
    """The one line on stderr of a run that failed as it should.

    Before it, a run that began may have said what it understood, and how far it came.
    """
    assert finished.status == 1, finished
    begun = r"propagate: .*: (\d+ frames?( of about .*|, .*)?|frame \d+: object 1 \d+ px.*)"
    lines = [line for line in finished.stderr.splitlines() if not re.fullmatch(begun, line)]
    assert len(lines) == 1, finished.stderr
    assert lines[0].startswith("propagate: error: ")
    assert finished.stdout == ""
    return lines[0]


def assert_kept(folder, count):
    """Whole masks of the first `count` frames, no others, and a report that says so."""
    masks = sorted(path.name for path in (folder / "masks").iterdir())
    assert masks == [f"{index:05d}.png" for index in range(count)]
    for mask in masks:
        with Image.open(folder / "masks" / mask) as image:
            image.load()
    assert not (folder / "result.json").exists()
    report = json.loads((folder / "incomplete.json").read_text())
    assert report["complete"] is False
    assert report["frames"] == len(report["per_frame"]) == count
    assert not list(folder.rglob("*.part"))
    return report


def files_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Sources


def text(path, drawn):
    path.write_text("no video\n" * 500)


def empty_file(path, drawn):
    path.touch()


def video_without_frames(path, drawn):
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def sound_only(path, drawn):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        silence.sample_rate = 16000
        container.mux([*stream.encode(silence), *stream.encode()])


def empty_folder(path, drawn):
    path.mkdir()


def folder_with_a_gap(path, drawn):
    path.mkdir()
    for number in (0, 1, 2, 4):
        Image.fromarray(drawn.images[number]).save(path / f"{number:05d}.png")


BAD_SOURCES = {
    "no such file": (lambda path, drawn: None, "no such file or folder; check the path"),
    "not a video": (text, r"cannot be opened as a video \(.*\); check that it plays"),
    "empty file": (empty_file, "the file is empty; get a complete copy"),
    "zero frames": (video_without_frames, "holds no frames; check that it is a complete"),
    "sound only": (sound_only, "has no video stream; give a file with pictures in it"),
    "folder without images": (empty_folder, "has no images; put frames into it"),
    "folder with a gap": (
        folder_with_a_gap,
        "frame 00003 is missing between 00002.png and 00004.png; add it, or pass --allow",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD_SOURCES.values(), ids=BAD_SOURCES)
def test_a_source_without_usable_frames(run, drawn, tmp_path, make, message):
    source = tmp_path / "bad.mp4"
    make(source, drawn)
    assert re.search(f"{re.escape(str(source))}: {message}", error_line(run(source=source)))
    assert not (tmp_path / "out").exists()


def test_a_video_cut_off_in_the_middle_keeps_its_frames(run, drawn, tmp_path):
    source = tmp_path / "cut.mp4"
    data = drawn.mp4.read_bytes()
    source.write_bytes(data[: len(data) * 2 // 3])
    line = error_line(run(source=source))
    count = 0
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        with suppress(av.FFmpegError):
            for packet in container.demux(stream):
                count += len(packet.decode())
        with suppress(av.FFmpegError):
            count += len(stream.codec_context.decode(None))  # frames that the decoder held back
    assert 2 < count < len(drawn.images)
    assert f"{source}: damaged or cut off after frame {count - 1} " in line
    assert f"{count} frames were read; get a complete copy" in line
    report = assert_kept(tmp_path / "out/cut", count)
    assert report["error"] in line


def test_a_video_damaged_in_the_middle_keeps_its_good_frames(run, drawn, tmp_path):
    with av.open(str(drawn.mp4)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        keyframe = [packet for packet in packets if packet.is_keyframe][1]
    start = keyframe.pos
    assert start is not None
    source = tmp_path / "damaged.mp4"
    data = bytearray(drawn.mp4.read_bytes())
    data[start : start + keyframe.size] = b"\xff" * keyframe.size
    source.write_bytes(data)
    line = error_line(run(source=source))
    count = int(re.search(r"(\d+) frames were read", line)[1])  # type: ignore[index]
    assert 0 < count <= packets.index(keyframe)
    assert f"{source}: damaged or cut off after frame {count - 1} " in line
    assert_kept(tmp_path / "out/damaged", count)


def test_an_image_that_cannot_be_read_keeps_the_frames_before_it(run, drawn, tmp_path):
    source = tmp_path / "frames"
    source.mkdir()
    for number in range(5):
        Image.fromarray(drawn.images[number]).save(source / f"{number:05d}.png")
    bad = source / "00003.png"
    bad.write_bytes(bad.read_bytes()[:200])
    line = error_line(run(source=source))
    assert f"{bad}: cannot be read as an image" in line
    assert "3 frames were read; replace or remove the file" in line
    assert_kept(tmp_path / "out/frames", 3)


def test_a_folder_with_mixed_sizes_keeps_the_frames_before_the_odd_one(run, drawn, tmp_path):
    source = tmp_path / "frames"
    source.mkdir()
    for number in range(4):
        image = Image.fromarray(drawn.images[number])
        (image.resize((32, 24)) if number == 2 else image).save(source / f"{number:05d}.png")
    line = error_line(run(source=source))
    assert f"{source / '00002.png'}: is 32x24, the frames before it are 64x48; give every" in line
    assert_kept(tmp_path / "out/frames", 2)


@pytest.mark.parametrize("overlay", [(), ("--overlay", "--format", "png,rle")])
@pytest.mark.slow
def test_a_stream_that_stops_keeps_its_frames(
    run, drawn, tmp_path, monkeypatch, overlay, write_video
):
    stream = write_video(tmp_path / "live.ts", drawn.images * 3)
    patient = functools.partial(open_source, live_deadline_s=1)
    monkeypatch.setattr(propagate.plan, "open_source", patient)
    with server_that_stops(stream.read_bytes()) as url:
        finished = run(*overlay, "--batch-size", 2, source=url.replace("//", "//me:secret@"))
        first = files_of(tmp_path / "out")
        second = run(*overlay, "--batch-size", 2, source=url.replace("//", "//me:secret@"))
    # A camera does not show the same twice: what it showed first is not replaced.
    assert "the folder holds files of another run" in error_line(second)
    assert files_of(tmp_path / "out") == first
    assert "secret" not in finished.stderr + second.stderr
    assert not any(b"secret" in content for content in first.values())
    line = error_line(finished)
    count = json.loads((tmp_path / "out/live/incomplete.json").read_text())["frames"]
    assert count > 4
    assert f"{url}: the stream broke off after frame {count - 1}" in line
    assert f"{count} frames were read; check the sender" in line
    assert_kept(tmp_path / "out/live", count)
    if overlay:
        with av.open(str(tmp_path / "out/live/overlay.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == count
        assert len(json.loads((tmp_path / "out/live/masks.json").read_text())["frames"]) == count


# Masks


def grey(array):
    return Image.fromarray(np.asarray(array, np.uint8))


def soft(ids):
    """White squares on black, their edges blurred over five pixels."""
    image = Image.fromarray(np.where(ids > 0, 255, 0).astype(np.uint8))
    return image.resize((21, 16)).resize((64, 48), Image.Resampling.BILINEAR)


BAD_MASKS = {
    "another size": (
        lambda ids: grey(ids[::2, ::2]),
        "the mask is 32x24, the frame 64x48; resize the mask to 64x48 by nearest neighbour",
    ),
    "transposed": (lambda ids: grey(ids.T), "the mask is 48x64, the frame 64x48; turn the mask by"),
    "no object": (lambda ids: grey(ids * 0), "no object in this mask; label at least one pixel"),
    "only void": (
        lambda ids: grey(ids * 0 + 255),
        r"every pixel is void \(255\); paint the background 0",
    ),
    "photograph": (
        lambda ids: Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), "u1")),
        r"colours instead of ids \(mode RGB, \d+ colours\); save it",
    ),
    "16 bit": (
        lambda ids: Image.fromarray(ids.astype(np.uint16) * 257),
        r"holds the value 514, but ids are whole numbers, 1\.\.254; renumber the objects",
    ),
    "more than 255 objects": (
        lambda ids: Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) // 8),
        r"holds the value 383, but ids are whole numbers, 1\.\.254; renumber the objects",
    ),
    "soft": (soft, r"a soft mask, \d+ grey levels with blurred edges; threshold it"),
}


@pytest.mark.parametrize(("make", "message"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_a_mask_that_cannot_be_used(run, drawn, tmp_path, make, message):
    mask = tmp_path / "mask.png"
    make(drawn.truth[0]).save(mask)
    assert re.search(f"{re.escape(str(mask))}: {message}", error_line(run(mask=mask)))
    assert not (tmp_path / "out/clip").exists()
    # Nothing stands in the way of the right mask.
    assert run("--max-frames", 1).status == 0


def test_a_mask_that_is_no_image_or_not_there(run, tmp_path):
    mask = tmp_path / "mask.png"
    assert f"{mask}: no such mask; check the path" in error_line(run(mask=mask))
    mask.write_text("no image")
    assert f"{mask}: no readable image" in error_line(run(mask=mask))
    (tmp_path / "masks").mkdir()
    assert "no mask in this folder; put masks" in error_line(run(mask=tmp_path / "masks"))


def test_ids_above_254_in_an_array_are_refused(drawn):
    ids = drawn.truth[0].astype(np.int32) * 200  # 400 is no id
    with pytest.raises(MaskError, match="holds the id 400, but ids of objects are 1"):
        next(Propagator("color").propagate(drawn.mp4, {0: ids}))


def test_void_is_neither_object_nor_background(run, drawn, tmp_path):
    ids = drawn.truth[0].copy()
    ids[1:5, 2:60] = 255
    mask = tmp_path / "mask.png"
    Image.fromarray(ids).save(mask)
    finished = run("--max-frames", 3, mask=mask)
    assert finished.status == 0
    assert finished.stderr.count("black and white") == 0
    report = json.loads((tmp_path / "out/clip/result.json").read_text())
    assert report["object_ids"] == [1, 2]
    for path in (tmp_path / "out/clip/masks").iterdir():
        assert set(np.unique(np.asarray(Image.open(path)))) == {0, 1, 2}


def test_black_and_white_is_one_object_and_the_run_says_so(run, drawn, tmp_path):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.where(drawn.truth[0] == 2, 255, 0).astype(np.uint8)).save(mask)
    finished = run("--max-frames", 3, mask=mask)
    assert finished.status == 0
    assert f"propagate: {mask}: black and white: one object, id 1\n" in finished.stderr
    assert json.loads((tmp_path / "out/clip/result.json").read_text())["object_ids"] == [1]
    first = np.asarray(Image.open(tmp_path / "out/clip/masks/00000.png"))
    np.testing.assert_array_equal(first, drawn.truth[0] == 2)


def test_a_reference_past_the_end_of_a_folder_is_told_before_anything_is_written(
    run, drawn, tmp_path
):
    line = error_line(run("--reference", f"12={drawn.mask}", source=drawn.folder))
    assert "the reference on frame 12 is past the end: there are 12 frames, 0 to 11; name" in line
    assert not (tmp_path / "out").exists()


def test_a_reference_past_the_end_of_a_video_is_told_before_anything_is_written(
    run, drawn, tmp_path
):
    line = error_line(run("--reference", f"40={drawn.mask}"))
    assert "the reference on frame 40 is past the end: there are 12 frames, 0 to 11; name" in line
    assert not (tmp_path / "out").exists()


# Output


def test_a_finished_run_is_left_alone_without_overwrite(run, tmp_path):
    assert run("--max-frames", 2).status == 0
    before = files_of(tmp_path / "out")
    line = error_line(run("--max-frames", 3))
    assert f"{tmp_path / 'out/clip'}: a finished run is in this folder with other settings" in line
    assert "max_frames was 2, is 3; pass --overwrite" in line
    assert files_of(tmp_path / "out") == before
    line = error_line(run("--max-frames", 2, "--matcher", "dino", "--short-side", 80))
    assert "config.matcher." in line
    assert "config.short_side_px was 64, is 80" in error_line(
        run("--max-frames", 2, "--short-side", 80)
    )
    again = run("--max-frames", 2)
    assert again.status == 0
    assert "finished before; left as it is" in again.stdout
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["masks/00000.png", "notes.txt"])
def test_an_output_folder_with_other_files_is_left_alone(run, tmp_path, name):
    file = tmp_path / "out/clip" / name
    file.parent.mkdir(parents=True)
    file.write_text("somebody's own")
    line = error_line(run())
    assert f"{tmp_path / 'out/clip'}: the folder holds files of another run; pass " in line
    assert list(files_of(tmp_path / "out")) == [file]
    assert file.read_text() == "somebody's own"


def test_an_unfinished_run_of_other_settings_is_left_alone(run, drawn, tmp_path):
    source = tmp_path / "clip.mp4"
    data = drawn.mp4.read_bytes()
    source.write_bytes(data[: len(data) * 2 // 3])
    assert run(source=source).status == 1
    before = files_of(tmp_path / "out")
    line = error_line(run("--matcher", "dino", source=source))
    assert "an unfinished run of other settings is in this folder: config.matcher" in line
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize("place", ["out", "out/clip", "out/clip/masks"])
def test_a_file_where_a_folder_must_be(run, tmp_path, place):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("in the way")
    options = ("--overwrite",) if place == "out/clip/masks" else ()
    line = error_line(run(*options))
    assert f"{tmp_path / 'out/clip'}: cannot be used as output folder (" in line
    assert "choose another one (-o)" in line
    assert file.read_text() == "in the way"


def test_an_output_folder_that_may_not_be_written_to(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o555)
    # Root may write anywhere but on a read-only file system.
    with mounted(out, "ro") if os.access(out, os.W_OK) else nullcontext():
        line = error_line(run(out=out))
    assert f"{out / 'clip'}: cannot be used as output folder (" in line
    assert re.search(r"\((Permission denied|Read-only file system)\); choose another one", line)
    assert not list(out.iterdir())


@pytest.mark.slow
def test_no_space_left_keeps_the_masks_that_fitted(run, drawn, tmp_path):
    out = tmp_path / "full"
    out.mkdir()
    with mounted(out, "size=48k"):
        line = error_line(run(out=out))
        assert re.search(rf"{out}/clip/masks/\d+\.png: cannot be written \(no space left", line)
        assert "free some space there, or choose another folder" in line
        masks = sorted((out / "clip/masks").iterdir())
        assert 0 < len(masks) < len(drawn.images)
        for mask in masks:
            with Image.open(mask) as image:
                image.load()
        assert not (out / "clip/result.json").exists()


# Models and devices


def folder_without_index(path):
    path.mkdir()


def folder_without_weights(path):
    tiny_unet().save_pretrained(path)
    next(path.glob("*.safetensors")).unlink()


def folder_with_cut_weights(path):
    tiny_unet().save_pretrained(path)
    weights = next(path.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])


def tiny_unet():
    torch.manual_seed(0)
    return UNet2DModel(
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    )


BAD_MODEL_FOLDERS = {
    "empty folder": (folder_without_index, "neither model_index.json nor config.json"),
    "no weights": (folder_without_weights, "diffusion_pytorch_model.safetensors is missing"),
    "cut weights": (folder_with_cut_weights, "/diffusion_pytorch_model.safetensors"),
}


@pytest.mark.parametrize(("make", "message"), BAD_MODEL_FOLDERS.values(), ids=BAD_MODEL_FOLDERS)
def test_a_model_folder_with_parts_missing(run, tmp_path, make, message):
    folder = tmp_path / "model"
    make(folder)
    line = error_line(run(model=folder))
    assert f"model {folder}: " in line
    assert message in line
    assert "save_pretrained" in line or "fetch the model again" in line
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_name(run, tmp_path):
    line = error_line(run(model="tinny"))
    assert "no model is named 'tinny'; pass one of tiny, color, sd15, " in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model", ["nobody/nothing", "sd15"])
def test_a_model_that_cannot_be_reached_offline(run, tmp_path, monkeypatch, model):
    # An empty cache: whatever this machine has downloaded does not count.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    line = error_line(run(model=model))
    assert f"model {model}" in line
    assert "use tiny, color or a local folder" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("bfloat16", "pass --dtype float32"),
        ("float32", "its weights are damaged, fetch them again"),
    ],
)
def test_weights_that_give_nan(run, tmp_path, dtype, advice):
    unet = tiny_unet()
    with torch.no_grad():
        unet.conv_in.weight[0] = torch.nan
    unet.save_pretrained(tmp_path / "model")
    line = error_line(run("--dtype", dtype, model=tmp_path / "model"))
    assert f"model {tmp_path / 'model'}: features are not finite in {dtype}; {advice}" in line
    assert not (tmp_path / "out").exists()


def test_cuda_asked_for_and_absent(run, tmp_path):
    device = "cuda:99" if torch.cuda.is_available() else "cuda"
    line = error_line(run("--device", device))
    assert f"device '{device}' was asked for, but PyTorch sees " in line
    assert "CUDA devices here; use --device cpu" in line
    assert not (tmp_path / "out").exists()


def test_a_device_with_an_unknown_name(run):
    assert "no device is called 'gpu'; use auto, cpu, cuda" in error_line(run("-d", "gpu"))


class SmallDevice(ColorBackbone):
    """Colours on a device that holds so many frames at once, as a GPU would refuse more."""

    def __init__(self, capacity):
        super().__init__(torch.device("cpu"))
        self.capacity = capacity
        self.batches = []

    def extract(self, images):
        self.batches.append(len(images))
        if len(images) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().extract(images)


@pytest.mark.slow
def test_out_of_memory_tries_a_smaller_batch_and_says_so(run, tmp_path, monkeypatch, caplog):
    small = SmallDevice(capacity=2)
    monkeypatch.setattr(propagate.features.registry, "load_backbone", lambda *_, **__: small)
    finished = run("--batch-size", 8, "--max-frames", 8)
    assert finished.status == 0
    assert small.batches[:2] == [8, 4]
    assert max(n for n in small.batches if n <= 2) == 2
    assert "out of memory with 8 frames at once; continuing with 4" in caplog.text
    monkeypatch.undo()
    whole = tmp_path / "whole"
    assert run("--max-frames", 8, out=whole).status == 0
    for mask in (whole / "clip/masks").iterdir():
        assert (tmp_path / "out/clip/masks" / mask.name).read_bytes() == mask.read_bytes()


def test_one_frame_that_does_not_fit_is_an_error(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        propagate.features.registry, "load_backbone", lambda *_, **__: SmallDevice(0)
    )
    line = error_line(run())
    assert "one frame of 88x64 does not fit into the memory of cpu; use a smaller model" in line
    assert not (tmp_path / "out/clip").exists()


# Bad usage


BAD_USAGE = {
    "unknown option": ("--frobnicate",),
    "unknown format": ("--format", "gif"),
    "unknown matcher": ("--matcher", "magic"),
    "unknown decoder": ("--decoder", "vlc"),
    "no frames": ("--max-frames", "0"),
}


@pytest.mark.parametrize("options", BAD_USAGE.values(), ids=BAD_USAGE)
def test_bad_usage_is_status_2_and_names_the_option(run, tmp_path, options):
    finished = run(*options)
    assert finished.status == 2
    assert "Traceback" not in finished.stderr
    assert finished.stderr.splitlines()[-1].startswith(("Error", "No such option"))
    assert options[0] in finished.stderr
    assert not (tmp_path / "out").exists()

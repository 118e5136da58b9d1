"""A run over some of the frames, and one over a source that is not whole yet."""

import json
import shutil
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.config import Config
from propagate.errors import MaskError
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.options import SourceOptions
from propagate.io.decode.video import open_video
from propagate.pipeline import Propagator
from propagate.run_options import RunOptions

COLOR = ("--model", "color", "--short-side", 64)


@pytest.fixture(scope="module")
def color():
    return Propagator("color", device="cpu", config=Config(short_side_px=64))


def masks_in(folder):
    return {
        path.name: np.asarray(Image.open(path)) for path in sorted((folder / "masks").iterdir())
    }


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(
    ("wanted", "indices"),
    [
        (FrameRange(start=3, end=10), range(3, 10)),
        (FrameRange(stride=3), range(0, 12, 3)),
        (FrameRange.parse("0.12s", "0.4s"), range(3, 10)),
        (FrameRange.parse(fps="12.5"), range(0, 12, 2)),
    ],
)
@pytest.mark.slow
def test_a_range_gives_the_masks_of_a_video_of_those_frames(
    color, drawn, tmp_path, wanted, indices, both_ways
):
    """The oracle: the chosen frames as a folder of their own, with the mask on the same picture."""
    reference = indices[len(indices) // 2]
    references = {reference: drawn.truth[reference]}
    folder = tmp_path / "chosen"
    folder.mkdir()
    with open_video(drawn.mp4) as frames:
        for frame in frames:
            if frame.index in indices:
                Image.fromarray(frame.image).save(folder / f"{frame.name}.png")
    place = list(indices).index(reference)
    out = tmp_path / "out"
    expected = color.run(
        folder, {place: drawn.truth[reference]}, out, backwards="all" if both_ways else "none"
    )
    chosen = SourceOptions(frame_range=wanted)
    summary = color.run(
        drawn.mp4, references, out, source_options=chosen, backwards="all" if both_ways else "none"
    )
    assert summary.frames == len(indices)
    ranged, plain = masks_in(summary.folder), masks_in(expected.folder)
    assert list(ranged) == [f"{index:05d}.png" for index in indices]
    for name, mask in ranged.items():
        assert np.array_equal(mask, plain[name])
    report = json.loads((summary.folder / "result.json").read_text())
    assert [entry["name"] for entry in report["per_frame"]] == [f"{i:05d}" for i in indices]
    assert [entry["time_s"] for entry in report["per_frame"]] == [i / 25 for i in indices]
    assert FrameRange(**report["frame_range"]) == wanted
    results = color.propagate(
        drawn.mp4, references, source_options=chosen, backwards="all" if both_ways else "none"
    )
    for result, index in zip(results, indices, strict=True):
        assert result.index == index
        assert np.array_equal(result.mask, plain[f"{index:05d}.png"])


@pytest.mark.slow
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize(
    ("wanted", "references", "read"),
    [
        # The frames that are read are those of another range, which holds the references.
        (FrameRange(start=3, end=7), (0,), FrameRange(end=7)),
        (FrameRange(start=4, end=9, stride=2), (0,), FrameRange(end=9, stride=2)),
        (FrameRange(start_s=Fraction(5, 25)), (2,), FrameRange(start=2)),
        (FrameRange(end=4), (0, 8), FrameRange(end=9)),
        (FrameRange(start=4, end=6), (1, 9), FrameRange(start=1, end=10)),
        (FrameRange(start=4, fps=Fraction(25, 2)), (0,), FrameRange(fps=Fraction(25, 2))),
    ],
)
def test_a_reference_may_lie_outside_the_range(
    color, drawn, tmp_path, wanted, references, read, both_ways
):
    given = {index: drawn.truth[index] for index in references}
    options = SourceOptions(frame_range=read)
    whole = color.run(drawn.mp4, given, tmp_path, source_options=options, name="whole")
    if not both_ways:
        whole = color.run(
            drawn.mp4, given, tmp_path, source_options=options, name="forwards", backwards="none"
        )
    ranged = color.run(
        drawn.mp4,
        given,
        tmp_path,
        source_options=SourceOptions(frame_range=wanted),
        backwards="all" if both_ways else "none",
    )
    with open_video(drawn.mp4, frame_range=wanted) as frames:
        indices = [frame.index for frame in frames]
    masks, expected = masks_in(ranged.folder), masks_in(whole.folder)
    assert list(masks) == [f"{index:05d}.png" for index in indices]
    assert ranged.frames == len(indices)
    for name, mask in masks.items():
        assert np.array_equal(mask, expected[name]), name
    results = color.propagate(
        drawn.mp4,
        given,
        source_options=SourceOptions(frame_range=wanted, isolate=True),
        backwards="all" if both_ways else "none",
    )
    for result, index in zip(results, indices, strict=True):
        assert result.index == index
        assert np.array_equal(result.mask, expected[f"{index:05d}.png"])


def test_a_reference_between_the_frames_of_a_stride_is_read_too(color, drawn):
    given = {0: drawn.truth[0], 5: drawn.truth[5]}
    wanted = SourceOptions(frame_range=FrameRange(stride=3))
    session, expected = color.session(), {}
    for index in (0, 3, 5, 6, 9):  # the literal loop
        result = session.step(open_frame(drawn, index), given.get(index))
        expected[index] = result.mask
    results = color.propagate(drawn.mp4, given, source_options=wanted, backwards="none")
    found = {result.index: result.mask for result in results}
    assert list(found) == [0, 3, 6, 9]
    for index, mask in found.items():
        assert np.array_equal(mask, expected[index])


def open_frame(drawn, index):
    with open_video(drawn.mp4) as frames:
        return next(frame for frame in frames if frame.index == index)


@pytest.mark.slow
def test_a_run_with_a_reference_before_its_range_goes_on_where_it_was_stopped(
    color, drawn, tmp_path
):
    given = {0: drawn.truth[0], 9: drawn.truth[9]}
    options = SourceOptions(frame_range=FrameRange(start=3, end=11))
    whole = color.run(drawn.mp4, given, tmp_path, source_options=options, name="whole")

    class Interrupted(Exception):
        pass

    def stop(frame, result):
        if frame.index == 9:
            raise Interrupted

    more = {"source_options": options, "save_every_s": 0}
    with pytest.raises(Interrupted):
        color.run(drawn.mp4, given, tmp_path, on_result=stop, **more)
    again = color.run(drawn.mp4, given, tmp_path, **more)
    assert again.resumed_at
    expected = masks_in(whole.folder)
    for name, mask in masks_in(again.folder).items():
        assert np.array_equal(mask, expected[name]), name


def test_a_limit_says_where_reading_stops(color, drawn, tmp_path):
    for source, of in ((drawn.folder, " of 12"), (drawn.mp4, "")):
        given = {0: drawn.truth[0], 8: drawn.truth[8]}
        with pytest.raises(MaskError) as caught:
            color.run(source, given, tmp_path / "out", max_frames=6)
        assert str(caught.value) == (
            f"the reference on frame 8 is not reached: reading stops after 6{of} frames; raise "
            "max_frames, or leave that reference out"
        )
        assert not (tmp_path / "out").exists()


def test_a_reference_past_the_end_is_told_before_anything_is_written(color, drawn, tmp_path):
    wanted = SourceOptions(frame_range=FrameRange(start=3, stride=3))
    with pytest.raises(MaskError, match=r"frame 30 has a reference.* frame that is read is 9"):
        color.run(drawn.mp4, {30: drawn.truth[0]}, tmp_path, source_options=wanted)
    assert not list(tmp_path.iterdir())


def test_options_for_frames_given_as_such_are_the_callers_error(color, drawn):
    wanted = SourceOptions(frame_range=FrameRange(stride=2))
    with (
        open_video(drawn.mp4) as frames,
        pytest.raises(ValueError, match="source_options apply to a path"),
    ):
        list(color.propagate(frames, {0: drawn.truth[0]}, source_options=wanted))


@pytest.mark.slow
def test_isolation_changes_no_byte_of_the_masks(color, drawn, tmp_path):
    references = {5: drawn.truth[5]}
    here = color.run(drawn.mp4, references, tmp_path, name="here")
    isolated = SourceOptions(isolate=True)
    there = color.run(drawn.mp4, references, tmp_path, name="there", source_options=isolated)
    for path in sorted((here.folder / "masks").iterdir()):
        assert path.read_bytes() == (there.folder / "masks" / path.name).read_bytes()


@pytest.mark.slow
def test_the_command_takes_a_range(propagate, drawn, tmp_path):
    options = ("--start", "2", "--end", "0.4s", "--stride", "4", "--isolate")
    mask = tmp_path / "m.png"
    Image.fromarray(drawn.truth[6]).save(mask)
    finished = propagate(
        *("run", drawn.mp4, "--reference", f"6={mask}", *COLOR),
        *("-o", tmp_path / "out", *options),
    )
    assert finished.status == 0, finished.stderr
    names = [path.name for path in sorted((tmp_path / "out/clip/masks").iterdir())]
    assert names == ["00002.png", "00006.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--start", "1.5"), "a frame number such as 250, or a time such as 10s"),
        (("--start", "5", "--end", "2"), "end (frame 2) must come after start (frame 5)"),
        (("--fps", "5", "--stride", "2"), "one of them"),
        (("--fps", "x"), "fps must be a number such as 5 or 30000/1001"),
    ],
)
def test_a_range_that_means_nothing_is_bad_usage(propagate, drawn, tmp_path, options, message):
    command = ("run", drawn.mp4, "-m", drawn.mask, "-o", tmp_path / "out", *COLOR)
    finished = propagate(*command, *options)
    assert finished.status == 2
    assert message in " ".join(finished.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_the_limit_of_pixels_counts_for_frames_and_masks(propagate, drawn, tmp_path):
    command = ("run", drawn.mp4, "-m", drawn.mask, "-o", tmp_path / "out", *COLOR)
    finished = propagate(*command, "--max-pixels", 64 * 48 - 1)
    assert finished.status == 1
    assert "64x48 pixels, more than the limit of 3071" in finished.stderr
    assert propagate(*command, "--max-pixels", 64 * 48).status == 0


@pytest.mark.slow
def test_a_folder_that_grows_is_gone_on_with_after_an_interruption(color, drawn, tmp_path):
    class Stop(BaseException):
        pass

    def stop(done, _):
        if done == 5:
            raise Stop

    folder = tmp_path / "frames"
    shutil.copytree(drawn.folder, folder)
    options = SourceOptions(follow_timeout_s=60)

    def run(progress=None):
        references = {0: drawn.truth[0]}
        return color.run(
            folder,
            references,
            tmp_path / "out",
            source_options=options,
            save_every_s=0,
            progress=progress,
        )

    late = [path.rename(tmp_path / path.name) for path in sorted(folder.iterdir())[8:]]
    with pytest.raises(Stop):
        run(stop)
    for path in late:
        path.rename(folder / path.name)
    (folder / "END").touch()
    summary = run()
    assert (summary.resumed_at, summary.frames) == ((5,), len(drawn.images))


@pytest.mark.parametrize("isolate", [(), ("--isolate",)])
@pytest.mark.slow
def test_the_command_follows_a_folder_that_grows(propagate, drawn, tmp_path, isolate):
    folder = tmp_path / "frames"
    folder.mkdir()

    def write():
        for file in sorted(drawn.folder.iterdir()):
            time.sleep(0.05)
            (folder / file.name).write_bytes(Path(file).read_bytes())
        (folder / "END").touch()

    writer = threading.Thread(target=write)
    writer.start()
    finished = propagate(
        *("run", folder, "-m", drawn.mask, "-o", tmp_path / "out", *COLOR),
        *("--follow", "--follow-timeout", "20", *isolate),
    )
    writer.join()
    assert finished.status == 0, finished.stderr
    whole = propagate(
        *("run", drawn.folder, "-m", drawn.mask, "-o", tmp_path / "whole", *COLOR),
        "--backwards",
        "none",
    )
    assert whole.status == 0
    one, other = masks_in(tmp_path / "out/frames"), masks_in(tmp_path / "whole/frames")
    assert len(one) == len(drawn.images)
    for name, mask in one.items():
        assert np.array_equal(mask, other[name])


# Forwards only, with a reference that is not on the first frame


@pytest.mark.parametrize(
    ("wanted", "empty"),
    [
        (None, "5 frames lie"),
        (FrameRange(start=4), "1 frame lies"),
        (FrameRange(stride=2), "3 frames lie"),
    ],
)
def test_frames_before_the_first_reference_are_counted(color, drawn, caplog, wanted, empty):
    options = {"source_options": SourceOptions(frame_range=wanted), "backwards": "none"}
    results = list(color.propagate(drawn.mp4, {5: drawn.truth[5]}, **options))
    blank = [result.index for result in results if result.index < 5 and not result.mask.any()]
    assert f"{empty} before the first reference, on frame 5" in caplog.text
    assert len(blank) == int(empty.split()[0])


def test_nothing_is_said_where_frames_are_followed_backwards_too(color, drawn, caplog):
    list(color.propagate(drawn.mp4, {5: drawn.truth[5]}))
    list(color.propagate(drawn.mp4, {0: drawn.truth[0]}, backwards="none"))
    assert "before the first reference" not in caplog.text


@pytest.mark.parametrize("wanted", [FrameRange(end=3), FrameRange.parse(None, "0.12s")])
def test_a_reference_after_the_range_finds_nothing_forwards(color, drawn, tmp_path, wanted):
    options = RunOptions(source_options=SourceOptions(frame_range=wanted), backwards="none")
    with pytest.raises(MaskError, match="on frame 6, lies after the end of the range"):
        color.run(drawn.mp4, {6: drawn.truth[6]}, tmp_path, options)
    assert list(tmp_path.iterdir()) == []

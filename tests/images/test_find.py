"""Looking for instances in videos: which, when, and what is said of it."""

import json
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from propagate.config import Config
from propagate.errors import MaskError, VideoError
from propagate.features.registry import load_backbone
from propagate.images.find import (
    Finder,
    Sample,
    intervals_above,
    ranked,
    sampled,
)
from propagate.images.find_report import clock
from propagate.images.instance import INSTANCE_SETTINGS, PictureFeatures, learn_instance
from propagate.images.target import learn_target
from propagate.io.decode.one_frame import read_frame
from propagate.records import Frame
from tests.tiny_models import stable_diffusion

SMALL = Config(short_side_px=96)
EVERY = Fraction(1, 25)


@pytest.fixture(scope="module")
def color():
    return load_backbone("color", device="cpu")


@pytest.fixture(scope="module")
def finder(color, drawn):
    """Knows both squares of the drawn clip from its first frame."""
    return Finder(color, drawn.images[0], drawn.truth[0], config=SMALL)


@pytest.fixture(scope="module")
def empty(drawn):
    """The drawn clip's background alone."""
    noise = np.random.default_rng(3).integers(110, 140, (12, 48, 64, 1), np.uint8)
    return list(noise.repeat(3, axis=3))


@pytest.fixture(scope="module")
def videos(drawn, empty, write_video, tmp_path_factory):
    """Paths of: nothing, only the blue square (id 2), both squares."""
    root = tmp_path_factory.mktemp("videos")
    blue = []
    for image, truth, ground in zip(drawn.images, drawn.truth, empty, strict=True):
        blue.append(np.where((truth == 2)[..., None], image, ground))
    return SimpleNamespace(
        # Whole chroma: a quarter of its samples would blur a third of these small squares.
        nothing=write_video(root / "nothing.mp4", empty, "yuv444p"),
        blue=write_video(root / "blue.mp4", blue, "yuv444p"),
        both=write_video(root / "both.mp4", drawn.images, "yuv444p"),
    )


# The score


def picture_of(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    # Neighbours differ little, so that a cell has others like it.
    rough = torch.randn(1, 6, height // 2, width // 2, generator=generator)
    smooth = torch.nn.functional.interpolate(rough, (height, width), mode="bilinear")[0]
    return PictureFeatures(smooth + 2)


def score_said_slowly(reference, share, target):
    """Cells standardised on the reference, of length one, compared one by one."""
    flat = reference.appearance.numpy().reshape(6, -1).astype(np.float64)
    mean, scale = flat.mean(1), flat.std(1)

    def cells(picture):
        values = picture.appearance.numpy().astype(np.float64)
        _, height, width = values.shape
        for y, x in np.ndindex(height, width):
            vector = (values[:, y, x] - mean) / scale
            yield (y, x), vector / np.linalg.norm(vector)

    own = {place: v for place, v in cells(reference) if share[place] >= share.max() / 2}
    apart = []
    for (y, x), v in own.items():
        others = [u for (b, a), u in cells(reference) if abs(b - y) > 1 or abs(a - x) > 1]
        apart.append(max(v @ u for u in others))
    found = [max(v @ u for _, u in cells(target)) for v in own.values()]
    within = min(
        max(1 - np.mean(apart), INSTANCE_SETTINGS.least_distance), INSTANCE_SETTINGS.most_distance
    )
    return within / (within + 1 - np.mean(found))


@pytest.mark.parametrize("size", [(4, 5), (3, 1)])
def test_the_score_agrees_with_a_loop_over_pairs_of_cells(size):
    reference, target = picture_of(8, 10, seed=0), picture_of(6, 12, seed=1)
    share = torch.zeros(8, 10)
    share[2 : 2 + size[0], 3 : 3 + size[1]] = 1
    share[1, 3] = 0.4
    found = learn_target(learn_instance(reference, share)).score(target)
    assert found == pytest.approx(score_said_slowly(reference, share.numpy(), target), abs=1e-4)


def test_a_picture_scores_more_by_itself_than_by_another():
    reference = picture_of(8, 10, seed=0)
    share = torch.zeros(8, 10)
    share[2:6, 3:8] = 1
    target = learn_target(learn_instance(reference, share))
    assert target.score(reference) == pytest.approx(1, abs=1e-4)
    assert target.score(picture_of(8, 10, seed=1)) < 0.9


# Which frames are looked at


def frames_at(times):
    image = np.zeros((2, 2, 3), np.uint8)
    return [Frame(image, i, Fraction(time), str(i)) for i, time in enumerate(times)]


@pytest.mark.parametrize(
    ("times", "taken"),
    [
        ([Fraction(i, 4) for i in range(9)], [0, 2, 4, 6, 8]),
        # Counted from the first frame's own time.
        (["7.1", "7.3", "7.5", "7.6", "8.0", "8.1"], [0, 3, 5]),
        # Each period gives one frame, however late it comes, and a gap gives no more after it.
        (["0", "0.7", "1.1", "1.2", "5.3", "5.4", "5.6"], [0, 1, 2, 4, 6]),
        (["0", "2", "4"], [0, 1, 2]),
        ([], []),
    ],
)
def test_one_frame_of_every_half_second_is_looked_at(times, taken):
    assert [frame.index for frame in sampled(frames_at(times), Fraction(1, 2))] == taken


def test_a_period_of_whole_frames_is_kept_though_a_float_cannot_say_it(finder, videos):
    search = finder.search(videos.nothing, every_s=0.2)
    assert [sample.index for sample in search.objects[1].samples] == [0, 5, 10]


# When an instance appears


@pytest.mark.parametrize(
    ("scores", "intervals"),
    [
        ([0.1, 0.9, 0.9, 0.1, 0.1], [(0.5, 2.5)]),
        ([0.9, 0.1, 0.9, 0.2, 0.9], [(0.0, 0.5), (1.5, 2.5), (3.5, 4.0)]),
        ([0.9] * 5, [(0.0, 4.0)]),
        # The threshold itself counts.
        ([0.1, 0.5, 0.1, 0.1, 0.1], [(0.5, 1.5)]),
        ([0.1] * 5, []),
        ([0.9], [(0.0, 0.0)]),
        ([], []),
    ],
)
def test_an_interval_ends_half_way_to_the_sample_outside(scores, intervals):
    samples = [Sample(10 * i, float(i), score) for i, score in enumerate(scores)]
    assert intervals_above(samples, 0.5) == intervals


def test_an_interval_follows_the_times_of_the_frames_not_their_count():
    samples = [Sample(i, time, score) for i, time, score in [(0, 2, 0), (1, 5, 1), (2, 6, 0)]]
    assert intervals_above(samples, 0.5) == [(3.5, 5.5)]


def test_an_instance_appears_from_the_cut_that_shows_it(
    finder, drawn, empty, tmp_path, write_video
):
    clip = write_video(tmp_path / "cut.mp4", [*empty, *drawn.images, *empty])
    appearance = finder.search(clip, every_s=EVERY).objects[1]
    assert [sample.index for sample in appearance.samples] == list(range(36))
    assert len(appearance.intervals) == 1
    start, end = appearance.intervals[0]
    # Frames 12 to 23 of 25 a second.
    assert start == pytest.approx(11.5 / 25, abs=0.001)
    assert end == pytest.approx(23.5 / 25, abs=0.001)
    assert 12 <= appearance.best.index <= 23


# Which videos


def test_videos_that_show_an_instance_come_before_those_that_do_not(finder, videos):
    searches = [finder.search(path) for path in (videos.nothing, videos.blue, videos.both)]
    assert ranked(searches, 1)[0].video == str(videos.both)
    assert ranked(searches, 2)[-1].video == str(videos.nothing)
    appears = {
        i: [bool(search.objects[i].intervals) for search in searches] for i in finder.object_ids
    }
    assert appears == {1: [False, False, True], 2: [False, True, True]}


def test_equal_scores_keep_the_order_in_which_videos_were_given(finder, videos):
    searches = [finder.search(videos.both) for _ in range(3)]
    assert ranked(searches, 1) == searches


def test_the_picture_is_the_best_frame_with_the_instance_drawn(finder, videos, drawn):
    appearance = finder.search(videos.both, every_s=EVERY).objects[1]
    # The frame is smaller than a picture may be, and keeps its size.
    assert appearance.picture.shape == (48, 64, 3)
    truth = drawn.truth[appearance.best.index]
    shown = appearance.picture.astype(int)
    changed = np.abs(shown - read_frame(videos.both, appearance.best.index).image).max(-1) > 0
    assert changed[truth == 1].mean() > 0.8
    assert changed[truth != 1].mean() < 0.1


def test_a_picture_is_not_larger_than_a_place_on_the_sheet(finder, drawn, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    Image.fromarray(drawn.images[0]).resize((640, 480)).save(folder / "00000.png")
    assert finder.search(folder).objects[1].picture.shape == (240, 320, 3)


def test_progress_counts_the_frames_that_are_looked_at(finder, videos):
    counts = []
    finder.search(videos.both, every_s=0.2, progress=lambda *done: counts.append(done))
    assert counts == [(1, 3), (2, 3), (3, 3)]


def test_a_video_that_breaks_off_says_so_and_keeps_what_was_seen(finder, videos, tmp_path):
    broken = tmp_path / "broken.mp4"
    data = videos.both.read_bytes()
    broken.write_bytes(data[: len(data) * 2 // 3])
    search = finder.search(broken, every_s=EVERY)
    assert isinstance(search.error, VideoError)
    assert "damaged or cut off after frame" in str(search.error)
    assert 2 < len(search.objects[1].samples) < 12


def test_without_a_mask_the_object_is_found_by_the_name_of_its_class(drawn, tmp_path):
    stable_diffusion(tmp_path).save_pretrained(tmp_path / "model")
    model = load_backbone(
        str(tmp_path / "model"), device="cpu", class_names=["dog"], template="{name}"
    )
    finder = Finder(model, drawn.images[0], None, class_name="dog", config=SMALL)
    assert finder.object_ids == (1,)
    samples = finder.search(drawn.folder, every_s=0.2).objects[1].samples
    assert samples[0].score == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match=r"class_name: one that .* \(dog\), not 'cat'"):
        Finder(model, drawn.images[0], None, class_name="cat", config=SMALL)


# What is refused


def test_a_video_that_cannot_be_opened_is_an_error(finder, tmp_path):
    with pytest.raises(VideoError, match=r"missing\.mp4: no such file"):
        finder.search(tmp_path / "missing.mp4")


def test_a_mask_of_another_size_is_refused(color, drawn):
    with pytest.raises(MaskError, match="the mask is 64x40, the frame 64x48"):
        Finder(color, drawn.images[0], drawn.truth[0][:40])


def test_neither_mask_nor_class_name_is_refused(color, drawn):
    with pytest.raises(ValueError, match="mask: needed where no class is named"):
        Finder(color, drawn.images[0], None)


def test_a_period_that_is_not_positive_is_refused(finder, videos):
    with pytest.raises(ValueError, match="every_s: above 0, not 0"):
        finder.search(videos.both, every_s=0)


# One frame


def test_a_frame_is_read_from_a_picture_a_video_and_a_folder(drawn, tmp_path):
    Image.fromarray(drawn.images[3]).save(tmp_path / "one.png")
    assert np.array_equal(read_frame(tmp_path / "one.png").image, drawn.images[3])
    assert np.array_equal(read_frame(drawn.folder, 3).image, drawn.images[3])
    assert np.abs(read_frame(drawn.mp4, 3).image.astype(int) - drawn.images[3]).mean() < 12


def test_a_frame_past_the_end_is_refused(drawn):
    with pytest.raises(VideoError, match="has no frame 12, only frames 0 to 11"):
        read_frame(drawn.mp4, 12)


# The command


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00.0"), (59.96, "01:00.0"), (75.25, "01:15.2"), (3661, "61:01.0"), (-0.5, "-00:00.5")],
)
def test_times_are_minutes_seconds_and_tenths(seconds, text):
    assert clock(seconds) == text


@pytest.fixture
def find(propagate, drawn):
    """Looks for both squares, by the drawn clip's first frame, with plain colours."""

    def call(*arguments):
        return propagate("find", drawn.mp4, "-m", drawn.mask, "--model", "color", *arguments)

    return call


def test_the_table_ranks_the_videos_for_each_object(find, videos):
    finished = find(videos.nothing, videos.both)
    assert finished.status == 0, finished.stderr
    head, *rows = [line.split() for line in finished.stdout.splitlines()]
    assert head == ["object", "rank", "video", "score", "best", "at", "appears"]
    assert [row[:3] for row in rows] == [
        ["1", "1", str(videos.both)],
        ["1", "2", str(videos.nothing)],
        ["2", "1", str(videos.both)],
        ["2", "2", str(videos.nothing)],
    ]
    assert rows[0][4:] == ["00:00.0", "00:00.0-00:00.0"]
    assert rows[1][5] == "-"


def test_the_best_videos_alone_are_listed_on_request(find, videos):
    finished = find(videos.nothing, videos.both, "--top", 1)
    assert str(videos.nothing) not in finished.stdout


@pytest.mark.slow
def test_all_scores_and_a_contact_sheet_are_written(find, videos, drawn, tmp_path):
    out = tmp_path / "out"
    finished = find(videos.nothing, videos.both, "-o", out, "--every", 0.2)
    assert finished.status == 0, finished.stderr
    assert sorted(path.name for path in out.iterdir()) == ["contact_sheet.png", "find.json"]
    report = json.loads((out / "find.json").read_text())
    assert (report["reference"], report["mask"]) == (str(drawn.mp4), str(drawn.mask))
    assert (report["model"], report["every_s"]) == ("color", 0.2)
    assert report["appears_from"] == INSTANCE_SETTINGS.appears_from
    nothing, both = report["videos"]
    assert [entry["video"] for entry in report["videos"]] == [
        str(videos.nothing),
        str(videos.both),
    ]
    for i in ("1", "2"):
        assert (both["objects"][i]["rank"], nothing["objects"][i]["rank"]) == (1, 2)
        frames = both["objects"][i]["frames"]
        assert [frame[:2] for frame in frames] == [[0, 0.0], [5, 0.2], [10, 0.4]]
        best = max(frames, key=lambda frame: frame[2])
        assert both["objects"][i]["score"] == best[2]
        assert both["objects"][i]["best_frame"] == best[0]
        assert nothing["objects"][i]["intervals_s"] == []
    # Four pictures of 64 x 48 px in one row: two videos for each of two objects.
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.size == (4 * (320 + 12), 48 + 40 + 12)


@pytest.mark.slow
def test_a_video_that_cannot_be_read_is_one_line_and_the_others_go_on(find, videos, tmp_path):
    missing = tmp_path / "missing.mp4"
    finished = find(missing, videos.both, "-o", tmp_path / "out")
    assert finished.status == 1
    assert str(videos.both) in finished.stdout
    assert (tmp_path / "out/find.json").exists()
    lines = [line for line in finished.stderr.splitlines() if "error" in line]
    assert lines == [
        f"propagate: error: {missing}: no such file or folder; check the path",
    ]
    assert "could not be read to the end" not in finished.stderr
    finished = find(missing, videos.both, missing, "-o", tmp_path / "two")
    assert finished.stderr.count("error:") == 2
    assert "propagate: 2 of 3 videos could not be read to the end\n" in finished.stderr


@pytest.mark.slow
def test_results_of_an_earlier_search_are_kept_unless_they_may_be_replaced(find, videos, tmp_path):
    assert find(videos.both, "-o", tmp_path).status == 0
    before = (tmp_path / "find.json").read_bytes()
    refused = find(videos.nothing, "-o", tmp_path)
    assert refused.status == 1
    assert "find.json: already exists; pass " in refused.stderr
    assert (tmp_path / "find.json").read_bytes() == before
    assert find(videos.nothing, "-o", tmp_path, "--overwrite").status == 0
    assert (tmp_path / "find.json").read_bytes() != before


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ((), 2, "give a mask, or a class name with --name"),
        (("-m", "missing.png"), 1, "missing.png: no such mask; check the path"),
        (
            ("--name", "dog"),
            1,
            "model color: it reads plain colours; leave --recipe and --name out",
        ),
    ],
)
def test_what_cannot_be_done_is_said_on_one_line(propagate, drawn, options, status, message):
    finished = propagate("find", drawn.mp4, drawn.mp4, "--model", "color", *options)
    assert finished.status == status
    assert message in " ".join(finished.stderr.split())
    if status == 1:
        assert finished.stderr.count("\n") == 1

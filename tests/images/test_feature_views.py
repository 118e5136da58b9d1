"""Videos of features: against numpy's SVD and a loop, and as files."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from propagate.errors import MaskError, OutputError, VideoError
from propagate.features.registry import load_backbone
from propagate.images.feature_views import (
    FRAME_DIMMED,
    FULL_QUANTILE,
    LEAST_RANGE,
    RANGE,
    PanelVideo,
    component_colors,
    draw_heat,
    fit_components,
    learn_likeness,
    similarity_maps,
    write_feature_videos,
)
from propagate.io.masks.ids import mask_from_array
from tests.paths import SHARED

CORPUS = SHARED / "data" / "dev" / "decode"


@pytest.fixture(scope="module")
def color():
    return load_backbone("color", device="cpu")


def random_features(channels=6, height=5, width=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, channels + 1)[:, None, None]
    return torch.randn(channels, height, width, generator=generator) * scale + 3


def read_video(path):
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    images = [frame.to_ndarray(format="rgb24") for frame in decoded]
    return images, [frame.pts * frame.time_base for frame in decoded]  # pyright: ignore


# Principal components


def test_the_directions_are_those_of_the_singular_value_decomposition():
    features = random_features()
    cells = features.numpy().reshape(6, -1).T.astype(np.float64)
    mean = cells.mean(0)
    directions = np.linalg.svd(cells - mean)[2][:3]
    components = fit_components(features)
    np.testing.assert_allclose(components.mean, mean, atol=1e-5)
    for own, expected in zip(components.directions.T.numpy(), directions, strict=True):
        assert own[np.abs(own).argmax()] > 0
        np.testing.assert_allclose(own, expected * np.sign(own @ expected), atol=1e-5)


def test_the_colours_of_another_frame_agree_with_a_loop_over_its_cells():
    features, later = random_features(), random_features(seed=1)
    components = fit_components(features)
    directions = components.directions.numpy().astype(np.float64)
    mean = features.numpy().mean((1, 2), dtype=np.float64)
    cells = features.numpy().reshape(6, -1).T
    low, high = np.quantile((cells - mean) @ directions, RANGE, axis=0)
    colors = component_colors(later, components)
    assert colors.shape == (5, 7, 3)
    for y in range(5):
        for x in range(7):
            share = ((later[:, y, x].numpy() - mean) @ directions - low) / (high - low)
            expected = 255 * np.clip(share, 0, 1)
            # Rounding to a level moves a value by half a step.
            assert np.abs(colors[y, x] - expected).max() <= 0.51


def test_a_frame_without_variation_is_grey():
    features = torch.full((4, 3, 3), 0.7)
    assert (component_colors(features, fit_components(features)) == 128).all()


def test_a_component_of_rounding_errors_stays_grey():
    features = torch.zeros(4, 3, 3)
    features[0] = torch.arange(9).view(3, 3)
    features[1] = torch.rand(3, 3, generator=torch.Generator().manual_seed(0)) * LEAST_RANGE / 10
    colors = component_colors(features, fit_components(features))
    assert np.ptp(colors[..., 0]) == 255
    assert (colors[..., 1:] == 128).all()


# Similarity


def similarity_said_slowly(reference, ids, object_id, target):
    """Eq. 4 and 5 on standardised cells of length one, cell by cell; ids 2 px to a cell."""
    channels, height, width = reference.shape
    mean = reference.reshape(channels, -1).mean(1)
    scale = reference.reshape(channels, -1).std(1)

    def cell(features, y, x):
        vector = (features[:, y, x] - mean) / scale
        return vector / np.linalg.norm(vector)

    places = [(y, x) for y in range(height) for x in range(width)]
    share = {
        (y, x): (ids[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] == object_id).mean() for y, x in places
    }
    total = sum(share[place] * cell(reference, *place) for place in places)
    prototype = total / np.linalg.norm(total)
    most = max(share.values())
    own = [cell(reference, *p) @ prototype for p in places if share[p] >= most / 2]
    full = np.quantile(own, FULL_QUANTILE)
    cosines = [[cell(target, y, x) @ prototype for x in range(width)] for y in range(height)]
    return np.clip(np.array(cosines) / full, 0, 1)


def test_similarity_agrees_with_a_loop_over_cells():
    reference, target = random_features(), random_features(seed=1)
    ids = np.zeros((10, 14), np.uint8)
    ids[1:6, 2:9] = 1
    ids[7:9, 3:12] = 4
    likeness = learn_likeness(reference, mask_from_array(ids))
    maps = similarity_maps(target, likeness)
    assert maps.shape == (2, 5, 7)
    for found, object_id in zip(maps, (1, 4), strict=True):
        expected = similarity_said_slowly(reference.numpy(), ids, object_id, target.numpy())
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_heat_covers_the_frame_and_none_darkens_it_to_grey():
    image = np.full((6, 8, 3), (200, 100, 0), np.uint8)
    heat = np.zeros((6, 8), np.float32)
    heat[:, 6:] = 1
    drawn = draw_heat(image, heat)
    luma = 0.299 * 200 + 0.587 * 100
    # Grey is rounded down twice, in Pillow and here.
    assert np.abs(drawn[:, :5] - FRAME_DIMMED * luma).max() < 2
    red, green, blue = drawn[0, 7].astype(int)
    assert red > green > blue > 100


# Files


def test_each_frame_stands_beside_its_components(color, drawn, tmp_path):
    videos = write_feature_videos(color, drawn.mp4, tmp_path)
    assert (videos.folder, videos.written, videos.frames) == (tmp_path / "clip", ("pca.mp4",), 12)
    assert [path.name for path in videos.folder.iterdir()] == ["pca.mp4"]
    images, times = read_video(videos.folder / "pca.mp4")
    assert times == [Fraction(i, 25) for i in range(12)]
    for seen, image, truth in zip(images, drawn.images, drawn.truth, strict=True):
        assert seen.shape == (48, 128, 3)
        assert np.abs(seen[:, :64].astype(int) - image).mean() < 12
        shown = seen[:, 64:].astype(float)
        mean = {i: shown[truth == i].mean(0) for i in (0, 1, 2)}
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(mean[one] - mean[other]).max() > 60


def test_a_colour_means_the_same_in_all_frames(color, drawn, tmp_path):
    write_feature_videos(color, drawn.mp4, tmp_path)
    images, _ = read_video(tmp_path / "clip/pca.mp4")
    first, last = (
        images[i][:, 64:][drawn.truth[i] == 1].astype(float).mean(0) for i in (0, len(images) - 1)
    )
    assert np.abs(first - last).max() < 12


@pytest.fixture(scope="module")
def large(drawn, tmp_path_factory):
    """The drawn clip four times as large, so that labels leave its objects free: folder, truth."""
    folder = tmp_path_factory.mktemp("large")
    for index, image in enumerate(drawn.images):
        Image.fromarray(image.repeat(4, 0).repeat(4, 1)).save(folder / f"{index:05d}.png")
    return folder, [ids.repeat(4, 0).repeat(4, 1) for ids in drawn.truth]


def test_with_a_mask_each_object_gets_a_panel_that_is_hot_on_it(color, large, tmp_path):
    source, truth = large
    videos = write_feature_videos(color, source, tmp_path, mask=truth[0])
    assert videos.written == ("pca.mp4", "similarity.mp4")
    images, times = read_video(videos.folder / "similarity.mp4")
    assert (len(images), times[-1]) == (12, Fraction(11, 25))
    # Two by two: the frame, object 1, object 2, and one place is left.
    last = images[-1]
    assert last.shape == (384, 512, 3)
    assert last[192:, 256:].max() < 20
    for i, panel in {1: last[:192, 256:], 2: last[192:, :256]}.items():
        heat = panel.astype(float).mean(-1)
        assert heat[truth[-1] == i].mean() > 150
        assert heat[truth[-1] == 3 - i].mean() < 60
        assert heat[truth[-1] == 0].mean() < 90


def test_the_mask_may_belong_to_any_frame(color, large, tmp_path):
    source, truth = large
    videos = write_feature_videos(color, source, tmp_path, mask=truth[11], frame=11, max_frames=1)
    heat = read_video(videos.folder / "similarity.mp4")[0][0][:192, 256:].astype(float).mean(-1)
    assert heat[truth[0] == 1].mean() > 150
    assert heat[truth[0] == 2].mean() < 60


def test_a_folder_of_odd_sized_images_is_shown_too(color, drawn, tmp_path):
    source = tmp_path / "odd"
    source.mkdir()
    for index in range(3):
        Image.fromarray(drawn.images[index][:47, :63]).save(source / f"{index:05d}.png")
    videos = write_feature_videos(color, source, tmp_path / "out", mask=drawn.truth[0][:47, :63])
    for name, shape in (("pca.mp4", (48, 126, 3)), ("similarity.mp4", (94, 126, 3))):
        images, _ = read_video(videos.folder / name)
        assert [image.shape for image in images] == [shape] * 3


def test_many_panels_are_shrunk_alike(tmp_path):
    panels = [np.full((800, 1000, 3), 15 * i, np.uint8) for i in range(16)]
    with PanelVideo(tmp_path / "panels.mp4", panels, None) as video:
        video.write(panels, Fraction(0))
    image = read_video(tmp_path / "panels.mp4")[0][0]
    assert image.shape == (2160, 2700, 3)
    for i in range(16):
        middle = image[i // 4 * 540 + 270, i % 4 * 675 + 337].astype(int)
        assert np.abs(middle - 15 * i).max() <= 3


def test_the_same_call_writes_the_same_bytes(color, drawn, tmp_path):
    for name in ("one", "two"):
        write_feature_videos(color, drawn.mp4, tmp_path / name, mask=drawn.truth[0], max_frames=5)
    for name in ("pca.mp4", "similarity.mp4"):
        one, two = (tmp_path / folder / "clip" / name for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_every_frame_is_counted_as_it_is_done(color, drawn, tmp_path):
    counts = []
    write_feature_videos(
        color, drawn.mp4, tmp_path, max_frames=4, progress=lambda *done: counts.append(done)
    )
    assert counts == [(1, 4), (2, 4), (3, 4), (4, 4)]


# What is refused


def test_a_video_that_breaks_off_leaves_nothing(color, drawn, tmp_path):
    source = tmp_path / "cut.mp4"
    data = drawn.mp4.read_bytes()
    source.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(VideoError, match="damaged or cut off"):
        write_feature_videos(color, source, tmp_path / "out", mask=drawn.truth[0])
    assert not (tmp_path / "out/cut").exists()


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus ../shared/data/dev/decode is absent")
def test_a_video_that_changes_its_size_is_refused(color, tmp_path):
    source = CORPUS / "fate__vp9__vp90-2-05-resize.mp4"
    with pytest.raises(VideoError, match="a video that changes its size cannot be shown as one"):
        write_feature_videos(color, source, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_frame_past_the_end_is_refused(color, drawn, tmp_path):
    with pytest.raises(VideoError, match="has no frame 12, only frames 0 to 11"):
        write_feature_videos(color, drawn.mp4, tmp_path, frame=12)


def test_a_mask_of_another_size_is_refused(color, drawn, tmp_path):
    with pytest.raises(MaskError, match="the mask is 64x40, the frame 64x48"):
        write_feature_videos(color, drawn.mp4, tmp_path, mask=drawn.truth[0][:40])


def test_files_of_an_earlier_call_are_kept_unless_they_may_be_replaced(color, drawn, tmp_path):
    write_feature_videos(color, drawn.mp4, tmp_path, mask=drawn.truth[0], max_frames=2)
    before = (tmp_path / "clip/pca.mp4").read_bytes()
    with pytest.raises(OutputError, match=r"pca\.mp4: already exists; pass overwrite=True"):
        write_feature_videos(color, drawn.mp4, tmp_path, max_frames=3)
    assert (tmp_path / "clip/pca.mp4").read_bytes() == before
    write_feature_videos(color, drawn.mp4, tmp_path, max_frames=3, overwrite=True)
    # The old similarity video would pass for one of the new call.
    assert [path.name for path in (tmp_path / "clip").iterdir()] == ["pca.mp4"]


# The command


def test_the_command_writes_both_videos_and_says_where(propagate, drawn, tmp_path):
    out = tmp_path / "out"
    finished = propagate(
        *("features", drawn.mp4, "-m", drawn.mask, "-o", out, "--model", "color"),
        *("--max-frames", 3),
    )
    assert finished.status == 0, finished.stderr
    assert finished.stdout == f"{out / 'clip'}: pca.mp4, similarity.mp4; 3 frames\n"
    assert f"propagate: {drawn.mp4}: 3 frames of about 3" in finished.stderr


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("missing.mp4",), 1, "missing.mp4: no such file or folder; check the path"),
        (("CLIP", "--mask", "missing.png"), 1, "missing.png: no such mask; check the path"),
        (("CLIP", "--frame", "99"), 1, "has no frame 99"),
        (("CLIP", "--model", "tiny", "--recipe", "nonsense"), 2, "no recipe is named 'nonsense'"),
    ],
)
def test_what_cannot_be_done_is_said_on_one_line(
    propagate, drawn, tmp_path, options, status, message
):
    options = [str(drawn.mp4) if option == "CLIP" else option for option in options]
    finished = propagate("features", "--model", "color", "-o", tmp_path / "out", *options)
    assert finished.status == status
    assert message in " ".join(finished.stderr.split())
    if status == 1:
        assert finished.stderr.count("\n") == 1

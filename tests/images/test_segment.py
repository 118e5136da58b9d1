"""Instances of one labelled picture in others: three methods, and how instances share a picture."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from propagate.config import MATCHERS, Config
from propagate.errors import MaskError, ModelError
from propagate.features.colors import ColorBackbone
from propagate.features.extract import extract_features
from propagate.features.reading import KEYS, QUERIES
from propagate.features.registry import load_backbone
from propagate.images.pdm import class_mask, vote_map
from propagate.images.segment import Segmenter, without_specks
from tests.tiny_models import stable_diffusion

CPU = torch.device("cpu")
SMALL = Config(short_side_px=96)
NO_COLORS = replace(SMALL, matcher=MATCHERS["default"].without_colors())
RED, GREEN = np.array([220, 60, 60]), np.array([60, 200, 90])
TOMATO = torch.tensor([1.0, -0.5, -0.5])


def draw(*squares: tuple[int, int, np.ndarray], height: int = 96, width: int = 160) -> np.ndarray:
    """32 px squares at (y, x) on quiet grey."""
    ground = np.random.default_rng(0).integers(90, 110, (height, width, 1))
    image = ground.repeat(3, axis=2).astype(np.uint8)
    for y, x, color in squares:
        image[y : y + 32, x : x + 32] = color
    return image


def ids_of(*squares: tuple[int, int, int], height: int = 96, width: int = 160) -> np.ndarray:
    """Ids of 32 px squares at (y, x)."""
    ids = np.zeros((height, width), np.uint8)
    for y, x, object_id in squares:
        ids[y : y + 32, x : x + 32] = object_id
    return ids


class Named(ColorBackbone):
    """Sees plain colours; its semantic features are what brightness leaves out."""

    def extract_both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hue = images - images.mean(1, keepdim=True)
        return self.extract(images), F.avg_pool2d(hue, self.stride)

    def class_tokens(self) -> dict[str, torch.Tensor]:
        return {"tomato": TOMATO, "nothing": torch.zeros(3)}


REFERENCE = draw((32, 16, RED), (32, 96, GREEN))
IDS = ids_of((32, 16, 3), (32, 96, 7))
# Where they were, the other one is now.
TARGET = draw((40, 24, GREEN), (16, 112, RED))
TRUTH = ids_of((40, 24, 7), (16, 112, 3))


def iou(found: np.ndarray, found_id: int, truth_id: int) -> float:
    """Of an object of a mask, and of one of `TRUTH`."""
    a, b = found == found_id, np.equal(TRUTH, truth_id)
    return (a & b).sum() / (a | b).sum()


def test_look_alikes_of_different_colours_keep_their_ids() -> None:
    segmenter = Segmenter(ColorBackbone(CPU), REFERENCE, IDS, config=SMALL)
    assert segmenter.object_ids == (3, 7)
    found = segmenter.segment(TARGET)
    for i in (3, 7):
        assert iou(found.mask, i, i) > 0.8
        assert found.scores[i] > 0.9
    gone = segmenter.segment(draw((16, 112, RED)))
    assert not (gone.mask == 7).any()
    assert gone.scores[7] < 0.5 < 0.9 < gone.scores[3]


def test_every_pixel_is_that_of_the_highest_map_above_one_half() -> None:
    segmenter = Segmenter(ColorBackbone(CPU), REFERENCE, IDS, config=SMALL)
    found = segmenter.segment(TARGET)
    large = {
        i: F.interpolate(torch.from_numpy(soft)[None, None], (96, 160), mode="bilinear")[0, 0]
        for i, soft in found.maps.items()
    }
    for y in range(0, 96, 5):
        for x in range(0, 160, 3):
            best = max(large, key=lambda i: float(large[i][y, x]))
            assert found.mask[y, x] == (best if large[best][y, x] > 0.5 else 0)
    assert set(np.unique(found.mask)) == {0, 3, 7}


@pytest.mark.parametrize("shape", [(48, 200), (192, 320), (97, 53)])
def test_a_target_may_have_any_size(shape: tuple[int, int]) -> None:
    segmenter = Segmenter(ColorBackbone(CPU), REFERENCE, IDS, config=SMALL)
    found = segmenter.segment(draw((8, 8, RED), height=shape[0], width=shape[1]))
    assert found.mask.shape == shape
    assert (found.mask[12:36, 12:36] == 3).mean() > 0.9


@pytest.mark.parametrize("class_name", [None, "tomato"])
def test_paper_is_equations_4_to_7_and_half_of_the_range(class_name: str | None) -> None:
    backbone = Named(CPU)
    mask = np.where(IDS == 3, np.uint8(1), np.uint8(0))
    segmenter = Segmenter(
        backbone, REFERENCE, mask, class_name=class_name, method="paper", config=SMALL
    )
    found = segmenter.segment(TARGET)
    reference, target = (
        extract_features(backbone, NO_COLORS, [image])[0] for image in (REFERENCE, TARGET)
    )
    inside = [(y, x) for y in range(12) for x in range(20) if mask[8 * y + 4, 8 * x + 4]]
    cells = [reference[:, y, x] for y, x in inside]
    hue = torch.from_numpy(TARGET).permute(2, 0, 1).float() / 255
    hue = F.avg_pool2d((hue - hue.mean(0))[None], 8)[0]
    s_df = torch.zeros(12, 20)
    for y in range(12):
        for x in range(20):
            s_a = sum(float(cell @ target[:, y, x]) for cell in cells) / len(cells)
            s_s = float(hue[:, y, x] @ TOMATO)
            s_df[y, x] = s_a if class_name is None else (s_a + s_s) / 2
    expected = (s_df - s_df.min()) / (s_df.max() - s_df.min())
    torch.testing.assert_close(torch.from_numpy(found.maps[1]), expected, rtol=1e-4, atol=1e-4)
    assert found.scores[1] == pytest.approx(float(s_df.mean()), rel=1e-4)


def test_official_takes_the_votes_of_plain_features() -> None:
    backbone = ColorBackbone(CPU)
    segmenter = Segmenter(backbone, REFERENCE, IDS == 3, method="official", config=SMALL)
    reference, target = (
        extract_features(backbone, NO_COLORS, [image])[0] for image in (REFERENCE, TARGET)
    )
    cells = torch.from_numpy(IDS[4::8, 4::8] == 3)
    expected = vote_map(reference, cells, target)
    found = segmenter.segment(TARGET)
    assert torch.equal(torch.from_numpy(found.maps[1]), expected)
    assert found.scores[1] == pytest.approx(float(expected.mean()))


@pytest.mark.slow
def test_official_votes_with_queries_and_keys_apart(tmp_path: Path) -> None:
    stable_diffusion(tmp_path).save_pretrained(tmp_path / "model")
    reading = {"block": "last-attention-of-last-layer", "timestep": 51, "tensor": "qk"}
    (tmp_path / "model" / "reading.json").write_text(json.dumps(reading))
    backbone = load_backbone(str(tmp_path / "model"), device="cpu")
    image, other = REFERENCE[:96, :96], TARGET[:96, 64:]
    mask = IDS[:96, :96] == 3
    segmenter = Segmenter(backbone, image, mask, method="official", config=SMALL)
    read = [
        backbone.read(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255, [QUERIES, KEYS])  # pyright: ignore[reportAttributeAccessIssue]
        for picture in (image, other)
    ]
    rows, columns = read[0][0].shape[2:]
    share = F.interpolate(torch.from_numpy(mask)[None, None].float(), (rows, columns), mode="area")
    cells = share[0, 0] >= 0.5
    votes = min(100, rows * columns)
    maps = [vote_map(a[0], cells, b[0], votes) for a, b in zip(*read, strict=True)]
    found = torch.from_numpy(segmenter.segment(other).maps[1])
    torch.testing.assert_close(found, (maps[0] + maps[1]) / 2)
    assert not torch.equal(maps[0], maps[1])


@pytest.mark.parametrize("method", ["default", "paper", "official"])
def test_a_class_name_alone_finds_the_object(method) -> None:
    backbone = Named(CPU)
    found = Segmenter(
        backbone, REFERENCE, None, class_name="tomato", method=method, config=SMALL
    ).segment(TARGET)
    hue = torch.from_numpy(REFERENCE).permute(2, 0, 1).float() / 255
    hue = F.avg_pool2d((hue - hue.mean(0))[None], 8)[0]
    assert class_mask(hue, TOMATO)[4:8, 2:6].all()  # the red square of the reference
    assert list(found.scores) == [1]
    if method == "official":  # a hundred votes of each cell reach beyond so small a square
        red = TRUTH[4::8, 4::8] == 3
        assert found.maps[1][red].min() == 1 > found.maps[1][~red].mean()
    else:
        assert iou(found.mask, 1, 3) > 0.5


def test_void_is_no_background() -> None:
    # The red square's right half is void: what it looks like cannot speak against it.
    halved = ids_of((32, 16, 1))
    halved[32:64, 32:48] = 255
    found = Segmenter(ColorBackbone(CPU), REFERENCE, halved, config=SMALL).segment(TARGET)
    assert iou(found.mask, 1, 3) > 0.8


def test_what_cannot_be_used_is_refused() -> None:
    color = ColorBackbone(CPU)
    with pytest.raises(ValueError, match="mask: needed where no class is named"):
        Segmenter(color, REFERENCE, None)
    with pytest.raises(ValueError, match="method: default, paper, official, not 'best'"):
        Segmenter(color, REFERENCE, IDS, method="best")  # pyright: ignore[reportArgumentType]
    with pytest.raises(MaskError, match="mask of the reference: the mask is 80x48, the frame 160x"):
        Segmenter(color, REFERENCE, IDS[::2, ::2])
    with pytest.raises(MaskError, match="no object in this mask"):
        Segmenter(color, REFERENCE, np.zeros((96, 160), np.uint8))
    with pytest.raises(ModelError, match="model color: it takes no text"):
        Segmenter(color, REFERENCE, IDS, class_name="tomato")
    with pytest.raises(MaskError, match="class 'nothing': not found in the reference"):
        Segmenter(Named(CPU), REFERENCE, None, class_name="nothing", config=SMALL)


# Whether a picture shows the object


def test_an_object_that_is_not_there_has_no_mask_and_the_others_keep_theirs():
    segmenter = Segmenter(ColorBackbone(CPU), REFERENCE, IDS, config=SMALL)
    found = segmenter.segment(draw((40, 24, GREEN)))
    assert found.present == {3: False, 7: True}
    assert found.scores[3] < 0.43 < found.scores[7]
    assert not (found.mask == 3).any()
    assert (found.mask[40:72, 24:56] == 7).mean() > 0.8
    nothing = segmenter.segment(draw())
    assert nothing.present == {3: False, 7: False}
    assert not nothing.mask.any()
    assert segmenter.segment(TARGET).present == {3: True, 7: True}


def test_with_a_threshold_of_0_no_object_is_left_out_by_its_score():
    always = Segmenter(ColorBackbone(CPU), REFERENCE, IDS, config=SMALL, present_from=0.0)
    found = always.segment(draw((40, 24, GREEN)))
    assert found.present == {3: bool((found.mask == 3).any()), 7: True}


def test_specks_are_dropped_and_parts_are_kept():
    mask = np.zeros((60, 80), bool)
    mask[10:40, 10:40] = True  # 900 px
    mask[5:10, 60:65] = True  # 25 px
    mask[50:54, 60:64] = True  # 16 px, less than 2 %
    mask[40, 40] = True  # touches the first at a corner
    expected = mask.copy()
    expected[50:54, 60:64] = False
    assert np.array_equal(without_specks(mask), expected)
    assert not without_specks(np.zeros((6, 8), bool)).any()

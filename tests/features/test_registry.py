"""The models that have a name, and the two that come with the package."""

import json
import math
import time
from pathlib import Path

import pytest
import torch

from propagate.config import Config
from propagate.errors import DeviceError, ModelError
from propagate.features.extract import working_size
from propagate.features.presets import BUILT_IN, PRESETS, Preset, is_present
from propagate.features.reading import UP_BLOCK
from propagate.features.recipes import RECIPES
from propagate.features.registry import as_backbone, load_backbone
from propagate.pipeline import Propagator

TINY = BUILT_IN / "tiny"


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match="no model is named 'sd3'; pass one of tiny, color, sd15"):
        load_backbone("sd3")


def test_an_absent_device_is_an_error_before_anything_is_loaded() -> None:
    with pytest.raises(DeviceError, match="cuda:99"):
        load_backbone("tiny", device="cuda:99")


@pytest.mark.slow
def test_a_loaded_backbone_is_passed_through_and_a_name_is_loaded_as_the_config_says() -> None:
    color = load_backbone("color", device="cpu")
    assert as_backbone(color, config=Config(recipe="dift")) is color
    own = as_backbone("tiny", device="cpu", dtype="float32")
    assert own.reading is not None
    assert own.reading.block == "up_blocks.2.resnets.1"
    chosen = as_backbone("tiny", device="cpu", dtype="float32", config=Config(recipe="dift"))
    assert RECIPES["dift"].reading.block == UP_BLOCK
    assert chosen.reading is not None
    assert (chosen.reading.block, chosen.reading.ensemble) == ("up_blocks.2", 8)
    with pytest.raises(ModelError, match="takes no text; leave class_names out"):
        as_backbone("tiny", device="cpu", config=Config(class_names={1: "dog"}))


def test_the_models_of_the_package_are_present_and_the_others_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert {name: is_present(preset) for name, preset in PRESETS.items()} == {
        "tiny": True,
        "color": True,
        "sd15": False,
        "sd21": False,
        "sdxl-turbo": False,
        "cleandift": False,
        "tiny-random": True,
    }
    assert not is_present(Preset(str(BUILT_IN / "none"), "", "", 0))


def test_every_preset_says_what_it_is() -> None:
    for preset in PRESETS.values():
        assert preset.description
        assert "\n" not in preset.description
        assert preset.license


@pytest.mark.slow
def test_tiny_random_has_the_shape_of_tiny_and_weights_that_never_change() -> None:
    frames = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    control, again, trained = (load_backbone(n) for n in ("tiny-random", "tiny-random", "tiny"))
    assert torch.equal(torch.get_rng_state(), before)
    assert (control.stride, control.channels) == (trained.stride, trained.channels)
    features = control.extract(frames)
    assert torch.equal(features, again.extract(frames))
    assert not torch.allclose(features, trained.extract(frames), atol=0.1)


def test_tiny_comes_with_its_card_and_is_small() -> None:
    files = [path for path in TINY.rglob("*") if path.is_file()]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    assert size_mb <= 25
    assert size_mb == pytest.approx(PRESETS["tiny"].size_mb, abs=1)
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md", ".xml", ".bin"}
    card = (TINY / "README.md").read_text(encoding="utf-8")
    for credit in ("Caltech-101", "TensorFlow flowers", "CC BY"):
        assert credit in card


def test_tiny_loads_in_seconds_and_reads_what_its_folder_says() -> None:
    import propagate.features.pixel_unet  # noqa: F401  its libraries are not what is timed

    started = time.monotonic()
    backbone = load_backbone("tiny", device="cpu")
    assert time.monotonic() - started < 5
    reading = json.loads((TINY / "reading.json").read_text())
    assert {key: getattr(backbone.reading, key) for key in reading} == reading  # pyright: ignore
    assert backbone.name == "tiny"
    assert backbone.stride == 8


def test_tiny_tells_different_places_apart_and_knows_the_same_one_again() -> None:
    backbone = load_backbone("tiny", device="cpu", dtype="float32")
    side = 2 * math.lcm(backbone.multiple, 32)
    frame = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    # Large blobs on the left, fine grain on the right: two textures.
    frame[..., : side // 2] = torch.nn.functional.interpolate(
        frame[..., : side // 16, : side // 16], (side, side // 2), mode="bilinear"
    )
    cells = torch.nn.functional.normalize(backbone.extract(frame)[0], dim=0)
    columns = cells.shape[2] // 2
    left, right = cells[:, :, : columns - 1].flatten(1), cells[:, :, columns + 1 :].flatten(1)
    alike = (right.T @ right).mean()
    assert alike > (left.T @ right).mean()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny", "color"])
@pytest.mark.parametrize("size", [(480, 854), (854, 480), (479, 641), (72, 96), (1080, 1920)])
def test_frames_of_any_size_are_tiled_by_whole_cells(model: str, size: tuple[int, int]) -> None:
    backbone = load_backbone(model, device="cpu")
    height, width = working_size(*size, Config(short_side_px=96), backbone.multiple)
    features = backbone.extract(torch.rand(1, 3, height, width))
    assert features.shape == (
        *(1, backbone.channels),
        *(height // backbone.stride, width // backbone.stride),
    )
    assert (height % backbone.stride, width % backbone.stride) == (0, 0)


def test_a_colour_cell_is_the_mean_of_each_of_its_quarters() -> None:
    backbone = load_backbone("color", device="cpu")
    frames = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    features = backbone.extract(frames)
    assert features.shape == (2, 12, 2, 3)
    for b in range(2):
        for y in range(2):
            for x in range(3):
                for channel in range(3):
                    for quarter, (down, right) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
                        top, left = 8 * y + down, 8 * x + right
                        patch = frames[b, channel, top : top + 4, left : left + 4]
                        expected = float(patch.mean()) - 0.5
                        got = float(features[b, 4 * channel + quarter, y, x])
                        assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["tiny", "color"])
def test_the_models_of_the_package_agree_on_cuda_and_cpu(model: str) -> None:
    frames = torch.rand(8, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    here = load_backbone(model, device="cpu", dtype="float32").extract(frames)
    for dtype in ("float32", "auto"):
        there = load_backbone(model, device="cuda", dtype=dtype).extract(frames.cuda()).cpu()
        # 0.995: about what a rounding of 3 % of each number, bfloat16's, leaves of a cosine.
        assert float(torch.nn.functional.cosine_similarity(there, here).min()) > 0.995


def test_a_propagator_in_place_of_a_backbone_is_refused():
    propagator = Propagator("color", device="cpu")
    with pytest.raises(TypeError, match=r"not Propagator; pass its \.backbone"):
        Propagator(propagator)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="model must be a name or a loaded backbone, not NoneType"):
        Propagator(None)  # pyright: ignore[reportArgumentType]

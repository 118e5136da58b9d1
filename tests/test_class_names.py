"""Class names in a video: the semantic map helps to find the right object again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from propagate.config import MATCHERS, Config
from propagate.errors import ModelError
from propagate.features.colors import ColorBackbone
from propagate.features.extract import channel_count, extract_features
from propagate.matching.appearance import fused_on_one_scale
from propagate.pipeline import Propagator
from propagate.session import Session
from tests.tiny_models import stable_diffusion

HEIGHT, WIDTH = 96, 160
GROUND = np.random.default_rng(0).integers(90, 110, (HEIGHT // 8, WIDTH // 8, 1))
MOTTLED = np.kron(np.random.default_rng(1).uniform(0.7, 1, (8, 8, 1)), np.ones((4, 4, 1)))
# Of one brightness: only their colour tells them apart.
RED, GREEN = np.array([220, 160, 160]), np.array([150, 220, 170])


class Brightness(ColorBackbone):
    """Sees brightness alone; its semantic features are what brightness leaves out."""

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        return super().extract(images.mean(1, keepdim=True).expand(-1, 3, -1, -1))

    def extract_both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hue = images - images.mean(1, keepdim=True)
        return self.extract(images), F.avg_pool2d(hue, self.stride)

    def class_tokens(self) -> dict[str, torch.Tensor]:
        return {"tomato": torch.tensor([1.0, -0.5, -0.5]), "lime": torch.tensor([-0.5, 1.0, -0.5])}


def draw(*balls: tuple[int, int, np.ndarray]) -> np.ndarray:
    """A grey frame with mottled 32 px squares at (y, x) of a colour."""
    frame = np.kron(GROUND, np.ones((8, 8, 3))).astype(np.uint8)
    for y, x, colour in balls:
        frame[y : y + 32, x : x + 32] = MOTTLED * colour
    return frame


def plain(**settings) -> Config:
    """Ours, without colours: they would tell red from green by themselves."""
    matcher = MATCHERS["default"].without_colors()
    matcher = replace(
        matcher,
        vote=replace(matcher.vote, top_k=5),
        search=replace(matcher.search, radius=12),
    )
    return Config(matcher=matcher, short_side_px=HEIGHT, **settings)


def found_after_a_cut(config: Config) -> np.ndarray:
    """Follow the red square, lose it, and see what is taken for it beside a green one."""
    session = Session(Brightness(torch.device("cpu")), config)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[32:64, 16:48] = 1
    session.step(draw((32, 16, RED)), ids)
    gone = [session.step(draw()) for _ in range(6)]
    assert gone[-1].states == {1: "absent"}
    return session.step(draw((32, 24, GREEN), (32, 112, RED))).mask


def test_a_class_name_keeps_a_look_alike_from_being_found_in_place_of_the_object() -> None:
    without = found_after_a_cut(plain())
    assert (without[36:60, 28:52] == 1).mean() > 0.4  # the green one passes for it
    named = found_after_a_cut(plain(class_names={1: "tomato"}))
    assert not named[:, :80].any()
    assert (named[36:60, 116:140] == 1).mean() > 0.4


def test_objects_may_share_a_class_and_others_have_none() -> None:
    names = {1: "tomato", 2: "tomato", 9: "lime"}
    config = plain(class_names=names)
    assert config.named_classes == ("tomato", "lime")
    backbone = Brightness(torch.device("cpu"))
    features = extract_features(backbone, config, [draw((32, 16, RED))])
    assert features.shape[1] == channel_count(backbone, config) == backbone.channels + 2
    assert torch.equal(features[:, :-2], extract_features(backbone, plain(), [draw((32, 16, RED))]))
    tomato, lime = features[0, -2:]
    assert tomato[5, 3] > 0.05 > lime[5, 3]


def test_a_session_with_class_names_continues_where_it_was_saved() -> None:
    config = plain(class_names={1: "tomato"})
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[32:64, 16:48] = 1
    session = Session(Brightness(torch.device("cpu")), config)
    session.step(draw((32, 16, RED)), ids)
    session.step(draw())
    copy = Session(Brightness(torch.device("cpu")), config)
    copy.load_state_dict(session.state_dict())
    back = draw((32, 24, GREEN), (32, 112, RED))
    for _ in range(5):
        assert np.array_equal(session.step(draw()).mask, copy.step(draw()).mask)
    mask = session.step(back).mask
    assert mask.any()
    assert np.array_equal(mask, copy.step(back).mask)


def test_maps_are_fused_on_the_scale_of_the_reference() -> None:
    rng = torch.Generator().manual_seed(0)
    appearance, semantic = torch.rand(2, 3, 4, 3, generator=rng)
    semantic = 100 * semantic + 7
    semantic[..., 2] = torch.nan
    on_reference = torch.rand(2, 3, 4, 3, generator=rng), torch.rand(2, 3, 4, 3, generator=rng)
    on_reference[1][..., 2] = torch.nan
    fused = fused_on_one_scale(appearance, semantic, *on_reference)
    for label in range(3):
        a = (appearance[..., label] - on_reference[0][..., label].mean()) / on_reference[0][
            ..., label
        ].std(correction=0)
        s = (semantic[..., label] - on_reference[1][..., label].mean()) / on_reference[1][
            ..., label
        ].std(correction=0)
        expected = a if label == 2 else (a + s) / 2
        torch.testing.assert_close(fused[..., label], expected)


def test_nonsense_is_refused_as_class_names() -> None:
    with pytest.raises(ValueError, match="of objects 1 to 254"):
        Config(class_names={0: "dog"})
    with pytest.raises(ValueError, match="only with a matcher that finds objects again"):
        Config.named("dino", class_names={1: "dog"})


@pytest.fixture(scope="module")
def latent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    stable_diffusion(folder).save_pretrained(folder / "model")
    return folder / "model"


@pytest.mark.slow
def test_a_model_takes_class_names(latent_folder: Path) -> None:
    config = Config(short_side_px=96, class_names={1: "a"}, template="a {name}", recipe="dift")
    propagator = Propagator(str(latent_folder), device="cpu", dtype="float32", config=config)
    session = propagator.session()
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[32:64, 16:48] = 1
    first = session.step(draw((32, 16, RED)), ids)
    assert np.array_equal(first.mask, ids)
    assert session.step(draw((32, 24, RED))).mask.shape == (HEIGHT, WIDTH)
    assert propagator.backbone.reading.ensemble == 8  # pyright: ignore
    with pytest.raises(ModelError, match="takes no text; leave class_names out"):
        Propagator("tiny", device="cpu", config=config)


@pytest.mark.slow
def test_the_command_takes_names_and_a_recipe(
    propagate, latent_folder: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "ball"
    frames.mkdir()
    for index in range(2):
        Image.fromarray(draw((32, 16 + 8 * index, RED))).save(frames / f"{index:05}.png")
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[32:64, 16:48] = 1
    Image.fromarray(ids).save(tmp_path / "first.png")
    line = ["run", str(frames), "-m", str(tmp_path / "first.png"), "-o", str(tmp_path / "out")]
    line += ["--model", str(latent_folder), "--device", "cpu", "--template", "a {name}"]

    finished = propagate(*line, "--name", "1=a", "--recipe", "default", "--dtype", "float32")
    assert finished.status == 0, finished.stderr
    config = json.loads((tmp_path / "out" / "ball" / "result.json").read_text())["config"]
    assert config["class_names"] == {"1": "a"}
    assert config["recipe"] == "default"

    for options, message in (
        (["--name", "7=a"], "no mask has an object 7; there are [1]"),
        (["--name", "dog"], "'dog': an object id and a class, such as 1=dog"),
        (["--recipe", "mine"], "no recipe is named 'mine'"),
        (["--name", "1=a", "--template", "a photo"], "with {name} in it once"),
        (["--name", "1=a", "--matcher", "dino"], "only with a matcher that finds"),
    ):
        refused = propagate(*line, *options)
        assert refused.status == 2
        assert message in " ".join(refused.stderr.split())

"""Recipes on whole pipelines: against the released PDM code, the paper's equations, and DIFT's."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet2DModel
from PIL import Image

from propagate.errors import ModelError
from propagate.features.hooks import outputs_of
from propagate.features.inversion import Inversion, denoise, invert
from propagate.features.pixel_unet import load_diffusion
from propagate.features.reading import (
    CROSS_KEYS,
    CROSS_QUERIES,
    FIRST_ATTENTION,
    KEYS,
    LAST_ATTENTION,
    QUERIES,
    UP_BLOCK,
    Reading,
    find_block,
)
from propagate.features.recipes import RECIPES, Recipe
from propagate.features.registry import load_backbone
from propagate.features.text import Text
from propagate.features.unet import NOISE_SEED, DiffusionBackbone
from propagate.images import pdm
from tests.paths import SHARED
from tests.tiny_models import pixel_unet, save_unet, stable_diffusion

CPU = torch.device("cpu")
ORACLE = SHARED / "oracle" / "pdm"
needs_oracle = pytest.mark.skipif(not ORACLE.is_dir(), reason="../shared/oracle/pdm is not here")
ORACLE_SEED = 1234
# A hundred forwards in a row amplify rounding: against the same chain in double precision the
# recorded one is off by 2.2e-3 itself, and ours by 4e-5 to 1e-3 from the recorded one, by the
# number of threads. A step more or less, or timesteps one off, are off by more than 1e-2.
CHAIN = 5e-3
TAILS = {"self.Q": QUERIES, "self.K": KEYS, "cross.Q": CROSS_QUERIES, "cross.K": CROSS_KEYS}


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny Stable Diffusion of each kind of prediction, saved at its `name_or_path`."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny = stable_diffusion(folder)
    tiny.scheduler = tiny.scheduler.from_config(
        tiny.scheduler.config, prediction_type=request.param
    )
    tiny.save_pretrained(folder / "model")
    tiny.register_to_config(_name_or_path=str(folder / "model"))
    return tiny


@pytest.fixture(scope="module")
def latent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    stable_diffusion(folder).save_pretrained(folder / "model")
    return folder / "model"


def load(folder: Path, recipe: Recipe, *class_names: str) -> DiffusionBackbone:
    text = Text(recipe.prompt, class_names, template="a a {name}")
    return load_diffusion("tested", str(folder), CPU, torch.float32, recipe.reading, text)


def images(count: int, seed: int = 7) -> torch.Tensor:
    return torch.rand(count, 3, 40, 64, generator=torch.Generator().manual_seed(seed))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


# --- The released code -----------------------------------------------------------------------


def recorded(picture: str, name: str) -> torch.Tensor:
    with np.load(ORACLE / f"{picture}_features.npz") as features:
        return torch.from_numpy(features[name])


class Remembered:
    """`DiffusionBackbone._read`, which reads nothing twice: it takes a hundred forwards."""

    def __init__(self) -> None:
        self._known: dict[Any, torch.Tensor] = {}
        read = DiffusionBackbone._read

        def function(
            backbone: DiffusionBackbone, images: torch.Tensor, modules: Sequence[str]
        ) -> list[torch.Tensor]:
            prompt = backbone._prompt
            assert prompt is not None
            given = (backbone.reading, images.numpy().tobytes(), prompt.numpy().tobytes())
            keys = [(*given, module) for module in modules]
            if not self._known.keys() >= set(keys):
                self._known.update(zip(keys, read(backbone, images, modules), strict=True))
            return [self._known[key] for key in keys]

        self.function = function


@pytest.fixture(scope="module")
def remembered() -> Remembered:
    return Remembered()


@pytest.fixture(scope="module")
def official(remembered: Remembered) -> dict[str, list[torch.Tensor]]:
    """Queries, keys and cross-attention queries of both pictures, from their pixels."""
    recipe = RECIPES["official"]
    seeded = replace(recipe, reading=replace(recipe.reading, posterior_seed=ORACLE_SEED))
    backbone = load(ORACLE / "pipeline", seeded)
    features = {}
    for picture in ("ref", "tgt"):
        rgb = np.array(Image.open(ORACLE / f"{picture}_rgb512.png"))
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DiffusionBackbone, "_read", remembered.function)
            read = backbone.read(image, [QUERIES, KEYS, CROSS_QUERIES])
        features[picture] = [tensor[0] for tensor in read]
    return features


@needs_oracle
@pytest.mark.slow
@pytest.mark.parametrize("picture", ["ref", "tgt"])
def test_official_reads_the_queries_and_keys_of_the_released_code(
    official: dict[str, list[torch.Tensor]], picture: str
) -> None:
    for name, found in zip(("self.Q", "self.K", "cross.Q"), official[picture], strict=True):
        expected = recorded(picture, f"step49.att2.{name}")
        assert relative_error(found.flatten(1).T, expected) < CHAIN


@needs_oracle
@pytest.mark.slow
@pytest.mark.parametrize("script", ["matching", "permis"])
@pytest.mark.parametrize("tensor", ["Q", "K"])
def test_official_votes_as_the_released_code(
    official: dict[str, list[torch.Tensor]], script: str, tensor: str
) -> None:
    reference, target = (official[picture]["QK".index(tensor)] for picture in ("ref", "tgt"))
    # The chain's rounding moves a few votes of a thousand between cells that are as similar: by
    # 0 to 0.013 of the map, by the number of threads, and 0.021 in double precision.
    assert relative_error(*heat_maps(reference, target, script, tensor)) < 0.05


@needs_oracle
@pytest.mark.parametrize("script", ["matching", "permis"])
@pytest.mark.parametrize("tensor", ["Q", "K"])
def test_recorded_features_give_the_recorded_votes(script: str, tensor: str) -> None:
    reference, target = (
        recorded(picture, f"step49.att2.self.{tensor}").T.unflatten(1, (64, 64))
        for picture in ("ref", "tgt")
    )
    assert torch.equal(*heat_maps(reference, target, script, tensor))


def heat_maps(
    reference: torch.Tensor, target: torch.Tensor, script: str, tensor: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ours and the recorded one of a script; the PerMIS one goes by cosine."""
    mask = torch.from_numpy(np.load(ORACLE / "ref_mask64.npy"))
    votes = pdm.vote_map(reference, mask, target, cosine=script == "permis")
    heat = F.interpolate(votes[None, None], (512, 512), mode="bilinear")[0, 0]
    return heat, torch.from_numpy(np.load(ORACLE / f"pdm_{script}_heatmap_{tensor}.npy"))


@needs_oracle
@pytest.mark.slow
def test_the_command_votes_as_the_recorded_features_of_the_released_code(
    propagate: Any,
    official: dict[str, list[torch.Tensor]],
    remembered: Remembered,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred forwards of rounding lie between the two; the seed is that of the recording."""
    recipe = RECIPES["official"]
    seeded = replace(recipe, reading=replace(recipe.reading, posterior_seed=ORACLE_SEED))
    monkeypatch.setitem(RECIPES, "official", seeded)
    monkeypatch.setattr(DiffusionBackbone, "_read", remembered.function)
    mask = np.load(ORACLE / "ref_mask64.npy")
    Image.fromarray(mask.astype(np.uint8)).resize((512, 512), 0).save(tmp_path / "mask.png")
    Image.open(ORACLE / "tgt_rgb512.png").save(tmp_path / "target.png")
    finished = propagate(
        *("segment", ORACLE / "ref_rgb512.png", tmp_path / "target.png"),
        *("-m", tmp_path / "mask.png", "-o", tmp_path / "out", "--method", "official"),
        *("--model", ORACLE / "pipeline", "-d", "cpu"),
    )
    assert finished.status == 0, finished.stderr
    found = np.asarray(Image.open(tmp_path / "out/target.png")) == 1
    maps = [
        pdm.vote_map(
            recorded("ref", f"step49.att2.self.{tensor}").T.unflatten(1, (64, 64)),
            torch.from_numpy(mask) > 0,
            recorded("tgt", f"step49.att2.self.{tensor}").T.unflatten(1, (64, 64)),
        )
        for tensor in "QK"
    ]
    votes = (maps[0] + maps[1]) / 2
    large = F.interpolate(votes[None, None], (512, 512), mode="bilinear")[0, 0]
    expected = (large > 0.5).numpy()
    assert (expected & found).sum() / (expected | found).sum() > 0.9


class OracleUNet:
    """The oracle's U-Net with its prompt, run to its end or to the attention that is read."""

    def __init__(self) -> None:
        reading = Reading("conv_in", 1)
        text = Text("A photo")
        backbone = load_diffusion(
            "oracle", str(ORACLE / "pipeline"), CPU, torch.float32, reading, text
        )
        self.unet: Any = UNet2DConditionModel.from_pretrained(ORACLE / "pipeline" / "unet").eval()
        self.prompt = backbone._prompt
        self.alphas = DDIMScheduler.from_pretrained(ORACLE / "pipeline/scheduler").alphas_cumprod  # pyright: ignore

    @torch.inference_mode()
    def predict(self, noisy: torch.Tensor, timestep: int) -> torch.Tensor:
        return self.unet(noisy, timestep, encoder_hidden_states=self.prompt).sample

    def check_step(
        self, picture: str, step: int, noisy: torch.Tensor, timestep: int, tolerance: float
    ) -> None:
        for i in range(3):
            block = f"up_blocks.3.attentions.{i}.transformer_blocks.0"
            names = {f"{block}.{tail}": name for name, tail in TAILS.items()}
            outputs = outputs_of(self.unet, list(names), lambda: self.predict(noisy, timestep))
            for module, name in names.items():
                expected = recorded(picture, f"step{step}.att{i}.{name}")
                assert relative_error(outputs[module][0], expected) < tolerance


@pytest.fixture(scope="module")
def oracle_unet() -> OracleUNet:
    return OracleUNet()


@needs_oracle
@pytest.mark.parametrize("picture", ["ref", "tgt"])
def test_every_attention_of_the_last_layer_agrees_at_the_noisiest_step(
    oracle_unet: OracleUNet, picture: str
) -> None:
    oracle_unet.check_step(picture, 0, recorded(picture, "zT"), 981, 1e-4)


@needs_oracle
@pytest.mark.slow
def test_fifty_steps_up_and_twenty_five_down_agree_with_the_released_code(
    oracle_unet: OracleUNet,
) -> None:
    predict, alphas = oracle_unet.predict, oracle_unet.alphas
    up = list(range(1, 1000, 20))
    noisy = invert(predict, recorded("tgt", "z0"), up, alphas)
    assert relative_error(noisy, recorded("tgt", "zT")) < 1e-4
    half_way = denoise(predict, noisy, up[:23:-1], alphas)
    oracle_unet.check_step("tgt", 25, half_way, 481, CHAIN)


# --- The paper -------------------------------------------------------------------------------


@torch.inference_mode()
def paper_features(pipeline: Any, frame: torch.Tensor, prompt: str) -> list[torch.Tensor]:
    """Section 3.2 of the paper step by step: (q, k, cross q) of 5 x 8 cells, and keys."""
    text = pipeline.encode_prompt(prompt, "cpu", 1, do_classifier_free_guidance=False)[0]
    latents = pipeline.vae.encode(frame * 2 - 1).latent_dist.mode()
    latents = latents * pipeline.vae.config.scaling_factor
    alphas = pipeline.scheduler.alphas_cumprod

    def noise_in(noisy: torch.Tensor, level: int) -> torch.Tensor:
        output = pipeline.unet(noisy, level, encoder_hidden_states=text).sample
        if pipeline.scheduler.config.prediction_type == "v_prediction":
            return alphas[level] ** 0.5 * output + (1 - alphas[level]) ** 0.5 * noisy
        return output

    here = alphas[0]
    for level in (1, 251, 501, 751):
        there, end = alphas[level], latents
        for _ in range(4):
            noise = noise_in(end, level)
            clean = (latents - (1 - here) ** 0.5 * noise) / here**0.5
            end = there**0.5 * clean + (1 - there) ** 0.5 * noise
        latents, here = end, there
    block = pipeline.unet.up_blocks[-1].attentions[0].transformer_blocks[0]
    modules = (block.attn1.to_q, block.attn1.to_k, block.attn2.to_q, block.attn2.to_k)
    caught: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda *args: caught.append(args[2][0])) for module in modules
    ]
    noise_in(latents, 751)
    for hook in hooks:
        hook.remove()
    return caught


def folder_of(pipeline: Any) -> Path:
    return Path(pipeline.config._name_or_path)


@pytest.mark.slow
def test_paper_is_equations_1_to_7_with_a_class_name(pipeline: Any) -> None:
    frames = images(2)
    # The name's tokens are the fourth and the fifth, after the start of text and two of the rest.
    (q_r, k_r, semantic_r, keys), (q_t, k_t, semantic_t, _) = (
        paper_features(pipeline, frame[None], "a a a a") for frame in frames
    )
    appearance_r, appearance_t = (q_r + k_r) / 2, (q_t + k_t) / 2  # eq. 1
    token = (keys[3] + keys[4]) / 2  # eq. 2
    attention = torch.softmax(semantic_r @ token / len(token) ** 0.5, dim=0)  # eq. 3
    mask = (attention - attention.min()) / (attention.max() - attention.min()) > 0.7
    masked = appearance_r[mask]  # eq. 4
    s_a = sum(appearance_t @ cell for cell in masked) / len(masked)  # eq. 5
    s_s = semantic_t @ token  # eq. 6
    expected = 0.5 * (s_a + s_s)  # eq. 7

    backbone = load(folder_of(pipeline), RECIPES["paper"], "a a")
    queries, keys, semantic = backbone.read(frames, [QUERIES, KEYS, CROSS_QUERIES])
    appearance = (queries + keys) / 2
    token = backbone.class_tokens()["a a"]
    found_mask = pdm.class_mask(semantic[0], token)
    found = pdm.fused_map(
        pdm.similarity_map(appearance[1], pdm.prototype(appearance[0], found_mask)),
        pdm.similarity_map(semantic[1], token),
    )

    assert found.shape == (5, 8)
    assert torch.equal(found_mask.flatten(), mask)
    # 1e-4: the network computes in another memory layout, and 17 times over.
    assert relative_error(found.flatten(), expected) < 1e-4
    torch.testing.assert_close(backbone.extract(frames), appearance)


@pytest.mark.slow
def test_paper_with_a_mask_tells_the_unet_nothing(pipeline: Any) -> None:
    q, k, semantic, _ = paper_features(pipeline, images(1), "")
    backbone = load(folder_of(pipeline), RECIPES["paper"])
    assert backbone.class_tokens() == {}
    found = backbone.read(images(1), [QUERIES, KEYS, CROSS_QUERIES])
    for grid, expected in zip(found, (q, k, semantic), strict=True):
        assert relative_error(grid[0].flatten(1).T, expected) < 1e-4


# --- DIFT, and all of them -------------------------------------------------------------------


@torch.inference_mode()
def test_dift_averages_the_features_of_its_noises(latent_folder: Path, tmp_path: Path) -> None:
    frame = images(1)
    backbone = load(latent_folder, RECIPES["dift"])
    assert backbone.reading.block == "up_blocks.1"
    vae: Any = AutoencoderKL.from_pretrained(latent_folder / "vae")
    unet: Any = UNet2DConditionModel.from_pretrained(latent_folder / "unet")
    prompt = stable_diffusion(tmp_path).encode_prompt("", "cpu", 1, False)[0]
    clean = vae.encode(frame * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    alpha = DDIMScheduler.from_pretrained(latent_folder / "scheduler").alphas_cumprod[51]  # pyright: ignore
    rng = torch.Generator().manual_seed(NOISE_SEED)
    features = []
    for _ in range(8):
        noise = torch.randn(clean.shape, generator=rng)
        noisy = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
        hook = unet.up_blocks[1].register_forward_hook(lambda *args: features.append(args[2]))
        unet(noisy, 51, encoder_hidden_states=prompt)
        hook.remove()
    assert not torch.allclose(features[0], features[1], rtol=1e-2)
    assert relative_error(backbone.extract(frame), torch.stack(features).mean(0)) < 1e-5


@pytest.mark.parametrize(
    ("name", "forwards"),
    # Up 4 times 4, then once; up 50, down 49, then once.
    [("default", 1), ("dift", 8), ("dift-semantic", 8), ("paper", 17), ("official", 100)],
)
@pytest.mark.slow
def test_recipes_cost_so_many_forwards_a_frame(
    latent_folder: Path, name: str, forwards: int
) -> None:
    backbone = load(latent_folder, RECIPES[name])
    count = 0

    def add(*_: Any) -> None:
        nonlocal count
        count += 1

    backbone._unet.get_submodule("conv_in").register_forward_hook(add)
    features = backbone.extract(images(1))
    assert count == forwards
    assert features.shape == (1, 8, 5, 8)


def test_the_list_of_recipes_is_tested_whole() -> None:
    assert sorted(RECIPES) == ["default", "dift", "dift-semantic", "official", "paper"]


@pytest.mark.parametrize("name", ["dift", "paper"])
@pytest.mark.slow
def test_a_frame_has_the_same_features_in_every_batch(latent_folder: Path, name: str) -> None:
    backbone = load(latent_folder, RECIPES[name])
    frames = images(3)
    apart = torch.cat([backbone.extract(frame[None]) for frame in frames])
    assert torch.equal(backbone.extract(frames), apart)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_cuda_agrees_with_the_cpu(latent_folder: Path, name: str) -> None:
    recipe = RECIPES[name]
    there = load_diffusion(
        "tested", str(latent_folder), torch.device("cuda"), torch.float32, recipe.reading
    )
    here = load_diffusion("tested", str(latent_folder), CPU, torch.float32, recipe.reading)
    # TensorFloat-32 in convolutions, up to 100 forwards in a row.
    cosines = F.cosine_similarity(there.extract(images(2).cuda()).cpu(), here.extract(images(2)))
    assert float(cosines.min()) > 0.99


@pytest.mark.parametrize(("tensor", "tails"), [("q", [QUERIES]), ("k", [KEYS])])
def test_queries_and_keys_are_read_alone_too(
    latent_folder: Path, tensor: Any, tails: list[str]
) -> None:
    backbone = load(latent_folder, Recipe(Reading(LAST_ATTENTION, 51, tensor=tensor)))
    assert torch.equal(backbone.extract(images(1)), *backbone.read(images(1), tails))


@pytest.mark.slow
def test_a_posterior_sample_is_the_same_every_time_and_another_for_another_seed(
    latent_folder: Path,
) -> None:
    def features(seed: int | None) -> torch.Tensor:
        reading = Reading(UP_BLOCK, 51, posterior_seed=seed)
        return load(latent_folder, Recipe(reading)).extract(images(1))

    first = features(0)
    assert torch.equal(features(0), first)
    assert not torch.allclose(features(1), first)
    assert not torch.allclose(features(None), first)


@torch.inference_mode()
def test_both_kinds_of_features_come_from_one_forward(latent_folder: Path) -> None:
    backbone = load(latent_folder, RECIPES["default"], "a a")
    block = "up_blocks.1.attentions.1.transformer_blocks.0"
    caught: list[torch.Tensor] = []
    query = backbone._unet.get_submodule(f"{block}.attn2.to_q")
    hook = query.register_forward_hook(lambda *args: caught.append(args[2][0]))
    appearance, semantic = backbone.extract_both(images(1))
    hook.remove()

    assert len(caught) == 1
    assert torch.equal(appearance, backbone.extract(images(1)))
    grid = caught[0].T.unflatten(1, (3, 4))  # the attention runs before the block enlarges
    enlarged = F.interpolate(grid[None], appearance.shape[2:], mode="bilinear")
    torch.testing.assert_close(semantic, enlarged)
    assert backbone.class_tokens()["a a"].shape == semantic.shape[1:2]


def test_a_block_without_cross_attention_has_no_semantic_features(latent_folder: Path) -> None:
    backbone = load(latent_folder, Recipe(Reading("up_blocks.1.resnets.0", 51)), "a a")
    with pytest.raises(ModelError, match=r"'up_blocks\.1\.resnets\.0' .* has no cross-attention"):
        backbone.extract_both(images(1))


@pytest.mark.slow
def test_a_recipe_is_named_when_a_model_is_loaded(latent_folder: Path, tmp_path: Path) -> None:
    named = load_backbone(str(latent_folder), device="cpu", dtype="float32", recipe="dift")
    assert torch.equal(
        named.extract(images(1)), load(latent_folder, RECIPES["dift"]).extract(images(1))
    )
    with pytest.raises(ValueError, match="no recipe is named 'mine'; there are default, dift"):
        load_backbone("tiny", recipe="mine")
    with pytest.raises(
        ModelError, match="model color: it reads plain colours; leave recipe and class_names"
    ):
        load_backbone("color", recipe="dift")


# --- Blocks ----------------------------------------------------------------------------------


def narrow_unet(*attention: bool) -> UNet2DConditionModel:
    """Of as many levels, the finest first, with attention where told."""
    down: Any = tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attention)
    up: Any = tuple("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in attention[::-1])
    channels: Any = (8,) * len(attention)
    return UNet2DConditionModel(
        block_out_channels=channels,
        layers_per_block=2,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        transformer_layers_per_block=2,
    )


@pytest.mark.parametrize(
    ("attention", "layer", "up_block"),
    [
        ((True, True, True, False), "up_blocks.3", "up_blocks.2"),  # Stable Diffusion 1.x and 2.x
        ((False, True, True), "up_blocks.1", "up_blocks.1"),  # SDXL
        ((True,), "up_blocks.0", "up_blocks.0"),
    ],
)
def test_blocks_are_found_by_the_shape_of_the_unet(
    attention: tuple[bool, ...], layer: str, up_block: str
) -> None:
    unet = narrow_unet(*attention)
    assert find_block(unet, FIRST_ATTENTION) == f"{layer}.attentions.0.transformer_blocks.0"
    assert find_block(unet, LAST_ATTENTION) == f"{layer}.attentions.2.transformer_blocks.0"
    assert find_block(unet, UP_BLOCK) == up_block
    assert find_block(unet, "mid_block.resnets.0") == "mid_block.resnets.0"


def test_a_unet_without_attention_is_an_error(tmp_path: Path) -> None:
    folder = save_unet(tmp_path, pixel_unet())
    assert isinstance(UNet2DModel.from_pretrained(folder), UNet2DModel)
    with pytest.raises(ModelError, match="no transformer block on its way up; use another recipe"):
        load(folder, RECIPES["official"])


def test_class_names_for_a_unet_without_text_are_an_error(tmp_path: Path) -> None:
    folder = save_unet(tmp_path, pixel_unet())
    with pytest.raises(ModelError, match="takes no text; leave class_names out"):
        load(folder, RECIPES["default"], "dog")


# --- Readings --------------------------------------------------------------------------------


def test_a_model_folder_may_ask_for_queries_and_an_ensemble(tmp_path: Path) -> None:
    stable_diffusion(tmp_path).save_pretrained(tmp_path / "model")
    stored = {"block": LAST_ATTENTION, "timestep": 30, "tensor": "q", "ensemble": 2}
    (tmp_path / "model" / "reading.json").write_text(json.dumps(stored))
    backbone = load_diffusion("tested", str(tmp_path / "model"), CPU, torch.float32)
    block = "up_blocks.2.attentions.1.transformer_blocks.0"
    assert backbone.reading == Reading(block, 30, tensor="q", ensemble=2)


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"tensor": "v"}, "tensor: resnet, q, k, qk, not 'v'"),
        ({"ensemble": 0}, "ensemble: an integer, 1 or more"),
        ({"inversion": 50}, "inversion: an Inversion or None"),
        ({"inversion": Inversion(4), "ensemble": 2}, "ensemble: 1 with an inversion"),
        ({"posterior_seed": "0"}, "posterior_seed: an integer or None"),
    ],
)
def test_nonsense_is_refused_as_a_reading(reading: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reading("up_blocks.0", 1, **reading)


@pytest.mark.slow
def test_an_inversion_reads_at_the_level_nearest_to_its_timestep(latent_folder: Path) -> None:
    for timestep, level in ((999, 751), (0, 1), (400, 501), (300, 251)):
        reading = Reading(UP_BLOCK, timestep, inversion=Inversion(4))
        assert load(latent_folder, Recipe(reading)).timestep == level


@pytest.mark.slow
def test_a_block_that_is_no_transformer_block_has_no_queries(latent_folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no module 'up_blocks\.1\.attn1\.to_q'; .* for example up_"
    ):
        load(latent_folder, Recipe(Reading("up_blocks.1", 51, tensor="q")))
    with pytest.raises(ModelError, match=r"no module 'up_blocks\.1\.attn2\.to_q'"):
        load(latent_folder, RECIPES["default"]).read(images(1), [CROSS_QUERIES])


def test_what_cannot_be_inverted_is_an_error(tmp_path: Path) -> None:
    pipeline = stable_diffusion(tmp_path)
    many = Recipe(Reading(UP_BLOCK, 1, inversion=Inversion(1000)))
    pipeline.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="1000 inversion steps do not fit into its schedule of"):
        load(tmp_path / "model", many)
    path = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "sample"}))
    with pytest.raises(
        ModelError, match="predicts 'sample', which cannot be inverted; use a recipe"
    ):
        load(tmp_path / "model", RECIPES["paper"])

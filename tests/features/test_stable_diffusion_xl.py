"""Stable Diffusion XL: two text encoders and added conditions, against diffusers' own pipeline."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

from propagate.errors import ModelError
from propagate.features.pixel_unet import load_diffusion
from propagate.features.reading import FIRST_ATTENTION, LAST_ATTENTION, UP_BLOCK, Reading
from propagate.features.registry import load_backbone
from propagate.features.text import Text
from propagate.features.unet import NOISE_SEED, DiffusionBackbone
from tests.tiny_models import POOLED_WIDTH, stable_diffusion_xl, tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xl")
    stable_diffusion_xl(folder).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def pipeline(saved: Path) -> StableDiffusionXLPipeline:
    return stable_diffusion_xl(saved.parent / "again")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def load(
    folder: Path, reading: Reading | None = None, text: Text | None = None
) -> DiffusionBackbone:
    return load_diffusion("tested", str(folder), CPU, torch.float32, reading, text)


def failure(folder: Path, text: Text | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        load(folder, text=text)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("model tested: ")


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(7))


@torch.inference_mode()
def literal_output(
    pipeline: Any, module: str, frame: torch.Tensor, timestep: int, prompt: str
) -> torch.Tensor:
    """What a module of the U-Net gives in a full forward, called as the pipeline calls it."""
    height, width = frame.shape[2:]
    latents = pipeline.vae.encode(frame * 2 - 1).latent_dist.mode()
    latents = latents * pipeline.vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(NOISE_SEED))
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    noisy = scheduler.add_noise(latents, noise, torch.tensor([timestep]))  # pyright: ignore
    embeds, _, pooled, _ = pipeline.encode_prompt(
        prompt, device=CPU, do_classifier_free_guidance=False
    )
    ids = pipeline._get_add_time_ids(
        (height, width), (0, 0), (height, width), embeds.dtype, POOLED_WIDTH
    )
    caught = []
    hook = pipeline.unet.get_submodule(module).register_forward_hook(
        lambda _module, _inputs, output: caught.append(output)
    )
    pipeline.unet(
        noisy,
        torch.tensor([timestep]),
        encoder_hidden_states=embeds,
        added_cond_kwargs={"text_embeds": pooled, "time_ids": ids},
    )
    hook.remove()
    return caught[0]


@pytest.mark.parametrize(
    ("module", "grid"),
    [
        ("up_blocks.1", (9, 17)),
        ("down_blocks.2.resnets.0", (3, 5)),
        ("up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", (5, 9)),
        ("up_blocks.0.attentions.1.transformer_blocks.1.attn2.to_q", (3, 5)),
    ],
)
@pytest.mark.parametrize("prompt", ["", "a a"])
@pytest.mark.slow
def test_features_are_those_of_a_full_forward_of_the_pipelines_parts(
    saved: Path,
    pipeline: StableDiffusionXLPipeline,
    module: str,
    grid: tuple[int, int],
    prompt: str,
) -> None:
    frame = images(72, 136)  # latents 9 x 17: every level rounds up
    expected = literal_output(pipeline, module, frame, 51, prompt)
    if expected.ndim == 3:
        expected = expected.transpose(1, 2).unflatten(2, grid)

    features = load(saved, Reading(module, 51), Text(prompt)).extract(frame)

    assert features.shape[2:] == grid
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def test_the_unet_is_told_the_size_of_the_picture_that_it_is_given(
    saved: Path, pipeline: StableDiffusionXLPipeline
) -> None:
    # The features depend on the size that is told: at half scale it is half the frame's.
    frame = images(128, 192)
    small = torch.nn.functional.interpolate(frame, (64, 96), mode="bilinear", antialias=True)
    expected = literal_output(pipeline, "up_blocks.1", small, 51, "")
    features = load(saved, Reading("up_blocks.1", 51, scale=0.5)).extract(frame)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_prompt_is_embedded_as_diffusers_embeds_it(
    saved: Path, pipeline: StableDiffusionXLPipeline
) -> None:
    for prompt in ("", "a a", "a " * 20):
        expected, _, pooled, _ = pipeline.encode_prompt(
            prompt, device=CPU, do_classifier_free_guidance=False
        )
        backbone = load(saved, text=Text(prompt))
        assert torch.equal(backbone._prompt, expected)  # pyright: ignore[reportArgumentType]
        assert torch.equal(backbone._pooled, pooled)  # pyright: ignore[reportArgumentType]


def test_frames_in_a_batch_are_told_the_same(saved: Path) -> None:
    backbone = load(saved)
    noisy = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together = backbone._run(noisy, 51)[0]
        alone = [backbone._run(noisy[i : i + 1], 51)[0] for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_class_is_the_mean_of_its_tokens_keys(
    saved: Path, pipeline: StableDiffusionXLPipeline
) -> None:
    block = "up_blocks.1.attentions.0.transformer_blocks.0"
    text = Text(class_names=("a a",), template="a {name} a")
    tokens = load(saved, Reading(block, 51, tensor="q"), text).class_tokens()
    embeds, *_ = pipeline.encode_prompt("a a a a", device=CPU, do_classifier_free_guidance=False)
    with torch.inference_mode():
        keys = pipeline.unet.get_submodule(f"{block}.attn2.to_k")(embeds)[0]
    # The prompt's first token is special, the second is the template's own "a".
    assert tokens.keys() == {"a a"}
    torch.testing.assert_close(tokens["a a"], keys[2:4].mean(0))


@pytest.mark.slow
def test_its_blocks_are_found_although_its_finest_layer_has_no_attention(saved: Path) -> None:
    found = {
        block: load(saved, Reading(block, 51, tensor="resnet" if block == UP_BLOCK else "qk"))
        for block in (UP_BLOCK, FIRST_ATTENTION, LAST_ATTENTION)
    }
    assert {block: backbone.reading.block for block, backbone in found.items()} == {
        UP_BLOCK: "up_blocks.1",
        FIRST_ATTENTION: "up_blocks.1.attentions.0.transformer_blocks.0",
        LAST_ATTENTION: "up_blocks.1.attentions.1.transformer_blocks.0",
    }
    # A stride of 16 where there is attention: 32 x 32 cells of 512 pixels, as PDM has them.
    assert [backbone.stride for backbone in found.values()] == [8, 16, 16]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_recipes_run(saved: Path, recipe: str) -> None:
    backbone = load_backbone(str(saved), device="cpu", dtype="float32", recipe=recipe)
    assert backbone.extract(images(64, 64)).isfinite().all()


def test_the_papers_recipe_reads_at_the_noisiest_of_turbos_four_levels(saved: Path) -> None:
    backbone: Any = load_backbone(str(saved), device="cpu", dtype="float32", recipe="paper")
    assert backbone._levels == [249, 499, 749, 999]
    assert backbone.timestep == 999


@pytest.mark.slow
def test_a_unet_for_other_text_encoders_is_an_error(tmp_path: Path) -> None:
    stable_diffusion_xl(tmp_path, cross_attention_dim=24).save_pretrained(tmp_path / "model")
    assert failure(tmp_path / "model").startswith(
        "its two text encoders give 40 numbers per token, its U-Net takes 24; use parts"
    )


def test_a_unet_for_another_pooled_prompt_is_an_error(tmp_path: Path) -> None:
    pipeline = stable_diffusion_xl(tmp_path, projection_class_embeddings_input_dim=6 * 8 + 20)
    pipeline.save_pretrained(tmp_path / "model")
    assert failure(tmp_path / "model").startswith(
        "its second text encoder gives 12 numbers per prompt, its U-Net takes 20; use parts"
    )


@pytest.mark.slow
def test_the_unet_of_another_kind_of_pipeline_is_an_error(tmp_path: Path, copy: Path) -> None:
    plain = stable_diffusion_xl(tmp_path, addition_embed_type=None)
    plain.save_pretrained(tmp_path / "plain")
    assert "gives 12 numbers per prompt, its U-Net takes none" in failure(tmp_path / "plain")
    # With a single text encoder that is as wide as its two.
    index = json.loads((copy / "model_index.json").read_text())
    index |= {"text_encoder_2": [None, None], "tokenizer_2": [None, None]}
    (copy / "model_index.json").write_text(json.dumps(index))
    unet: Any = UNet2DConditionModel.from_config(
        stable_diffusion_xl(tmp_path / "other").unet.config, cross_attention_dim=16
    )
    unet.save_pretrained(copy / "unet")
    assert "gives no numbers per prompt, its U-Net takes 12" in failure(copy)


def test_tokenizers_that_cut_a_name_up_differently_are_an_error(copy: Path) -> None:
    # The second one does not know the letter at the end of a word, which is how names end.
    shutil.rmtree(copy / "tokenizer_2")
    words = tokenizer(copy / "tokenizer_2")
    folder = copy / "tokenizer_2"
    (folder / "merges.txt").write_text("#version: 0.2\na a</w>\n")
    (folder / "vocab.json").write_text(
        json.dumps(words.get_vocab() | {"a": 3, "aa</w>": 2, "a</w>": 3})
    )
    message = failure(copy, Text(class_names=("aa",), template="{name}"))
    assert message.startswith("its two tokenizers split the class names differently; use parts")
    # Where no class is named it does not matter.
    assert load(copy).stride == 8


def test_text_encoders_of_different_lengths_are_an_error(copy: Path, tmp_path: Path) -> None:
    from transformers import CLIPTextModelWithProjection

    config = CLIPTextModelWithProjection.from_pretrained(copy / "text_encoder_2").config
    config.max_position_embeddings = 6
    CLIPTextModelWithProjection(config).save_pretrained(copy / "text_encoder_2")
    assert failure(copy).startswith("its two text encoders take prompts of 8 and 6 tokens; use")

"""What a U-Net is given and what is read out of it, against diffusers' own full forwards."""

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel, UNet2DModel
from torch.nn.modules.module import register_module_forward_hook

from propagate.errors import ModelError
from propagate.features.networks import UNetPart
from propagate.features.pixel_unet import load_diffusion
from propagate.features.reading import Reading
from propagate.features.registry import load_backbone
from propagate.features.unet import NOISE_SEED, DiffusionBackbone
from propagate.features.weights import align
from tests import forked
from tests.tiny_models import pixel_unet, save_pixel_pipeline, save_unet, stable_diffusion

CPU = torch.device("cpu")
TO_Q = "attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def pixel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pixel_pipeline(tmp_path_factory.mktemp("pixel"), pixel_unet(attention=True))


@pytest.fixture(scope="module")
def latent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    stable_diffusion(folder).save_pretrained(folder / "model")
    return folder / "model"


def load(folder: Path, reading: Reading | None = None) -> DiffusionBackbone:
    return load_diffusion("tested", str(folder), CPU, torch.float32, reading)


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(7))


def fixed_noise(shape: torch.Size) -> torch.Tensor:
    rng = torch.Generator().manual_seed(NOISE_SEED)
    return torch.randn(1, *shape[1:], generator=rng)


@torch.inference_mode()
def full_forward(unet, block: str, noisy: torch.Tensor, timestep: int, **text) -> torch.Tensor:
    """The output of a block, caught on the way through a U-Net that runs to its end."""
    caught = []
    hook = unet.get_submodule(block).register_forward_hook(
        lambda _module, _inputs, output: caught.append(output)
    )
    unet = unet.to(memory_format=torch.channels_last)
    unet(noisy.contiguous(memory_format=torch.channels_last), torch.tensor([timestep]), **text)
    hook.remove()
    assert len(caught) == 1
    return caught[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [
        "up_blocks.1",
        "up_blocks.1.resnets.1",
        "down_blocks.1.resnets.0",
        "mid_block.attentions.0.to_q",
        "up_blocks.0.attentions.1.to_k",
        "conv_out",
    ],
)
def test_pixel_features_are_those_of_a_full_forward(pixel_folder: Path, block: str) -> None:
    frame = images(1, 24, 40)
    noise = fixed_noise(frame.shape)
    scheduler = DDPMScheduler.from_pretrained(pixel_folder / "scheduler")
    noisy = scheduler.add_noise(frame * 2 - 1, noise, torch.tensor([30]))  # pyright: ignore
    unet = UNet2DModel.from_pretrained(pixel_folder / "unet")
    expected = full_forward(unet, block, noisy, 30)

    features = load(pixel_folder, Reading(block, 30)).extract(frame)

    if expected.ndim == 3:
        expected = expected.transpose(1, 2).reshape(features.shape)
    # What is the same for every frame is folded into the weights, which rounds otherwise.
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "block",
    ["up_blocks.1", "up_blocks.2.resnets.0", f"up_blocks.1.{TO_Q}", f"down_blocks.1.{TO_Q}"],
)
@pytest.mark.slow
def test_latent_features_are_bit_for_bit_those_of_a_full_forward(
    latent_folder: Path, tmp_path: Path, block: str
) -> None:
    frame = images(1, 72, 136)  # latents 9 x 17: every level rounds up
    vae = align(AutoencoderKL.from_pretrained(latent_folder / "vae"))
    vae = vae.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        picture = (frame * 2 - 1).contiguous(memory_format=torch.channels_last)
        clean = vae.encode(picture).latent_dist.mode() * vae.config["scaling_factor"]  # pyright: ignore
    scheduler = DDPMScheduler.from_pretrained(latent_folder / "scheduler")
    noisy = scheduler.add_noise(clean, fixed_noise(clean.shape), torch.tensor([51]))  # pyright: ignore
    pipeline = stable_diffusion(tmp_path)
    prompt = pipeline.encode_prompt("", "cpu", 1, do_classifier_free_guidance=False)[0]
    # Matrix products sum in another order where weights do not begin at aligned addresses.
    unet = align(UNet2DConditionModel.from_pretrained(latent_folder / "unet"))
    expected = full_forward(unet, block, noisy, 51, encoder_hidden_states=prompt)

    features = load(latent_folder, Reading(block, 51)).extract(frame)

    if expected.ndim == 3:
        expected = expected.transpose(1, 2).reshape(features.shape)
    assert torch.equal(features, expected)


def test_nothing_runs_after_the_module_that_is_read(pixel_folder: Path) -> None:
    backbone = load(pixel_folder, Reading("up_blocks.0.resnets.0", 20))
    finished: list[torch.nn.Module] = []
    hook = register_module_forward_hook(lambda module, *_: finished.append(module))
    try:
        backbone.extract(images(1, 16, 16))
    finally:
        hook.remove()
    unet = backbone._unet
    # The block around it is left half-way, and what follows never starts.
    inside = [module for module in finished if not isinstance(module, UNetPart)]
    assert inside[-1] is unet.get_submodule("up_blocks.0.resnets.0")
    assert unet.get_submodule("mid_block") in finished
    for later in ("up_blocks.0", "up_blocks.0.resnets.1", "up_blocks.1.resnets.0", "conv_out"):
        assert unet.get_submodule(later) not in finished


@pytest.mark.parametrize("timestep", [0, 51, 999])
def test_a_frame_is_noised_by_the_formula_of_the_diffusion_process(
    tmp_path: Path, timestep: int
) -> None:
    # A first layer that passes its input on shows what the U-Net is given.
    unet = pixel_unet()
    with torch.no_grad():
        unet.conv_in.weight.zero_()
        unet.conv_in.bias.zero_()  # pyright: ignore
        for channel in range(3):
            unet.conv_in.weight[channel, channel, 1, 1] = 1
    frame = images(1, 8, 12)
    noise = fixed_noise(frame.shape)
    # DDPM's schedule: beta rises linearly from 0.0001 to 0.02 in 1000 steps.
    alpha_bar = 1.0
    for step in range(timestep + 1):
        alpha_bar *= 1 - (0.0001 + step * (0.02 - 0.0001) / 999)
    expected = torch.empty(3, 8, 12)
    for c in range(3):
        for y in range(8):
            for x in range(12):
                clean = 2 * float(frame[0, c, y, x]) - 1
                eps = float(noise[0, c, y, x])
                expected[c, y, x] = alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * eps

    features = load(save_unet(tmp_path, unet), Reading("conv_in", timestep)).extract(frame)

    # 1e-5: diffusers multiplies a thousand alphas in float32.
    torch.testing.assert_close(features[0, :3], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["pixel", "latent"])
@pytest.mark.slow
def test_a_frame_has_the_same_features_in_every_batch(
    kind: str, request: pytest.FixtureRequest
) -> None:
    backbone = load(request.getfixturevalue(f"{kind}_folder"))
    frames = images(8, 32, 64)
    together = backbone.extract(frames)
    apart = torch.cat([backbone.extract(frame[None]) for frame in frames])
    assert torch.equal(together, apart)


def test_frames_of_another_size_in_between_do_not_change_the_noise(pixel_folder: Path) -> None:
    backbone = load(pixel_folder)
    frame = images(1, 32, 64)
    first = backbone.extract(frame)
    backbone.extract(images(1, 64, 32))
    assert torch.equal(backbone.extract(frame), first)
    # One size of noise is kept, not one per size.
    assert backbone._noise.shape == (1, 3, 32, 64)


@pytest.mark.slow
def test_another_process_computes_the_same_features(pixel_folder: Path) -> None:
    script = (
        "import sys, hashlib, torch\n"
        "from propagate.features.registry import load_backbone\n"
        "torch.set_num_threads(int(sys.argv[2])); torch.rand(5)\n"
        "b = load_backbone(sys.argv[1], device='cpu', dtype='float32')\n"
        "frame = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(7))\n"
        "print(hashlib.sha256(b.extract(frame).numpy().tobytes()).hexdigest())\n"
    )
    line = [sys.executable, "-c", script, pixel_folder, torch.get_num_threads()]
    there = forked.run(line, diffusion=True)
    backbone = load_backbone(str(pixel_folder), device="cpu", dtype="float32")
    here = hashlib.sha256(backbone.extract(images(1, 32, 64)).numpy().tobytes()).hexdigest()
    assert there.stdout.split() == [here]
    # The command's stderr is for progress.
    assert there.stderr == ""


@pytest.mark.parametrize(
    ("levels", "fold", "block", "stride", "multiple"),
    [
        (1, 1, "up_blocks.0.resnets.1", 1, 1),
        (2, 1, "up_blocks.0.resnets.1", 2, 2),
        (3, 1, "up_blocks.0.resnets.1", 4, 4),
        (4, 1, "up_blocks.0.resnets.1", 8, 8),
        (5, 1, "up_blocks.1.resnets.1", 8, 16),
        (3, 2, "up_blocks.0.resnets.1", 8, 8),
        (4, 2, "up_blocks.1.resnets.1", 8, 16),
        (2, 8, "up_blocks.1.resnets.1", 8, 16),
    ],
)
def test_an_unknown_pixel_unet_is_read_at_stride_8_or_the_nearest_there_is(
    tmp_path: Path, levels: int, fold: int, block: str, stride: int, multiple: int
) -> None:
    backbone = load(save_unet(tmp_path, pixel_unet(levels, fold)))
    assert backbone.reading == Reading(block, 20)
    assert (backbone.stride, backbone.multiple, backbone.channels) == (stride, multiple, 8)
    size = (3 * multiple, 5 * multiple)
    assert backbone.extract(images(2, *size)).shape == (2, 8, size[0] // stride, size[1] // stride)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("levels", "block", "channels"),
    [(1, "up_blocks.0", 8), (2, "up_blocks.0", 8), (3, "up_blocks.1", 8), (4, "up_blocks.2", 8)],
)
def test_an_unknown_stable_diffusion_is_read_at_stride_8(
    tmp_path: Path, levels: int, block: str, channels: int
) -> None:
    stable_diffusion(tmp_path, levels).save_pretrained(tmp_path / "model")
    backbone = load(tmp_path / "model")
    assert backbone.reading == Reading(block, 51)
    assert (backbone.stride, backbone.multiple, backbone.channels) == (8, 8, channels)
    # 856 / 8 = 107 cells: no power of two goes into it.
    assert backbone.extract(images(1, 72, 856)).shape == (1, channels, 9, 107)


@pytest.mark.parametrize(
    ("block", "stride"),
    [("up_blocks.0.resnets.0", 32), (f"down_blocks.1.{TO_Q}", 16), (f"up_blocks.2.{TO_Q}", 8)],
)
def test_a_coarse_block_asks_for_frames_that_its_cells_tile(
    latent_folder: Path, block: str, stride: int
) -> None:
    backbone = load(latent_folder, Reading(block, 51))
    assert (backbone.stride, backbone.multiple) == (stride, stride)


@pytest.mark.slow
def test_tokens_of_an_attention_get_their_odd_grid_back(latent_folder: Path) -> None:
    frame = images(1, 72, 856)
    block = "up_blocks.2.attentions.0.transformer_blocks.0.attn1.to_q"
    assert load(latent_folder, Reading(block, 51)).extract(frame).shape == (1, 8, 9, 107)
    assert load(latent_folder, Reading(f"down_blocks.1.{TO_Q}", 51)).extract(frame).shape == (
        *(1, 8),
        *(5, 54),
    )


@pytest.mark.parametrize(("scale", "stride", "multiple"), [(0.5, 8, 8), (2, 2, 2), (1, 4, 4)])
def test_a_scale_changes_the_picture_and_with_it_the_stride(
    tmp_path: Path, scale: float, stride: int, multiple: int
) -> None:
    folder = save_unet(tmp_path, pixel_unet())
    backbone = load(folder, Reading("up_blocks.0.resnets.1", 20, scale))
    assert (backbone.stride, backbone.multiple) == (stride, multiple)
    frame = images(1, 48, 80)
    resized = torch.nn.functional.interpolate(
        frame, (int(48 * scale), int(80 * scale)), mode="bilinear", antialias=True
    )
    plain = load(folder, Reading("up_blocks.0.resnets.1", 20))
    assert torch.equal(backbone.extract(frame), plain.extract(resized))


def test_a_scale_without_whole_pixels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"scale of 0\.3 gives no whole pixels; write 1, 2, 0\.5"):
        load(save_unet(tmp_path, pixel_unet()), Reading("up_blocks.0", 20, scale=0.3))


def test_a_missing_module_is_an_error_that_names_others(pixel_folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no module 'up_blocks\.9'; name another .* up_blocks\.0\.resnets\.0,"
    ):
        load(pixel_folder, Reading("up_blocks.9", 20))


@pytest.mark.parametrize("timestep", [1000, 5000])
def test_a_timestep_past_the_schedule_is_an_error(pixel_folder: Path, timestep: int) -> None:
    with pytest.raises(ModelError, match=f"timestep {timestep} is outside .* 0 to 999"):
        load(pixel_folder, Reading("up_blocks.0", timestep))


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", ["time_embedding", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"]
)
def test_a_module_without_a_feature_map_is_an_error(latent_folder: Path, block: str) -> None:
    with pytest.raises(ModelError, match=f"'{block}', .* is no feature map; name another block"):
        load(latent_folder, Reading(block, 51))


def test_a_module_that_never_runs_is_an_error(pixel_folder: Path) -> None:
    # A list of modules has no forward of its own.
    with pytest.raises(ModelError, match="never runs 'up_blocks'; name another block"):
        load(pixel_folder, Reading("up_blocks", 20))


def test_weights_that_are_not_numbers_are_an_error(tmp_path: Path) -> None:
    unet = pixel_unet()
    with torch.no_grad():
        unet.conv_in.weight[0, 0, 0, 0] = torch.nan
    folder = save_unet(tmp_path, unet)
    with pytest.raises(ModelError, match="not finite in float32; its weights are damaged"):
        load(folder)
    with pytest.raises(ModelError, match=r"not finite in bfloat16; pass dtype=.float32"):
        load_diffusion("tested", str(folder), CPU, torch.bfloat16)


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"block": "", "timestep": 1}, "block: the dotted name"),
        ({"block": "a", "timestep": 0.5}, "timestep: an integer"),
        ({"block": "a", "timestep": -1}, "timestep: an integer, 0 or more"),
        ({"block": "a", "timestep": 1, "scale": 0}, "scale: a number above 0"),
        ({"block": "a", "timestep": 1, "scale": "1"}, "scale: a number above 0"),
    ],
)
def test_nonsense_is_refused_as_a_reading(reading: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reading(**reading)


def test_half_precision_is_close_to_float32(pixel_folder: Path) -> None:
    frame = images(1, 32, 64)
    exact = load(pixel_folder).extract(frame)
    half = load_diffusion("tested", str(pixel_folder), CPU, torch.bfloat16).extract(frame)
    assert half.dtype == torch.float32
    assert_same_directions(half, exact)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["pixel", "latent"])
@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_cuda_agrees_with_the_cpu(kind: str, dtype: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    frames = images(8, 32, 64)
    exact = load(folder).extract(frames)
    there = load_backbone(str(folder), device="cuda", dtype=dtype).extract(frames.cuda())
    assert there.device.type == "cuda"
    assert_same_directions(there.cpu(), exact)


def assert_same_directions(features: torch.Tensor, exact: torch.Tensor) -> None:
    """Features are compared by cosine; 0.995 is a rounding of about 3 % of each, bfloat16's."""
    cosines = torch.nn.functional.cosine_similarity(features, exact)
    assert float(cosines.min()) > 0.995

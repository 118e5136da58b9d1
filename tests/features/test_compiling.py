"""A compiled U-Net gives what the plain one gives, and is left as early."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from propagate.errors import ModelError
from propagate.features.compiling import COMPILED
from propagate.features.pixel_unet import load_diffusion
from propagate.features.reading import UP_BLOCK, Reading
from propagate.features.text import Text
from tests.tiny_models import stable_diffusion

CPU = torch.device("cpu")
FRAME = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(7))
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++, which PyTorch compiles for CPUs with"
)
# numpy and PyTorch remark on themselves while PyTorch compiles.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def latent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    stable_diffusion(folder, levels=2).save_pretrained(folder / "model")
    return folder / "model"


def load(folder: Path, reading: Reading, compiled: bool, text: Text | None = None) -> Any:
    return load_diffusion(
        "tested", str(folder), CPU, torch.float32, reading, text, compiled=compiled
    )


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    "reading",
    [
        Reading("mid_block.attentions.0.transformer_blocks.0", 51, tensor="qk"),
        # A block of blocks: read with the attention inside it.
        Reading("down_blocks.0", 51),
    ],
)
def test_features_are_the_same_compiled_and_nothing_after_them_runs(
    latent_folder: Path, reading: Reading
) -> None:
    text = Text(class_names=("a",), template="{name}")
    plain = load(latent_folder, reading, False, text)
    # What an earlier test compiled would be taken again.
    torch.compiler.reset()
    graphs = counters["stats"]["unique_graphs"]
    compiled = load(latent_folder, reading, True, text)

    def refuse(*_: object) -> None:
        raise AssertionError("this block comes after the one that is read")

    for module in compiled._unet.up_blocks.modules():
        if type(module).__name__ in COMPILED:
            module.register_forward_pre_hook(refuse)
    for got, wanted in zip(compiled.extract_both(FRAME), plain.extract_both(FRAME), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(compiled.extract(FRAME), plain.extract(FRAME), rtol=1e-3, atol=1e-4)
    assert counters["stats"]["unique_graphs"] > graphs


@pytest.mark.slow
def test_a_machine_that_cannot_compile_is_an_error(latent_folder: Path) -> None:
    with (
        inductor.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(ModelError) as caught,
    ):
        load(latent_folder, Reading(UP_BLOCK, 51, scale=2), True)
    assert str(caught.value).startswith("model tested: its U-Net cannot be compiled here (")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("compiler needs (on a CPU, a C++ compiler)")

"""OpenVINO gives what PyTorch gives, and the same bits every time."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from propagate.config import Config
from propagate.errors import OutputError
from propagate.features import openvino_engine
from propagate.features.device import choose_dtype
from propagate.features.engine import TorchEngine
from propagate.features.origin import made_of, will_be_made_of
from propagate.features.pixel_unet import load_diffusion
from propagate.features.presets import BUILT_IN
from propagate.features.reading import Reading
from propagate.features.recipes import RECIPES
from propagate.features.registry import load_backbone
from propagate.pipeline import Propagator
from tests.paths import ROOT
from tests.tiny_models import pixel_unet, save_unet, stable_diffusion

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

CPU = torch.device("cpu")
FRAMES = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of our own for compiled networks."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("LOCALAPPDATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def pixel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_unet(tmp_path_factory.mktemp("pixel"), pixel_unet())


@pytest.fixture(scope="module")
def latent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    stable_diffusion(folder).save_pretrained(folder)
    return folder


def load(folder: Path, reading: Reading | None, openvino: bool) -> Any:
    engine = (openvino_engine.OpenVinoEngine if openvino else TorchEngine)(torch.float32)
    return load_diffusion("tested", str(folder), CPU, torch.float32, reading, engine=engine)


def assert_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).norm() <= 1e-4 * wanted.norm()


def test_a_unet_on_pixels(pixel_folder):
    found, wanted = (
        load(pixel_folder, None, openvino).extract(FRAMES) for openvino in (True, False)
    )
    assert_near(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["default", "official"])
def test_stable_diffusion(latent_folder, recipe):
    reading = RECIPES[recipe].reading
    if reading.inversion is not None:
        # Queries and keys, with a sample of the VAE's posterior, without the 100 forwards.
        reading = Reading(
            reading.block, 1, tensor=reading.tensor, posterior_seed=reading.posterior_seed
        )
    ours, theirs = (load(latent_folder, reading, openvino) for openvino in (True, False))
    assert_near(ours.extract(FRAMES[:1]), theirs.extract(FRAMES[:1]))


@pytest.mark.slow
def test_an_inversion_runs_the_whole_unet_at_many_timesteps(latent_folder):
    reading = RECIPES["paper"].reading
    ours, theirs = (load(latent_folder, reading, openvino) for openvino in (True, False))
    assert_near(ours.extract(FRAMES[:1]), theirs.extract(FRAMES[:1]))


def test_only_what_is_read_is_converted(pixel_folder):
    def operations(block: str) -> int:
        network = load(pixel_folder, Reading(block, 20), False).network
        inputs = (torch.rand(1, 3, 16, 16), torch.tensor([20]))
        return len(openvino_engine.convert(network, inputs).get_ordered_ops())

    assert operations("down_blocks.0") < operations("up_blocks.0") < operations("up_blocks.2")


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load_backbone("tiny", device="cpu", engine="openvino")


def test_tiny_in_int8_is_near_float32(tiny):
    found, wanted = tiny.extract(FRAMES), load_backbone("tiny", device="cpu", dtype="float32")
    wanted = wanted.extract(FRAMES)
    cosines = torch.nn.functional.cosine_similarity(found, wanted, dim=1)
    assert cosines.mean() > 0.99
    assert not torch.equal(found, wanted)


def test_the_same_bits_at_any_batch_size_and_every_time(tiny):
    together = tiny.extract(FRAMES)
    assert torch.equal(together, torch.cat([tiny.extract(frame[None]) for frame in FRAMES]))
    for _ in range(5):
        assert torch.equal(tiny.extract(FRAMES), together)
    # The second model takes what the first has compiled.
    assert torch.equal(
        load_backbone("tiny", device="cpu", engine="openvino").extract(FRAMES), together
    )


def test_the_same_bits_with_another_number_of_threads(tiny):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = tiny.extract(FRAMES[:1])
        torch.set_num_threads(2)
        assert torch.equal(tiny.extract(FRAMES[:1]), one)
    finally:
        torch.set_num_threads(before)


def test_threads_share_a_model(tiny):
    wanted = [tiny.extract(frame[None]) for frame in FRAMES]
    found: dict[int, list[torch.Tensor]] = {}

    def work(number: int) -> None:
        found[number] = [tiny.extract(frame[None]) for frame in FRAMES]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(found) == 4
    assert all(
        torch.equal(a, b) for each in found.values() for a, b in zip(each, wanted, strict=True)
    )


def test_what_was_compiled_is_taken_by_the_next_model(pixel_folder, cache, monkeypatch):
    frame = FRAMES[:1, :, :32, :64].contiguous()
    first = load(pixel_folder, None, True).extract(frame)

    def fail(*_: Any) -> None:
        raise AssertionError("converted again")

    with monkeypatch.context() as patch:
        patch.setattr(openvino_engine, "convert", fail)
        assert torch.equal(load(pixel_folder, None, True).extract(frame), first)
    for file in cache.rglob("*.blob"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert torch.equal(load(pixel_folder, None, True).extract(frame), first)


def test_weights_that_changed_are_compiled_again(pixel_folder, tmp_path):
    frame = FRAMES[:1, :, :32, :32].contiguous()
    load(pixel_folder, None, True).extract(frame)
    folder = copytree(pixel_folder, tmp_path / "copy")
    change_a_weight(folder / "diffusion_pytorch_model.safetensors")
    found, wanted = (load(folder, None, openvino).extract(frame) for openvino in (True, False))
    assert_near(found, wanted)


def change_a_weight(file: Path) -> None:
    weights = load_file(file)
    weights["conv_in.bias"][0] += 1
    save_file(weights, file, metadata={"format": "pt"})


def test_int8_belongs_to_the_weights_and_the_reading_it_was_made_from(tmp_path):
    assert will_be_made_of("tiny", "cpu", engine="openvino")["dtype"] == "int8"
    other = will_be_made_of("tiny", "cpu", engine="openvino", recipe="default")
    assert other["dtype"] != "int8"
    assert will_be_made_of("tiny-random", "cpu", engine="openvino")["dtype"] != "int8"
    folder = copytree(BUILT_IN / "tiny", tmp_path / "tiny")
    assert will_be_made_of(str(folder), "cpu", engine="openvino")["dtype"] == "int8"
    change_a_weight(folder / "unet/diffusion_pytorch_model.safetensors")
    assert will_be_made_of(str(folder), "cpu", engine="openvino")["dtype"] != "int8"


def test_a_report_says_engine_and_precision(tiny):
    facts = made_of(tiny)
    assert (facts["engine"], facts["dtype"]) == ("openvino", "int8")
    assert "openvino/int8.bin" in facts["int8"]
    assert facts["weights"] == will_be_made_of("tiny", "cpu", "float32")["weights"]
    assert facts == will_be_made_of("tiny", "cpu", engine="openvino")
    assert json.dumps(facts)


def test_int8_is_no_precision_of_pytorch():
    with pytest.raises(ValueError, match="no precision is called 'int8'"):
        choose_dtype("int8", CPU)


class Stop(BaseException):
    pass


def stop(done: int, total: int | None) -> None:
    if done == 2:
        raise Stop


@pytest.mark.slow
def test_a_run_is_continued_by_the_engine_that_began_it(drawn, tmp_path):
    small = Config(short_side_px=64)
    ours, theirs = (
        Propagator("tiny", device="cpu", engine=engine, config=small)
        for engine in ("openvino", "torch")
    )
    given = (drawn.mp4, {0: drawn.truth[0]}, tmp_path)
    with pytest.raises(Stop):
        ours.run(*given, max_frames=3, save_every_s=0, progress=stop)
    with pytest.raises(OutputError) as caught:
        theirs.run(*given, max_frames=3)
    assert "engine was openvino, is torch; dtype was int8, is" in caught.value.message
    assert 'pass engine="openvino" and dtype="auto" to go on' in str(caught.value)
    assert ours.run(*given, max_frames=3).resumed_at == (2,)
    report = json.loads((tmp_path / "clip/result.json").read_text())
    assert (report["engine"], report["dtype"]) == ("openvino", "int8")
    assert report["versions"]["openvino"] != "not installed"
    with pytest.raises(OutputError, match="engine was openvino, is torch"):
        theirs.run(*given, max_frames=3)


STEPS = """
import numpy as np, torch, propagate
from propagate.config import Config
frames = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
mask = np.zeros((48, 64), np.uint8)
mask[10:30, 10:30] = 1
session = propagate.Propagator(
    "tiny", device="cpu", engine="openvino", config=Config(short_side_px=64)
).session()
session.step(frames[0], mask)
print(session.step(frames[1]).mask.sum() >= 0)
"""


@pytest.mark.slow
def test_nothing_is_reported_to_anybody(tmp_path):
    """OpenVINO's telemetry leaves a folder `intel` in the home folder."""
    finished = subprocess.run(
        [sys.executable, "-c", STEPS],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (finished.stdout, finished.stderr) == ("True\n", "")
    assert "intel" not in {path.name for path in tmp_path.iterdir()}
    assert np.any([path.suffix == ".blob" for path in tmp_path.rglob("*")])

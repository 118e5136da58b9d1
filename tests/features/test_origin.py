"""What a model was loaded from: found by hand, never taken for another's, and hashed once."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import propagate.features.file_hashes
import propagate.run_settings
from propagate.batch.manifest import BatchVideo
from propagate.batch.schedule import run_batch
from propagate.batch.tasks import BatchSettings
from propagate.benchmark.datasets import DavisData
from propagate.benchmark.runner import Configuration, Watch, benchmark
from propagate.config import Config
from propagate.errors import OutputError
from propagate.features.model_folder import ModelFolder
from propagate.features.origin import made_of, origin_of, will_be_made_of
from propagate.features.presets import BUILT_IN
from propagate.features.registry import load_backbone
from propagate.pipeline import Propagator
from tests.batch_runs import here
from tests.tiny_models import pixel_unet, save_unet, stable_diffusion, stable_diffusion_xl

WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALL = Config(short_side_px=64)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_unet(tmp_path / "model", pixel_unet())


def train_again(model: Path) -> None:
    """Change one number of the weights: the file keeps its size."""
    weights = load_file(model / WEIGHTS)
    weights["conv_in.bias"][0] += 1
    save_file(weights, model / WEIGHTS)


def test_tiny_names_its_file() -> None:
    facts = made_of(load_backbone("tiny", device="cpu", dtype="float32"))
    assert facts["engine"] == "torch"
    assert (facts["dtype"], facts["compile"]) == ("float32", False)
    file = next((BUILT_IN / "tiny").rglob("*.safetensors"))
    name = file.relative_to(BUILT_IN / "tiny").as_posix()
    assert facts["weights"] == {name: sha256(file)}
    assert facts["model_config"]["reading.json"] == sha256(BUILT_IN / "tiny/reading.json")


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
@pytest.mark.parametrize("name", ["tiny", "tiny-random", "color"])
def test_the_same_is_known_before_a_model_is_loaded(name: str, dtype: str) -> None:
    before = will_be_made_of(name, "cpu", dtype)
    assert before == made_of(load_backbone(name, device="cpu", dtype=dtype))
    assert before["dtype"] != "auto"


def test_random_weights_are_named_by_their_seed() -> None:
    assert will_be_made_of("tiny-random", "cpu")["weights"] == {"seed": "0"}


def test_a_pipeline_names_the_weights_of_all_its_parts(tmp_path: Path) -> None:
    for kind, encoders in ((stable_diffusion, 1), (stable_diffusion_xl, 2)):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        kind(folder).save_pretrained(folder / "model")
        origin = origin_of(ModelFolder("sd", folder / "model"))
        expected = {
            file.relative_to(folder / "model").as_posix(): sha256(file)
            for file in (folder / "model").rglob("*.safetensors")
        }
        assert origin.weights == expected
        assert len(expected) == 2 + encoders
        assert "scheduler/scheduler_config.json" in origin.model_config


def test_weights_in_several_files_are_all_named(tmp_path: Path) -> None:
    unet = pixel_unet()
    unet.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("*-of-*.safetensors"))
    assert len(shards) > 1
    origin = origin_of(ModelFolder("unet", tmp_path))
    assert origin.weights == {shard.name: sha256(shard) for shard in shards}


def test_weights_that_replace_those_of_the_unet_are_named_instead(tmp_path: Path) -> None:
    stable_diffusion(tmp_path).save_pretrained(tmp_path / "model")
    other = tmp_path / "other.safetensors"
    shutil.copy(tmp_path / f"model/unet/{WEIGHTS}", other)
    weights = origin_of(ModelFolder("sd", tmp_path / "model", other)).weights
    assert weights["other.safetensors"] == sha256(other)
    assert f"unet/{WEIGHTS}" not in weights


def test_a_file_is_read_once_until_it_changes(model: Path, monkeypatch: Any) -> None:
    reads = []
    inner = propagate.features.file_hashes._sha256.__wrapped__

    def counted(*given: Any) -> str:
        reads.append(given[0].name)
        return inner(*given)

    cached = propagate.features.file_hashes.lru_cache(maxsize=8)(counted)
    monkeypatch.setattr(propagate.features.file_hashes, "_sha256", cached)
    for _ in range(3):
        load_backbone(str(model), device="cpu")
    assert reads.count(WEIGHTS) == 1
    train_again(model)
    load_backbone(str(model), device="cpu")
    assert reads.count(WEIGHTS) == 2


def test_a_foreign_backbone_says_what_it_knows() -> None:
    class Foreign:
        dtype = torch.float16

    facts = made_of(Foreign())
    assert (facts["dtype"], facts["weights"]) == ("float16", None)


# Results of a model that was trained again


def follow(model: Path, drawn: Any, out: Path, **options: Any) -> Any:
    propagator = Propagator(str(model), device="cpu", dtype="float32", config=SMALL)
    return propagator.run(
        drawn.mp4, {0: drawn.truth[0]}, out, keep_finished=True, max_frames=3, **options
    )


class Stop(BaseException):
    pass


def stop(done: int, total: int | None) -> None:
    if done == 2:
        raise Stop


def test_a_finished_run_of_other_weights_is_not_taken_for_this_one(
    model: Path, drawn: Any, tmp_path: Path
) -> None:
    assert not follow(model, drawn, tmp_path / "out").was_finished
    assert follow(model, drawn, tmp_path / "out").was_finished
    train_again(model)
    with pytest.raises(OutputError, match=rf"other settings: weights\.{WEIGHTS} differs; pass"):
        follow(model, drawn, tmp_path / "out")


def test_an_unfinished_run_of_other_weights_does_not_go_on(
    model: Path, drawn: Any, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        follow(model, drawn, tmp_path / "out", save_every_s=0, progress=stop)
    train_again(model)
    with pytest.raises(OutputError, match=rf"unfinished run .*: weights\.{WEIGHTS} differs; pass"):
        follow(model, drawn, tmp_path / "out")
    assert follow(model, drawn, tmp_path / "out", overwrite=True).resumed_at == ()


def test_an_unfinished_run_says_how_to_go_on_with_its_precision(
    model: Path, drawn: Any, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        follow(model, drawn, tmp_path / "out", save_every_s=0, progress=stop)
    half = Propagator(str(model), device="cpu", dtype="bfloat16", config=SMALL)
    with pytest.raises(OutputError) as caught:
        half.run(drawn.mp4, {0: drawn.truth[0]}, tmp_path / "out", max_frames=3)
    assert "dtype was float32, is bfloat16" in caught.value.message
    assert 'pass dtype="float32" to go on' in str(caught.value)
    assert follow(model, drawn, tmp_path / "out").resumed_at == (2,)


def test_an_unfinished_run_of_another_kind_of_device_is_kept_and_says_how_to_go_on(
    model: Path, drawn: Any, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        follow(model, drawn, tmp_path / "out", save_every_s=0, progress=stop)
    state = tmp_path / "out/clip/.state"
    kept = state.read_bytes()
    state.write_bytes(kept.replace(b'"device": "cpu"', b'"device": "cuda"'))
    with pytest.raises(OutputError, match='was begun on cuda, and this is cpu; pass device="cuda"'):
        follow(model, drawn, tmp_path / "out")
    state.write_bytes(kept)
    assert follow(model, drawn, tmp_path / "out").resumed_at == (2,)


def test_a_finished_run_of_another_version_is_kept_and_the_line_says_so(
    propagate: Any, drawn: Any, tmp_path: Path
) -> None:
    given = ("run", drawn.mp4, "-m", drawn.mask, "-o", tmp_path, "--model", "color")
    assert propagate(*given, "--max-frames", 2).status == 0
    file = tmp_path / "clip/result.json"
    report = json.loads(file.read_text())
    assert report["versions"]["torch"] == torch.__version__
    report["versions"]["torch"] = "2.0.9"
    file.write_text(json.dumps(report))
    line = propagate(*given, "--max-frames", 2).stdout
    assert f"finished before with torch 2.0.9 (now {torch.__version__}); left as it is" in line


@pytest.mark.slow
def test_a_batch_does_not_skip_a_video_of_other_weights(
    model: Path, drawn: Any, tmp_path: Path
) -> None:
    Image.fromarray(drawn.truth[0]).save(tmp_path / "m.png")
    video = BatchVideo(Path(drawn.mp4), "clip", tmp_path / "m.png")
    settings = BatchSettings(model=str(model), device="cpu", short_side_px=64)
    settings = replace(settings, run=replace(settings.run, max_frames=2))

    def states() -> list[tuple[str, str | None]]:
        summary = run_batch([video], tmp_path / "out", settings, engine=here, retry=0)
        return [(each.state, each.reason) for each in summary.videos]

    assert states() == [("done", None)]
    assert states() == [("skipped", None)]
    train_again(model)
    ((state, reason),) = states()
    assert state == "failed"
    assert reason is not None
    assert "weights." in reason


@pytest.mark.slow
def test_a_benchmark_does_not_report_the_scores_of_other_weights(
    model: Path, drawn: Any, tmp_path: Path
) -> None:
    for part, pictures in (("JPEGImages", drawn.images), ("Annotations", drawn.truth)):
        folder = tmp_path / f"davis/{part}/480p/clip"
        folder.mkdir(parents=True)
        suffix = "jpg" if part == "JPEGImages" else "png"
        for index, picture in enumerate(pictures[:3]):
            Image.fromarray(picture).save(folder / f"{index:05d}.{suffix}")
    said: list[str] = []

    def score(**options: Any) -> None:
        benchmark(
            DavisData(tmp_path / "davis", sequences=["clip"]),
            [Configuration(str(model))],
            tmp_path / "out",
            device="cpu",
            watch=Watch(say=said.append),
            **options,
        )

    score()
    score()
    assert said[-1] == "model: 1 of 1 sequences were already finished"
    train_again(model)
    with pytest.raises(OutputError, match=r"other settings: weights\..* differs; pass"):
        score()
    score(overwrite=True)
    assert said[-1] == "model: clip, sequence 1 of 1"

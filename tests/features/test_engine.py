"""Which engine, device and precision are chosen."""

from pathlib import Path

import pytest
import torch

from propagate.errors import DeviceError, ModelError
from propagate.features import engine
from propagate.features.engine import choose_engine
from propagate.features.int8_weights import Int8Weights
from propagate.features.registry import load_backbone

INT8 = Int8Weights(Path("int8.xml"), ("up",))


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with OpenVINO, where PyTorch computes in float32."""
    monkeypatch.setattr(engine, "find_spec", lambda name: object())
    monkeypatch.setattr(engine, "choose_dtype", lambda name, device: torch.float32)


@pytest.mark.parametrize(
    ("asked", "name", "dtype"),
    [
        ({}, "torch", torch.float32),
        ({"device": "cpu"}, "torch", torch.float32),
        ({"engine": "openvino"}, "openvino", torch.int8),
        ({"engine": "torch"}, "torch", torch.float32),
        ({"dtype": "float32"}, "torch", torch.float32),
        ({"compile": True}, "torch", torch.float32),
        ({"engine": "openvino", "dtype": "float32"}, "openvino", torch.float32),
        ({"engine": "openvino", "dtype": "bfloat16"}, "openvino", torch.bfloat16),
    ],
)
def test_of_a_model_with_int8_weights(asked, name, dtype):
    chosen = choose_engine(**{"device": "cpu", **asked}, find_int8=lambda: INT8)
    assert (chosen.name, chosen.dtype) == (name, dtype)
    assert chosen.int8 == (INT8 if dtype == torch.int8 else None)


def test_auto_takes_pytorch_for_a_model_without_int8_weights():
    assert choose_engine(device="cpu").name == "torch"


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert choose_engine(device="cpu", find_int8=lambda: INT8).name == "torch"
    with pytest.raises(DeviceError) as e:
        choose_engine("openvino", "cpu")
    assert "the package openvino is not installed" in str(e.value)
    assert 'pip install "propagate-video[fast]"' in str(e.value)
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"compile": True}, "compiles the U-Net itself; leave compile out"),
        ({"dtype": "float16"}, "does not compute in float16"),
    ],
)
def test_what_openvino_cannot_do_is_refused(asked, message):
    with pytest.raises(DeviceError, match=message):
        choose_engine("openvino", "cpu", **asked)


def test_openvino_on_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(engine, "choose_device", lambda name: torch.device("cuda:0"))
    with pytest.raises(DeviceError, match="computes on the CPU, not on cuda:0"):
        choose_engine("openvino", "cuda:0")
    assert choose_engine("auto", "auto", find_int8=lambda: INT8).name == "torch"


def test_unknown_names():
    with pytest.raises(ValueError, match="no engine is called 'onnx'; there are auto, torch, op"):
        choose_engine("onnx")


def test_colours_have_no_engine():
    with pytest.raises(ModelError, match="plain colours, which no engine computes"):
        load_backbone("color", device="cpu", engine="openvino")

import pytest
import torch

from propagate.errors import DeviceError
from propagate.features.device import choose_device, choose_dtype

CPU = torch.device("cpu")
HAS_CUDA = torch.cuda.is_available()


def test_auto_is_cuda_where_there_is_one_and_else_the_cpu() -> None:
    assert choose_device("auto").type == ("cuda" if HAS_CUDA else "cpu")


def test_a_named_device_is_taken() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "cuda:-1", "cpu cuda", "0"])
def test_a_name_that_means_nothing_is_an_error(name: str) -> None:
    with pytest.raises(DeviceError, match=r"use auto, cpu, cuda or cuda:N for device"):
        choose_device(name)


@pytest.mark.parametrize("name", ["meta", "xpu", "hpu", "vulkan"])
def test_a_device_that_features_are_not_computed_on_is_an_error(name: str) -> None:
    with pytest.raises(DeviceError, match=f"'{name}' is not supported; use auto, cpu, cuda"):
        choose_device(name)


@pytest.mark.skipif(HAS_CUDA, reason="a CUDA device is here")
def test_cuda_asked_for_and_absent_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"'cuda' .* sees 0 CUDA devices here; use device=.cpu"):
        choose_device("cuda")


def test_a_cuda_device_past_the_last_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"'cuda:99' was asked for, but PyTorch sees \d+ CUDA"):
        choose_device("cuda:99")


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize("name", ["mps"])
def test_mps_is_refused_whether_it_is_there_or_not(
    monkeypatch: pytest.MonkeyPatch, name: str, available: bool
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)
    with pytest.raises(DeviceError, match=r"'mps' is not supported: .*; use device=.cpu"):
        choose_device(name)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_a_named_precision_is_taken(name: str, dtype: torch.dtype) -> None:
    assert choose_dtype(name, CPU) == dtype


def test_auto_on_a_cpu_is_never_float16() -> None:
    # CPUs compute float16 slowly; bfloat16 depends on the instructions they have.
    assert choose_dtype("auto", CPU) in (torch.float32, torch.bfloat16)


def test_an_unknown_precision_is_the_programmers_error() -> None:
    with pytest.raises(ValueError, match="no precision is called 'half'; there are auto, float32"):
        choose_dtype("half", CPU)


@pytest.mark.gpu
def test_auto_on_cuda_is_half_precision() -> None:
    device = choose_device("cuda")
    major, _ = torch.cuda.get_device_capability(device)
    assert choose_dtype("auto", device) == (torch.bfloat16 if major >= 8 else torch.float16)

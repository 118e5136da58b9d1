"""The engine: what runs a network. PyTorch itself everywhere, or OpenVINO on a CPU.

A network is a module that takes tensors and returns a tuple of tensors. The code around an engine
does not know which one it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import torch

from propagate.errors import DeviceError
from propagate.features.device import DTYPES, choose_device, choose_dtype
from propagate.features.int8_weights import Int8Weights

ENGINES = ("auto", "torch", "openvino")
INSTALL_HINT = 'pip install "propagate-video[fast]", or use {engine=torch}'


class Engine(Protocol):
    """Runs networks."""

    @property
    def name(self) -> str:
        """A value of `ENGINES`, but never "auto"."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The precision of products; `torch.int8` where most are of whole numbers."""
        ...

    @property
    def weights_dtype(self) -> torch.dtype:
        """The precision in which a network is loaded."""
        ...

    def run(
        self, network: torch.nn.Module, *inputs: torch.Tensor, precise: bool = False
    ) -> tuple[torch.Tensor, ...]:
        """Run a network that does not change between its runs.

        The same inputs give the same bits whenever they are run on one machine. One thread at a
        time.

        Args:
            network: The network.
            inputs: One frame at a time on a CPU.
            precise: Whether it is to be run in float32, whatever the precision of the engine: half
                precision would overflow.
        """
        ...


@dataclass(frozen=True, slots=True)
class TorchEngine:
    """PyTorch: a network runs as it is."""

    dtype: torch.dtype
    name: str = "torch"

    @property
    def weights_dtype(self) -> torch.dtype:
        """The precision of the weights is that of the products."""
        return self.dtype

    def run(
        self, network: torch.nn.Module, *inputs: torch.Tensor, precise: bool = False
    ) -> tuple[torch.Tensor, ...]:
        """Run a network in the precision in which it was loaded. See `Engine`."""
        return network(*inputs)


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine computes, where, and how precisely.

    Attributes:
        name: "torch" or "openvino".
        device: Where.
        dtype: See `Engine`.
        int8: The network in whole numbers that is run; None without.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    int8: Int8Weights | None = None

    def make(self) -> Engine:
        """Make the engine."""
        if self.name == "torch":
            return TorchEngine(self.dtype)
        # Imported here because OpenVINO takes a second to import.
        from propagate.features.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(self.dtype, self.int8)


def choose_engine(
    engine: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    *,
    compile: bool = False,
    find_int8: Callable[[], Int8Weights | None] = lambda: None,
) -> EngineChoice:
    """Choose the engine, the device and the precision.

    The engine "auto" is PyTorch: in float32 both are equally fast, and over whole clips int8 was
    not shown to keep the scores. With OpenVINO, the precision "auto" is int8 if the model has it,
    else bfloat16 if the CPU multiplies it, else float32.

    Args:
        engine: One of `ENGINES`.
        device, dtype, compile: See `propagate.features.registry.load_backbone`.
        find_int8: Finds the model's int8 network, if it has one for what is read; asked after all
            that can be refused without the model is.

    Raises:
        ValueError: The engine or the precision is unknown.
        DeviceError: The engine is not installed or cannot do what is asked.
    """
    if engine not in ENGINES:
        raise ValueError(f"no engine is called {engine!r}; there are {', '.join(ENGINES)}")
    where = choose_device("cpu" if (engine, device) == ("openvino", "auto") else device)
    if dtype != "auto" and dtype not in DTYPES:
        choose_dtype(dtype, where)
    if engine != "openvino":
        return EngineChoice("torch", where, choose_dtype(dtype, where))
    _check_openvino(where, dtype, compile)
    int8 = find_int8() if dtype == "auto" else None
    if int8 is not None:
        return EngineChoice("openvino", where, torch.int8, int8)
    if dtype == "auto":
        from propagate.features.openvino_engine import cpu_multiplies_bfloat16

        dtype = "bfloat16" if cpu_multiplies_bfloat16() else "float32"
    return EngineChoice("openvino", where, DTYPES[dtype])


def _check_openvino(where: torch.device, dtype: str, compile: bool) -> None:
    """Refuse OpenVINO where it is not installed or cannot do what is asked."""
    if find_spec("openvino") is None:
        raise DeviceError("engine openvino: the package openvino is not installed", INSTALL_HINT)
    if where.type != "cpu":
        raise DeviceError(
            f"engine openvino computes on the CPU, not on {where}",
            "use {device=cpu} or {engine=torch}",
        )
    if compile:
        raise DeviceError(
            "engine openvino compiles the U-Net itself",
            "leave {compile} out, or use {engine=torch}",
        )
    if dtype == "float16":
        raise DeviceError(
            "engine openvino does not compute in float16 on a CPU",
            "use {dtype=auto}, {dtype=float32} or {dtype=bfloat16}",
        )

"""OpenVINO: runs networks on a CPU, whole numbers and bfloat16 included.

A network is compiled for one size of its inputs, at its first run at that size. What was compiled
is kept on disk (`compiled_cache.py`), so the next start is quick. `unet.py` runs frames one by one
on a CPU, so there are no batches here, and features do not depend on the batch size.
"""

import hashlib
import importlib
import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from propagate.features.compiled_cache import CompiledCache
from propagate.features.int8_weights import Int8Weights
from propagate.features.networks import UNetPart

# Changes when networks are converted in another way.
FORMAT = 1
HINTS = {torch.float32: "f32", torch.int8: "f32", torch.bfloat16: "bf16"}
# A compiled network is about as large as its weights. Larger ones are compiled at every start,
# which is little beside the time of their frames.
MOST_CACHED_BYTES = 256 * 2**20


@cache
def openvino() -> Any:
    """Import OpenVINO, without the package that sends its use to its makers.

    At its import, OpenVINO starts `openvino_telemetry`, which writes an identifier into the home
    folder and reports over the network. Without that package it takes a stub of its own.
    """
    with without_telemetry():
        return importlib.import_module("openvino")


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Hide `openvino_telemetry` from imports inside the block."""
    name, missing = "openvino_telemetry", object()
    before: Any = sys.modules.get(name, missing)
    sys.modules[name] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[name]
        else:
            sys.modules[name] = before


@cache
def _core() -> Any:
    return openvino().Core()


def cpu_multiplies_bfloat16() -> bool:
    """Return whether OpenVINO computes in bfloat16 on this CPU, by AVX512-BF16 or AMX."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine:
    """An `Engine` on OpenVINO.

    Attributes:
        dtype: See `Engine`.
        weights_dtype: Networks are converted from float32, whatever the precision.
    """

    name = "openvino"
    weights_dtype = torch.float32

    def __init__(self, dtype: torch.dtype, int8: Int8Weights | None = None) -> None:
        """Make an engine without networks; each is compiled when it first runs.

        Args:
            dtype: A key of `HINTS`.
            int8: Replaces the part of the U-Net that gives the same modules. All else is run in
                float32.
        """
        self.dtype = dtype
        self._int8 = int8
        self._requests: dict[Any, Any] = {}

    def run(
        self, network: torch.nn.Module, *inputs: torch.Tensor, precise: bool = False
    ) -> tuple[torch.Tensor, ...]:
        """Run a network. See `Engine`."""
        # The network is part of the key, not its id, so that it stays alive.
        shapes = tuple(tuple(each.shape) for each in inputs)
        key = (network, shapes, precise, torch.get_num_threads())
        request = self._requests.get(key)
        if request is None:
            # Outside the mode, because a trace needs tensors that it may note.
            with torch.inference_mode(False), torch.no_grad():
                examples = tuple(each.clone() for each in inputs)
                compiled = self._compile(network, examples, precise)
            request = self._requests[key] = compiled.create_infer_request()
        count = len(request.model_inputs)
        # An int8 network has its timestep inside.
        arrays = [each.contiguous().numpy() for each in inputs[:count]]
        request.infer(dict(enumerate(arrays)), share_inputs=True)
        tensors = (request.get_output_tensor(n) for n in range(len(request.model_outputs)))
        # The next run writes into the same memory.
        return tuple(torch.from_numpy(each.data.copy()) for each in tensors)

    def _compile(
        self, network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precise: bool
    ) -> Any:
        """Compile a network for the sizes of its inputs, or take what was compiled before."""
        config = {
            "INFERENCE_PRECISION_HINT": HINTS[torch.float32 if precise else self.dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            # Several processes that each pin their threads would share the first cores.
            "ENABLE_CPU_PINNING": False,
        }
        kept = CompiledCache(MOST_CACHED_BYTES)
        key = self._key(network, inputs, config)
        data = kept.read(key)
        if data is not None:
            try:
                return _core().import_model(io.BytesIO(data), "CPU", config)
            # A file of another version or a damaged one: exceptions of any kind.
            except Exception:
                kept.remove(key)
        compiled = _core().compile_model(self._model(network, inputs), "CPU", config)
        if _weight_bytes(network) <= MOST_CACHED_BYTES:
            stream = io.BytesIO()
            compiled.export_model(stream)
            kept.write(key, stream.getvalue())
        return compiled

    def _model(self, network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        file = self._int8_file(network)
        model = convert(network, inputs) if file is None else _core().read_model(file)
        shapes = [list(each.shape) for each in inputs][: len(model.inputs)]
        model.reshape(dict(enumerate(shapes)))
        return model

    def _key(
        self, network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], config: dict[str, Any]
    ) -> str:
        """Name what is compiled by everything that it depends on."""
        digest = hashlib.sha256()
        facts = {
            "format": FORMAT,
            "openvino": openvino().__version__,
            "torch": torch.__version__,
            "cpu": [
                _core().get_property("CPU", name)
                for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
            ],
            "config": config,
            "inputs": [(tuple(each.shape), str(each.dtype)) for each in inputs],
            "network": repr(network),
            "read": network.modules_read if isinstance(network, UNetPart) else (),
        }
        digest.update(repr(facts).encode())
        int8 = self._int8_file(network)
        if int8 is not None:
            for file in (int8, int8.with_suffix(".bin")):
                digest.update(file.read_bytes())
        else:
            for name, weight in _weights(network):
                digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
                digest.update(weight.detach().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _int8_file(self, network: torch.nn.Module) -> Path | None:
        """Return the file that replaces a network; None if there is none."""
        known = self._int8
        same = known and isinstance(network, UNetPart) and network.modules_read == known.modules
        return known.network if known and same else None


def convert(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """Convert a network in float32 to a model of OpenVINO.

    Only what runs is converted: a U-Net that stops early ends there.

    Args:
        network: In evaluation mode.
        inputs: Examples. Sizes that the network computes with as numbers hold for these only.

    Returns:
        An `openvino.Model` with the inputs and outputs of the network, in their order.
    """
    front_end = _front_end()
    # `openvino.convert_model` does the same and reports it over the network.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, inputs, check_trace=False)
        with without_telemetry():
            module = importlib.import_module("openvino.frontend.pytorch.ts_decoder")
        # In a variable, because the conversion does not keep it alive.
        decoder = module.TorchScriptPythonDecoder(traced)
        return front_end.convert(front_end.load(decoder))


def _front_end() -> Any:
    openvino()
    manager = importlib.import_module("openvino.frontend").FrontEndManager()
    return manager.load_by_framework("pytorch")


def _weights(network: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _weight_bytes(network: torch.nn.Module) -> int:
    return sum(weight.nbytes for _, weight in _weights(network))

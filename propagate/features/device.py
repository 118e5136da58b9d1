"""Where to compute, and how precisely: the only place where either is chosen."""

import torch

from propagate.errors import DeviceError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NAMES_HINT = "use auto, cpu, cuda or cuda:N for {device}"


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:1" into a device of this machine.

    Raises:
        DeviceError: The name is unknown, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"no device is called {name!r}", NAMES_HINT) from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"device {name!r} was asked for, but PyTorch sees {count} CUDA devices here",
                "use {device=cpu}, or install a PyTorch built for CUDA and check the driver",
            )
    elif device.type == "mps":
        raise DeviceError(
            "device 'mps' is not supported: nobody has compared its masks yet", "use {device=cpu}"
        )
    elif device.type != "cpu":
        raise DeviceError(f"device {name!r} is not supported", NAMES_HINT)
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn "auto" or a dtype's name into the precision of the U-Net on `device`.

    "auto" is bfloat16 if the hardware multiplies bfloat16 matrices (GPUs from Ampere on, CPUs with
    AMX), float16 on other GPUs, and float32 otherwise. On CPUs with AVX512-BF16 but without AMX,
    bfloat16 is slower: on an Intel Xeon 1.5 times for `tiny` and 1.4 times for Stable Diffusion
    2.1.

    Raises:
        ValueError: The name is unknown.
    """
    if name != "auto":
        if name not in DTYPES:
            raise ValueError(
                f"no precision is called {name!r}; there are auto, {', '.join(DTYPES)}"
            )
        return DTYPES[name]
    if device.type == "cuda":
        # Compute capability 8.0 (Ampere) is the first with bfloat16 units.
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu" and _cpu_multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    # PyTorch has no public function for this yet. A version without this private one gets float32,
    # which is only slower.
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()

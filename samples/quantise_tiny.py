"""Make the int8 network of the built-in `tiny` model, or of one like it, for the engine openvino.

    pip install openvino nncf
    python samples/quantise_tiny.py --model tiny --data FOLDER_OF_IMAGES

The photographs are those that `train_tiny.py` learns from; no video is seen. They are laid out as
frames of 432x240, which is what the network sees of 480p video, from many small ones to a single
large one. From what the network computes on 32 such frames, NNCF chooses the range of every
tensor. Weights keep half of their range, so that no sum overflows on CPUs without VNNI either.

The files are written into the folder of the model, `openvino/int8.*`; `propagate` takes them from
there as long as weights and reading stay the same.
"""

import argparse
import importlib
import json
import os
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from propagate.features.int8_weights import MADE_FROM, NETWORK, made_from
from propagate.features.model_folder import open_model_folder
from propagate.features.openvino_engine import convert, openvino, without_telemetry
from propagate.features.presets import find_preset
from propagate.features.registry import load_backbone

HEIGHT, WIDTH = 240, 432
# Sides of the photographs in a frame.
SIDES = (96, 144, 288, 432)
FRAMES = 32
SOURCES = (
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
    "reading.json",
)


class AtTimestep(torch.nn.Module):
    """A network at one timestep, which is then a constant."""

    def __init__(self, network: torch.nn.Module, timestep: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("timestep", torch.tensor([timestep]))

    def forward(self, noisy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.network(noisy, self.timestep)


def lay_out(paths: list[Path], side: int, rng: random.Random) -> np.ndarray:
    """Fill a frame with photographs chosen at random: (HEIGHT, WIDTH, 3) uint8."""
    rows, columns = -(-HEIGHT // side), -(-WIDTH // side)
    frame = np.empty((rows * side, columns * side, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            with Image.open(rng.choice(paths)) as image:
                resized = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            top, left = row * side, column * side
            frame[top : top + side, left : left + side] = np.asarray(resized)
    top = (frame.shape[0] - HEIGHT) // 2
    return frame[top : top + HEIGHT, :WIDTH]


def network_input(frame: np.ndarray, channels: int) -> torch.Tensor:
    """Turn a frame into what the network takes: (1, channels, h, w) in -1..1."""
    image = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255
    return F.pixel_unshuffle(image * 2 - 1, round((channels / 3) ** 0.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny", help="tiny, or a folder of train_tiny.py")
    parser.add_argument("--data", type=Path, required=True, help="folder of images")
    args = parser.parse_args()

    openvino()
    # NNCF reports its use over the network, unless it believes that it is being tested.
    os.environ["NNCF_CI"] = "1"
    with without_telemetry():
        nncf = importlib.import_module("nncf")

    backbone = load_backbone(args.model, device="cpu", dtype="float32", engine="torch")
    suffixes = {".jpg", ".jpeg", ".png"}
    paths = sorted(path for path in args.data.rglob("*") if path.suffix.lower() in suffixes)
    rng = random.Random(0)
    part = backbone.network  # pyright: ignore[reportAttributeAccessIssue]
    channels = part.unet.config["in_channels"]
    frames = [
        network_input(lay_out(paths, SIDES[n % len(SIDES)], rng), channels) for n in range(FRAMES)
    ]
    network = AtTimestep(part, backbone.timestep).eval()  # pyright: ignore
    quantised = nncf.quantize(
        convert(network, (frames[0],)),
        nncf.Dataset(frames, lambda frame: frame.numpy()),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=FRAMES,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE
        ),
    )
    source = find_preset(args.model).source
    assert source is not None  # `load_backbone` has loaded a network
    folder = open_model_folder(args.model, source)
    (folder.path / NETWORK).parent.mkdir(exist_ok=True)
    openvino().save_model(quantised, folder.path / NETWORK)
    facts = {
        "modules": list(part.modules_read),
        "made_from": made_from(folder, dict.fromkeys(SOURCES, "")),
    }
    (folder.path / MADE_FROM).write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()

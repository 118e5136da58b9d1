"""Train the built-in `tiny` model: a small pixel-space diffusion U-Net for label propagation.

    python samples/train_tiny.py --data FOLDER_OF_IMAGES --out tiny --steps 4000

Any folder of photographs works; the shipped weights come from 96 px crops of Caltech-101 and the
TensorFlow flowers (both CC BY). Run the same command again to go on from the last checkpoint. The
result is a diffusers folder: `propagate run clip.mp4 -m first.png --model ./tiny` reads it.

What the network sees is chosen for what it is used for. Frames are read at half size and folded two
by two pixels into channels, so that its first level works at stride 4 and its second at stride 8 of
the video, where the features are taken. It has no attention: it learns on crops of 64 px and has to
work on whole frames, where attention would meet twenty times the tokens it was trained on.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from PIL import Image
from rich.progress import track

CROP_PX = 64
UNSHUFFLE = 2
READING = {"block": "up_blocks.1.resnets.1", "timestep": 0, "scale": 0.5}
VALIDATION_IMAGES = 256
VALIDATION_TIMESTEPS = (10, 50, 200, 500, 900)


def build_unet() -> UNet2DModel:
    """The shape of `tiny`: 9.9 million weights, three levels, features at its second up block."""
    return UNet2DModel(
        sample_size=CROP_PX // UNSHUFFLE,
        in_channels=3 * UNSHUFFLE**2,
        out_channels=3 * UNSHUFFLE**2,
        block_out_channels=(64, 128, 256),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        add_attention=False,
    )


def load_images(folder: Path) -> torch.Tensor:
    """Read every image below `folder` as one (N, 3, 96, 96) uint8 tensor, in a fixed order."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if len(paths) <= VALIDATION_IMAGES:
        raise SystemExit(f"{folder}: {len(paths)} images; more than {VALIDATION_IMAGES} are needed")
    images = np.empty((len(paths), 96, 96, 3), dtype=np.uint8)
    for i, path in enumerate(track(paths, description="reading images")):
        with Image.open(path) as image:
            images[i] = np.asarray(image.convert("RGB").resize((96, 96), Image.Resampling.BICUBIC))
    # A fixed shuffle, so that the held-out tail is a sample of every source.
    order = np.random.default_rng(0).permutation(len(paths))
    return torch.from_numpy(images[order]).permute(0, 3, 1, 2).contiguous()


def random_crops(images: torch.Tensor, count: int, rng: torch.Generator) -> torch.Tensor:
    """Cut `count` random crops at a random scale, mirrored at random: (B, 12, 32, 32) in -1..1."""
    picks = torch.randint(len(images), (count,), generator=rng)
    side = int(torch.randint(CROP_PX, 97, (1,), generator=rng))
    tops = torch.randint(96 - side + 1, (count,), generator=rng).tolist()
    lefts = torch.randint(96 - side + 1, (count,), generator=rng).tolist()
    crops = torch.stack(
        [
            images[i, :, y : y + side, x : x + side]
            for i, y, x in zip(picks.tolist(), tops, lefts, strict=True)
        ]
    )
    crops = crops.float() / 127.5 - 1
    if side != CROP_PX:
        crops = F.interpolate(crops, (CROP_PX, CROP_PX), mode="bilinear", antialias=True)
    mirrored = torch.rand(count, 1, 1, 1, generator=rng) < 0.5
    return F.pixel_unshuffle(torch.where(mirrored, crops.flip(-1), crops), UNSHUFFLE)


def noise_loss(
    unet: UNet2DModel, scheduler: DDPMScheduler, clean: torch.Tensor, timesteps, noise
) -> torch.Tensor:
    """Mean squared error of the predicted noise (Ho et al. 2020, eq. 14)."""
    noisy = scheduler.add_noise(clean, noise, timesteps)  # pyright: ignore[reportArgumentType]
    with torch.autocast(clean.device.type, torch.bfloat16):
        predicted = unet(noisy.contiguous(memory_format=torch.channels_last), timesteps).sample
    return F.mse_loss(predicted.float(), noise)


@torch.no_grad()
def validate(unet: UNet2DModel, scheduler: DDPMScheduler, clean: torch.Tensor) -> float:
    """The loss on held-out crops with fixed noise, averaged over a few fixed timesteps."""
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)).to(clean.device)
    losses = [
        noise_loss(unet, scheduler, clean, torch.full((len(clean),), t, device=clean.device), noise)
        for t in VALIDATION_TIMESTEPS
    ]
    return float(torch.stack(losses).mean())


def save_model(unet: UNet2DModel, ema: EMAModel, scheduler: DDPMScheduler, out: Path) -> None:
    """Write the averaged weights in half precision as a diffusers folder."""
    averaged = build_unet()
    averaged.load_state_dict(unet.state_dict())
    ema.copy_to(averaged.parameters())
    DDPMPipeline(averaged.half(), scheduler).save_pretrained(out)
    # Tells `propagate` what to read out of the U-Net.
    (out / "reading.json").write_text(json.dumps(READING) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of images, read recursively"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the model and its curve"
    )
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    images = load_images(args.data)
    training, held_out = images[:-VALIDATION_IMAGES], images[-VALIDATION_IMAGES:]
    fixed = random_crops(held_out, VALIDATION_IMAGES, torch.Generator().manual_seed(1)).to(
        args.device
    )

    unet = build_unet()
    unet.to(args.device, memory_format=torch.channels_last)  # pyright: ignore
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=args.learning_rate, weight_decay=0.01)
    ema = EMAModel(unet.parameters(), decay=0.999, use_ema_warmup=True, inv_gamma=10, power=0.75)

    def rate(step: int) -> float:
        """Warm up for 2 % of the steps, then fall along half a cosine to zero."""
        warm = max(1, args.steps // 50)
        if step < warm:
            return step / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, args.steps - warm))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint, curve = args.out / "checkpoint.pt", args.out / "curve.csv"
    first, hours = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=args.device, weights_only=True)
        unet.load_state_dict(state["unet"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        ema.load_state_dict(state["ema"])
        first, hours = state["step"], state["hours"]
        print(f"going on from step {first}")

    started, running = time.monotonic(), []
    for step in track(range(first, args.steps), description="training", total=args.steps - first):
        # Everything random in a step comes from its own seed: a resumed run sees the same crops.
        rng = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        clean = random_crops(training, args.batch_size, rng).to(args.device)
        timesteps = torch.randint(1000, (args.batch_size,), generator=rng).to(args.device)
        noise = torch.randn(clean.shape, generator=rng).to(args.device)
        loss = noise_loss(unet, scheduler, clean, timesteps, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.step(unet.parameters())
        running.append(loss.item())

        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            hours += (time.monotonic() - started) / 3600
            started = time.monotonic()
            ema.store(unet.parameters())
            ema.copy_to(unet.parameters())
            validation = validate(unet, scheduler, fixed)
            ema.restore(unet.parameters())
            with curve.open("a", newline="") as file:
                row = [step + 1, f"{hours:.4f}", f"{np.mean(running):.5f}", f"{validation:.5f}"]
                csv.writer(file).writerow(row)
            print(f"step {row[0]}: {row[1]} h, training loss {row[2]}, validation loss {row[3]}")
            running = []
            state = {
                "unet": unet.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "ema": ema.state_dict(),
                "step": step + 1,
                "hours": hours,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            save_model(unet, ema, scheduler, args.out)


if __name__ == "__main__":
    main()

"""Train the built-in `tiny` model: a small pixel-space diffusion U-Net for label propagation.

    python samples/train_tiny.py --data FOLDER_OF_IMAGES --out tiny

Any folder of photographs works; the shipped weights come from Caltech-101 and the TensorFlow
flowers (both CC BY), reduced to 96 px. Run the same command again to resume from the last
checkpoint, with the same `--steps`: the learning rate reaches zero there. The result is a folder
in diffusers layout:
`propagate run clip.mp4 -m first.png --model ./tiny` reads it, and
`propagate benchmark davis --root DAVIS --model tiny/step-01000 --model tiny/step-02000 -o bench`
measures how well each snapshot follows objects; choose by that.

The network learns three things at once:

- to predict noise, as any diffusion model does (Ho et al. 2020, eq. 14);
- to match points of two views of a made-up scene, whose parts move, bend and change their light
  (`training_views.py`), by its features without noise: the soft-max of cosines that label
  propagation uses, against the true match (InfoNCE, van den Oord et al. 2018, eq. 4);
- to carry the labels of an object from one view to the other with that soft-max.

The input suits the use. Frames are read at half size, and two by two pixels are folded into
channels, so that the first level works at stride 4 of the video and the second at stride 8, where
the features are taken. There is no attention: the network learns on crops of 64 and 80 px but works
on whole frames, where attention would meet twenty times as many tokens as in training.
"""

import argparse
import csv
import json
import math
import time
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from PIL import Image
from rich.progress import track
from training_views import PHOTO, View, make_views, true_matches

from propagate.features.hooks import outputs_of

WIDTHS = (32, 96, 128, 192)
UNSHUFFLE = 2
BLOCK = "up_blocks.2.resnets.1"
FINER = "down_blocks.0.resnets.0"
READING = {"block": BLOCK, "timestep": 0, "scale": 0.5, "noise": "none", "finer": FINER}
TEMPERATURE = 0.07
LABEL_WEIGHT = 0.5
CROP_PX = 64
VALIDATION_IMAGES = 256
VALIDATION_TIMESTEPS = (10, 50, 200, 500, 900)


@dataclass(frozen=True, slots=True)
class Losses:
    """The three losses, and how often the best match of a cell is right.

    Attributes:
        noise: Mean squared error of the predicted noise.
        match: Cross-entropy of the matches, in nats.
        label: Binary cross-entropy of the carried labels.
        hits: Share of the cells seen in both views whose best match is within a cell of the truth.
    """

    noise: float
    match: float
    label: float
    hits: float


def build_unet() -> UNet2DModel:
    """The shape of `tiny`: 7.0 million weights, four levels, features at its third up block."""
    levels = len(WIDTHS)
    return UNet2DModel(
        sample_size=CROP_PX // UNSHUFFLE,
        in_channels=3 * UNSHUFFLE**2,
        out_channels=3 * UNSHUFFLE**2,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        norm_num_groups=8,
        add_attention=False,
    )


def load_images(folder: Path) -> torch.Tensor:
    """Read every image below `folder` as one (N, 3, 96, 96) uint8 tensor, in a fixed order."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if len(paths) <= VALIDATION_IMAGES:
        raise SystemExit(f"{folder}: {len(paths)} images; more than {VALIDATION_IMAGES} are needed")
    images = np.empty((len(paths), PHOTO, PHOTO, 3), dtype=np.uint8)
    for i, path in enumerate(track(paths, description="reading images")):
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((PHOTO, PHOTO), Image.Resampling.BICUBIC)
            images[i] = np.asarray(resized)
    # A fixed shuffle, so that the held-out tail is a sample of every source.
    order = np.random.default_rng(0).permutation(len(paths))
    return torch.from_numpy(images[order]).permute(0, 3, 1, 2).contiguous()


def random_crops(images: torch.Tensor, count: int, rng: torch.Generator) -> torch.Tensor:
    """Cut `count` random crops, mirrored at random: (B, 3, CROP_PX, CROP_PX) in 0..1."""
    picks = torch.randint(len(images), (count,), generator=rng)
    y, x = torch.randint(PHOTO - CROP_PX + 1, (2,), generator=rng).tolist()
    crops = images[picks][:, :, y : y + CROP_PX, x : x + CROP_PX].float() / 255
    mirrored = torch.rand(count, 1, 1, 1, generator=rng) < 0.5
    return torch.where(mirrored, crops.flip(-1), crops)


def folded(images: torch.Tensor) -> torch.Tensor:
    """Fold pictures in 0..1 for the network: (B, 12, H / 2, W / 2) in -1..1."""
    fold = F.pixel_unshuffle(images * 2 - 1, UNSHUFFLE)
    return fold.contiguous(memory_format=torch.channels_last)


def noise_loss(
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    clean: torch.Tensor,
    timesteps: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error of the predicted noise (Ho et al. 2020, eq. 14)."""
    noisy = scheduler.add_noise(clean, noise, timesteps)  # pyright: ignore[reportArgumentType]
    return F.mse_loss(unet(noisy, timesteps).sample, noise)


def match_losses(
    unet: UNet2DModel, views: tuple[View, View]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Match both views to each other, and carry the object's label from the first to the second.

    As in `propagate`, channels are standardized by the view that labels come from, and matches are
    weighted by the soft-max of their cosines.

    Returns:
        The cross-entropy of the matches, that of the labels, and the share of hits.
    """
    first, second = views
    inputs = folded(torch.cat([first.image, second.image]).to(unet.device))
    features = outputs_of(unet, [BLOCK], partial(unet, inputs, 0))[BLOCK]
    known, query = features.flatten(2).transpose(1, 2).chunk(2)  # (n, c, C)
    mean, spread = known.mean(1, keepdim=True), known.std(1, keepdim=True) + 1e-4
    known, query = (F.normalize((cells - mean) / spread, dim=-1) for cells in (known, query))
    logits = query @ known.transpose(1, 2) / TEMPERATURE  # (n, c of second, c of first)
    there, hits = score_matches(logits, second, first)
    back, _ = score_matches(logits.transpose(1, 2), first, second)
    carried = logits.softmax(2) @ first.share.to(unet.device)[:, :, None]  # (n, c, 1)
    label = F.binary_cross_entropy(
        carried[:, :, 0].clamp(1e-3, 1 - 1e-3), second.share.to(unet.device).clamp(0, 1)
    )
    return (there + back) / 2, label, hits


def score_matches(
    logits: torch.Tensor, query: View, memory: View
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare matches with the truth, where there is one: cross-entropy in nats, share of hits."""
    truth, seen = (t.to(logits.device) for t in true_matches(query, memory))
    nats = -(truth * F.log_softmax(logits, 2)).sum(2)
    best = truth.gather(2, logits.argmax(2, keepdim=True))[:, :, 0]
    count = seen.sum().clamp_min(1)
    return (nats * seen).sum() / count, ((best > 0.1) & seen).sum() / count


@torch.no_grad()
def validate(unet: UNet2DModel, scheduler: DDPMScheduler, held_out: torch.Tensor) -> Losses:
    """Compute the losses on held-out pictures, with fixed noise and fixed views."""
    rng = torch.Generator().manual_seed(7)
    clean = folded(random_crops(held_out, len(held_out) // 2, rng)).to(unet.device)
    noise = torch.randn(clean.shape, generator=rng).to(unet.device)
    of_noise = [
        noise_loss(unet, scheduler, clean, torch.full((len(clean),), t, device=unet.device), noise)
        for t in VALIDATION_TIMESTEPS
    ]
    rest = match_losses(unet, make_views(held_out, len(held_out) // 4, rng))
    return Losses(float(torch.stack(of_noise).mean()), *map(float, rest))


def averaged(unet: UNet2DModel, ema: EMAModel) -> UNet2DModel:
    """Make a new U-Net with the averaged weights."""
    copy = build_unet()
    copy.to(unet.device, memory_format=torch.channels_last)  # pyright: ignore
    ema.copy_to(copy.parameters())
    return copy


def save_model(unet: UNet2DModel, scheduler: DDPMScheduler, out: Path) -> None:
    """Write a U-Net as a diffusers folder. Turns the U-Net itself to half precision."""
    DDPMPipeline(unet.half(), scheduler).save_pretrained(out)
    # `propagate` reads from here which layers of the U-Net to use.
    (out / "reading.json").write_text(json.dumps(READING) + "\n")


def learning_rate_share(step: int, steps: int) -> float:
    """Warm up for 2 % of the steps, then fall along half a cosine to zero."""
    warm = max(1, steps // 50)
    if step < warm:
        return step / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of images, read recursively"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the model and its curve"
    )
    parser.add_argument(
        "--steps", type=int, default=4000, help="steps in all; the learning rate ends at zero there"
    )
    parser.add_argument("--scenes", type=int, default=12, help="scenes in two views, per step")
    parser.add_argument("--crops", type=int, default=8, help="crops with noise, per step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--keep", type=int, default=1000, help="steps between snapshots")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    images = load_images(args.data)
    training, held_out = images[:-VALIDATION_IMAGES], images[-VALIDATION_IMAGES:]

    unet = build_unet()
    unet.to(args.device, memory_format=torch.channels_last)  # pyright: ignore
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=args.learning_rate, weight_decay=0.01)
    ema = EMAModel(unet.parameters(), decay=0.998, use_ema_warmup=True, inv_gamma=10, power=0.75)

    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(learning_rate_share, steps=args.steps)
    )

    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint, curve = args.out / "checkpoint.pt", args.out / "curve.csv"
    resumed = {"unet": unet, "optimizer": optimizer, "schedule": schedule, "ema": ema}
    first, hours = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=args.device, weights_only=True)
        for name, part in resumed.items():
            part.load_state_dict(state[name])
        first, hours = state["step"], state["hours"]
        print(f"resuming from step {first}")
    else:
        names = [field.name for field in fields(Losses)]
        heads = ["step", "hours", *names, *(f"held_out_{name}" for name in names)]
        curve.write_text(",".join(heads) + "\n")

    started, running = time.monotonic(), []
    for step in track(range(first, args.steps), description="training", total=args.steps - first):
        # Everything random in a step comes from its own seed: a resumed run sees the same crops.
        rng = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        match, label, hits = match_losses(unet, make_views(training, args.scenes, rng))
        clean = folded(random_crops(training, args.crops, rng)).to(args.device)
        timesteps = torch.randint(1000, (args.crops,), generator=rng).to(args.device)
        noise = torch.randn(clean.shape, generator=rng).to(args.device)
        of_noise = noise_loss(unet, scheduler, clean, timesteps, noise)
        (of_noise + match + LABEL_WEIGHT * label).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.step(unet.parameters())
        running.append([loss.item() for loss in (of_noise, match, label, hits)])

        last = step + 1 == args.steps
        if (step + 1) % args.every == 0 or last:
            hours += (time.monotonic() - started) / 3600
            started = time.monotonic()
            average = averaged(unet, ema)
            held = validate(average, scheduler, held_out)
            numbers = [*np.mean(running, 0), *astuple(held)]
            with curve.open("a", newline="") as file:
                row = [step + 1, f"{hours:.4f}", *(f"{number:.4f}" for number in numbers)]
                csv.writer(file).writerow(row)
            print(
                f"step {step + 1}: {hours:.2f} h, held out: noise {held.noise:.3f}, "
                f"match {held.match:.2f}, label {held.label:.3f}, hits {held.hits:.1%}"
            )
            running = []
            state = {name: part.state_dict() for name, part in resumed.items()}
            state |= {"step": step + 1, "hours": hours}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            save_model(average, scheduler, args.out)
        if (step + 1) % args.keep == 0:
            save_model(averaged(unet, ema), scheduler, args.out / f"step-{step + 1:05d}")


if __name__ == "__main__":
    main()

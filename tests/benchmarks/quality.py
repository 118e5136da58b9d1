"""J and F of models against the copied first mask, on every sequence of a DAVIS root.

    python tests/benchmarks/quality.py --root ../shared/data/dev/davis --models color tiny

Runs the public pipeline on each sequence with its first mask, scores the masks as
`propagate eval davis` does, and prints one row per model. `--out` keeps masks and overlays.
"""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

import propagate

COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


def sequences(root: Path) -> list[str]:
    return sorted(folder.name for folder in (root / "Annotations/480p").iterdir())


def reference_of(root: Path, name: str) -> propagate.Mask:
    """The first mask as the scorer understands it; also where it is numbered later than frame 0."""
    return propagate.read_mask(min((root / "Annotations/480p" / name).glob("*.png")))


def copy_first_mask(root: Path, out: Path) -> None:
    for name in sequences(root):
        folder = out / name / "masks"
        folder.mkdir(parents=True)
        ids = reference_of(root, name).ids
        for frame in sorted((root / "JPEGImages/480p" / name).iterdir()):
            propagate.write_mask(folder / f"{frame.stem}.png", ids)


def follow(root: Path, out: Path, model: str, matcher: str) -> tuple[int, float]:
    """Run a model on every sequence; frames written, and seconds without loading the model."""
    propagator = propagate.Propagator(model, config=propagate.Config.named(matcher))
    frames, seconds = 0, 0.0
    for name in sequences(root):
        summary = propagator.run(
            root / "JPEGImages/480p" / name,
            {0: reference_of(root, name)},
            out,
            overlay=True,
        )
        frames, seconds = frames + summary.frames, seconds + summary.seconds
        print(f"{model}, {matcher}: {name}, {summary.frames} frames", flush=True)
    return frames, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["color", "tiny"])
    parser.add_argument("--matchers", nargs="+", default=["default"])
    parser.add_argument("--out", type=Path, help="keep what was written here; must not exist")
    args = parser.parse_args()

    table = Table("masks", *COLUMNS, "frames", "frames/s", title=f"{args.root}", box=None)
    per_object = Table("object", title="J-Mean / F-Mean", box=None)
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        base = args.out or Path(scratch)
        entries: list[tuple[str, int, float]] = []
        copy_first_mask(args.root, base / "first mask copied")
        entries.append(("first mask copied", 0, 0.0))
        for model in args.models:
            for matcher in args.matchers:
                label = f"{Path(model).name}, {matcher}"
                entries.append((label, *follow(args.root, base / label, model, matcher)))
        for label, frames, seconds in entries:
            scores = propagate.evaluate_davis(args.root, base / label, split=None, jobs=2)
            cells = [f"{100 * scores.global_[column]:.1f}" for column in COLUMNS]
            speed = f"{frames / seconds:.2f}" if seconds else "-"
            table.add_row(label, *cells, str(frames or "-"), speed)
            per_object.add_column(label)
            for name, row in scores.per_object.items():
                cell = f"{100 * row['J-Mean']:.1f} / {100 * row['F-Mean']:.1f}"
                rows.setdefault(name, []).append(cell)
    for name, cells in rows.items():
        per_object.add_row(name, *cells)
    console = Console(width=140)
    console.print(per_object)
    console.print(table)


if __name__ == "__main__":
    main()

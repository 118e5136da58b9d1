"""Find the truth of a data set, and the sequences of a split."""

from dataclasses import dataclass
from pathlib import Path

from propagate.errors import EvaluationError
from propagate.eval.protocols import Protocol

# The split "val" of a root that has lists of sequences, everything in a folder that has none.
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class TruthRoot:
    """The truth of a data set.

    Attributes:
        masks: The folder that holds one folder per sequence.
        sequences: The sequences to score, in order; None for every folder of truth.
        source: Where the list of sequences comes from, in words.
    """

    masks: Path
    sequences: tuple[str, ...] | None
    source: str


def find_truth(root: Path, protocol: Protocol, split: str | None, resolution: str) -> TruthRoot:
    """Find the truth in the root of a data set; any other folder is itself a folder of truth.

    Args:
        root: Root of a data set, or any folder of masks.
        protocol: Names the folders to look in.
        split: Name of a list of sequences; None for all of them; "auto" for "val" where the root
            has lists, and for all where it has none.
        resolution: Name of the folder under `Annotations`, if the data set has such folders.

    Raises:
        EvaluationError: If the folder, the resolution or the list is missing, or the list is empty.
    """
    if not root.is_dir():
        raise EvaluationError(f"{root}: no such folder of ground truth", "check the path")
    masks = _find_masks(root, protocol, resolution)
    listed = None if split is None else _find_list(root, protocol, split)
    if listed is None:
        return TruthRoot(masks, None, "every folder of truth")
    names = _read_list(listed)
    if not names:
        raise EvaluationError(f"{listed}: no sequence in this list", "choose another {split}")
    return TruthRoot(masks, names, listed.relative_to(root).as_posix())


def _find_masks(root: Path, protocol: Protocol, resolution: str) -> Path:
    folders = [root / folder.format(resolution=resolution) for folder in protocol.annotations]
    for folder in folders:
        if folder.is_dir():
            return folder
    for folder in folders:
        if folder.name == resolution and folder.parent.is_dir():
            others = ", ".join(sorted(p.name for p in folder.parent.iterdir() if p.is_dir()))
            raise EvaluationError(
                f"{folder}: no such resolution (there is: {others or 'none'})",
                "choose another {resolution}",
            )
    return root


def _find_list(root: Path, protocol: Protocol, split: str) -> Path | None:
    folders = [root / folder for folder in protocol.lists if (root / folder).is_dir()]
    if not folders and split == AUTO:
        return None
    split = "val" if split == AUTO else split
    if not folders:
        place = root / protocol.lists[0]
        raise EvaluationError(
            f"{place / split}.txt: no such list of sequences: the root has no {protocol.lists[0]}",
            "add it, or leave {split} out to score every folder of truth",
        )
    for folder in folders:
        if (folder / f"{split}.txt").is_file():
            return folder / f"{split}.txt"
    others = ", ".join(sorted({path.stem for folder in folders for path in folder.glob("*.txt")}))
    raise EvaluationError(
        f"{folders[0] / split}.txt: no such list of sequences (there is: {others or 'none'})",
        "choose another {split}, or none to score every folder of truth",
    )


def _read_list(path: Path) -> tuple[str, ...]:
    """Read one sequence per line, or (DAVIS-2016) one image and one mask of it."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    last_words = (words[-1] for words in lines if words)
    names = (Path(word).parent.name if "/" in word else word for word in last_words)
    return tuple(dict.fromkeys(names))

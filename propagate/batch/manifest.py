"""The manifest of a batch: a table with one row for each video, or a folder of videos and masks.

    video,mask,folder,max_frames
    clips/a.mp4,masks/a.png,,
    clips/b/c.mp4,masks/b_c/,b_c,500

The cells may be divided by commas, semicolons or tabs. JSON lines have one object with the same
names on each line. Paths are relative to the manifest.

A table whose lines make no sense is refused as a whole, before anything starts. A file that is
missing costs only the video of its line.
"""

import codecs
import csv
import difflib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from propagate.config import MATCHERS
from propagate.errors import PropagateError, hide_secrets
from propagate.io.decode.frame_range import FrameRange
from propagate.io.decode.options import OnDamage
from propagate.io.decode.video_kinds import VIDEO_SUFFIXES
from propagate.io.masks.png import mask_file

# Most problems that are listed.
MOST_SHOWN = 20
# A rough size of an encoded frame, enough to tell long videos from short ones.
FILE_BYTES_PER_FRAME = 20_000


log = logging.getLogger(__name__)


class ManifestError(PropagateError):
    """A manifest cannot be used: unknown columns, values that make no sense, names that clash."""


@dataclass(frozen=True, slots=True)
class BatchVideo:
    """One video of a batch.

    Attributes:
        video: A video file or a folder of images.
        folder: Name of its folder of results.
        mask: Mask of frame 0, or a folder of masks that are named after their frames.
        references: Frame -> mask, besides `mask` or instead of it.
        names: Object id -> name of its class.
        options: For this video instead of those of the batch: "max_frames", "matcher", "overlay",
            "on_damage", "frame_range".
        place: Where it is in the manifest, for messages: "clips.csv, line 4".
    """

    video: Path
    folder: str
    mask: Path | None = None
    references: Mapping[int, Path] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    place: str = field(default="", compare=False)

    def missing(self) -> str | None:
        """Say which of its files is missing, and on which line; None if all are there."""
        masks = [] if self.mask is None else [("mask", self.mask)]
        masks += [("references", path) for path in self.references.values()]
        for column, path in (("video", self.video), *masks):
            try:
                path.stat()
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                where = f"{self.place}: " if self.place else ""
                return f"{where}{column}: {path}: {reason}"
        return None

    @property
    def about_frames(self) -> float:
        """Guess its length from the size of its files: only a worker decodes it."""
        try:
            if self.video.is_dir():
                count = sum(1 for _ in self.video.iterdir())
            else:
                count = self.video.stat().st_size / FILE_BYTES_PER_FRAME
        except OSError:
            return 0.0
        return min(count, self.options.get("max_frames", count))


def read_manifest(path: str | Path) -> list[BatchVideo]:
    """Read a manifest.

    Args:
        path: A .csv, .tsv or .jsonl file with the columns video, mask, references
            ("0=a.png;120=b.png"), names ("1=dog;2=cat"), folder, max_frames, matcher, overlay,
            on_damage, and start, end, stride, fps as `FrameRange.parse` takes them; in JSON,
            `references` and `names` may be objects. Or a folder with `videos/` and `masks/`: the
            mask of videos/a.mp4 is masks/a.png, or masks/a/ with masks named after their frames.

    Returns:
        The videos, in order. Their files need not exist: see `BatchVideo.missing`.

    Raises:
        ManifestError: It cannot be read, or something in it is wrong. One message lists all
            problems with their line numbers.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    readers = {".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise ManifestError(
            f"{path}: not a manifest",
            "give a .csv, .tsv or .jsonl file, or a folder with videos/ and masks/",
        )
    if not path.exists():
        raise ManifestError(f"{path}: no such file", "check the path")
    try:
        text = _decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read ({error})", "save it as UTF-8 text") from error
    problems: list[str] = []
    rows: list[tuple[str, BatchVideo]] = []
    for number, row in readers[path.suffix.lower()](text):
        place = f"line {number}"
        if isinstance(row, str):
            problems.append(f"{place}: {row}")
            continue
        video, wrong = _video_of(row, path.parent, f"{path.name}, {place}")
        problems += [f"{place}: {problem}" for problem in wrong]
        if video is not None:
            rows.append((place, video))
    return _checked(path, rows, problems)


def _decoded(data: bytes) -> str:
    """Decode a table as spreadsheets save it: UTF-8, or UTF-16 with its mark."""
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_wide else "utf-8-sig")


def _read_folder(path: Path) -> list[BatchVideo]:
    rows: list[tuple[str, BatchVideo]] = []
    for part in ("videos", "masks"):
        if not (path / part).is_dir():
            raise ManifestError(
                f"{path}: it has no folder {part}/",
                "put videos into videos/ and <name>.png for each into masks/, or give a manifest",
            )
    left_out: list[str] = []
    for file in sorted((path / "videos").iterdir()):
        if file.name.startswith("."):
            continue
        name = file.name if file.is_dir() else file.stem
        masks = [path / "masks" / name, mask_file(path / "masks", name)]
        mask = next((mask for mask in masks if mask.exists()), None)
        if mask is None and not file.is_dir() and file.suffix.lower() not in VIDEO_SUFFIXES:
            left_out.append(file.name)
            continue
        place = f"videos/{file.name}"
        video = BatchVideo(file.absolute(), name, (mask or masks[-1]).absolute(), place=place)
        rows.append((place, video))
    if left_out:
        log.warning("%s: left out, as they are no videos: %s", path / "videos", ", ".join(left_out))
    return _checked(path, rows, [])


def _checked(
    path: Path, rows: list[tuple[str, BatchVideo]], problems: list[str]
) -> list[BatchVideo]:
    """Refuse a manifest with problems, or with two videos that write into one folder."""
    places: dict[str, str] = {}
    for place, video in rows:
        # On some file systems, Clip and clip are the same.
        first = places.setdefault(video.folder.casefold(), place)
        if first != place:
            problems.append(
                f"{place}: writes into the folder {video.folder!r}, like {first}: name another one "
                "in the column folder"
            )
    if not rows and not problems:
        problems.append("no videos in it")
    if problems:
        shown = "; ".join(problems[:MOST_SHOWN])
        more = f"; and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
        raise ManifestError(f"{path}: {shown}{more}")
    return [video for _, video in rows]


Row = Mapping[str, Any] | str


def _csv_rows(text: str) -> Iterator[tuple[int, Row]]:
    """Give each row with its line number; a text instead of a row says what is wrong."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=_delimiter(text), strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if header is None:
                header = cells
                if len(set(header)) < len(header):
                    yield reader.line_num, "two columns of one name"
                    return
                if unknown := [name for name in header if name not in _COLUMNS]:
                    yield reader.line_num, _unknown(unknown)
                    return
            elif len(cells) > len(header):
                yield (
                    reader.line_num,
                    f"{len(cells)} cells, and there are {len(header)} columns; put quotes around a "
                    f"cell with {reader.dialect.delimiter!r} in it",
                )
            else:
                filled = zip(header, cells, strict=False)
                yield reader.line_num, {name: cell for name, cell in filled if cell}
    except csv.Error as error:
        yield reader.line_num, f"not CSV ({error})"


def _delimiter(text: str) -> str:
    """Find what divides the cells: that which makes known columns of the first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")

    def known(delimiter: str) -> int:
        try:
            cells = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:
            return 0
        return sum(cell.strip() in _COLUMNS for cell in cells)

    # Of equals the first, a comma: a table of one column has none of them.
    return max(",;\t", key=known)


def _unknown(names: Iterable[str]) -> str:
    """Name unknown columns, those that were perhaps meant, and all that there are."""
    names = list(names)
    meant = {name: difflib.get_close_matches(name, _COLUMNS, n=1) for name in names}
    shown = [f"{n or repr(n)} (perhaps {meant[n][0]})" if meant[n] else n or repr(n) for n in names]
    return f"no column is called {', '.join(shown)}; there are {', '.join(sorted(_COLUMNS))}"


def _json_rows(text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON ({error})"
            continue
        if isinstance(row, dict):
            yield number, {name: value for name, value in row.items() if value is not None}
        else:
            yield number, "not a JSON object"


def _video_of(
    row: Mapping[str, Any], root: Path, place: str
) -> tuple[BatchVideo | None, list[str]]:
    """Read a row: the video, or None, and what is wrong."""
    problems: list[str] = []

    def value(name: str, read: Callable[[Any], Any], default: Any = None) -> Any:
        if name not in row:
            return default
        try:
            return read(row[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
            return default

    def path(text: Any) -> Path:
        return _path(text, root)

    unknown = sorted(row.keys() - _COLUMNS)
    if unknown:
        problems.append(_unknown(unknown))
    if "video" not in row:
        problems.append("video: missing")
    if "mask" not in row and "references" not in row:
        problems.append("mask: missing, and there are no references")
    video = value("video", path)
    references = value("references", _masks, {})
    masks = {}
    for frame, text in references.items():
        try:
            masks[frame] = path(text)
        except ValueError as error:
            problems.append(f"references: {error}")
    mask = value("mask", path)
    if mask is not None and not os.path.isdir(mask) and 0 in masks:
        problems.append(
            f"references: frame 0 has a second mask, {masks[0]}, beside {mask} in the column mask: "
            "keep one"
        )
    name = ""
    if video is not None:
        name = video.name if os.path.isdir(video) else video.stem
        try:
            name = _folder_name(row.get("folder", name))
        except ValueError as error:
            problems.append(f"folder: {error}")
    names = value("names", _class_names, {})
    options = {option: value(option, read) for option, read in _OPTIONS.items() if option in row}
    if row.keys() & _RANGE:
        try:
            options["frame_range"] = _frame_range(row)
        except ValueError as error:
            problems.append(str(error))
    if problems or video is None:
        return None, problems
    return BatchVideo(video, name, mask, masks, names, options, place), []


def _path(text: Any, root: Path) -> Path:
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{text!r}: no path")
    if "://" in text:
        raise ValueError(f"{hide_secrets(text)}: an address, and a batch reads files and folders")
    # Absolute, so that the batch can be continued from another working directory.
    return (root / text).absolute()


def _folder_name(text: Any) -> str:
    """Check a folder name, so that nothing is written outside the folder of the batch."""
    if (
        not isinstance(text, str)
        or not text.isprintable()
        or not re.fullmatch(r"[^./\\:][^/\\:]*", text)
        or text.casefold() == SUMMARY
    ):
        raise ValueError(
            f"{text!r}: not a folder name: one name without /, \\ and :, not beginning with a dot"
        )
    return text


def _numbered(value: Any, form: str) -> dict[int, str]:
    """Read "0=a.png;120=b.png", or the same as an object or a list; `form` is an example."""
    if isinstance(value, str):
        value = [part for part in value.split(";") if part.strip()]
    if isinstance(value, Mapping):
        pairs = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, list) and all(isinstance(part, str) for part in value):
        pairs = [part.split("=", 1) if "=" in part else (part, "") for part in value]
    else:
        raise ValueError(f"{value!r}: write them as {form}")
    numbered: dict[int, str] = {}
    for number, each in pairs:
        if not re.fullmatch("[0-9]{1,9}", number.strip()) or not isinstance(each, str) or not each:
            given = f"{number}={each}" if each else number
            raise ValueError(f"{given!r}: write them as {form}")
        if int(number) in numbered:
            raise ValueError(f"{int(number)} is there twice")
        numbered[int(number)] = each.strip()
    return numbered


def _masks(value: Any) -> dict[int, str]:
    return _numbered(value, "0=a.png;120=b.png, frame numbers and masks")


def _class_names(value: Any) -> dict[int, str]:
    names = _numbered(value, "1=dog;2=cat, object ids and classes")
    if any(not 1 <= object_id <= 254 for object_id in names):
        raise ValueError("objects have ids 1 to 254")
    return names


def _frame_range(row: Mapping[str, Any]) -> FrameRange:
    try:
        stride = _positive(row.get("stride", 1))
    except ValueError as error:
        raise ValueError(f"stride: {error}") from error
    texts = {name: str(row[name]) for name in ("start", "end", "fps") if name in row}
    return FrameRange.parse(**texts, stride=stride)


def _positive(value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch("[0-9]{1,9}", str(value)) or int(value) < 1:
        raise ValueError(f"{value!r}: 1 or more")
    return int(value)


def _matcher(value: Any) -> str:
    if value not in MATCHERS:
        raise ValueError(f"{value!r}: one of {', '.join(MATCHERS)}")
    return value


def _on_damage(value: Any) -> str:
    if value not in get_args(OnDamage):
        raise ValueError(f"{value!r}: one of {', '.join(get_args(OnDamage))}")
    return value


def _yes_no(value: Any) -> bool:
    answers = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if str(value).lower() not in answers:
        raise ValueError(f"{value!r}: yes or no")
    return answers[str(value).lower()]


SUMMARY = "summary.jsonl"
_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "max_frames": _positive,
    "matcher": _matcher,
    "overlay": _yes_no,
    "on_damage": _on_damage,
}
_RANGE = {"start", "end", "stride", "fps"}
_COLUMNS = {"video", "mask", "references", "names", "folder", *_OPTIONS, *_RANGE}

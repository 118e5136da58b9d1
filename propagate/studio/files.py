"""Browsing below the roots. Clients name files and folders by ids; only the server knows paths."""

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from propagate.errors import PropagateError
from propagate.io.decode.image_folder import SUFFIXES, list_images, natural_key
from propagate.io.decode.video_kinds import VIDEO_SUFFIXES
from propagate.studio.answers import Refused, not_found

# Entries of a folder that are looked at to tell whether it holds images.
_MOST_LOOKED_AT = 200


class Browser:
    """The folders and videos below some roots.

    A path is resolved each time it is used, so that a link that leads out of the roots leads
    nowhere, whenever it was made.
    """

    def __init__(self, roots: Sequence[Path], unlisted: Sequence[Path] = ()) -> None:
        """Take the roots.

        Args:
            roots: What may be browsed.
            unlisted: Folders whose files may be opened too, but are not listed.

        Raises:
            PropagateError: One is no folder.
        """
        self._roots = list(dict.fromkeys(Path(os.path.abspath(root)) for root in roots))
        for root in self._roots:
            if not root.is_dir():
                raise PropagateError(f"{root}: no such folder", "choose another one ({root})")
        self._real_roots = [root.resolve() for root in (*self._roots, *unlisted)]
        self._secret = secrets.token_bytes(16)
        self._paths: dict[str, Path] = {}

    def id_of(self, path: Path) -> str:
        """Return the id of a path; it says nothing about the path, and is new at each start."""
        path = Path(os.path.abspath(path))
        digest = hashlib.blake2b(os.fsencode(path), digest_size=12, key=self._secret)
        file_id = digest.hexdigest()
        self._paths[file_id] = path
        return file_id

    def path_of(self, file_id: object) -> Path:
        """Return the path of an id.

        Raises:
            Refused: No such id was given out, it is gone, or it leads out of the roots.
        """
        path = self._paths.get(file_id) if isinstance(file_id, str) else None
        if path is None:
            raise not_found("this file")
        self.check(path)
        return path

    def check(self, path: Path) -> None:
        """Refuse a path that leads out of the roots; of a folder of images, also its images.

        Raises:
            Refused: It does, or does not exist.
        """
        try:
            inside = self._is_inside(path)
            if inside and path.is_dir():
                inside = all(self._is_inside(image) for image in list_images(path))
        except (OSError, RuntimeError, PropagateError) as error:
            raise not_found(path.name) from error
        if not inside:
            raise Refused(
                403,
                f"{path.name}: leads out of the folder that the studio may read",
                "start the studio with a {root} that holds it",
            )

    def folder(self, folder_id: str | None) -> dict[str, Any]:
        """List a folder, or the root; several roots are listed as folders.

        Raises:
            Refused: There is no such folder.
        """
        if folder_id is None and len(self._roots) > 1:
            folders = [{"id": self.id_of(root), "name": root.name} for root in self._roots]
            return {"id": None, "name": "", "parent": None, "folders": folders, "videos": []}
        folder = self._roots[0] if folder_id is None else self.path_of(folder_id)
        if not folder.is_dir():
            raise not_found(folder.name)
        folders, videos = [], []
        for path in self._entries(folder):
            entry: dict[str, Any] = {"id": self.id_of(path), "name": path.name}
            if path.is_dir():
                has_images, has_others = _holds(path)
                if has_images:
                    videos.append({**entry, "kind": "images", "bytes": _bytes_of_images(path)})
                if has_others or not has_images:
                    folders.append(entry)
            elif path.suffix.lower() in VIDEO_SUFFIXES:
                kind = "images" if path.suffix.lower() == ".zip" else "video"
                videos.append({**entry, "kind": kind, "bytes": path.stat().st_size})
        is_root = folder in self._roots
        parent = None if is_root else self.id_of(folder.parent)
        return {
            "id": self.id_of(folder),
            "name": folder.name,
            "parent": parent,
            "folders": folders,
            "videos": videos,
        }

    def _entries(self, folder: Path) -> list[Path]:
        """List what may be seen in a folder, in natural order."""
        try:
            found = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        except OSError as error:
            raise Refused(400, f"{folder.name}: cannot be listed ({error.strerror})") from error
        return sorted(filter(self._may_be_seen, found), key=natural_key)

    def _may_be_seen(self, path: Path) -> bool:
        try:
            return self._is_inside(path) and (path.is_dir() or path.is_file())
        except (OSError, RuntimeError):
            return False  # a broken link, or a circle of links

    def _is_inside(self, path: Path) -> bool:
        real = path.resolve(strict=True)
        return any(real.is_relative_to(root) for root in self._real_roots)


def _holds(folder: Path) -> tuple[bool, bool]:
    """Say whether a folder holds images, and whether it holds folders or videos."""
    images = others = False
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_LOOKED_AT or (images and others):
                    break
                suffix = Path(entry.name).suffix.lower()
                if not entry.name.startswith("."):
                    images |= suffix in SUFFIXES
                    others |= suffix in VIDEO_SUFFIXES or entry.is_dir()
    except OSError:
        return False, True  # listing it says why
    return images, others


def _bytes_of_images(folder: Path) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if Path(entry.name).suffix.lower() in SUFFIXES:
                try:
                    total += entry.stat().st_size
                except OSError:
                    continue  # a broken link
    return total

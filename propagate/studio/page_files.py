"""The files of the page. Only those that are there have an address."""

from pathlib import Path

from starlette.responses import Response

from propagate.studio.answers import Refused

PAGE = Path(__file__).with_name("page")
INDEX = "index.html"
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


def page_file(name: str, folder: Path = PAGE) -> Response:
    """Answer with a file of the page.

    The name is looked up in a list of the files, and never joined to a path.

    Raises:
        Refused: There is none of this name.
    """
    files = {
        file.relative_to(folder).as_posix(): file
        for file in folder.rglob("*")
        if file.suffix in KINDS and file.is_file() and not file.is_symlink()
    }
    if name not in files:
        raise Refused(404, "there is no such page")
    file = files[name]
    # The page belongs to this version of the program.
    return Response(
        file.read_bytes(), media_type=KINDS[file.suffix], headers={"Cache-Control": "no-cache"}
    )

"""The addresses of the studio, and what answers there."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from propagate.errors import PropagateError, Spelling, as_keyword
from propagate.io.masks.palette import palette
from propagate.io.write.encode import encode_image
from propagate.studio.answers import Refused, error_response, not_found
from propagate.studio.bodies import (
    frame_number,
    frame_range,
    from_base64,
    json_body,
    object_ids,
    object_list,
    unpack_ids,
    words,
)
from propagate.studio.importing import import_mask
from propagate.studio.page_files import INDEX, PAGE, page_file
from propagate.studio.project import Project
from propagate.studio.project_file import colour_of
from propagate.studio.security import Gate, Keys
from propagate.studio.studio import Studio, plain_name

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
# The address names the content: neither changes.
FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}
# The address names the revision.
FOR_A_WHILE = {"Cache-Control": "private, max-age=3600"}
NEVER = {"Cache-Control": "no-store"}
# Frames that are decoded on demand may keep threads waiting; other answers have their own.
FRAME_THREADS = 24


def make_app(
    studio: Studio, keys: Keys, *, spelling: Spelling = as_keyword, page: Path = PAGE
) -> ASGIApp:
    """Make the server's app, behind its gate.

    Args:
        studio: What it serves.
        keys: The secrets of this start.
        spelling: How settings in hints are spelled.
        page: Folder of the page's files.
    """
    routes = _Routes(studio, keys, spelling, page)
    app = Starlette(
        routes=routes.routes(),
        exception_handlers={HTTPException: partial(_http_error, spelling)},
    )
    app.router.redirect_slashes = False
    settings = studio.settings
    return Gate(
        app,
        keys,
        body_bytes=settings.body_bytes,
        upload_bytes=settings.upload_bytes,
        spelling=spelling,
    )


async def _http_error(spelling: Spelling, _: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    line = {404: "there is no such address", 405: "this address is asked in another way"}
    return error_response(Refused(status, line.get(status, "this cannot be answered")), spelling)


class _Routes:
    """The endpoints. Each parses, calls one method of the studio or a project, and answers."""

    def __init__(self, studio: Studio, keys: Keys, spelling: Spelling, page: Path) -> None:
        self._studio, self._keys, self._spelling, self._page = studio, keys, spelling, page
        self._waiting = anyio.CapacityLimiter(FRAME_THREADS)

    def routes(self) -> list[Route]:
        """List the addresses."""
        at = "/api/projects/{project}"
        get: dict[str, Endpoint] = {
            "/": self.index,
            "/page/{name:path}": self.page,
            "/api/state": self.state,
            "/api/files": self.files,
            "/api/events": self.events,
            at: self.project,
            f"{at}/times": self.times,
            f"{at}/timeline": self.timeline,
            f"{at}/frames/{{frame}}": self.frame,
            f"{at}/masks/{{frame}}": self.mask,
            f"{at}/references/{{frame}}": self.reference,
            f"{at}/exports/{{export}}": self.archive,
        }
        post: dict[str, Endpoint] = {
            "/api/login": self.login,
            "/api/open": self.open,
            "/api/upload": self.upload,
            f"{at}/references/{{frame}}": self.set_reference,
            f"{at}/references/{{frame}}/delete": self.delete_reference,
            f"{at}/objects": self.set_objects,
            f"{at}/swap": self.swap,
            f"{at}/prompt": self.prompt,
            f"{at}/import": self.import_mask,
            f"{at}/follow": self.follow,
            f"{at}/stop": self.stop,
            f"{at}/export": self.export,
        }
        return [
            *(Route(path, self._answering(end), methods=["GET"]) for path, end in get.items()),
            *(Route(path, self._answering(end), methods=["POST"]) for path, end in post.items()),
        ]

    def _answering(self, endpoint: Endpoint) -> Endpoint:
        """Answer with one line where an endpoint raises."""

        @wraps(endpoint)
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except PropagateError as error:
                return error_response(error, self._spelling)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:
                log.exception("%s", request.url.path)
                refused = Refused(500, f"the studio failed ({type(error).__name__})")
                return error_response(refused, self._spelling)

        return answer

    def _project(self, request: Request) -> Project:
        return self._studio.project(request.path_params["project"])

    # --- the page, and who may ask ---------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        return page_file(INDEX, self._page)

    async def page(self, request: Request) -> Response:
        return page_file(request.path_params["name"], self._page)

    async def login(self, request: Request) -> Response:
        value = self._keys.cookie_for((await json_body(request)).get("token"))
        response = Response(status_code=204, headers=NEVER)
        response.set_cookie(self._keys.cookie, value, httponly=True, samesite="strict", path="/")
        return response

    # --- files -----------------------------------------------------------------------------------

    async def state(self, request: Request) -> Response:
        studio = self._studio
        return _json(
            {
                "version": _version(),
                "model": studio.settings.model,
                "command": studio.settings.command,
                "uploads": studio.uploads is not None,
                "sam": await anyio.to_thread.run_sync(lambda: studio.has_sam),
                "out": studio.settings.out.absolute().name,
                "projects": [{"id": p.id, "name": p.name} for p in studio.projects],
                "palette": [colour_of(i) for i in range(1, 256)],
            }
        )

    async def files(self, request: Request) -> Response:
        folder = request.query_params.get("folder")
        return _json(await anyio.to_thread.run_sync(self._studio.browser.folder, folder))

    async def open(self, request: Request) -> Response:
        file_id = (await json_body(request)).get("file")

        def open_file() -> dict[str, Any]:
            return self._studio.open(self._studio.browser.path_of(file_id)).to_json()

        return _json(await anyio.to_thread.run_sync(open_file))

    async def upload(self, request: Request) -> Response:
        uploads = self._studio.uploads
        if uploads is None:
            raise Refused(403, "uploads are off", "start the studio with {uploads=True}")
        path = await uploads.receive(request.query_params.get("name", ""), request.stream())
        return _json({"file": self._studio.browser.id_of(path)})

    # --- a project -------------------------------------------------------------------------------

    async def project(self, request: Request) -> Response:
        project = self._project(request)
        await anyio.to_thread.run_sync(project.look)
        return _json(project.to_json())

    async def times(self, request: Request) -> Response:
        return _json({"times": self._project(request).frames.times})

    async def timeline(self, request: Request) -> Response:
        return _json(await anyio.to_thread.run_sync(self._project(request).timeline))

    async def events(self, request: Request) -> Response:
        project = self._studio.project(request.query_params.get("project", ""))
        stream = project.events.stream(request.headers.get("last-event-id"))
        return StreamingResponse(stream, media_type="text/event-stream", headers=NEVER)

    async def frame(self, request: Request) -> Response:
        project, index = self._project(request), frame_number(request.path_params["frame"])
        data = await anyio.to_thread.run_sync(project.frames.jpeg, index, limiter=self._waiting)
        return Response(data, media_type="image/jpeg", headers=FOR_EVER)

    async def mask(self, request: Request) -> Response:
        project, index = self._project(request), frame_number(request.path_params["frame"])
        data = await anyio.to_thread.run_sync(project.mask_png, index)
        return Response(data, media_type="image/png", headers=_while_named(request))

    async def reference(self, request: Request) -> Response:
        project, index = self._project(request), frame_number(request.path_params["frame"])
        ids = await anyio.to_thread.run_sync(project.reference, index)
        return Response(_png(ids), media_type="image/png", headers=_while_named(request))

    # --- what a person labels --------------------------------------------------------------------

    async def set_reference(self, request: Request) -> Response:
        project, index = self._project(request), frame_number(request.path_params["frame"])
        ids = unpack_ids((await json_body(request)).get("ids"), *project.frames.size)
        await anyio.to_thread.run_sync(project.set_reference, index, ids)
        return _json(project.to_json())

    async def delete_reference(self, request: Request) -> Response:
        project, index = self._project(request), frame_number(request.path_params["frame"])
        await json_body(request)
        await anyio.to_thread.run_sync(project.delete_reference, index)
        return _json(project.to_json())

    async def set_objects(self, request: Request) -> Response:
        project = self._project(request)
        objects = object_list((await json_body(request)).get("objects"))
        await anyio.to_thread.run_sync(project.set_objects, objects)
        return _json(project.to_json())

    async def swap(self, request: Request) -> Response:
        project, body = self._project(request), await json_body(request)
        frames = frame_range(body.get("frames"))

        def swap() -> None:
            with self._studio.jobs.held():
                project.swap(body.get("a", 0), body.get("b", 0), frames)

        await anyio.to_thread.run_sync(swap)
        return _json(project.to_json())

    async def prompt(self, request: Request) -> Response:
        project, body = self._project(request), await json_body(request)
        index, method = frame_number(body.get("frame")), body.get("method", "walker")

        def mask() -> np.ndarray:
            jpeg = project.frames.jpeg(index)
            prompts = body.get("prompts", [])
            return self._studio.prompter.mask(project.id, index, jpeg, prompts, method)

        return Response(_png(await anyio.to_thread.run_sync(mask)), media_type="image/png")

    async def import_mask(self, request: Request) -> Response:
        project, body = self._project(request), await json_body(request)
        project.frames.check(frame_number(body.get("frame")))
        data, name = from_base64(body.get("data")), str(body.get("name", ""))
        mask = await anyio.to_thread.run_sync(import_mask, data, name, *project.frames.size)
        notes = " ".join("; ".join(mask.notes).split())
        headers = {**NEVER, "X-Notes": notes.encode("ascii", "replace").decode()}
        return Response(_png(mask.ids), media_type="image/png", headers=headers)

    # --- work ------------------------------------------------------------------------------------

    async def follow(self, request: Request) -> Response:
        project = self._project(request)
        await json_body(request)
        await anyio.to_thread.run_sync(self._studio.follow, project)
        return _json(project.to_json(), 202)

    async def stop(self, request: Request) -> Response:
        project = self._project(request)
        await json_body(request)
        self._studio.jobs.stop(project.id)
        return _json(project.to_json())

    async def export(self, request: Request) -> Response:
        project, body = self._project(request), await json_body(request)
        ids, kinds = object_ids(body.get("objects")), words(body.get("what", []))
        await anyio.to_thread.run_sync(self._studio.export, project, ids, kinds)
        return _json(project.to_json(), 202)

    async def archive(self, request: Request) -> Response:
        project = self._project(request)
        path = self._studio.archive(project, request.path_params["export"])
        if not path.is_file():
            raise not_found("this export")
        name = f"{plain_name(project.name)}.zip"
        return FileResponse(path, media_type="application/zip", filename=name, headers=NEVER)


def _json(content: dict[str, Any], status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, headers=NEVER)


def _png(ids: np.ndarray) -> bytes:
    """Encode ids, (H, W) uint8, as an index PNG."""
    image = Image.fromarray(ids)
    image.putpalette(palette().tobytes())
    return encode_image(image, "PNG", compress_level=1)


def _while_named(request: Request) -> dict[str, str]:
    return FOR_A_WHILE if "v" in request.query_params else NEVER


def _version() -> str:
    try:
        return version("propagate-video")
    except PackageNotFoundError:
        return "not installed"

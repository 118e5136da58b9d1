"""The studio: projects, the model, and the work that goes on."""

import logging
import os
import re
import secrets
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from propagate.errors import MaskError, PropagateError, Spelling
from propagate.features.hub import cached
from propagate.io.decode.video import name_of
from propagate.io.write.report import are_same_file
from propagate.records import Frame, Mask, Result
from propagate.refine.names import REFINERS
from propagate.studio.answers import Refused, not_found
from propagate.studio.export import KINDS, export
from propagate.studio.files import Browser
from propagate.studio.follow import follow
from propagate.studio.frame_store import FrameStore
from propagate.studio.frames import Frames
from propagate.studio.jobs import Job, Jobs
from propagate.studio.project import Project
from propagate.studio.project_file import read_project
from propagate.studio.prompting import Prompter
from propagate.studio.run_files import source_of_run, track_of
from propagate.studio.settings import StudioSettings
from propagate.studio.temporary import TemporaryFolder, remove_left_over
from propagate.studio.uploads import Uploads

if TYPE_CHECKING:
    from propagate.pipeline import Propagator

log = logging.getLogger(__name__)

MOST_PROJECTS = 50
_WEIGHTS = "model.safetensors"
# Of each project; an older one goes.
MOST_EXPORTS = 3


class Studio:
    """All that one start of the studio knows. Close it at the end.

    Attributes:
        settings: How it was started.
        browser: What may be opened.
        jobs: The work that goes on.
        prompter: Makes masks from prompts.
        uploads: The files that were uploaded; None where that is off.
    """

    def __init__(self, settings: StudioSettings, spelling: Spelling) -> None:
        """Make an empty studio.

        Raises:
            PropagateError: A root is no folder.
        """
        self.settings = settings
        remove_left_over()
        self.uploads = Uploads() if settings.uploads else None
        uploaded = [] if self.uploads is None else [self.uploads.folder]
        self.browser = Browser(settings.roots, uploaded)
        self.jobs = Jobs(spelling)
        self.prompter = Prompter(self.propagator)
        self._store = FrameStore(settings.cache_bytes)
        self._exports = TemporaryFolder()
        self._archives: dict[str, list[str]] = {}
        self._projects: dict[str, Project] = {}
        self._opening, self._loading = threading.Lock(), threading.Lock()
        self._propagator: Propagator | None = None

    # --- projects --------------------------------------------------------------------------------

    @property
    def projects(self) -> list[Project]:
        """The open projects."""
        return list(self._projects.values())

    def project(self, project_id: str) -> Project:
        """Return an open project.

        Raises:
            Refused: There is none of this id.
        """
        project = self._projects.get(project_id)
        if project is None:
            raise not_found("this project")
        return project

    def open(self, path: Path) -> Project:
        """Open a video, or return its project if it is open.

        Args:
            path: A video, a folder or an archive of images, below a root or uploaded.

        Raises:
            Refused: It leads out of the roots, or too many videos are open.
            VideoError: It cannot be decoded.
        """
        self.browser.check(path)
        with self._opening:
            for project in self._projects.values():
                if are_same_file(project.source, path):
                    project.look()
                    return project
            if len(self._projects) >= MOST_PROJECTS:
                raise Refused(409, f"{MOST_PROJECTS} videos are open", "start the studio again")
            folder, source = self._place_of(path)
            project_id = secrets.token_hex(8)
            frames = Frames(source, project_id, self._store, self.settings.source_options)

            def job() -> dict[str, Any] | None:
                going_on = self.jobs.of(project_id)
                return None if going_on is None else going_on.to_json()

            project = Project(project_id, folder.name, source, folder, frames, job)
            self._projects[project_id] = project
            return project

    def _place_of(self, path: Path) -> tuple[Path, str]:
        """Choose the folder of a video, and how its reports name it.

        A folder that belongs to another video of this name is left alone.
        """
        name = name_of(path)
        for number in range(1, 1000):
            folder = self.settings.out / (name if number == 1 else f"{name}-{number}")
            source = source_of_run(folder) or read_project(folder)[0]
            if source is None:
                return folder, _shortest(path)
            if are_same_file(source, path):
                return folder, source
        raise PropagateError(f"{name}: 999 videos have this name", "choose another folder ({out})")

    # --- the model -------------------------------------------------------------------------------

    def propagator(self) -> "Propagator":
        """Return the model, loaded the first time.

        Raises:
            ModelError, DeviceError: It cannot be loaded.
        """
        with self._loading:
            if self._propagator is None:
                from propagate.pipeline import Propagator

                self._propagator = Propagator(
                    self.settings.model, device=self.settings.device, engine=self.settings.engine
                )
            return self._propagator

    def warm_up(self) -> None:
        """Load the model in the background, so that the first stroke need not wait for it."""

        def load() -> None:
            try:
                self.propagator()
            except (PropagateError, ValueError) as error:
                # Said again, with what to do, when the model is needed.
                log.warning("%s", " ".join(str(error).split()))

        threading.Thread(target=load, name="model", daemon=True).start()

    @property
    def has_sam(self) -> bool:
        """Whether SAM 2 is on this machine, so that it needs no network."""
        folder = cached(REFINERS["sam2"], ("config.json", _WEIGHTS))
        return folder is not None and (folder / _WEIGHTS).exists()

    # --- work ------------------------------------------------------------------------------------

    def follow(self, project: Project) -> None:
        """Start to follow the objects of a project.

        Raises:
            Refused: Other work is going on.
            MaskError: No frame is labelled, or a reference cannot be read.
        """
        references = project.masks()
        if not any(mask.object_ids for mask in references.values()):
            raise MaskError(f"{project.name}: no frame is labelled", "label an object on a frame")
        job = Job("follow", project.id, project.events.publish)
        self.jobs.start(job, _Following(self, project, references))

    def export(
        self, project: Project, object_ids: Collection[int] | None, kinds: Sequence[str]
    ) -> None:
        """Start to write an archive; its address is published when it is done.

        Raises:
            Refused: Other work is going on.
            MaskError: A kind is unknown.
        """
        if not kinds or set(kinds) - set(KINDS):
            raise MaskError(f"export: some of {', '.join(KINDS)}")

        def work(job: Job) -> None:
            name = f"{secrets.token_hex(8)}.zip"
            target = self._exports.path / name
            export(project, object_ids, kinds, target, self.settings, job.progress)
            archives = self._archives.setdefault(project.id, [])
            archives.append(name)
            for old in archives[:-MOST_EXPORTS]:
                (self._exports.path / old).unlink(missing_ok=True)
                archives.remove(old)
            url = f"/api/projects/{project.id}/exports/{name.removesuffix('.zip')}"
            project.events.publish("exported", {"url": url})

        self.jobs.start(Job("export", project.id, project.events.publish), work)

    def archive(self, project: Project, export_id: str) -> Path:
        """Return where an archive is.

        Raises:
            Refused: There is none of this id.
        """
        name = f"{export_id}.zip"
        if name not in self._archives.get(project.id, ()):
            raise not_found("this export")
        return self._exports.path / name

    def end_streams(self) -> None:
        """End all streams of events, so that their connections close."""
        for project in self.projects:
            project.events.close()

    def close(self) -> None:
        """End all work and remove all temporary files."""
        self.jobs.close()
        for project in self.projects:
            project.close()
        self._store.close()
        self._exports.close()
        if self.uploads is not None:
            self.uploads.close()


class _Following:
    """One run of a project, and what the project is told of it."""

    def __init__(self, studio: Studio, project: Project, references: Mapping[int, Mask]) -> None:
        self._studio, self._project, self._references = studio, project, references
        self._begun = False

    def __call__(self, job: Job) -> None:
        studio, project = self._studio, self._project

        def begin() -> None:
            if not self._begun:
                self._begun = True
                project.begin_run(self._references)

        def progress(done: int, total: int | None) -> None:
            begin()
            job.progress(done, total)

        def on_result(frame: Frame, result: Result) -> None:
            begin()
            project.take_result(frame.index, track_of(result))

        try:
            follow(
                studio.propagator(),
                project.source,
                self._references,
                project.folder.parent,
                project.folder.name,
                studio.settings,
                progress=progress,
                on_result=on_result,
            )
        finally:
            if self._begun:
                project.end_run()


def _shortest(path: Path) -> str:
    """Name a path as somebody would who works in the current folder."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def plain_name(name: str) -> str:
    """Make a name that any header and any file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name) or "export"

"""The engine of a cluster: Ray actors, each with a share of a machine and a worker process on it.

An actor computes nothing: it holds a `LocalEngine` with one worker. So the same code runs as
without Ray, and a worker that hangs is killed by its machine. `ray.kill` alone reports a stopped
process as dead, but leaves it running with its memory and its share (Ray 2.60). Waiting has fixed
deadlines here, and no call is repeated with growing pauses, so `tenacity` would have no use.
"""

import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from propagate.batch.events import Event, Failed, Finished, Lost
from propagate.batch.local import STOP_S, LocalEngine, count_cores
from propagate.batch.remote import is_url
from propagate.batch.tasks import BatchSettings, Task
from propagate.errors import ClusterError, PropagateError
from propagate.io.write.lock import is_held, read_owner, remove_lock_of, take_lock

CONNECT_S = 10.0
# A cluster that grows on demand needs some minutes for a new machine.
ROOM_S = 900.0
# A living actor confirms within this time that its worker was killed.
KILL_S = 20.0
# The lock of a lost machine is removed once it is silent, which happens within this time.
SILENT_S = 120.0
# Between two answers of an actor: an idle one answers more often, to take its next task soon.
IDLE_S, BUSY_S = 0.2, 1.0
GET_S = 10.0
# Actors in a row that cannot be started.
MOST_FAILED_STARTS = 3
# The least that Ray accepts; nothing large goes through it.
STORE_BYTES = 80 * 2**20


@dataclass(frozen=True, slots=True)
class Share:
    """What each worker gets.

    Attributes:
        workers: How many there are.
        cpus: Cores, and threads.
        gpus: 0 or 1.
    """

    workers: int
    cpus: int
    gpus: int


def divide(machines: Iterable[Mapping[str, float]], jobs: int | None, device: str) -> Share:
    """Divide a cluster among workers.

    Args:
        machines: "CPU" and "GPU" of each machine.
        jobs: How many workers; None: one for each GPU, or for each machine if there is no GPU.
        device: "auto" takes GPUs if there are any, "cuda" always, "cpu" never.

    Returns:
        The largest share that all workers can have.
    """
    sizes = [(int(m.get("CPU", 0)), int(m.get("GPU", 0))) for m in machines]
    gpus = sum(gpu for _, gpu in sizes)
    if device == "cuda" or (device == "auto" and gpus):
        cpus = min((cpu // gpu for cpu, gpu in sizes if gpu), default=1)
        return Share(jobs or max(1, gpus), max(1, cpus), 1)
    workers = jobs or max(1, sum(cpu > 0 for cpu, _ in sizes))
    largest = max((cpu for cpu, _ in sizes), default=1)
    for cpus in range(largest, 1, -1):
        if sum(cpu // cpus for cpu, _ in sizes) >= workers:
            return Share(workers, cpus, 0)
    return Share(workers, 1, 0)


@dataclass(frozen=True, slots=True)
class _Greeting:
    """An actor has started."""

    host: str
    version: str


class _Actor:
    """Runs on a machine of the cluster and answers one call after the other."""

    def __init__(self, settings: BatchSettings, out: Path | str, folder: str, cpus: int) -> None:
        # The worker process inherits it.
        os.environ["OMP_NUM_THREADS"] = str(cpus)
        # Model names may be paths relative to the folder in which the command was given.
        with suppress(OSError):
            os.chdir(folder)
        self._out = out
        self._engine = LocalEngine(settings, out, 1)
        self._task: Task | None = None

    def greet(self) -> _Greeting:
        return _Greeting(socket.gethostname(), _version())

    def submit(self, task: Task) -> None:
        self._task = task
        self._engine.submit(0, task)

    def kill(self) -> None:
        # The worker may have ended by itself.
        with suppress(KeyError):
            self._engine.kill(0)

    def poll(self, wait_s: float) -> list[Event]:
        events = self._engine.poll(wait_s)
        for event in events:
            if isinstance(event, Lost) and self._task is not None and isinstance(self._out, Path):
                _remove_dead_lock(self._out / self._task.video.folder)
        return events

    def stop(self) -> None:
        self._engine.__exit__()


def _remove_dead_lock(folder: Path) -> None:
    """Remove the lock of a worker that died here: other machines cannot tell that it is dead."""
    with suppress(OSError, PropagateError):
        if read_owner(folder) is not None and not is_held(folder):
            take_lock(folder).release()


@dataclass(slots=True)
class _Slot:
    """The place of a worker.

    Attributes:
        actor: Ray's handle.
        call: The question that it has not answered yet; there is always one.
        host: Its machine; None until it has started.
        folder: Of its current video.
        killed_at: When its worker was told to end.
    """

    actor: Any
    call: Any
    host: str | None = None
    folder: str | None = None
    killed_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Gone:
    """A worker that seems to be lost with its machine.

    Its process may still write for a moment, so nobody else starts before its lock is silent.
    """

    folder: Path
    host: str
    reason: str
    until: float


class RayEngine:
    """Runs tasks on a Ray cluster. Use it in a `with` block, which ends what it started."""

    def __init__(
        self,
        settings: BatchSettings,
        out: Path | str,
        jobs: int | None,
        *,
        address: str | None = None,
    ) -> None:
        """Take the settings; nothing is started yet.

        Args:
            settings: Of the batch.
            out: Its folder, which has this path on all machines; or a URL.
            jobs: How many workers; None: see `divide`.
            address: host:port of the head of a cluster, or "auto" for the cluster of this machine.
                None: a cluster is started here, and ended at the end.

        Raises:
            ClusterError: The device is a single GPU by its number.
        """
        if settings.device.startswith("cuda:"):
            raise ClusterError(
                f"{settings.device}: a cluster gives each worker its GPU", "use {device=cuda}"
            )
        self._settings, self._jobs, self._address = settings, jobs, address
        self._out = out if is_url(out) else Path(out).absolute()
        self._slots: dict[int, _Slot] = {}
        self._gone: dict[int, _Gone] = {}
        self._failed_starts = 0
        self._last_room = time.monotonic()

    @property
    def workers(self) -> list[int]:
        """The numbers of the present workers: on a cluster, not all have to be there."""
        return [number for number, slot in self._slots.items() if slot.host is not None]

    def submit(self, worker: int, task: Task) -> None:
        """Give a task to a worker that has none."""
        slot = self._slots[worker]
        slot.folder = task.video.folder
        slot.actor.submit.remote(task)

    def kill(self, worker: int) -> None:
        """End a worker that does not answer. `poll` then reports it as lost."""
        slot = self._slots[worker]
        slot.killed_at = time.monotonic()
        slot.actor.kill.remote()

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait for events; return none after the given time.

        Raises:
            ClusterError: The cluster has no room for any worker, cannot start one, or is gone.
        """
        try:
            self._fill()
            events = self._end_silent()
            calls = {slot.call: number for number, slot in self._slots.items()}
            if not calls:
                time.sleep(timeout_s)
                return events
            self._ray.wait(list(calls), num_returns=1, timeout=0 if events else timeout_s)
            ready, _ = self._ray.wait(list(calls), num_returns=len(calls), timeout=0)
            for call in ready:
                events += self._receive(calls[call], call)
            return events
        # Ray raises this when its own process on this machine is gone.
        except SystemExit as error:
            raise ClusterError(
                "Ray has ended on this machine, or was killed", "run the batch again to continue"
            ) from error

    def _fill(self) -> None:
        """Ask for the missing workers; they come when there is room."""
        for number in range(self._share.workers):
            if number not in self._slots and number not in self._gone:
                actor = self._actors.remote(
                    self._settings, self._out, os.getcwd(), self._share.cpus
                )
                self._slots[number] = _Slot(actor, actor.greet.remote())
        now = time.monotonic()
        if self.workers or self._gone:
            self._last_room = now
        elif now - self._last_room > ROOM_S:
            gpu = " and a GPU" if self._share.gpus else ""
            raise ClusterError(
                f"the cluster has no room for a worker of {self._share.cpus} cores{gpu}",
                "wait until it is free, or divide it further with {jobs}",
            )

    def _receive(self, number: int, call: Any) -> list[Event]:
        slot = self._slots[number]
        try:
            answer = self._ray.get(call, timeout=GET_S)
        except self._ray.exceptions.RayError as error:
            return self._drop(number, _reason(error))
        events: list[Event] = []
        if isinstance(answer, _Greeting):
            _check_version(answer)
            slot.host = answer.host
            self._failed_starts = 0
        else:
            events = [replace(event, worker=number) for event in answer]
        if any(isinstance(event, (Finished, Failed, Lost)) for event in events):
            slot.folder = slot.killed_at = None
        slot.call = slot.actor.poll.remote(IDLE_S if slot.folder is None else BUSY_S)
        return events

    def _drop(self, number: int, reason: str) -> list[Event]:
        """Drop an actor that is gone. Its video is lost once nothing writes there any more."""
        slot = self._slots.pop(number)
        # An actor that is only out of reach must not continue.
        self._ray.kill(slot.actor)
        if slot.host is None:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                raise ClusterError(
                    f"the cluster cannot start a worker ({reason})",
                    "install propagate-video on all its machines",
                )
            return []
        reason = f"its worker on {slot.host} is gone ({reason})"
        if slot.folder is None or not isinstance(self._out, Path):
            return [Lost(number, reason)]
        until = time.monotonic() + SILENT_S
        self._gone[number] = _Gone(self._out / slot.folder, slot.host, reason, until)
        return self._end_silent()

    def _end_silent(self) -> list[Event]:
        now = time.monotonic()
        events: list[Event] = []
        for number, slot in list(self._slots.items()):
            if slot.killed_at is not None and now - slot.killed_at > KILL_S:
                events += self._drop(number, "it did not answer when it was to be killed")
        for number, gone in list(self._gone.items()):
            is_silent = now > gone.until
            with suppress(OSError):
                is_silent |= remove_lock_of(gone.host, gone.folder)
            if is_silent:
                del self._gone[number]
                events.append(Lost(number, gone.reason))
        return events

    def __enter__(self) -> Self:
        """Join the cluster, or start one."""
        self._ray = _join(self._address, max(count_cores(), self._jobs or 1))
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._share = divide(machines, self._jobs, self._settings.device)
        self._settings = replace(self._settings, device="cuda" if self._share.gpus else "cpu")
        self._actors = self._ray.remote(_Actor).options(
            num_cpus=self._share.cpus,
            num_gpus=self._share.gpus,
            max_restarts=0,
            # Over all machines, so that losing one costs least.
            scheduling_strategy="SPREAD",
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers. A worker in the middle of a video finishes its files."""
        slots, self._slots = list(self._slots.values()), {}
        try:
            # See `poll`.
            with suppress(SystemExit):
                stops = [slot.actor.stop.remote() for slot in slots if slot.host is not None]
                if stops:
                    self._ray.wait(stops, num_returns=len(stops), timeout=STOP_S + BUSY_S)
                for slot in slots:
                    self._ray.kill(slot.actor)
        finally:
            self._ray.shutdown()


def _join(address: str | None, cpus: int) -> Any:
    """Connect to a cluster; return the module `ray`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            f"Ray cannot be imported ({error})", 'pip install "propagate-video[cluster]"'
        ) from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        address = "local"
        options |= {
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
    elif address != "auto":
        _knock(address)
    # Ray replaces our handler, which finishes files.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, **options)
    except Exception as error:
        reason = _reason(error)
        raise ClusterError(
            *(
                (f"a Ray cluster cannot be started here ({reason})", "try `ray start --head`")
                if address == "local"
                else (
                    f"{address}: this machine cannot join the Ray cluster ({reason})",
                    "run it on a machine of the cluster, with one version of Ray and Python on all",
                )
            )
        ) from error
    finally:
        # Only the main thread can set one.
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, handler)
    return ray


def _knock(address: str) -> None:
    """Find out soon whether anything listens there: Ray would try for a minute."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise ClusterError(
            f"{address}: not the address of a Ray cluster", "give host:port of its head, or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"{address}: no Ray cluster answers ({error})",
            "give the host:port that `ray start --head` printed, or leave the address out to start "
            "a cluster here",
        ) from error


def _check_version(greeting: _Greeting) -> None:
    if greeting.version != _version():
        raise ClusterError(
            f"propagate-video is {greeting.version} on {greeting.host} and {_version()} here",
            "install one version on all machines",
        )


def _version() -> str:
    return metadata.version("propagate-video")


def _reason(error: BaseException) -> str:
    """Shorten what Ray says in many lines."""
    text = " ".join(str(error).split()) or type(error).__name__
    found = re.search(r"The actor (is dead|died) because (.*)", text)
    text = found[2] if found else text
    return text if len(text) <= 300 else f"{text[:300]}..."

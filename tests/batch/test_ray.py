"""A batch on a cluster: a real one of two machines, both of them here, one of which is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from propagate.batch.manifest import BatchVideo
from propagate.batch.ray import RayEngine, Share, divide
from propagate.batch.schedule import run_batch
from propagate.batch.tasks import BatchSettings
from propagate.config import Config
from propagate.errors import ClusterError
from propagate.io.decode.options import SourceOptions
from propagate.io.write import lock
from propagate.io.write.lock import LOCK, remove_lock_of, take_lock
from propagate.pipeline import Propagator
from propagate.run_options import RunOptions
from tests.batch_runs import assert_same
from tests.paths import ROOT

SETTINGS = BatchSettings(
    model="color",
    device="cpu",
    short_side_px=64,
    run=RunOptions(
        source_options=SourceOptions(isolate=True), formats=("png", "rle"), save_every_s=0
    ),
)


@pytest.fixture(scope="module")
def clips(drawn, write_video, tmp_path_factory) -> list[BatchVideo]:
    """Two clips, of 96 and 144 frames, and their first mask."""
    root = tmp_path_factory.mktemp("clips")
    return [
        BatchVideo(write_video(root / f"{name}.mp4", drawn.images * times), name, drawn.mask)
        for name, times in (("short", 8), ("long", 12))
    ]


@pytest.fixture(scope="module")
def whole(clips, drawn, tmp_path_factory) -> Path:
    """What `Propagator.run` makes of each clip."""
    out = tmp_path_factory.mktemp("whole")
    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    first = np.array(Image.open(drawn.mask))
    for clip in clips:
        propagator.run(str(clip.video), {0: first}, out, formats=("png", "rle"))
    return out


@pytest.fixture(scope="module")
def ray():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    return pytest.importorskip("ray")


@pytest.fixture(scope="module")
def machines(ray):
    """A cluster of one machine; tests add others."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "include_dashboard": False,
            "_system_config": QUICK_LOSS,
            **STORE,
        },
    )
    yield cluster
    cluster.shutdown()


STORE = {"object_store_memory": 80 * 2**20}
# A lost machine is noticed within seconds, as a run of tests has no time for Ray's patience.
QUICK_LOSS = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture
def two_machines(machines):
    """The same with a second machine, of one core like the first."""
    second = machines.add_node(num_cpus=1, **STORE)
    yield machines
    if second in machines.worker_nodes:
        machines.remove_node(second)


def run(clips, out, cluster, hit=lambda event, pids: None, may_hit=lambda event: False, **options):
    """Run a batch on a cluster, and hit what runs a video when the video advances.

    Args:
        hit: Called with the event and the process of each worker.
        may_hit: Called with every event; says whether the next video that advances is hit.
    """
    events, pids = [], {}

    def tell(event):
        events.append(event)
        if event["event"] == "started":
            pids[event["worker"]] = event["pid"]
        advances = event["event"] == "advanced" and event["done"] and len(pids) == 2
        if may_hit(event) and advances:
            hit(event, pids)

    engine = partial(RayEngine, address=cluster.address)
    summary = run_batch(clips, out, SETTINGS, jobs=2, engine=engine, on_event=tell, **options)
    assert [video.state for video in summary.videos] == ["done"] * len(clips)
    assert len(pids) == 2
    return summary, events


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# On two machines


HITS = [
    ("actor", signal.SIGKILL, "is gone (its worker process has died"),
    ("worker", signal.SIGSTOP, "no progress for 10 s: its worker was killed"),
]


@pytest.mark.slow
def test_what_dies_or_hangs_is_replaced_and_its_video_goes_on(clips, whole, two_machines, tmp_path):
    """In one batch: the next victim is hit when the loss of the one before is known."""
    hits: list[str] = []
    losses: list[dict] = []

    def hit(event, pids):
        victim, number, _ = HITS[len(hits)]
        hits.append(event["video"])
        pid = pids[event["worker"]]
        os.kill(pid if victim == "worker" else parent_of(pid), number)

    def may_hit(event):
        if event["event"] == "lost":
            losses.append(event)
        return len(losses) == len(hits) < len(HITS)

    # A worker that hangs is noticed by its silence: longer than the slowest frame here takes.
    summary, events = run(clips, tmp_path, two_machines, hit, may_hit, stall_s=10, retry=len(HITS))
    assert [loss["video"] for loss in losses] == hits
    for loss, (_, _, what) in zip(losses, HITS, strict=True):
        assert what in loss["reason"]
    assert sum(video.attempts for video in summary.videos) == len(clips) + len(HITS)
    for finished in [event for event in events if event["event"] == "finished"]:
        assert bool(finished["resumed_at"]) == (finished["video"] in hits)
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_machine_is_lost_in_the_middle_and_the_other_does_all_at_a_url(
    drawn, write_video, two_machines, tmp_path
):
    # Long enough that neither machine is done before the other has begun.
    clips = [
        BatchVideo(write_video(tmp_path / f"{name}.mp4", drawn.images * 16), name, drawn.mask)
        for name in ("first", "second")
    ]

    def lose(event, pids):
        (second,) = two_machines.worker_nodes
        two_machines.remove_node(second, allow_graceful=False)

    out = tmp_path / "out"
    summary, events = run(
        clips, f"file://{out}", two_machines, lose, lambda event: bool(two_machines.worker_nodes)
    )
    (lost,) = [event for event in events if event["event"] == "lost"]
    assert f"its worker on {socket.gethostname()} is gone" in lost["reason"]
    assert sorted(video.attempts for video in summary.videos) == [1, 2]
    (left,) = {e["worker"] for e in events if e["event"] == "finished"}
    assert left != lost["worker"]
    assert len((out / "summary.jsonl").read_text().splitlines()) == len(summary.videos)
    propagator = Propagator("color", device="cpu", config=Config(short_side_px=64))
    for clip in clips:
        reference = {0: np.array(Image.open(drawn.mask))}
        propagator.run(str(clip.video), reference, tmp_path / "whole", formats=("png", "rle"))
    assert_same(out, tmp_path / "whole")


# On this machine


@pytest.mark.slow
def test_the_command_starts_a_cluster_here_and_ends_it(ray, clips, whole, tmp_path):
    manifest, out, log = (tmp_path / name for name in ("manifest.jsonl", "out", "log.jsonl"))
    lines = [
        json.dumps({"video": str(clip.video), "mask": str(clip.mask), "folder": clip.folder})
        for clip in clips
    ]
    manifest.write_text("\n".join(lines))
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "propagate", "batch", str(manifest), "-o", str(out)),
            *("--engine", "ray", "--model", "color", "--short-side", "64", "--format", "png,rle"),
            *("--device", "cpu", "--log-json", str(log)),
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert f"{out}: 2 done, 0 skipped, 0 failed" in finished.stdout
    assert_same(out, whole)
    pids = {json.loads(line).get("pid") for line in log.read_text().splitlines()} - {None}
    assert pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


# What cannot be


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1:1", "127.0.0.1:1: no Ray cluster answers"),
        ("ray://127.0.0.1:1", "not the address of a Ray cluster; give host:port of its head"),
        ("head", "not the address of a Ray cluster"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(ray, clips, tmp_path, address, what):
    with pytest.raises(ClusterError) as error:
        run_batch(clips, tmp_path, SETTINGS, engine=partial(RayEngine, address=address))
    assert what in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*/"))


def test_without_ray_the_extra_is_named(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r'pip install "propagate-video\[cluster\]"'):
        run_batch(clips, tmp_path, SETTINGS, engine=RayEngine)


def test_a_gpu_by_its_number_is_refused(tmp_path):
    with pytest.raises(ClusterError, match=r"use device=.cuda"):
        RayEngine(BatchSettings(device="cuda:1"), tmp_path, 1)


def test_an_address_is_for_ray_alone(propagate, clips, tmp_path):
    finished = propagate("batch", tmp_path, "-o", tmp_path / "out", "--address", "head:6379")
    assert finished.status == 2
    assert "with --engine ray only" in finished.stderr


# How a cluster is divided

GPUS = [{"CPU": 32.0, "GPU": 4.0}, {"CPU": 64.0, "GPU": 4.0}, {"CPU": 8.0}]


@pytest.mark.parametrize(
    ("machines", "jobs", "device", "share"),
    [
        (GPUS, None, "auto", Share(8, 8, 1)),
        (GPUS, 3, "cuda", Share(3, 8, 1)),
        (GPUS, None, "cpu", Share(3, 32, 0)),
        ([{"CPU": 2.0}], None, "auto", Share(1, 2, 0)),
        ([{"CPU": 4.0}], 3, "auto", Share(3, 1, 0)),
        ([{"CPU": 16.0}, {"CPU": 4.0}], 5, "cpu", Share(5, 4, 0)),
        # More than there is room for come when others end; GPUs when the cluster has grown.
        ([{"CPU": 2.0}], 5, "cpu", Share(5, 1, 0)),
        ([{"CPU": 2.0}], None, "cuda", Share(1, 1, 1)),
    ],
)
def test_each_worker_has_a_gpu_or_the_largest_share_that_there_is_for_all(
    machines, jobs, device, share
):
    assert divide(machines, jobs, device) == share


# What a lost machine leaves


def left_behind(folder: Path, silent_s: float) -> None:
    """Make the folder's lock that of another machine, last touched so long ago."""
    path = folder / LOCK
    path.write_text(json.dumps({**json.loads(path.read_text()), "machine": "x", "host": "far"}))
    touched = time.time() - silent_s
    os.utime(path, (touched, touched))


def test_the_lock_of_a_lost_machine_is_removed_when_it_is_silent(tmp_path):
    with take_lock(tmp_path):
        left_behind(tmp_path, lock.LOST_S - 10)
        assert not remove_lock_of("far", tmp_path)
        assert (tmp_path / LOCK).exists()
        left_behind(tmp_path, lock.LOST_S + 1)
        assert remove_lock_of("near", tmp_path), "it has no lock of that machine"
        assert (tmp_path / LOCK).exists()
        assert remove_lock_of("far", tmp_path)
        assert not (tmp_path / LOCK).exists()


@pytest.mark.slow
def test_a_lost_machine_that_still_writes_keeps_its_lock(tmp_path):
    """It is only out of reach; a beat comes every `BEAT_S`."""
    assert lock.LOST_S > 2 * lock.BEAT_S
    with take_lock(tmp_path):
        left_behind(tmp_path, lock.BEAT_S)
        assert not remove_lock_of("far", tmp_path)
        assert lock.is_held(tmp_path)

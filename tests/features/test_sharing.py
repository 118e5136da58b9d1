"""One model, many users: sessions, generators and threads give the masks that they give alone."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from propagate.config import Config
from propagate.pipeline import Propagator
from tests import forked

Masks = list[np.ndarray]


@pytest.fixture(scope="module")
def propagator() -> Propagator:
    return Propagator("tiny", device="cpu", config=Config(short_side_px=48))


@pytest.fixture(scope="module")
def clips(drawn, write_video, tmp_path_factory) -> list[Path]:
    """Four videos: the drawn clip, reversed, mirrored, and larger."""
    root = tmp_path_factory.mktemp("clips")
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in drawn.images]
    larger = [image.repeat(2, 0).repeat(3, 1) for image in drawn.images]
    contents = [drawn.images, drawn.images[::-1], mirrored, larger]
    return [write_video(root / f"{n}.mp4", images[:6]) for n, images in enumerate(contents)]


@pytest.fixture(scope="module")
def references(drawn) -> list[np.ndarray]:
    first = drawn.truth[0]
    return [
        first,
        drawn.truth[-1],
        np.ascontiguousarray(first[:, ::-1]),
        first.repeat(2, 0).repeat(3, 1),
    ]


@pytest.fixture(scope="module")
def opened(propagator, clips, references) -> Callable[[int], Iterator[np.ndarray]]:
    def masks(number: int) -> Iterator[np.ndarray]:
        for result in propagator.propagate(clips[number], {0: references[number]}):
            yield result.mask

    return masks


@pytest.fixture(scope="module")
def stepped(propagator, clips, references) -> Callable[[int], Iterator[np.ndarray]]:
    """The same by `step`, in the thread of the caller."""
    from propagate.io.decode.video import open_video

    def masks(number: int) -> Iterator[np.ndarray]:
        session = propagator.session()
        with open_video(clips[number]) as frames:
            for frame in frames:
                given = references[number] if frame.index == 0 else None
                yield session.step(frame, given).mask

    return masks


@pytest.fixture(scope="module")
def alone(opened) -> list[Masks]:
    """The masks of each clip, one run after the other."""
    return [list(opened(number)) for number in range(4)]


def assert_equal(found: list[Masks], alone: list[Masks]) -> None:
    for ours, theirs in zip(found, alone, strict=True):
        assert len(ours) == len(theirs)
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
def test_the_clips_differ(alone):
    assert len({alone[n][4].tobytes() for n in range(4)}) == 4
    assert all(mask.any() for masks in alone for mask in masks)


@pytest.mark.slow
def test_generators_that_take_turns(opened, alone):
    turns = list(zip(*(opened(number) for number in range(4)), strict=True))
    assert_equal([list(masks) for masks in zip(*turns, strict=True)], alone)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_generators_and_sessions_in_any_order(opened, stepped, alone, seed):
    rng = random.Random(seed)
    users = [rng.choice((opened, stepped))(number) for number in range(4)]
    found: list[Masks] = [[] for _ in users]
    waiting = set(range(4))
    while waiting:
        number = rng.choice(sorted(waiting))
        for _ in range(rng.randrange(1, 4)):
            mask = next(users[number], None)
            if mask is None:
                waiting.discard(number)
                break
            found[number].append(mask)
    assert_equal(found, alone)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 8])
def test_threads(opened, stepped, alone, count):
    found: dict[int, Masks] = {}

    def follow(thread: int) -> None:
        user = opened if thread % 2 else stepped
        found[thread] = list(user(thread % 4))

    threads = [threading.Thread(target=follow, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert_equal([found[n] for n in range(count)], [alone[n % 4] for n in range(count)])


# Processes

HEAD = """
import multiprocessing, sys
import propagate
from propagate.errors import PropagateError

def follow(clip):
    mask = propagate.read_mask(sys.argv[2])
    results = propagator.propagate(clip, {0: mask}, max_frames=3)
    return [int(result.mask.sum()) for result in results]

config = propagate.Config(short_side_px=64)
propagator = propagate.Propagator(sys.argv[3], device="cpu", config=config)
"""
LEFT_OPEN = """
mask = propagate.read_mask(sys.argv[2])
generators = [propagator.propagate(sys.argv[1], {0: mask}) for _ in range(2)]
print([next(generator).index for generator in generators])
"""
FORKED = """
def try_it(queue):
    try:
        follow(sys.argv[1])
    except PropagateError as error:
        queue.put(str(error))

follow(sys.argv[1])
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=try_it, args=(queue,))
process.start()
print(queue.get(timeout=60))
process.join(60)
sys.exit(process.exitcode)
"""
SPAWNED = """
if __name__ == "__main__":
    print(follow(sys.argv[1]))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(follow, [sys.argv[1]])[0])
"""


@pytest.fixture
def script(drawn, tmp_path):
    def run(text: str, model: str = "color") -> subprocess.CompletedProcess[str]:
        path = tmp_path / "script.py"
        path.write_text(HEAD + text)
        line = [sys.executable, path, drawn.mp4, drawn.mask, model]
        return forked.run(line, diffusion=model == "tiny")

    return run


@pytest.mark.slow
@pytest.mark.parametrize("model", ["color", "tiny"])
def test_generators_left_open_at_the_end_of_a_script(script, model):
    finished = script(LEFT_OPEN, model)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == "[0, 0]\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
def test_a_forked_process_is_told_to_spawn(script):
    finished = script(FORKED)
    assert finished.returncode == 0, finished.stderr
    assert "model color: this process was forked from one that had used a model" in finished.stdout
    assert 'the method "spawn"' in finished.stdout
    assert len(finished.stdout.splitlines()) == 1


@pytest.mark.slow
def test_a_spawned_process_follows_like_its_parent(script):
    finished = script(SPAWNED)
    assert finished.returncode == 0, finished.stderr
    ours, theirs = finished.stdout.splitlines()
    assert ours == theirs

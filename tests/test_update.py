"""Other references for a run that is there: only what they change is computed."""

import json
import random
import shutil
from contextlib import suppress

import numpy as np
import pytest

from propagate.config import Config
from propagate.dependence import Dependence
from propagate.errors import OutputError, Stopped
from propagate.io.masks.masks_json import read_masks_json
from propagate.pipeline import Propagator
from propagate.report.saved import SavedRun
from tests.batch_runs import assert_same
from tests.stopping import stop_at

FRAMES = 12


@pytest.fixture(scope="module")
def color() -> Propagator:
    return Propagator("color", device="cpu", config=Config(short_side_px=48))


@pytest.fixture(scope="module")
def clip(drawn):
    return drawn.mp4


@pytest.fixture(scope="module")
def truth(drawn):
    return drawn.truth


def shifted(mask, by):
    return np.roll(mask, by, axis=1)


def only(mask, object_id):
    return np.where(mask == object_id, mask, 0).astype(np.uint8)


def follow(color, clip, references, out, **options):
    """Run; the frames that were computed."""
    computed = []
    color.run(
        clip,
        references,
        out,
        on_result=lambda frame, result: computed.append(frame.index),
        **{"backwards": "new", "update": True, "save_every_s": 0, **options},
    )
    return computed


def rewritten(before, after):
    return [name for name in after if before.get(name) != after[name]]


def masks_in(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "masks").iterdir())}


# What is given first, what is given then, and what is computed again.
CHANGES = {
    "a correction reaches to the end": (
        {0: "both"},
        {0: "both", 5: "shifted"},
        range(5, 12),
    ),
    "a correction reaches to the next reference": (
        {0: "both", 8: "both"},
        {0: "both", 5: "shifted", 8: "both"},
        range(5, 8),
    ),
    "a correction of one object reaches beyond a reference that names only it": (
        {0: "both", 4: "one", 8: "both"},
        {0: "both", 2: "one", 4: "one", 8: "both"},
        range(2, 8),
    ),
    "a reference is taken away": (
        {0: "both", 5: "shifted", 8: "both"},
        {0: "both", 8: "both"},
        range(5, 8),
    ),
    "two corrections leave what is between": (
        {0: "both", 3: "both", 6: "both", 9: "both"},
        {0: "both", 3: "shifted", 6: "both", 9: "shifted"},
        [*range(3, 6), *range(9, 12)],
    ),
    "an object that comes later is looked for before": (
        {0: "one"},
        {0: "one", 5: "both"},
        range(12),
    ),
    "the first reference is remembered for ever": (
        {0: "both", 5: "both"},
        {0: "shifted", 5: "both"},
        range(12),
    ),
    "nothing changed": ({0: "both"}, {0: "both"}, []),
}


def masks_of(kinds, truth):
    make = {"both": lambda m: m, "shifted": lambda m: shifted(m, 3), "one": lambda m: only(m, 1)}
    return {frame: make[kind](truth[frame]) for frame, kind in kinds.items()}


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_changes_is_computed_and_all_ends_as_a_new_run(
    color, clip, truth, tmp_path, change
):
    before, after, expected = CHANGES[change]
    options = {"formats": ("png", "rle"), "overlay": True}
    follow(color, clip, masks_of(before, truth), tmp_path / "out", **options)
    old = masks_in(tmp_path / "out/clip")
    computed = follow(color, clip, masks_of(after, truth), tmp_path / "out", **options)
    assert computed == list(expected)
    follow(color, clip, masks_of(after, truth), tmp_path / "new", **options)
    for frame in before.keys() - after.keys():
        # No run takes away what a person drew.
        (tmp_path / f"out/clip/references/{frame:05d}.png").unlink()
    assert_same(tmp_path / "out", tmp_path / "new")
    kept = {f"{i:05d}.png" for i in range(FRAMES)} - {f"{i:05d}.png" for i in expected}
    assert not kept & set(rewritten(old, masks_in(tmp_path / "out/clip")))
    hidden = [path.name for path in (tmp_path / "out/clip").iterdir() if path.name[0] == "."]
    assert hidden == []


@pytest.mark.parametrize("backwards", ["all", "none"])
def test_so_it_is_in_either_direction(color, clip, truth, tmp_path, backwards):
    before = masks_of({0: "both", 4: "both", 9: "both"}, truth)
    after = before | masks_of({6: "shifted"}, truth)
    follow(color, clip, before, tmp_path / "out", backwards=backwards)
    computed = follow(color, clip, after, tmp_path / "out", backwards=backwards)
    assert computed == list(range(5, 10) if backwards == "all" else range(6, 9))
    follow(color, clip, after, tmp_path / "new", backwards=backwards)
    assert_same(tmp_path / "out", tmp_path / "new")


@pytest.mark.parametrize("stopped_at", [1, 5, 10])
@pytest.mark.parametrize("corrected", [3, 6])
def test_a_run_that_is_stopped_is_corrected_and_goes_on(
    color, clip, truth, tmp_path, stopped_at, corrected
):
    def stop(frame, result):
        if frame.index == stopped_at:
            raise Stopped("stopped")

    first = masks_of({0: "both"}, truth)
    with pytest.raises(Stopped):
        color.run(clip, first, tmp_path / "out", on_result=stop, backwards="new", update=True)
    both = first | masks_of({corrected: "shifted"}, truth)
    computed = follow(color, clip, both, tmp_path / "out")
    assert computed == list(range(min(corrected, stopped_at + 1), FRAMES))
    follow(color, clip, both, tmp_path / "new")
    assert_same(tmp_path / "out", tmp_path / "new")


# What an update that breaks off was asked for first and second, and what is asked for after it.
FIRST = {0: "both", 6: "both"}
SECOND = FIRST | {2: "shifted"}
THIRD = FIRST | {4: "shifted", 9: "shifted"}
AFTER = {"same": SECOND, "other": THIRD, "back": FIRST}


@pytest.fixture(scope="module")
def new(color, clip, truth, tmp_path_factory):
    """A new run for each of `AFTER`, in a folder of its name."""
    out = tmp_path_factory.mktemp("new")
    for case, kinds in AFTER.items():
        follow(color, clip, masks_of(kinds, truth), out / case)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", range(6))
def test_an_update_that_breaks_off_goes_on_with_these_or_other_references(
    color, clip, truth, new, tmp_path, killed_after
):
    """Whatever was asked for when it broke off, no mask is taken for one of other references."""

    class Killed(BaseException):
        pass

    for case, kinds in AFTER.items():
        out, last = tmp_path / case, masks_of(kinds, truth)
        shutil.copytree(new / "back", out)
        left = iter([*range(killed_after)])

        def kill(frame, result, left=left):
            if next(left, None) is None:
                raise Killed

        options = {"backwards": "new", "save_every_s": 1000 if killed_after % 2 else 0}
        with suppress(Killed):
            color.run(clip, masks_of(SECOND, truth), out, on_result=kill, update=True, **options)
        follow(color, clip, last, out)
        for path in (out / "clip/references").iterdir():
            if int(path.stem) not in last:
                path.unlink()
        assert_same(out, new / case)


def test_masks_that_change_stay_until_they_are_computed_again(color, clip, truth, tmp_path):
    options = {"backwards": "new", "update": True, "formats": ("png", "rle")}
    out, folder = tmp_path / "out", tmp_path / "out/clip"
    follow(color, clip, {0: truth[0]}, out, formats=("png", "rle"))
    old = masks_in(folder)
    both = {0: truth[0], 4: shifted(truth[4], 3)}
    with pytest.raises(Stopped):
        color.run(clip, both, out, on_result=stop_at(7), **options)
    now = masks_in(folder)
    assert rewritten(old, now) == [f"{i:05d}.png" for i in range(4, 8)]
    assert now.keys() == old.keys()
    # What tells of the run tells of its own masks only.
    assert len(SavedRun(folder).result["per_frame"]) == 8
    assert len(read_masks_json(folder / "masks.json").counts) == 8
    assert not (folder / "result.json").exists()
    assert follow(color, clip, both, out, formats=("png", "rle")) == list(range(8, FRAMES))
    follow(color, clip, both, tmp_path / "new", formats=("png", "rle"))
    assert_same(out, tmp_path / "new")


def test_they_stay_too_if_it_ends_before_the_first_of_them(color, clip, truth, tmp_path):
    follow(color, clip, {0: truth[0]}, tmp_path / "out")
    old = masks_in(tmp_path / "out/clip")

    def stop(done, total):
        raise Stopped("stopped")

    other = {0: shifted(truth[0], 3)}
    with pytest.raises(Stopped):
        color.run(clip, other, tmp_path / "out", progress=stop, backwards="new", update=True)
    assert rewritten(old, masks_in(tmp_path / "out/clip")) == ["00000.png"]
    assert masks_in(tmp_path / "out/clip").keys() == old.keys()
    (tmp_path / "out/clip/masks/00099.png").write_bytes(old["00000.png"])
    follow(color, clip, other, tmp_path / "out")
    follow(color, clip, other, tmp_path / "new")
    assert_same(tmp_path / "out", tmp_path / "new")


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))]
)
def test_whatever_breaks_off_no_old_mask_is_in_a_finished_run(color, clip, truth, tmp_path, seed):
    """Any references after any others, stopped or killed anywhere, end as a new run."""
    chance = random.Random(seed)
    out = tmp_path / "out"
    before, given = {}, {0: truth[0]}
    for turn in range(5):
        given = {0: shifted(truth[0], chance.choice([0, 0, 0, 3]))}
        for index in chance.sample(range(1, FRAMES), chance.randint(0, 3)):
            kind = chance.choice(["both", "shifted", "one"])
            given |= masks_of({index: kind}, truth)
        last, how = chance.randrange(FRAMES), chance.choice(["stop", "kill", "end"])
        snapshot = tmp_path / f"killed-{turn}"

        def end(frame, result, last=last, how=how, snapshot=snapshot):
            if how == "end" or frame.index < last:
                return
            if how == "kill":  # what is on the disk at this moment is what a kill leaves
                shutil.copytree(out, snapshot, ignore=shutil.ignore_patterns(".lock"))
            raise Stopped("stopped")

        options = {"backwards": "new", "update": True, "save_every_s": chance.choice([0, 1000])}
        with suppress(Stopped):
            color.run(clip, given, out, on_result=end, **options)
        if snapshot.exists():
            shutil.rmtree(out)
            snapshot.rename(out)
        masks = masks_in(out / "clip")
        assert masks.keys() >= before.keys()
        before = masks
    follow(color, clip, given, out, keep_finished=True)
    follow(color, clip, given, tmp_path / "new")
    for path in (out / "clip/references").iterdir():
        if int(path.stem) not in given:
            path.unlink()
    assert_same(out, tmp_path / "new")


def test_a_run_of_other_settings_is_refused(color, clip, truth, tmp_path):
    follow(color, clip, {0: truth[0]}, tmp_path)
    before = masks_in(tmp_path / "clip")
    with pytest.raises(OutputError, match="of other settings is in this folder: max_frames"):
        follow(color, clip, {0: truth[0]}, tmp_path, max_frames=5)
    assert masks_in(tmp_path / "clip") == before
    with pytest.raises(OutputError, match="a finished run is in this folder"):
        follow(color, clip, {0: only(truth[0], 1)}, tmp_path, update=False)


def test_a_run_that_does_not_say_what_its_references_name_is_refused(color, clip, truth, tmp_path):
    follow(color, clip, {0: truth[0]}, tmp_path)
    path = tmp_path / "clip/result.json"
    report = json.loads(path.read_text())
    del report["reference_objects"]
    path.write_text(json.dumps(report))
    with pytest.raises(OutputError, match="does not say which objects"):
        follow(color, clip, {0: truth[0], 3: truth[3]}, tmp_path)


def test_the_references_lie_in_the_folder_of_a_run(color, clip, drawn, truth, tmp_path):
    from propagate.io.masks.files import read_mask

    follow(color, clip, {0: truth[0], 9: only(truth[9], 2)}, tmp_path)
    folder = tmp_path / "clip/references"
    assert sorted(path.name for path in folder.iterdir()) == ["00000.png", "00009.png"]
    np.testing.assert_array_equal(read_mask(folder / "00009.png").ids, only(truth[9], 2))
    follow(color, clip, {0: truth[0]}, tmp_path)
    follow(color, clip, {3: truth[3]}, tmp_path, overwrite=True)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["00000.png", "00003.png", "00009.png"], "a person may have drawn them"


def test_what_decides_a_mask_is_told_by_the_settings(color, clip, truth, tmp_path):
    follow(color, clip, masks_of({0: "both", 5: "one", 8: "both"}, truth), tmp_path)
    report = json.loads((tmp_path / "clip/result.json").read_text())
    assert report["reference_objects"] == {"0": [1, 2], "5": [1], "8": [1, 2]}
    dependence = Dependence.from_settings(report)
    keys = [dependence.mask_key(frame) for frame in range(FRAMES)]
    assert [i for i in range(1, FRAMES) if keys[i] != keys[i - 1]] == [5, 8]


def test_a_mask_that_somebody_removed_is_computed_again(color, clip, truth, tmp_path):
    first, then = {6: truth[6]}, {6: truth[6], 10: truth[10]}
    for references, backwards in ((first, "new"), (then, "none")):
        for given in (first, references):
            follow(color, clip, given, tmp_path / "out", backwards=backwards, overwrite=True)
            (tmp_path / "out/clip/masks/00002.png").unlink()
            follow(
                *(color, clip, references, tmp_path / "out"),
                backwards=backwards,
                keep_finished=True,
            )
            follow(color, clip, references, tmp_path / "new", backwards=backwards, overwrite=True)
            assert masks_in(tmp_path / "out/clip") == masks_in(tmp_path / "new/clip")


def test_a_source_may_be_spelled_in_another_way(color, clip, truth, tmp_path, monkeypatch):
    def stop(frame, result):
        if frame.index == 8:
            raise Stopped("stopped")

    references = {0: truth[0]}
    with pytest.raises(Stopped):
        color.run(clip, references, tmp_path / "out", on_result=stop)
    monkeypatch.chdir(clip.parent)
    summary = color.run(clip.name, references, tmp_path / "out")
    assert summary.resumed_at == (9,)
    again = color.run(str(clip), references, tmp_path / "out", keep_finished=True)
    assert again.was_finished


def test_options_that_do_not_go_together(color, clip, truth, tmp_path):
    with pytest.raises(ValueError, match="formats has none"):
        follow(color, clip, {0: truth[0]}, tmp_path, formats=("rle",))

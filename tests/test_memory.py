"""What the temporal memory keeps, and in which order."""

from dataclasses import replace

import pytest
import torch

from propagate.matchers import MemorySettings
from propagate.matching.cells import FrameCells, Subcells
from propagate.memory import TemporalMemory
from tests.tensors import assert_same_tensors, copies_in

CELLS_AND_LABELS_BYTES = (3 * 4 * 5 + 3 * 4 * 2) * 4


def entry(number: int, labels: int = 2) -> tuple[FrameCells, torch.Tensor]:
    cells = torch.full((3, 4, 5), float(number))
    return FrameCells(cells, torch.zeros(3, 4, 0)), torch.full((3, 4, labels), float(number))


def with_subcells(number: int) -> tuple[FrameCells, torch.Tensor, Subcells]:
    colors, labels = torch.full((6, 8, 3), float(number)), torch.full((6, 8, 2), float(number))
    return (*entry(number), Subcells(colors, labels))


def numbers(memory: TemporalMemory) -> list[int]:
    return [int(cells[0, 0, 0]) for cells in memory.read().cells]


def empty(recent_frames: int, older_every: tuple[int, ...] = (), **settings) -> TemporalMemory:
    return TemporalMemory(MemorySettings(recent_frames, older_every, **settings))


def test_first_frame_is_never_evicted():
    memory = empty(3).with_reference(*entry(0))
    for number in range(1, 500):
        memory = memory.with_recent(*entry(number))
    assert numbers(memory) == [0, 497, 498, 499]


def test_size_stands_still_over_hundreds_of_frames():
    memory = empty(3).with_reference(*entry(0))
    sizes = set()
    for number in range(1, 300):
        memory = memory.with_recent(*entry(number))
        sizes.add(memory.nbytes)
    assert max(sizes) == 4 * CELLS_AND_LABELS_BYTES
    assert len(sizes) == 3


def test_later_references_join_the_first_and_stay():
    memory = empty(2).with_reference(*entry(0)).with_recent(*entry(1)).with_reference(*entry(10))
    for number in (2, 3, 4):
        memory = memory.with_recent(*entry(number))
    assert numbers(memory) == [0, 10, 3, 4]
    assert memory.read().reference_count == 2
    assert len(memory) == 4


def test_repeated_reference_gives_way_to_frames_as_they_come():
    memory = empty(3, repeat_reference=True).with_reference(*entry(0))
    assert numbers(memory) == [0, 0, 0, 0]
    assert memory.nbytes == CELLS_AND_LABELS_BYTES
    memory = memory.with_recent(*entry(1))
    assert numbers(memory) == [0, 0, 0, 1]


def test_only_the_first_reference_is_repeated():
    memory = empty(2, repeat_reference=True).with_reference(*entry(0))
    memory = memory.with_recent(*entry(1)).with_reference(*entry(5))
    assert numbers(memory) == [0, 5, 0, 1]


def test_a_new_object_is_nowhere_in_what_is_remembered():
    memory = empty(3).with_reference(*entry(1)).with_recent(*entry(2)).widened(4)
    labels = memory.read().labels
    assert labels.shape == (2, 3, 4, 4)
    assert not labels[..., 2:].any()


def test_without_room_for_recent_frames_only_references_are_kept():
    memory = empty(0).with_reference(*entry(0)).with_recent(*entry(1))
    assert numbers(memory) == [0]


def test_an_empty_memory_cannot_be_read():
    with pytest.raises(ValueError, match="the memory is empty"):
        empty(1).read()


def test_state_survives_saving(tmp_path):
    memory = empty(2).with_reference(*entry(0))
    for number in (1, 2, 3):
        memory = memory.with_recent(*entry(number))
    torch.save(memory.state_dict(), tmp_path / "state.pt")
    other = empty(2).restored(torch.load(tmp_path / "state.pt", weights_only=True))
    assert numbers(other) == [0, 2, 3]
    assert other.read().reference_count == 1
    assert numbers(other.with_recent(*entry(4))) == [0, 3, 4]


def test_all_that_is_remembered_of_a_frame_survives_saving(tmp_path):
    frame, labels, subcells = with_subcells(1)
    named = replace(frame, semantic=torch.rand(3, 4, 2))
    memory = empty(2).with_reference(named, labels, subcells).with_recent(*with_subcells(2))
    memory = memory.with_flows(torch.rand(2, 3, 4, 2))
    torch.save(memory.state_dict(), tmp_path / "state.pt")
    other = empty(2).restored(torch.load(tmp_path / "state.pt", weights_only=True))
    assert_same_tensors(other.read(), copies_in(memory.read()))
    assert other.nbytes == memory.nbytes
    assert torch.equal(other.read().semantic, named.semantic[None])


def test_older_frames_are_the_newest_of_every_so_many_and_never_twice():
    memory = empty(2, (4, 12)).with_reference(*entry(-1))
    for number in range(60):
        memory = memory.with_recent(*entry(number))
        recent = [n for n in (number - 1, number) if n >= 0]
        # The literal rule: what is older than the recent, then what is older than that.
        fours = [n for n in range(number - 1) if n % 4 == 0]
        twelves = [n for n in range(fours[-1]) if n % 12 == 0] if fours else []
        assert numbers(memory) == [-1, *twelves[-1:], *fours[-1:], *recent]


def test_a_frame_has_no_flow_until_another_was_seen():
    memory = empty(2).with_reference(*entry(0)).with_recent(*entry(1))
    flows = memory.read().flows
    assert flows.shape == (2, 3, 4, 2)
    assert not flows.any()
    before = memory.nbytes
    memory = memory.with_flows(
        torch.stack([torch.full((3, 4, 2), 5.0), torch.full((3, 4, 2), 6.0)])
    )
    assert memory.nbytes == before + 2 * 3 * 4 * 2 * 4
    newer = memory.with_recent(*entry(2))
    assert newer.read().flows[:, 0, 0, 0].tolist() == [5, 6, 0]
    other = empty(2).restored(newer.state_dict()).with_recent(*entry(3))
    assert other.read().flows[:, 0, 0, 0].tolist() == [5, 0, 0]


def test_older_frames_survive_saving():
    memory = empty(1, (2, 4))
    for number in range(7):
        memory = memory.with_recent(*entry(number))
    other = empty(1, (2, 4)).restored(memory.state_dict())
    for number in range(7, 12):
        memory, other = (m.with_recent(*entry(number)) for m in (memory, other))
        assert numbers(other) == numbers(memory)


def test_a_change_makes_a_new_memory_and_leaves_the_old_one_as_it_was():
    memory = empty(2).with_reference(*with_subcells(1)).with_recent(*with_subcells(2))
    memory = memory.with_flows(torch.ones(2, 3, 4, 2))
    before, count = copies_in(memory), memory.count
    void = torch.zeros(3, 4, dtype=torch.bool)
    void[1, 1] = True
    memory.with_reference(*with_subcells(3))
    memory.with_recent(*with_subcells(3))
    memory.with_flows(torch.zeros(2, 3, 4, 2))
    memory.widened(5)
    memory.relabelled(lambda labels: 2 * labels)
    memory.voided([void, void])
    memory.reversed()
    empty(2).restored(memory.state_dict())
    assert_same_tensors(memory, before)
    assert memory.count == count


def test_a_void_cell_has_no_label_in_the_frame_in_which_it_is_void():
    memory = empty(2).with_reference(*entry(1)).with_recent(*entry(2))
    void = torch.zeros(3, 4, dtype=torch.bool)
    void[2, 1] = True
    labels = memory.voided([void, torch.zeros_like(void)]).read().labels
    expected = torch.stack([torch.full((3, 4, 2), 1.0), torch.full((3, 4, 2), 2.0)])
    expected[0, 2, 1] = 0
    assert torch.equal(labels, expected)


def test_reversed_keeps_only_the_newest_reference_and_the_newest_frame():
    memory = empty(2, (4,)).with_reference(*with_subcells(-1))
    for number in range(9):
        memory = memory.with_recent(*with_subcells(number))
    memory = memory.with_reference(*with_subcells(-2)).with_recent(*with_subcells(9))
    memory = memory.with_flows(torch.rand(len(memory), 3, 4, 2))
    back = memory.reversed()
    assert numbers(back) == [-2, 9]
    known, whole = back.read(), memory.read()
    assert known.reference_count == 1
    assert [int(fine.colors[0, 0, 0]) for fine in known.subcells] == [-2, 9]
    assert torch.equal(known.labels, whole.labels[[1, -1]])
    assert torch.equal(known.flows, whole.flows[[1, -1]])
    # In reversed time that frame is number 0, and frames are kept as from the start.
    fresh = empty(2, (4,)).with_reference(*with_subcells(-2)).with_recent(*with_subcells(9))
    for number in range(20, 40):
        back, fresh = (m.with_recent(*with_subcells(number)) for m in (back, fresh))
        assert numbers(back) == numbers(fresh)


def test_reversed_repeats_the_newest_frame_where_the_reference_is_repeated():
    memory = empty(3, repeat_reference=True).with_reference(*entry(0))
    for number in range(1, 6):
        memory = memory.with_recent(*entry(number))
    back = memory.reversed()
    assert numbers(back) == [0, 5, 5, 5]
    assert numbers(back.with_recent(*entry(7))) == [0, 5, 5, 7]


def test_reversed_after_a_reference_alone_keeps_that():
    memory = empty(2).with_reference(*entry(0)).with_reference(*entry(1))
    assert numbers(memory.reversed()) == [1]
    assert memory.reversed().count == 0

import torch

from propagate.memory import TemporalMemory


def entry(number: int, labels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((3, 4, 5), float(number)), torch.full((3, 4, labels), float(number))


def numbers(memory: TemporalMemory) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in memory.read().features]


def test_first_frame_is_never_evicted():
    memory = TemporalMemory(3)
    memory.add_reference(*entry(0))
    for number in range(1, 500):
        memory.add_recent(*entry(number))
    assert numbers(memory) == [0, 497, 498, 499]


def test_size_stands_still_over_hundreds_of_frames():
    memory = TemporalMemory(3)
    memory.add_reference(*entry(0))
    sizes = set()
    for number in range(1, 300):
        memory.add_recent(*entry(number))
        sizes.add(memory.nbytes)
    assert max(sizes) == 4 * (3 * 4 * 5 + 3 * 4 * 2) * 4
    assert len(sizes) == 3


def test_later_references_join_the_first_and_stay():
    memory = TemporalMemory(2)
    memory.add_reference(*entry(0))
    memory.add_recent(*entry(1))
    memory.add_reference(*entry(10))
    for number in (2, 3, 4):
        memory.add_recent(*entry(number))
    assert numbers(memory) == [0, 10, 3, 4]
    assert memory.reference_count == 2


def test_repeated_reference_gives_way_to_frames_as_they_come():
    memory = TemporalMemory(3)
    memory.add_reference(*entry(0), copies=3)
    assert numbers(memory) == [0, 0, 0, 0]
    assert memory.nbytes == 4 * (3 * 4 * 5 + 3 * 4 * 2)
    memory.add_recent(*entry(1))
    assert numbers(memory) == [0, 0, 0, 1]


def test_a_new_object_is_nowhere_in_what_is_remembered():
    memory = TemporalMemory(3)
    memory.add_reference(*entry(1))
    memory.add_recent(*entry(2))
    memory.widen(4)
    labels = memory.read().labels
    assert labels.shape == (2, 3, 4, 4)
    assert not labels[..., 2:].any()


def test_without_room_for_recent_frames_only_references_are_kept():
    memory = TemporalMemory(0)
    memory.add_reference(*entry(0))
    memory.add_recent(*entry(1))
    assert numbers(memory) == [0]


def test_state_survives_saving(tmp_path):
    memory = TemporalMemory(2)
    memory.add_reference(*entry(0))
    for number in (1, 2, 3):
        memory.add_recent(*entry(number))
    torch.save(memory.state_dict(), tmp_path / "state.pt")
    other = TemporalMemory(2)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert numbers(other) == [0, 2, 3]
    assert other.reference_count == 1
    other.add_recent(*entry(4))
    assert numbers(other) == [0, 3, 4]


def test_older_frames_are_the_newest_of_every_so_many_and_never_twice():
    memory = TemporalMemory(2, (4, 12))
    memory.add_reference(*entry(-1))
    for number in range(60):
        memory.add_recent(*entry(number))
        recent = [n for n in (number - 1, number) if n >= 0]
        # The literal rule: what is older than the recent, then what is older than that.
        fours = [n for n in range(number - 1) if n % 4 == 0]
        twelves = [n for n in range(fours[-1]) if n % 12 == 0] if fours else []
        assert numbers(memory) == [-1, *twelves[-1:], *fours[-1:], *recent]


def test_a_frame_has_no_flow_until_another_was_seen():
    memory = TemporalMemory(2)
    memory.add_reference(*entry(0))
    memory.add_recent(*entry(1))
    assert memory.flows().shape == (2, 3, 4, 2)
    assert not memory.flows().any()
    before = memory.nbytes
    memory.set_flows(torch.stack([torch.full((3, 4, 2), 5.0), torch.full((3, 4, 2), 6.0)]))
    assert memory.nbytes == before + 2 * 3 * 4 * 2 * 4
    memory.add_recent(*entry(2))
    assert memory.flows()[:, 0, 0, 0].tolist() == [5, 6, 0]
    other = TemporalMemory(2)
    other.load_state_dict(memory.state_dict())
    other.add_recent(*entry(3))
    assert other.flows()[:, 0, 0, 0].tolist() == [5, 0, 0]


def test_older_frames_survive_saving():
    memory, other = TemporalMemory(1, (2, 4)), TemporalMemory(1, (2, 4))
    for number in range(7):
        memory.add_recent(*entry(number))
    other.load_state_dict(memory.state_dict())
    for number in range(7, 12):
        memory.add_recent(*entry(number))
        other.add_recent(*entry(number))
        assert numbers(other) == numbers(memory)

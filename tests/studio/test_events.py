"""Events reach clients that come, go and come back, without a gap."""

import asyncio
import json

import pytest

from propagate.studio import events as module
from propagate.studio.events import Events


def read(stream, count):
    """Return id, name and data of the next events; None for a comment."""

    async def take():
        found = []
        async for text in stream:
            if text.startswith(":"):
                found.append(None)
            else:
                number, name, data = (line.split(": ", 1)[1] for line in text.strip().split("\n"))
                found.append((int(number), name, json.loads(data)))
            if len(found) == count:
                break
        await stream.aclose()
        return found

    return asyncio.run(asyncio.wait_for(take(), 10))


@pytest.fixture
def events():
    return Events(lambda: {"id": "p"})


def test_a_new_client_gets_the_project_first(events):
    events.publish("frame", {"index": 1})
    assert read(events.stream(None), 1) == [(1, "project", {"id": "p"})]


def test_a_client_that_comes_back_gets_all_it_has_missed_once(events):
    for index in range(5):
        events.publish("frame", {"index": index})
    events.publish("project")
    missed = [(i + 1, "frame", {"index": i}) for i in (2, 3, 4)]
    assert read(events.stream("2"), 4) == [*missed, (6, "project", {"id": "p"})]


@pytest.mark.parametrize("last_id", ["1", "99", "x", "-1", ""])
def test_a_client_that_missed_too_much_or_is_of_another_start_gets_the_project(
    events, monkeypatch, last_id
):
    for index in range(module.KEPT + 5):
        events.publish("frame", {"index": index})
    current = module.KEPT + 5
    last = last_id if last_id != "99" else str(current + 1)
    assert read(events.stream(last), 1) == [(current, "project", {"id": "p"})]


def test_silence_is_broken_by_comments(events, monkeypatch):
    monkeypatch.setattr(module, "ALIVE_EVERY_S", 0.01)
    assert read(events.stream(None), 3) == [(0, "project", {"id": "p"}), None, None]


def test_what_another_thread_publishes_wakes_a_client(events):
    async def run():
        stream = events.stream(None)
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(events.publish, "job", {"done": 1})
        text = await asyncio.wait_for(waiting, 5)
        events.close()
        rest = [text async for text in stream]
        return text, rest

    text, rest = asyncio.run(run())
    assert text == 'id: 1\nevent: job\ndata: {"done": 1}\n\n'
    assert rest == []
    assert not events._listeners

"""The HTML report: one file that needs nothing else, and says what the scores say."""

import re

import numpy as np
import pytest

from propagate.eval.report.comparison import Entry, hardest_first, percent
from propagate.eval.report.html import ReportFrame, html_report, worst_frames
from propagate.eval.scores import Scores
from tests.html_page import Page

ODD = """</script><img src=x onerror="alert('&')">"""


def columns(both, j):
    return {
        **{"J&F-Mean": both, "J-Mean": j, "J-Recall": 1.0, "J-Decay": 0.0},
        **{"F-Mean": 2 * both - j, "F-Recall": 1.0, "F-Decay": 0.0},
    }


def scores(j_by_sequence):
    """Scores with F equal to J, of lists of J per object and frame."""
    means = {
        name: float(np.mean([v for row in rows for v in row if v is not None]))
        for name, rows in j_by_sequence.items()
    }
    mean = float(np.mean(list(means.values())))
    return Scores(
        protocol={
            **{"title": "Drawn", "rules": {"frames": f"all of {ODD}"}, "missing": {"frames": []}},
            **{"sequences": len(means), "objects": 2, "frames": 6},
        },
        global_=columns(mean, mean),
        groups={},
        per_sequence={name: columns(value, value) for name, value in means.items()},
        per_object={},
        object_ids={name: list(range(1, len(rows) + 1)) for name, rows in j_by_sequence.items()},
        frames={
            name: [f"{t:05d}" for t in range(len(rows[0]))] for name, rows in j_by_sequence.items()
        },
        per_frame={name: {"J": rows, "F": rows} for name, rows in j_by_sequence.items()},
    )


def picture(configuration, sequence, frame):
    truth = np.zeros((60, 80), np.uint8)
    truth[20:40, 20:40] = 1
    return ReportFrame(np.full((60, 80, 3), 128, np.uint8), truth, np.roll(truth, 10, axis=1))


@pytest.fixture(scope="module")
def entries():
    good = scores({"easy": [[0.9, 0.95, 0.9]], ODD: [[0.5, None, 0.25], [None, None, 0.75]]})
    low = scores({"easy": [[0.1, 0.0, 0.1]], ODD: [[0.1, None, 0.0], [None, None, 0.0]]})
    return [
        Entry(ODD, good, 6, 3.0, facts={"model": ODD}),
        Entry("first-mask", low, 6, None),
        Entry("broken", None, 2, 1.0, failures={ODD: f"{ODD}/00001.jpg: no image"}),
    ]


@pytest.fixture(scope="module")
def document(entries):
    return html_report(entries, picture, title=f"Title {ODD}", about={"command": f"run {ODD}"})


@pytest.fixture(scope="module")
def page(document):
    return Page(document)


def test_nothing_is_loaded_from_outside(document, page):
    assert not page.all("link")
    for _, attributes in page.elements:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert not {name for name in attributes if name.startswith("on")}
    assert not re.search(r"https?://|@import|url\(", document)


def test_names_from_outside_stay_text(document, page):
    assert document.count("<script") == document.count("</script>") == 1
    assert not page.all("img", src="x")
    for words in (f"Title {ODD}", f"run {ODD}", f"{ODD}/00001.jpg: no image", f"all of {ODD}"):
        assert words in page.text


def test_every_element_is_closed_and_every_link_leads_somewhere(page):
    assert page.open == []
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for _, a in page.elements if "href" in a}
    assert targets - {f"#{i}" for i in ids} == {"#-"}  # leads nowhere, to close a picture


def test_the_table_shows_percent_and_marks_the_best_of_each_column(document, entries):
    rows = re.findall(r"<tr>(.*?)</tr>", document)
    best, other = (percent(entry.scores.global_["J&F-Mean"]) for entry in entries[:2])
    assert f'<td class="best">{best}</td>' in rows[1]
    assert f"<td>{other}</td>" in rows[2]
    assert rows[1].endswith("<td>6</td><td>0.500</td>")
    assert rows[2].endswith("<td>6</td><td>-</td>")
    assert rows[3].count("<td>-</td>") == 7  # a configuration with a failure has no scores


def test_the_hardest_sequence_stands_first_whatever_the_baseline_scores(entries):
    assert hardest_first(entries) == [ODD, "easy"]
    assert hardest_first(entries[1:2]) == [ODD, "easy"]
    turned = Entry("first-mask", scores({"easy": [[0.0] * 3], ODD: [[1.0] * 3]}), 6, None)
    assert hardest_first([entries[0], turned]) == [ODD, "easy"]


def test_each_object_has_its_charts_and_each_configuration_its_worst_frames(page):
    assert len(page.all("svg")) == 2 * (1 + 2)
    shots = [a["id"] for a in page.all("figure") if a.get("class") == "shot"]
    assert shots == [
        *("s0c0f0", "s0c0f2", "s0c1f0", "s0c1f2"),  # frame 1 counts for no object
        *("s1c0f0", "s1c0f1", "s1c0f2", "s1c1f0", "s1c1f1", "s1c1f2"),
    ]
    assert len(page.all("img")) == 2 * len(shots)


def test_worst_frames_lie_apart():
    j = [1.0] * 40
    j[10:13] = [0.2, 0.1, 0.2]
    j[30] = 0.5
    assert worst_frames(scores({"a": [j]}), "a", count=2) == [11, 30]


def test_a_frame_that_counts_for_no_object_is_never_among_the_worst():
    assert worst_frames(scores({"a": [[None, 0.5, None]]}), "a") == [1]


def test_without_any_scores_the_failures_are_told(entries):
    page = Page(html_report(entries[2:], picture, title="t", about={}))
    assert "no image" in page.text
    assert not page.all("svg")


def test_many_configurations_have_styles_of_their_own(entries):
    many = [Entry(f"model {i}", entries[0].scores, 6, 1.0) for i in range(8)]
    document = html_report(many, picture, title="t", about={})
    styles = re.findall(r"\.c\d+ \{ (--c: [^}]*) \}", document)
    assert len(styles) == len(set(styles)) == 8

"""The files of `tests/golden/eval` hold what the oracle holds, and cover every official scorer."""

import json

import pytest

from tests.golden.eval import remake
from tests.official_scorers import GOLDEN, GOLDEN_CASES, NUMBERS, needs_oracle, official


def test_each_scorer_has_golden_numbers_and_each_golden_case_a_scorer():
    given = {case: [s for s in NUMBERS if official(case, s)] for case in GOLDEN_CASES}
    assert all(given.values())
    assert set(NUMBERS) == {scorer for scorers in given.values() for scorer in scorers}
    assert sum(path.stat().st_size for path in GOLDEN.iterdir() if path.is_file()) < 300_000


@needs_oracle
@pytest.mark.parametrize("case", remake.CASES)
def test_a_golden_case_is_the_oracle_s(case):
    text = (GOLDEN / f"{case}.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(remake.golden(case)))

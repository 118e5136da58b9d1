"""What the tests of the scorers share."""

from collections.abc import Callable
from typing import Any

import pytest

from propagate.eval.davis import evaluate_davis
from propagate.eval.scores import Scores
from tests.official_scorers import folders_of

EvaluateCase = Callable[..., Scores]


@pytest.fixture(scope="session")
def evaluate_case(tmp_path_factory: pytest.TempPathFactory) -> EvaluateCase:
    """Score a case that the official scorers were run on, by any rules of `evaluate_davis`."""
    folders = {}

    def evaluate(case: str, **rules: Any) -> Scores:
        if case not in folders:
            folders[case] = folders_of(case, tmp_path_factory.mktemp(case))
        return evaluate_davis(*folders[case], **rules)

    return evaluate

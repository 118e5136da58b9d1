"""What the tests of PerMIS share."""

from pathlib import Path

import pytest

from propagate.eval.permis.list import PermisList
from tests.drawn_permis import SPLITS, build


@pytest.fixture
def permis(tmp_path: Path) -> PermisList:
    return build(tmp_path, SPLITS)

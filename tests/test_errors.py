"""Errors are one line; their hints name settings the way the reader types them."""

import pickle

from propagate.errors import OutputError, as_keyword


def test_an_error_without_a_hint_is_its_message() -> None:
    assert str(OutputError("out/clip: no space left")) == "out/clip: no space left"


def test_settings_in_a_hint_are_keyword_arguments_for_python() -> None:
    error = OutputError("out/{clip} is there", "pass {overwrite=True} or {device=cpu}, or {out}")
    assert str(error) == 'out/{clip} is there; pass overwrite=True or device="cpu", or out'


def test_a_caller_chooses_the_spelling() -> None:
    error = OutputError("there", "pass {overwrite=True}")
    assert error.text(lambda name, value: f"--{name}") == "there; pass --overwrite"


def test_numbers_and_none_are_not_quoted() -> None:
    assert as_keyword("batch_size", "1") == "batch_size=1"
    assert as_keyword("refine", "None") == "refine=None"


def test_an_error_survives_the_way_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(OutputError("there", "pass {overwrite=True}")))
    assert (error.message, error.hint) == ("there", "pass {overwrite=True}")

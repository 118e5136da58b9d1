"""Addresses where a path belongs, secrets in messages, and a stdout or memory that is full."""

import sys

import pytest

from propagate.cli.usage import without_secrets

SECRET = "SeCrEt"
ADDRESS = f"https://u:{SECRET}@127.0.0.1/m.png"
S3 = f"s3://KEY:{SECRET}@bucket/x"


@pytest.mark.parametrize(
    "command",
    [
        ("run", "clip.mp4", "-m", ADDRESS, "-o", "out"),
        ("run", "clip.mp4", "-m", "m.png", "-o", S3),
        ("run", "clip.mp4", "-m", "m.png", f"--out={S3}"),
        ("run", "clip.mp4", "--reference", f"3={ADDRESS}", "-o", "out"),
        ("run", "clip.mp4", "-m", "m.png", "-o", "out", "--short-side", ADDRESS),
        ("run", "clip.mp4", "-m", "m.png", "-o", "out", "--log-json", ADDRESS),
        ("run", "clip.mp4", "-m", "m.png", "-o", "out", f"--nonsense={ADDRESS}"),
        ("segment", ADDRESS, "b.png", "-m", "m.png", "-o", "out"),
        ("segment", "a.png", "b.png", "-m", "m.png", "-o", S3),
        ("features", "clip.mp4", "-o", S3),
        ("find", "a.png", "clip.mp4", "-m", ADDRESS),
        ("find", "a.png", "clip.mp4", "-m", "m.png", "-o", S3),
        ("batch", ADDRESS, "-o", "out"),
        ("eval", "davis", "--root", ADDRESS, "--pred", "x"),
        ("benchmark", "davis", "--root", "x", "--model", "tiny", "-o", S3),
        ("models", ADDRESS),
    ],
)
def test_no_command_takes_an_address_for_a_path_or_shows_its_password(
    propagate, tmp_path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    done = propagate(*command)
    assert done.status in (1, 2)
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_password_with_spaces_and_quotes_is_hidden_in_a_usage_error():
    address = "rtsp://me:a b'S@host/live"
    assert "b'S" not in without_secrets(f"Got {address} and {address!r}", ["run", address])


def test_results_need_a_folder_with_a_name(propagate, drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = propagate("run", drawn.mp4, "-m", drawn.mask, "-o", "", "--model", "color")
    assert done.status == 2
    assert "is empty" in done.stderr
    table = tmp_path / "clips.csv"
    table.write_text(f"video,mask\n{drawn.mp4},{drawn.mask}\n")
    for out, says in (("memory://x", "lasts only as long as one process"), ("", "has no name")):
        done = propagate("batch", table, "-o", out, "--model", "color")
        assert done.status == 1
        assert says in done.stderr
    assert list(tmp_path.iterdir()) == [table]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux")
@pytest.mark.parametrize(
    "command", ["models", "--version", "--help", "eval davis --help", "status {out}"]
)
def test_a_stdout_that_is_full_is_one_line(tmp_path, command):
    import subprocess

    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "propagate", *command.format(out=tmp_path).split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    if "status" not in command:
        assert "standard output: cannot be written (No space left on device)" in done.stderr


def test_a_short_side_that_takes_all_memory_is_one_line(propagate, drawn, tmp_path):
    done = propagate(
        *("run", drawn.mp4, "-m", drawn.mask, "-o", tmp_path / "out", "--model", "color"),
        *("--short-side", 1_000_000),
    )
    assert done.status == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "does not fit into memory; choose a smaller --short-side" in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("entry", ["m.png", "x=m.png", "=m.png", "3=", "-1=m.png"])
def test_a_reference_of_another_form_is_wrong_usage(propagate, drawn, tmp_path, entry):
    done = propagate("run", drawn.mp4, "--reference", entry, "-o", tmp_path / "out")
    assert done.status == 2
    assert "write FRAME=MASK" in " ".join(done.stderr.split())


@pytest.mark.parametrize("model", ["color", "tiny"])
def test_class_names_in_a_batch_need_a_model_that_takes_text(propagate, drawn, tmp_path, model):
    table = tmp_path / "clips.csv"
    table.write_text(f"video,mask,names\n{drawn.mp4},{drawn.mask},1=dog\n")
    done = propagate("batch", table, "-o", tmp_path / "out", "--model", model)
    assert done.status == 1
    assert f"model {model} takes no text" in done.stderr
    assert not (tmp_path / "out").exists()

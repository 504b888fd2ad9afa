"""`python -m denoise_core` as people and scripts meet it: one line for an error, JSON where asked, plain in a pipe."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from denoise_core.__main__ import main
from denoise_core.corpus.store import corpus_of, open_corpus, pack
from denoise_core.recipes import named

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, mini_corpus_root: Path) -> Path:
    """A folder with a fitted filter in it, and a plan that is none."""
    folder = tmp_path_factory.mktemp("command line")
    assert (
        main(
            ["train", "--corpus", str(mini_corpus_root), "--method", "linear", "--kind", "lmmse", "--out", str(folder)]
        )
        == 0
    )
    (folder / "plan.json").write_text('{"optimizer": {}}')
    return folder


# Each wrong call, and what its one line must name: what is wrong, and the next step.
WRONG: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "unknown command": (["fold"], ("'fold'", "python -m denoise_core --help")),
    "missing option": (["folds"], ("corpus", "python -m denoise_core folds --help")),
    "option of a wrong type": (["corpus", "--out", "x", "--seed", "one"], ("integer", "corpus --help")),
    "corpus size": (["corpus", "--out", "x", "--size", "big"], ("'big'", "mini or full")),
    "no corpus": (["folds", "--corpus", "nowhere", "--out", "x"], ("nowhere", "python -m denoise_core corpus")),
    "no manifest": (
        ["train", "--corpus", "CORPUS", "--out", "x", "--train-manifest", "no.csv"],
        ("no.csv", "check the path"),
    ),
    "method": (["train", "--corpus", "CORPUS", "--out", "x", "--method", "cubic"], ("'cubic'", "mamba or linear")),
    "filter": (
        ["train", "--corpus", "CORPUS", "--out", "x", "--method", "linear", "--kind", "z"],
        ("'z'", "lmmse"),
    ),
    "named plan": (["train", "--corpus", "CORPUS", "--out", "x", "--plan", "huge"], ("'huge'", "act_of_god_mini")),
    "no plan file": (["train", "--corpus", "CORPUS", "--out", "x", "--plan", "no.json"], ("no.json", "check the path")),
    "plan file": (["train", "--corpus", "CORPUS", "--out", "x", "--plan", "plan.json"], ("plan.json", "optimizer")),
    "no warm start": (
        ["train", "--corpus", "CORPUS", "--out", "x", "--init-checkpoint", "no.pt"],
        ("no.pt", "check the path"),
    ),
    "device": (
        ["denoise", "--corpus", "CORPUS", "--manifest", "PANEL", "--checkpoint", "linear_lmmse.pt", "--out", "x",
         "--device", "gpu"],
        ("'gpu'", "auto, cpu"),
    ),
    "checkpoint": (
        ["denoise", "--corpus", "CORPUS", "--manifest", "PANEL", "--checkpoint", "plan.json", "--out", "x"],
        ("plan.json", "train it again"),
    ),
    "layout": (
        ["denoise", "--corpus", "CORPUS", "--manifest", "PANEL", "--checkpoint", "linear_lmmse.pt", "--out", "x",
         "--layout", "zip"],
        ("'zip'", "packed, files"),
    ),
    "no predictions": (
        ["evaluate", "--corpus", "CORPUS", "--panel", "PANEL", "--predictions", "nowhere", "--out", "x"],
        ("nowhere", "give a folder"),
    ),
    "expected hash": (
        ["evaluate", "--corpus", "CORPUS", "--panel", "PANEL", "--predictions", "nowhere", "--out", "x",
         "--expected-hash", "latest"],
        ("'latest' is no SHA-256", "64 hexadecimal digits"),
    ),
    "no bundle": (["replay", "--corpus", "CORPUS", "--bundle", "no.zip"], ("no.zip", "name the zip")),
    "a file where a folder should be": (
        ["train", "--corpus", "CORPUS", "--method", "linear", "--out", "plan.json/x"],
        ("plan.json", "check the path"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_call_is_one_line_with_the_next_step_and_exit_code_2(
    wrong: str,
    work: Path,
    mini_corpus_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call, named = WRONG[wrong]
    there = {"CORPUS": str(mini_corpus_root), "PANEL": str(mini_corpus_root / "validation_panel.csv")}
    monkeypatch.chdir(work)
    before = {path.name for path in work.iterdir()}
    capsys.readouterr()
    assert main([there.get(word, word) for word in call]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1, told.err
    assert told.err.startswith("error: ")
    assert "; " in told.err
    for text in named:
        assert text in told.err
    assert {path.name for path in work.iterdir()} == before


@pytest.mark.parametrize("place", [0, 1, 5])
def test_verbose_anywhere_on_the_line_shows_the_trace(place: int, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["folds", "--corpus", "nowhere", "--out", "x"]
    assert main([*call[:place], "-v", *call[place:]]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.splitlines()[-1].startswith("error: nowhere")


def test_json_where_a_script_wants_it(
    work: Path, mini_corpus_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, panel = str(mini_corpus_root), str(mini_corpus_root / "validation_panel.csv")

    def told(*call: str) -> dict[str, object]:
        capsys.readouterr()
        assert main([*call, "--json"]) == 0
        content: dict[str, object] = json.loads(capsys.readouterr().out)
        return content

    made = told("corpus", "--out", str(tmp_path / "mini"), "--seed", "2")
    assert made == {"corpus": str(tmp_path / "mini"), "size": "mini", "seed": 2}
    folds = told("folds", "--corpus", corpus, "--out", str(tmp_path / "folds"))["folds"]
    assert folds == [str(tmp_path / "folds" / f"fold_{n:02d}") for n in range(1, 6)]
    out = tmp_path / "denoised"
    checkpoint = str(work / "linear_lmmse.pt")
    done = told(
        "denoise", "--corpus", corpus, "--manifest", panel, "--checkpoint", checkpoint, "--out", str(out)
    )  # fmt: skip
    assert done == {"rows": 200, "spectra": 120, "out": str(out)}
    judged = told(
        "evaluate", "--corpus", corpus, "--panel", panel, "--predictions", str(out), "--out", str(tmp_path / "audit")
    )
    assert judged["manifest"] == panel


def test_a_model_of_another_grid_is_refused_before_anything_is_written(
    work: Path, mini_corpus_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = open_corpus(mini_corpus_root)
    theirs = pack(corpus_of(mini.captures, mini.spectra_NL[:, ::2], mini.wavelength_nm[::2]), tmp_path / "theirs")
    model, panel = str(work / "linear_lmmse.pt"), str(mini_corpus_root / "validation_panel.csv")
    for call in (
        ["denoise", "--corpus", str(theirs), "--manifest", panel, "--checkpoint", model],
        ["train", "--corpus", str(theirs), "--init-checkpoint", model],
    ):
        capsys.readouterr()
        assert main([*call, "--out", str(tmp_path / "out")]) == 2
        told = capsys.readouterr().err
        assert "was trained on 601 wavelengths from 300 to 600 nm, the corpus has 301" in told, told
        assert not (tmp_path / "out").exists()


def test_a_panel_with_other_line_ends_says_so(
    work: Path, mini_corpus_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, panel, out = str(mini_corpus_root), mini_corpus_root / "validation_panel.csv", str(tmp_path / "denoised")
    ask = ["--corpus", corpus, "--manifest", str(panel), "--checkpoint", str(work / "linear_lmmse.pt"), "--out", out]
    assert main(["denoise", *ask, "--layout", "packed"]) == 0
    theirs = hashlib.sha256(panel.read_bytes().replace(b"\n", b"\r\n")).hexdigest()
    ask = ["--corpus", corpus, "--panel", str(panel), "--predictions", out, "--out", str(tmp_path / "audit")]
    capsys.readouterr()
    assert main(["evaluate", *ask, "--expected-hash", theirs.upper()]) == 3
    told = capsys.readouterr().out
    assert "line ends differ, the rows are the same" in told
    assert theirs in told
    assert hashlib.sha256(panel.read_bytes()).hexdigest() in told


def test_without_a_terminal_there_is_no_escape_code_and_nothing_but_the_result(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "denoise_core", "corpus", "--out", str(tmp_path / "mini")]
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "CLICOLOR_FORCE")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'mini'}\n"
    assert done.stderr == ""


def test_without_a_command_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    told = capsys.readouterr()
    for name in ("corpus", "folds", "train", "denoise", "evaluate", "replay"):
        assert name in told.out
    assert "\x1b" not in told.out
    assert told.err == ""


def test_a_training_tells_its_story_beside_its_result(
    mini_corpus_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = named("act_of_god_mini").model_dump()
    plan["model"] |= {"base": "capture", "d_model": 8, "n_layers": 1, "d_state": 4}
    plan["optimiser"] |= {"epochs": 1, "steps_per_epoch": 1}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    call = ["train", "--corpus", str(mini_corpus_root), "--plan", str(tmp_path / "plan.json"), "--out", str(tmp_path)]
    assert main([*call, "--json"]) == 0
    told = capsys.readouterr()
    assert Path(json.loads(told.out)["checkpoint"]).is_file()
    assert "epoch 1/1" in told.err

"""What values in [0, 1] are by their noise, where somebody calls them reflectance, or nobody says a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from denoise_core.__main__ import main
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.corpus.usable import values_told, verify_study
from study_core.errors import BadInput

TRULY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "absorbance": lambda y: -np.log10(np.maximum(y, 1e-4)),
    "absorptance": lambda y: 1 - y,
}


NM = slice(150, None, 2)  # from 375 nm on


@pytest.fixture(scope="module")
def mini(mini_corpus_root: Path) -> Corpus:
    return open_corpus(mini_corpus_root)


def groups_of(mini: Corpus, truly: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Captures whose values all lie in [0, 1] in other units, 25 of each group of the synthetic corpus."""
    of_group = [np.flatnonzero(mini.group_codes == code)[:25] for code in range(int(mini.group_codes.max()) + 1)]
    floor = 0.11 if truly == "absorbance" else 0.0
    rows = np.concatenate([rows for rows in of_group if mini.spectra_NL[rows, NM].min() >= floor])
    values = TRULY[truly](mini.spectra_NL[rows, NM])
    assert 0 <= values.min() < values.max() <= 1
    return mini.captures.iloc[rows], values


def table(path: Path, captures: pd.DataFrame, values: np.ndarray, grid: np.ndarray, head: str = "") -> Path:
    rows = ["treatment;sample;angle;" + ";".join(f"{x:g}" for x in grid)]
    for place, one in zip(captures[["treatment", "sample", "angle"]].to_numpy().tolist(), values.tolist(), strict=True):
        rows.append(";".join((*place, *map("{:.6f}".format, one))))
    path.write_text(head + "\n".join(rows) + "\n")
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["import", *arguments])
    out = capsys.readouterr()
    return code, out.out + out.err


@pytest.mark.parametrize("truly", TRULY)
def test_an_import_says_what_noise_tells_and_a_head_is_not_believed_against_it(
    truly: str, mini: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, grid, out = groups_of(mini, truly), mini.wavelength_nm[NM], str(tmp_path / "out")
    silent = str(table(tmp_path / "table.csv", *theirs, grid))
    code, text = told(capsys, silent, "--out", out)
    assert (code, f"BUT by their noise they are {truly}" in text, f"--yes --units {truly} makes" in text) == (
        0,
        True,
        True,
    )
    named = str(table(tmp_path / "named.csv", *theirs, grid, head="# y units: reflectance\n"))
    code, text = told(capsys, named, "--out", out, "--yes")
    assert (code, f"the files say reflectance, their noise {truly}" in text, Path(out).exists()) == (2, True, False)
    code, text = told(capsys, silent, "--out", out, "--yes", "--units", truly)
    assert (code, f"; by their noise they are {truly}" in text) == (0, True), text
    assert values_told(open_corpus(Path(out))).startswith("values taken for reflectance, as study.yaml says; ")


def test_a_corpus_that_nobody_names_is_not_opened_against_its_noise(
    mini: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captures, values = groups_of(mini, "absorbance")
    study = {"name": "theirs", "panel": [captures["group_id"].iloc[0]], "roi_nm": [380, 500]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    np.save(tmp_path / "spectra.npy", values)
    np.save(tmp_path / "wavelength_grid.npy", mini.wavelength_nm[NM])
    captures.to_csv(tmp_path / "manifest.csv", index=False)
    says = "nobody says what the values are, and by their noise they are absorbance"
    with pytest.raises(BadInput, match=says) as error:
        verify_study(tmp_path)
    assert "gated import --units absorbance; or units: reflectance in study.yaml" in error.value.remedy
    assert main(["train", "--corpus", str(tmp_path), "--method", "linear", "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**study, "units": "reflectance"}))
    assert verify_study(tmp_path).startswith("WARNING: values taken for reflectance, as study.yaml says; but by their")


def test_a_small_corpus_is_silent_and_says_so(mini: Corpus) -> None:
    told = values_told(mini)
    assert told.startswith("values taken for reflectance, as the seed's layout has them; ")

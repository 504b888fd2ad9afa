"""A base .npz: the measured probe is taken, and each kind of bad file has its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core.__main__ import main
from ptycho_core.base import make_base, with_base
from ptycho_core.design import StudyDesign
from ptycho_core.objects import synthetic_object
from ptycho_core.probes import lens, probe_facts
from study_core.errors import BadInput


def base_file(path: Path, **changes: Any) -> Path:
    """A good base file for the smoke study but for `changes`; None leaves a key out."""
    ys, xs = (grid.ravel().astype(float) for grid in np.meshgrid(np.arange(40, 320, 8), np.arange(40, 240, 8)))
    arrays = {
        "probeGuess": lens(64).astype(complex) * 3, "objectGuess": synthetic_object((400, 330), 5).astype(complex),
        "xcoords": xs, "ycoords": ys, "xcoords_start": xs, **changes,
    }  # fmt: skip
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_a_good_file_is_taken(tmp_path: Path, smoke: StudyDesign):
    path = base_file(tmp_path / "base.npz")
    design = with_base(smoke, path)
    assert design.sha256() != smoke.sha256()
    base = make_base(design, path)
    assert base.image.shape == (388, 324)
    assert base.image.dtype == base.probe.dtype == np.complex64
    assert (np.abs(base.probe) ** 2).sum() == pytest.approx(1, abs=1e-6)
    assert len(base.scan.y) == 1280
    own = make_base(with_base(smoke, path, image="synthetic"), path)
    assert (own.image == make_base(smoke).image).all()
    positions = make_base(with_base(smoke, path, scan="file"), path)
    assert len(positions.scan.y) == 35 * 25
    assert positions.scan.in_train.any()
    assert positions.scan.in_test.any()


def noisy(key: str, value: object) -> Callable[[], dict[str, Any]]:
    def change() -> dict[str, Any]:
        array = {"probeGuess": lens(64), "objectGuess": synthetic_object((400, 330), 5)}[key].copy()
        array[3, 4] = value
        return {key: array}

    return change


BAD: list[tuple[str, dict[str, Any] | Callable[[], dict[str, Any]], str]] = [
    ("no probe", {"probeGuess": None}, "key probeGuess is missing"),
    ("no object", {"objectGuess": None}, "key objectGuess is missing"),
    ("real probe", {"probeGuess": np.ones((64, 64))}, r"key probeGuess: got float64 \(64, 64\), expected complex"),
    ("axes", {"probeGuess": np.ones((1, 64, 64), complex)}, "expected complex with 2 axes"),
    ("not square", {"probeGuess": np.ones((64, 62), complex)}, "64 x 62 is not square"),
    ("odd", {"probeGuess": np.ones((63, 63), complex)}, "side 63 is odd"),
    ("other N", {"probeGuess": np.ones((128, 128), complex)}, "128 x 128, the design says N = 64"),
    ("dark", {"probeGuess": np.zeros((64, 64), complex)}, "zero everywhere"),
    ("NaN", noisy("probeGuess", np.nan), "row 3: key probeGuess holds NaN"),
    ("NaN object", noisy("objectGuess", np.inf), "row 3: key objectGuess holds NaN"),
    ("small", {"objectGuess": np.ones((90, 80), complex)}, "90 x 80 px, the scan needs 388 x 324; add --tile"),
    ("pickle", {"objectGuess": np.array([{}], dtype=object)}, "key objectGuess holds Python objects"),
]


@pytest.mark.parametrize(("change", "told"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_file(tmp_path: Path, smoke: StudyDesign, change: Any, told: str):
    path = base_file(tmp_path / "base.npz", **(change() if callable(change) else change))
    with pytest.raises(BadInput, match=told) as caught:
        make_base(with_base(smoke, path), path)
    assert "base.npz" in str(caught.value)


def test_bad_scan_and_other_files(tmp_path: Path, smoke: StudyDesign):
    short = base_file(tmp_path / "short.npz", ycoords=np.zeros(3))
    with pytest.raises(BadInput, match="3 ycoords, 875 xcoords"):
        make_base(with_base(smoke, short, scan="file"), short)
    flat = base_file(tmp_path / "flat.npz", ycoords=np.linspace(40, 60, 875))
    with pytest.raises(BadInput, match="a half is empty"):
        make_base(with_base(smoke, flat, scan="file"), flat)
    design = with_base(smoke, short)
    with pytest.raises(BadInput, match="the study was designed for"):
        make_base(design, flat)
    with pytest.raises(BadInput, match="starts from a base file"):
        make_base(design)
    with pytest.raises(BadInput, match="no such file"):
        with_base(smoke, tmp_path / "none.npz")
    left = base_file(tmp_path / "left.npz", xcoords=np.tile(np.arange(-8, 192, 8.0), 35))
    with pytest.raises(BadInput, match=r"left\.npz, row 0: the patch at \(y 40, x -8\) begins outside"):
        with_base(smoke, left, scan="file")


def test_what_is_no_npz_is_told_to_whoever_made_it(tmp_path: Path, smoke: StudyDesign):
    good = base_file(tmp_path / "good.npz").read_bytes()
    for name, content in {"text": b"hello", "empty": b"", "cut": good[:5000]}.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(BadInput, match=rf"{name}\.npz: cannot be read as \.npz .*; store it with numpy\.savez"):
            with_base(smoke, path)


def test_a_bad_file_claims_no_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The mended file goes into the same folder."""
    path = base_file(tmp_path / "base.npz", probeGuess=np.zeros((64, 64), complex))
    words = ["design", "--size", "smoke", "--hub", str(tmp_path / "hub"), "--base-npz", str(path)]
    assert main(words) == 2
    assert "zero everywhere" in capsys.readouterr().err
    assert not (tmp_path / "hub").exists()
    base_file(path)
    assert main(words) == 0


def test_tile_and_scale(tmp_path: Path, smoke: StudyDesign):
    small = base_file(tmp_path / "small.npz", objectGuess=synthetic_object((90, 80), 5) * 30)
    base = make_base(with_base(smoke, small, tile=True), small)
    assert base.image.shape == (388, 324)
    assert (base.image[:90, :80] == base.image[90:180, 80:160]).all()
    assert np.quantile(np.abs(base.image), 0.999) == pytest.approx(1, abs=0.01)
    assert any("repeated 5 x 5 times" in line for line in base.transforms)
    assert any("divided by" in line for line in base.transforms)


def test_the_measured_probe(real_probe: Path, smoke: StudyDesign):
    base = make_base(with_base(smoke, real_probe, image="synthetic"), real_probe)
    facts = probe_facts(base.probe)
    assert [facts.rms_diameter, facts.d90, facts.d99] == pytest.approx([30.6, 43.9, 55.4], abs=0.05)
    assert facts.curvature_rad == pytest.approx(-26, abs=3)
    with pytest.raises(BadInput, match="227 x 226 px, the scan needs 388 x 324"):
        make_base(with_base(smoke, real_probe), real_probe)

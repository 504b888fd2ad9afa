"""LSQML by pty-chi: exact at the truth, as good as measured, flat start only, and absent without a fuss."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core.__main__ import main
from ptycho_core.contract import Dataset, read_dataset
from ptycho_core.forward import intensities
from ptycho_core.inference import explained
from ptycho_core.jobs.reconstruct import Reconstruct, reconstruct
from ptycho_core.layout import Layout
from ptycho_core.lsqml import LsqmlOptions, available, reconstruct_patterns
from ptycho_core.metrics.align import align, phase_and_amplitude
from ptycho_core.metrics.masked import lit_mask
from ptycho_core.metrics.msssim import ms_ssim
from ptycho_core.npz import read_arrays, write_arrays
from ptycho_core.reference import crop, rpie
from study_core.errors import BadInput, TrainingInterrupted
from study_core.files import read_json
from study_core.job import Content

with_ptychi = pytest.mark.skipif(bool(available()), reason=available() or "pty-chi is here")


@dataclass
class Folder:
    """A job's surroundings."""

    folder: Path
    stop_after: int = 10**9
    adjustments: dict[str, Any] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)

    def should_stop(self) -> bool:
        return len(self.told) >= self.stop_after

    def progress(self, **fields: Any) -> None:
        self.told.append(fields)


def truth_of(layout: Layout, dose: float) -> np.ndarray:
    return read_arrays(layout.truth(dose))[0]["objectTruth"]


def phase_score(image: np.ndarray, truth: np.ndarray, data: Dataset) -> float:
    mask = lit_mask(data)
    phase, wanted, _, _ = phase_and_amplitude(align(image, truth, mask).image, truth, mask)
    return ms_ssim(phase, wanted, mask)


class Noiseless(Dataset):
    """Expected counts of the truth instead of drawn ones."""

    truth: np.ndarray

    def counts(self) -> Any:
        return self.s2 * intensities(self.truth, self.probe, self.y, self.x)


def noiseless(data: Dataset, truth: np.ndarray) -> Noiseless:
    made = Noiseless(**{name: getattr(data, name) for name in data.__dataclass_fields__})
    object.__setattr__(made, "truth", truth)
    return made


def first(data: Dataset, rows: np.ndarray) -> Dataset:
    return replace(data, diffraction=data.diffraction[rows], y=data.y[rows], x=data.x[rows])


def test_rpie_recovers_the_object_without_noise(mini_hub: Layout):
    """The oracle of the forward model: an iteration of its own finds the object that made the patterns."""
    data, truth = read_dataset(mini_hub.dataset(1e5, "baseline", "test")), truth_of(mini_hub, 1e5)
    few = first(data, crop(data, 192))
    patterns = np.sqrt(intensities(truth, few.probe, few.y, few.x))
    image = rpie(patterns, few.probe, few.y, few.x, few.flat)
    mask = lit_mask(few)
    aligned = align(image, truth, mask)
    assert np.linalg.norm((aligned.image - truth)[mask]) / np.linalg.norm(truth[mask]) < 0.005
    assert phase_score(image, truth, few) > 0.999
    assert aligned.scale == pytest.approx(1, abs=1e-3)


@pytest.mark.ptycho
@with_ptychi
def test_the_truth_is_an_exact_fixed_point(mini_hub: Layout):
    data, truth = read_dataset(mini_hub.dataset(1e5, "dense", "test")), truth_of(mini_hub, 1e5)
    few = noiseless(first(data, np.arange(64)), truth)
    mask = lit_mask(few)
    kept = reconstruct_patterns(few, LsqmlOptions(epochs=1), start=truth)
    assert np.abs(kept.image - truth)[mask].max() < 1e-5
    top, left, height, width = kept.frame
    renormalised = reconstruct_patterns(few, LsqmlOptions(epochs=1), start=truth, renormalise=True)
    factor = np.median(np.abs(renormalised.image[mask]) / np.abs(truth[mask]))
    inside = np.abs(truth[top : top + height, left : left + width])
    assert factor == pytest.approx(1 / inside.mean(), abs=0.02), "why pty-chi's own default is off"
    assert factor > 1.1


@pytest.mark.ptycho
@with_ptychi
def test_a_job_reconstructs_reuses_and_stops(smoke_hub: Layout, tmp_path: Path):
    request = Reconstruct(
        options=LsqmlOptions(epochs=25), patterns=Content.of(smoke_hub.dataset(1e4, "dense", "test")), device="cpu"
    )
    done = reconstruct(request, Folder(tmp_path / "a"))
    data, truth = read_dataset(request.patterns.path), truth_of(smoke_hub, 1e4)
    arrays, metadata = read_arrays(done.reconstruction.path)
    image = data.flat.copy()
    (top, left), (height, width) = arrays["offset"], arrays["object"].shape
    image[top : top + height, left : left + width] = arrays["object"]
    assert phase_score(image, truth, data) > 0.5
    assert explained(image, data) == pytest.approx(done.deviance_ratio, rel=1e-6)
    assert done.deviance_ratio < 1.1
    assert done.num_epochs == len(arrays["loss"]) == 25
    assert metadata["view"] == "dense"
    assert (done.options["noise"], done.ptychi) == ("poisson", "2.2.0")
    again = Folder(tmp_path / "a")
    assert reconstruct(request, again) == done
    assert again.told == []
    short = request.model_copy(update={"options": LsqmlOptions(epochs=3)})
    with pytest.raises(TrainingInterrupted, match="stopped after 2 of 3"):
        reconstruct(short, Folder(tmp_path / "b", stop_after=2))
    one, other = (reconstruct(short, Folder(tmp_path / name)) for name in ("b", "c"))
    assert one.reconstruction.sha256 == other.reconstruction.sha256


def test_only_a_flat_start_is_taken(smoke_hub: Layout, tmp_path: Path):
    arrays, metadata = read_arrays(smoke_hub.dataset(1e4, "dense", "test"))
    arrays["objectGuess"] = truth_of(smoke_hub, 1e4)
    path = write_arrays(tmp_path / "cheat.npz", arrays, metadata)
    with pytest.raises(BadInput, match=r"cheat\.npz: key objectGuess is not flat: a reconstruction must start flat"):
        reconstruct(Reconstruct(options=LsqmlOptions(epochs=1), patterns=Content.of(path)), Folder(tmp_path))


@pytest.mark.ptycho
@with_ptychi
def test_commands_and_closed_truth(smoke_hub: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import shutil

    hub = tmp_path / "hub"
    shutil.copytree(smoke_hub.hub, hub)
    for name in ("truth.npz", "truth_train.npz"):
        (hub / "dose_10000" / name).unlink()
    command = ["reconstruct", "--hub", str(hub), "--dose", "1e4", "--view", "sparse", "--epochs", "3"]
    assert main([*command, "--dry-run"]) == 0
    assert [job["status"] for job in read_json(hub / "reconstruction_manifest.json")["jobs"]] == ["dry-run"]
    assert main(command) == 0
    [job] = read_json(hub / "reconstruction_manifest.json")["jobs"]
    assert job["status"] == "success"
    assert job["output"] == "reconstruct/dose_10000/sparse_test/reconstruction.npz"
    assert job["num_epochs"] == 3
    assert job["input_sha256"] == Content.of(hub / job["input_npz"]).sha256
    assert main([*command, "--split", "all", "--dry-run=true"]) == 0
    jobs = read_json(hub / "reconstruction_manifest.json")["jobs"]
    assert [(one["split"], one["status"]) for one in jobs] == [("test", "success"), ("train", "dry-run")]
    capsys.readouterr()
    assert main([*command, "--noise", "salt"]) == 2
    assert "no noise model 'salt'" in capsys.readouterr().err


_WITHOUT = """
import importlib.metadata, sys
real = importlib.metadata.version
def version(name):
    if name == "ptychi": raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.version = version
from ptycho_core.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_pty_chi_the_cells_are_skips(smoke_hub: Layout, tmp_path: Path):
    import shutil

    hub = tmp_path / "hub"
    shutil.copytree(smoke_hub.hub, hub)
    words = ["reconstruct", "--hub", str(hub), "--dose", "1e4"]
    done = subprocess.run([sys.executable, "-c", _WITHOUT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pty-chi is not installed; pip install" in done.stdout
    jobs = read_json(hub / "reconstruction_manifest.json")["jobs"]
    assert {job["status"] for job in jobs} == {"skipped"}
    assert all(job["error"].startswith("pty-chi") for job in jobs)


@pytest.mark.ptycho
@with_ptychi
def test_torchvision_is_lent_and_taken_back(tmp_path: Path):
    """With a torchvision that breaks as beside CPU torch, pty-chi imports and nothing of it stays."""
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from ptycho_core.lsqml import available; "
        "assert available() == '', available(); assert 'torchvision' not in sys.modules; assert available() == ''"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    (broken / "__init__.py").write_text("raise RuntimeError('another fault')\n")
    told = "import sys; sys.path.insert(0, sys.argv[1]); from ptycho_core.lsqml import available; print(available())"
    done = subprocess.run([sys.executable, "-c", told, str(tmp_path)], check=True, capture_output=True, text=True)
    assert "pty-chi cannot be imported (another fault); pip install" in done.stdout


@pytest.mark.slow
@pytest.mark.ptycho
@with_ptychi
@pytest.mark.parametrize(("dose", "expected", "tolerance"), [(1e5, 0.804, 0.02), (1e3, 0.440, 0.04)])
def test_measured_quality(mini_hub: Layout, tmp_path: Path, dose: float, expected: float, tolerance: float):
    data = read_dataset(mini_hub.dataset(dose, "dense", "test"))
    found = reconstruct_patterns(data)
    assert phase_score(found.image, truth_of(mini_hub, dose), data) == pytest.approx(expected, abs=tolerance)

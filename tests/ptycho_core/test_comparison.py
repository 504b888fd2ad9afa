"""One cell compared: equal to the truth scores 1, an arm that is missing or broken costs its row alone."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core.contract import read_dataset
from ptycho_core.design import ALL, MetricsDesign
from ptycho_core.jobs.compare import ArmFile, Compare, Compared, compare
from ptycho_core.layout import Layout
from ptycho_core.npz import read_arrays, write_arrays
from study_core.errors import BadInput, TrainingInterrupted
from study_core.files import read_json
from study_core.job import Content


@dataclass
class Here:
    """A job's surroundings that may ask to stop."""

    folder: Path
    stop: bool = False

    def should_stop(self) -> bool:
        return self.stop

    def progress(self, **fields: Any) -> None:
        pass

    @property
    def adjustments(self) -> dict[str, Any]:
        return {}


def request(hub: Layout, *arms: ArmFile, view: str = "dense", metrics: MetricsDesign | None = None) -> Compare:
    return Compare(
        dose=1e4, view=view, metrics=metrics or MetricsDesign(), lit_energy=0.9, arms=arms,
        test=Content.of(hub.dataset(1e4, view, "test")), field=Content.of(hub.dataset(1e4, ALL, "test")),
        truth=Content.of(hub.truth(1e4)), device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def truth(smoke_hub: Layout) -> np.ndarray:
    return read_arrays(smoke_hub.truth(1e4))[0]["objectTruth"]


def reconstruction(path: Path, image: np.ndarray, offset: tuple[int, int] = (0, 0)) -> ArmFile:
    write_arrays(path, {"object": image.astype(np.complex64), "offset": np.array(offset, dtype=np.int64)})
    return ArmFile(arm="PtyChi", file=Content.of(path))


def rows(done: Compared) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in read_json(done.metrics.path)["arms"]}


def test_the_truth_scores_one_whatever_its_scale(smoke_hub: Layout, truth: np.ndarray, tmp_path: Path):
    """A global complex factor and anything outside the lit pixels are free; the factor is recorded."""
    scaled = 0.5 * np.exp(2j) * truth
    outside = read_arrays(smoke_hub.truth(1e4))[0]["train_pixels"]
    scaled[outside] = 7
    arm = reconstruction(tmp_path / "r.npz", scaled)
    done = compare(request(smoke_hub, arm, ArmFile(arm="flat")), Here(tmp_path / "cell"))
    found = rows(done)
    numbers = found["PtyChi"]["numbers"]
    assert numbers["ph_ms_ssim"] == pytest.approx(1, abs=1e-6)
    assert numbers["ph_mae"] < 1e-6
    assert (numbers["ph_frc50"], numbers["shift"]) == (1.0, pytest.approx(0, abs=0.021))
    assert (numbers["scale"], numbers["amplitude_ratio"]) == (pytest.approx(2, rel=1e-5), pytest.approx(0.5, rel=1e-5))
    assert numbers["rolled_ph_ms_ssim"] < 0.1
    assert numbers["deviance_ratio"] > 2  # half the amplitude does not explain the photons
    flat = found["flat"]["numbers"]
    assert flat["ph_ms_ssim"] < 0.05
    assert flat["deviance_ratio"] == pytest.approx(2.0, abs=0.1)
    assert (done.n_success, done.n_failed) == (2, 0)


def test_the_cell_is_written_for_people_and_for_replay(smoke_hub: Layout, truth: np.ndarray, tmp_path: Path):
    arm = reconstruction(tmp_path / "r.npz", truth[100:], (100, 0))
    missing = ArmFile(arm="Baseline", missing="out of memory")
    done = compare(request(smoke_hub, missing, arm), Here(tmp_path / "cell"))
    record = read_json(done.metrics.path)
    data = read_dataset(smoke_hub.dataset(1e4, "dense", "test"))
    assert (record["n_images"], record["n_groups"]) == (len(data.y), len(data.groups))
    assert record["shared_pixels"] == 0
    assert 0.5 < record["lit_fraction"] <= 1
    with open(done.table.path, newline="") as stream:
        table = {line["arm"]: line for line in csv.DictReader(stream)}
    assert float(table["PtyChi"]["ph_mae"]) == record["arms"][1]["numbers"]["ph_mae"]
    assert (table["Baseline"]["status"], table["Baseline"]["reason"]) == ("missing", "out of memory")
    image, archived = (read_arrays(done.images[name].path)[0] for name in ("PtyChi", "truth"))
    lit = archived["mask"]
    assert lit.sum() == record["lit_px"]
    np.testing.assert_allclose(image["object"][lit], archived["object"][lit], atol=1e-6)
    assert np.isnan(archived["object"][~lit]).all()


def test_a_broken_arm_costs_its_row(smoke_hub: Layout, truth: np.ndarray, tmp_path: Path):
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(b"no zip")
    arms = [ArmFile(arm="PtychoPINN", file=Content.of(bundle)), reconstruction(tmp_path / "r.npz", truth)]
    done = compare(request(smoke_hub, *arms), Here(tmp_path / "cell"))
    found = rows(done)
    assert found["PtychoPINN"]["status"] == "failed"
    assert "not a usable bundle" in found["PtychoPINN"]["reason"]
    assert found["PtyChi"]["status"] == "success"
    assert (done.n_success, done.n_failed) == (1, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("frame", "leaves the frame"), ("nan", "not finite"), ("keys", "keys object and offset"),
        ("moved", "px from the truth"),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_the_object_is_refused(
    smoke_hub: Layout, truth: np.ndarray, tmp_path: Path, change: str, told: str
):
    image, offset = truth.copy(), (0, 0)
    if change == "frame":
        offset = (4, 0)
    elif change == "nan":
        image[:] = np.nan
    elif change == "moved":
        image = np.roll(image, 30, axis=1)
    arm = reconstruction(tmp_path / "r.npz", image, offset)
    if change == "keys":
        write_arrays(tmp_path / "r.npz", {"image": image})
        arm = ArmFile(arm="PtyChi", file=Content.of(tmp_path / "r.npz"))
    row = rows(compare(request(smoke_hub, arm), Here(tmp_path / "cell")))["PtyChi"]
    assert row["status"] == "failed"
    assert told in row["reason"]


def test_a_cell_is_computed_once_until_something_changes(smoke_hub: Layout, truth: np.ndarray, tmp_path: Path):
    asked = request(smoke_hub, reconstruction(tmp_path / "r.npz", truth))
    done = compare(asked, Here(tmp_path / "cell"))
    before = done.metrics.path.stat().st_mtime_ns
    assert compare(asked, Here(tmp_path / "cell")).metrics == done.metrics
    assert done.metrics.path.stat().st_mtime_ns == before
    done.images["PtyChi"].path.write_bytes(b"damaged")
    again = compare(asked, Here(tmp_path / "cell"))
    assert again.images == done.images
    other = request(smoke_hub, reconstruction(tmp_path / "r.npz", truth), metrics=MetricsDesign(ms_ssim_sigma=2))
    assert compare(other, Here(tmp_path / "cell")).metrics != done.metrics


def test_asked_to_stop_it_stops_between_arms(smoke_hub: Layout, tmp_path: Path):
    with pytest.raises(TrainingInterrupted, match="1 of 2 arms"):
        compare(request(smoke_hub, ArmFile(arm="flat"), ArmFile(arm="flat", seed=1)), Here(tmp_path / "c", stop=True))


def test_a_lit_region_too_small_for_the_levels_is_told(smoke_hub: Layout, truth: np.ndarray, tmp_path: Path):
    asked = request(smoke_hub, reconstruction(tmp_path / "r.npz", truth), metrics=MetricsDesign(ms_ssim_levels=5))
    with pytest.raises(BadInput, match=r"MS-SSIM level 5: .* windows are lit"):
        compare(asked, Here(tmp_path / "cell"))


def test_the_truth_must_be_of_the_patterns(smoke_hub: Layout, tmp_path: Path):
    shutil.copy(smoke_hub.dataset(1e4, ALL, "train"), tmp_path / "truth.npz")
    asked = request(smoke_hub, ArmFile(arm="flat")).model_copy(update={"truth": Content.of(tmp_path / "truth.npz")})
    with pytest.raises(BadInput, match="no truth of the patterns' frame"):
        compare(asked, Here(tmp_path / "cell"))

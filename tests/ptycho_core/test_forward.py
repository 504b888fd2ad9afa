"""Object, probe and photons against measured right values."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho_core.contract import read_dataset
from ptycho_core.design import StudyDesign
from ptycho_core.forward import cut, intensities
from ptycho_core.inference import explained, flat_object
from ptycho_core.layout import Layout
from ptycho_core.npz import read_arrays
from ptycho_core.objects import synthetic_object
from ptycho_core.probes import lens, normalised, probe_facts
from ptycho_core.scan import frame
from study_core.errors import BadInput
from study_core.files import read_json, sha256_of


@pytest.mark.parametrize(
    ("n", "rms", "d90", "d99", "tolerance"), [(64, 30.41, 41.51, 50.98, 0.05), (128, 61.73, 82.70, 98.77, 0.05)]
)
def test_probe_diameters(n: int, rms: float, d90: float, d99: float, tolerance: float):
    facts = probe_facts(lens(n))
    assert [facts.rms_diameter, facts.d90, facts.d99] == pytest.approx([rms, d90, d99], abs=tolerance)


def test_the_sign_of_the_curvature_is_told():
    probe = lens(64)
    facts = probe_facts(probe)
    assert facts.curvature_rad < -20
    assert "as the study's own" in facts.sentence()
    turned = probe_facts(normalised(probe.conj()))
    assert turned.curvature_rad > 20
    assert "INVERTED" in turned.sentence()


def test_object(mini: StudyDesign):
    image = synthetic_object(frame(mini), mini.seeds.object)
    assert image.shape == (516, 452)
    amplitude, phase = np.abs(image), np.angle(image)
    assert (amplitude.min(), amplitude.max()) == pytest.approx((0.708, 1.000), abs=0.001)
    assert (phase.min(), phase.max()) == pytest.approx((-0.902, 0.497), abs=0.001)
    assert (synthetic_object((40, 40), 1) != synthetic_object((40, 40), 2)).any()


def test_far_field_keeps_the_energy(mini: StudyDesign):
    image, probe = synthetic_object((100, 100), 3), lens(64)
    ys, xs = np.array([32, 50, 68]), np.array([32, 41, 60])
    intensity = intensities(image, probe, ys, xs)
    energy = (np.abs(probe * cut(image, ys, xs, 64)) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(intensity.sum(axis=(1, 2)), energy, rtol=1e-5)
    for one, y, x in zip(intensity, ys, xs, strict=True):  # the textbook form, with both shifts
        wave = probe.astype(complex) * image[y - 32 : y + 32, x - 32 : x + 32]
        far = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave), norm="ortho"))
        np.testing.assert_allclose(one, np.abs(far) ** 2, atol=1e-9)
    with pytest.raises(BadInput, match="leaves the object"):
        intensities(image, probe, np.array([32, 31]), np.array([32, 32]))


@pytest.mark.parametrize(
    ("dose", "s2", "mean", "zeros", "largest", "train_sum"),
    [
        (1e3, 1262.42, 1000.1, 0.812, 9, 1_150_242),
        (1e4, 12624.2, 10009.1, 0.472, 30, 11_515_245),
        (1e5, 126242.0, 100103.0, 0.323, 207, 115_125_729),
    ],
)
def test_photons(mini_hub: Layout, dose, s2, mean, zeros, largest, train_sum):
    entry = read_json(mini_hub.run_manifest)[f"dose_{int(dose)}"]
    assert entry["s"] ** 2 == pytest.approx(s2, rel=5e-6)
    assert entry["max_count"] == largest
    train, test = (read_dataset(mini_hub.dataset(dose, "baseline", split)) for split in ("train", "test"))
    assert int(train.counts().sum()) == train_sum
    counts = test.counts()
    assert counts.sum() / len(counts) == pytest.approx(mean, abs=0.06)
    assert (counts == 0).mean() == pytest.approx(zeros, abs=0.0006)
    assert entry["sha256"]["train"] == sha256_of(mini_hub.dataset(dose, "baseline", "train"))


@pytest.mark.parametrize(("dose", "truth", "flat"), [(1e3, 0.999, 1.088), (1e4, 1.003, 2.002), (1e5, 0.998, 9.618)])
def test_deviance_of_truth_and_of_a_flat_object(mini_hub: Layout, dose: float, truth: float, flat: float):
    test = read_dataset(mini_hub.dataset(dose, "dense", "test"))
    image = read_arrays(mini_hub.truth(dose))[0]["objectTruth"]
    assert explained(image, test) == pytest.approx(truth, abs=0.002)
    assert explained(flat_object(test), test) == pytest.approx(flat, abs=0.002)

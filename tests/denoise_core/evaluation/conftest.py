"""A small corpus in memory: fixed dips, a level a group, white noise; and the real one where it exists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus

WAVELENGTH = 300.0 + 0.5 * np.arange(601)
DIPS_NM = (335.0, 352.5, 371.0, 400.5, 423.0, 447.5, 466.0, 488.0)
GROUPS = (
    "treatment_1/sample_A/6Oclock",
    "treatment_1/sample_A/12Oclock",
    "treatment_2/sample_C/6Oclock",
    "treatment_3/sample_J/12Oclock",
    "treatment_5/sample_H/6Oclock",
    "treatment_6/sample_I/6Oclock",
)
PANEL = GROUPS[3:]


def clean_spectrum(level: float, depth: float = 0.02) -> np.ndarray:
    """Rising continuum with eight Gaussian dips (σ 0.7 nm) inside 320–500 nm."""
    dips = sum(np.exp(-0.5 * ((WAVELENGTH - centre) / 0.7) ** 2) for centre in DIPS_NM)
    return level + 0.2 * (WAVELENGTH - 300.0) / 300.0 - depth * dips


@pytest.fixture(scope="session")
def tiny() -> Corpus:
    """Six groups of 30 captures, noise sd 0.001."""
    rng = np.random.default_rng(7)
    rows = [
        (f"{group}/rep_{replicate:03d}.npy", *group.split("/"), group) for group in GROUPS for replicate in range(30)
    ]
    captures = pd.DataFrame(rows, columns=["relative_path", "treatment", "sample", "angle", "group_id"])
    truth = np.repeat([clean_spectrum(0.15 + 0.03 * k) for k in range(len(GROUPS))], 30, axis=0)
    spectra = (truth + rng.normal(0, 0.001, truth.shape)).astype(np.float32)
    return corpus_of(captures, spectra, WAVELENGTH)


@pytest.fixture(scope="session")
def tiny_panel(tiny: Corpus) -> Manifest:
    """Three groups; the first one's rows stand twice."""
    frame = tiny.captures[tiny.captures["group_id"].isin(PANEL)]
    return manifest_of(pd.concat([frame[frame["group_id"] == PANEL[0]], frame]))


@pytest.fixture(scope="session")
def tiny_training(tiny: Corpus) -> Manifest:
    return manifest_of(tiny.captures[~tiny.captures["group_id"].isin(PANEL)])


@pytest.fixture(scope="session")
def tiny_truth(tiny_panel: Manifest) -> np.ndarray:
    """The clean spectrum of each panel row."""
    level = {group: 0.15 + 0.03 * k for k, group in enumerate(GROUPS)}
    return np.stack([clean_spectrum(level[group]) for group in tiny_panel.frame["group_id"]])


@pytest.fixture(scope="session")
def real(real_corpus_root: Path) -> Corpus:
    return open_corpus(real_corpus_root)


@pytest.fixture(scope="session")
def real_panel(real: Corpus) -> Manifest:
    return real.manifest("validation_panel")


@pytest.fixture(scope="session")
def published(real_corpus_root: Path, real_panel: Manifest) -> np.ndarray:
    """What the published checkpoint made of the panel."""
    from denoise_core.evaluation.predictions import read_predictions

    packed = real_corpus_root / "published_panel" / "denoised.npz"
    if not packed.exists():
        pytest.skip("this corpus carries no published panel")
    return read_predictions(packed, real_panel)

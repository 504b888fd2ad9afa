"""The embedded synthetic corpus: seeded, in the seed's own layout, generated in seconds.

Same counts, manifests, metadata and statistics as the real corpus (`spectral_model` holds the numbers), and the
clean truth beside it, outside every folder that training reads. Size `mini` has the same structure with fewer
treatments and captures. Equal (size, seed) give equal bytes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denoise_core.corpus import coverage, layout, spectral_model
from denoise_core.corpus.dose import dose_features, dose_stats, film_features, sampling_weights
from denoise_core.corpus.folds import folds_json
from denoise_core.corpus.manifest import COLUMNS, write_manifest
from denoise_core.corpus.statistics import lambda_stats, write_lambda_stats
from denoise_core.corpus.study import ANGLES, CONTROL, PUBLISHED
from study_core.errors import BadInput

Size = Literal["mini", "full"]
VERSION = 3  # raise it when equal (size, seed) would give other bytes
SAMPLES = {
    "treatment_1": "ABCEH",
    "treatment_2": "ACDFH",
    "treatment_3": "BFGIJ",
    "treatment_4": "CDEIJ",
    "treatment_5": "ACGHJ",
    CONTROL: "GI",
}
STAGING_CONTROLS = "ABEGI"  # staging has five samples of the controls too


@dataclass(frozen=True)
class _Shape:
    """Treatments, captures of each group, and how strong and how individual the fingerprint is."""

    treatments: tuple[str, ...]
    captures: int
    strength: float = 1.0
    individuality: float = 1.0


# A reference from 39 other captures is twice as noisy as one from 149, too noisy for the dips that gate 3 measures:
# at strength 1 the clean truth itself is not safe. So the mini corpus has deeper dips, more alike between groups.
_SHAPES: dict[str, _Shape] = {
    "full": _Shape(tuple(SAMPLES), 150),
    "mini": _Shape(("treatment_1", "treatment_3", "treatment_5", CONTROL), 40, strength=1.6, individuality=0.5),
}


@dataclass(frozen=True, eq=False)
class _Spectra:
    """Rows of the staging corpus, its captures before (`staging`) and after alignment, and each group's truth."""

    frame: pd.DataFrame
    staging_NL: NDArray[np.float32]
    aligned_NL: NDArray[np.float32]
    clean_GL: NDArray[np.float32]
    groups: tuple[str, ...]


def generate(out: Path, size: Size = "mini", seed: int = 1) -> Path:
    """Write a synthetic corpus into the new folder `out` and return it.

    The folder appears whole or not at all. One that already holds the same (size, seed) is left as it is;
    BadInput for any other folder with something in it, for an unknown size and for a negative seed.
    """
    out = Path(out)
    if size not in get_args(Size):
        raise BadInput(f"unknown size {size!r}", remedy="use mini or full")
    if seed < 0:
        raise BadInput(f"seed {seed} is negative", remedy="give a whole number from 0")
    card = {"generator_version": VERSION, "size": size, "seed": seed}
    if out.exists() and _is_same(out, card):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        new = Path(temporary) / "corpus"
        _write(new, _draw(_SHAPES[size], seed))
        (new / "corpus.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        try:
            new.rename(out)  # replaces an empty folder
        except OSError:
            if not _is_same(out, card):  # another process may have been first with the same corpus
                raise
    return out


def _is_same(out: Path, card: Mapping[str, object]) -> bool:
    """Whether `out` holds this very corpus; BadInput when it holds anything else."""
    if not out.is_dir():
        raise BadInput("is a file", file=out, remedy="give a folder")
    if not any(out.iterdir()):
        return False
    path = out / "corpus.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != card:
        what = "the folder is not empty" if found is None else f"the folder holds another corpus {found}"
        raise BadInput(what, file=out, remedy="give a new folder, or remove this one")
    return True


def _stream(seed: int, *key: int) -> np.random.Generator:
    """The random stream of one purpose: independent of every other, and of the corpus's size."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _letters(treatment: str) -> str:
    """Samples of a treatment in staging, which holds those of the corpus and more controls."""
    return STAGING_CONTROLS if treatment == CONTROL else SAMPLES[treatment]


def _draw_levels(seed: int) -> dict[str, tuple[spectral_model.Array, spectral_model.Array]]:
    """Smooth level (L,) and shape (K,) of every group of staging; a smaller corpus takes its own from the same draw."""
    samples = [f"{treatment}/sample_{letter}" for treatment in SAMPLES for letter in _letters(treatment)]
    level_SAL, shape_SAK = spectral_model.draw_levels(_stream(seed, 3), len(samples))
    return {f"{s}/{a}": (level_SAL[i, j], shape_SAK[i, j]) for i, s in enumerate(samples) for j, a in enumerate(ANGLES)}


def _draw(shape: _Shape, seed: int) -> _Spectra:
    instrument = spectral_model.draw_instrument(_stream(seed, 0), shape.strength, shape.individuality)
    level = _draw_levels(seed)
    rows: list[tuple[str, ...]] = []
    staging, aligned, clean, groups = [], [], [], []
    for treatment in shape.treatments:
        t = int(treatment.removeprefix("treatment_"))
        treatment_L = spectral_model.draw_treatment_pattern(_stream(seed, 1, t))
        for letter in _letters(treatment):
            rng = _stream(seed, 5, t, ord(letter))
            for angle in ANGLES:
                group = f"{treatment}/sample_{letter}/{angle}"
                clean_L = spectral_model.draw_clean(rng, *level[group], instrument, treatment_L)
                captures_RL = spectral_model.draw_captures(rng, clean_L, shape.captures)
                staging.append(captures_RL)
                aligned.append(spectral_model.align(rng, captures_RL))
                clean.append(clean_L)
                groups.append(group)
                rows += [
                    (f"{group}/rep_{n:03d}.npy", treatment, f"sample_{letter}", angle, group)
                    for n in range(shape.captures)
                ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    staging_NL, aligned_NL = (np.clip(np.concatenate(part), 0, 1) for part in (staging, aligned))
    return _Spectra(frame, staging_NL, aligned_NL, np.stack(clean).astype(np.float32), tuple(groups))


def _write(out: Path, spectra: _Spectra) -> None:
    """Everything of the seed's `data/`, and the truth beside it."""
    letter = spectra.frame["sample"].str.removeprefix("sample_")
    in_corpus = ((spectra.frame["treatment"] != CONTROL) | letter.isin(list(SAMPLES[CONTROL]))).to_numpy()
    captures = spectra.frame[in_corpus].reset_index(drop=True)
    aligned_NL = spectra.aligned_NL[in_corpus]
    grid = spectral_model.WAVELENGTH_NM

    folder, staging = out / layout.SPECTRA_FOLDER, out / layout.STAGING_FOLDER
    _write_spectra(folder, captures["relative_path"].tolist(), aligned_NL)
    _write_spectra(staging, spectra.frame["relative_path"].tolist(), spectra.staging_NL)
    for home in (folder, staging):
        np.save(home / "wavelength_grid.npy", grid.astype(np.float32))
    write_lambda_stats(lambda_stats(aligned_NL, grid), folder / "lambda_stats.npz")

    for name in ("manifest", "manifest_full", "manifest_train"):
        write_manifest(layout.derive_manifest(captures, name, PUBLISHED), folder / f"{name}.csv")
    write_manifest(spectra.frame, staging / "manifest.csv")
    write_manifest(layout.derive_manifest(captures, "validation_panel", PUBLISHED), out / "validation_panel.csv")
    _write_json(out / "folds.json", folds_json(captures))

    metadata = out / "metadata"
    metadata.mkdir()
    dose_features(captures).to_csv(metadata / "dose_features.csv", index=False, lineterminator="\n")
    sampling_weights(captures).to_csv(metadata / "dose_sampling_weights.csv", index=False, lineterminator="\n")
    treatment = captures["treatment"].tolist()
    stats = dose_stats(film_features(treatment, captures["angle"].tolist()), treatment)
    _write_json(metadata / "dose_stats.json", stats.as_dict())
    coverage.write_notes(captures, out)

    truth = out / "truth"
    truth.mkdir()
    np.save(truth / "clean.npy", spectra.clean_GL)
    pd.DataFrame({"group_id": spectra.groups}).to_csv(truth / "groups.csv", index=False, lineterminator="\n")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _write_spectra(folder: Path, relative_paths: Sequence[str], spectra_NL: NDArray[np.float32]) -> None:
    """One `.npy` a capture, float32 (L,)."""
    for parent in dict.fromkeys(name.rsplit("/", 1)[0] for name in relative_paths):
        (folder / parent).mkdir(parents=True)
    head = layout.npy_head(spectra_NL.shape[1])
    for name, spectrum in zip(relative_paths, spectra_NL, strict=True):
        with open(f"{folder}/{name}", "wb", buffering=0) as handle:
            handle.write(head + spectrum.tobytes())

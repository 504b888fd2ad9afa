"""Where a corpus's files stand, how they are read, and which groups the standard manifests hold.

The counts follow from the study's panel and the number of captures a group: 150 in the full published corpus gives
8,100 / 11,100 / 10,350 rows and a panel of 750.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denoise_core.corpus.manifest import COLUMNS, FIRST_ROW, read_manifest
from denoise_core.corpus.study import NAME, STUDY_FILE, Study
from study_core.errors import UNREADABLE, BadInput

SPECTRA_FOLDER = "spectra_for_fold"
PACKED_FILE = "spectra.npy"
GRID_FILE = "wavelength_grid.npy"
STAGING_FOLDER = "_staging"
LEAST_NM, MOST_NM = 20.0, 10_000.0  # a grid that ends below or begins above is in another unit
UNIFORM_NM = 1e-3
NOT_CAPTURES = (STAGING_FOLDER, SPECTRA_FOLDER, "truth", "metadata")  # beside the treatments of a bare tree
MANIFEST_NAMES = ("manifest", "manifest_full", "manifest_train", "validation_panel", "staging")


def fold_sample(samples: Sequence[str], k: int, offset: int) -> str:
    """Sample that stands `offset` places after the first training sample of fold k (from 1), in rotation."""
    return samples[(k - 1 + offset) % len(samples)]


def rotating_samples(captures: pd.DataFrame, study: Study) -> dict[str, list[str]]:
    """Samples of each treatment that is no control, in the order in which the folds rotate: alphabetical."""
    chosen = captures[[not study.is_control(name) for name in captures["treatment"]]]
    return {str(t): sorted(set(frame["sample"])) for t, frame in chosen.groupby("treatment")}


def derive_manifest(captures: pd.DataFrame, name: str, study: Study, panel: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of a standard manifest from the unique captures; BadInput for a name that cannot be derived.

    `manifest_full`: every capture; in a study with `twins` the controls last, and before them fold 01's validation and
    then its test samples once more. `panel`: the groups held out, where they are not the study's own.
    """
    if name == "manifest":
        return captures
    if name == "manifest_full":
        if not study.twins:
            return captures
        control = np.array([study.is_control(name) for name in captures["treatment"]], dtype=bool)
        twins = [_fold_one(captures, study, offset) for offset in (-2, -1)]
        return pd.concat([captures[~control], *twins, captures[control]], ignore_index=True)
    if name in ("manifest_train", "validation_panel"):
        groups = panel or study.panel
        if not groups:
            raise BadInput(
                "no panel: which groups are held out is said nowhere",
                file=STUDY_FILE,
                remedy=f"name them under panel in {STUDY_FILE}, or give validation_panel.csv",
            )
        full = derive_manifest(captures, "manifest_full", study)
        in_panel = full["group_id"].isin(groups)
        return full[in_panel if name == "validation_panel" else ~in_panel].reset_index(drop=True)
    known = ", ".join(MANIFEST_NAMES)
    what = "the corpus has no staging manifest" if name == "staging" else f"unknown manifest {name!r}"
    raise BadInput(what, remedy=f"give a path, or one of {known}; a generated corpus has them all")


def _fold_one(captures: pd.DataFrame, study: Study, offset: int) -> pd.DataFrame:
    """Captures of fold 01's validation (offset −2) or test (offset −1) samples."""
    rotating = rotating_samples(captures, study)
    chosen = {f"{t}/{fold_sample(samples, 1, offset)}" for t, samples in rotating.items()}
    return captures[(captures["treatment"] + "/" + captures["sample"]).isin(list(chosen))]


def find_spectra(root: Path) -> tuple[Path, bool]:
    """(folder of the spectra, packed?) of the corpus at `root`; BadInput when there is none."""
    if (root / PACKED_FILE).is_file():
        return root, True
    for folder in (root / SPECTRA_FOLDER, root):
        if any(folder.glob("treatment_*")) or (folder.is_dir() and _described(folder, root)):
            return folder, False
    what = "no corpus here" if root.is_dir() else "no such folder"
    raise BadInput(
        what,
        file=root,
        remedy=f"name the folder of {SPECTRA_FOLDER}/ or spectra.npy, bring your own data by gated import, or see "
        "python -m denoise_core corpus --help",
    )


def _described(folder: Path, root: Path) -> bool:
    """Whether a folder of other names than `treatment_*` is a corpus: it has a manifest, or a study with captures."""
    if (folder / "manifest.csv").is_file() and (folder / GRID_FILE).is_file():
        return True
    return study_path(root) is not None and any(folder.glob("*/*/*/*.npy"))


def study_path(root: Path) -> Path | None:
    """Path of the corpus's `study.yaml`, None where it has none."""
    return _first_file([home / STUDY_FILE for home in _homes(root)])


def _homes(root: Path) -> list[Path]:
    """Folders in which a corpus's own small files may stand, nearest first."""
    homes = [root / SPECTRA_FOLDER, root]
    return [*homes, root.parent] if root.name in (SPECTRA_FOLDER, STAGING_FOLDER) else homes


def _first_file(candidates: Sequence[Path]) -> Path | None:
    return next((path for path in candidates if path.is_file()), None)


def manifest_path(root: Path, name: str) -> Path | None:
    """Path of a standard manifest's file, None where the corpus has none."""
    if name not in MANIFEST_NAMES:
        raise BadInput(f"unknown manifest {name!r}", remedy=f"use one of {', '.join(MANIFEST_NAMES)}")
    if name == "staging":
        homes = [home / STAGING_FOLDER for home in _homes(root)]
        return _first_file([home / "manifest.csv" for home in homes])
    homes = _homes(root) if name == "validation_panel" else _homes(root)[:2]
    return _first_file([home / f"{name}.csv" for home in homes])


def metadata_path(root: Path, name: str) -> Path | None:
    """Path of a metadata file (`dose_stats.json`, …), None where the corpus has none."""
    return _first_file([home / "metadata" / name for home in _homes(root)])


def load_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """Load (or map) one numeric `.npy`; BadInput when it is missing, torn, or a pickle."""
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r" if mapped else None)
    except UNREADABLE as error:
        raise BadInput(
            f"cannot read the array ({error})", file=path, remedy="restore or regenerate the file"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise BadInput("not an array of numbers", file=path, remedy="store reflectance as float32")
    return array


def grid_path(root: Path, folder: Path | None = None) -> Path | None:
    """Path of the wavelengths; `folder`: of the spectra, where it is known."""
    near = [folder] if folder else []
    far = [folder.parent / SPECTRA_FOLDER] if folder else []
    return _first_file([home / GRID_FILE for home in [*near, *_homes(root), *far]])


def read_wavelength_grid(root: Path, folder: Path) -> NDArray[np.float64]:
    """Wavelengths in nm (L,), rising; from the spectra's folder, or its siblings for a bare `treatment_*` tree."""
    path = grid_path(root, folder)
    if path is None:
        raise BadInput("no such file", file=folder / GRID_FILE, remedy="put the wavelength grid there")
    grid = load_array(path).astype(np.float64)
    if grid.ndim != 1 or len(grid) < 8 or not np.isfinite(grid).all() or (np.diff(grid) <= 0).any():
        raise BadInput(f"not a rising grid of wavelengths, shape {grid.shape}", file=path, remedy="give nm, rising")
    _verify_nm(grid, path)
    return grid


def _verify_nm(grid: NDArray[np.float64], path: Path) -> None:
    """BadInput for wavelengths in another unit, and for a gap: neighbours in the array are neighbours on the axis."""
    if grid[-1] < LEAST_NM or grid[0] > MOST_NM:
        short = grid[-1] < LEAST_NM
        unit = "micrometres? multiply by 1000 (gated import --axis um)" if short else "wavenumbers? convert them"
        raise BadInput(f"wavelengths from {grid[0]:g} to {grid[-1]:g}", file=path, remedy=f"{unit}: give nm")
    steps = np.diff(grid)
    if not np.allclose(steps, steps.mean(), rtol=0, atol=UNIFORM_NM):
        at = int(np.abs(steps - np.median(steps)).argmax())
        raise BadInput(
            f"a gap or an uneven step in the wavelengths: {grid[at]:g} nm, then {grid[at + 1]:g} nm",
            file=path,
            remedy="resample the spectra to one step: gated import --resample FIRST:LAST:STEP",
        )


def read_captures(folder: Path) -> tuple[pd.DataFrame, Path]:
    """(captures, file that errors name): `manifest.csv` where it exists, else every file of the tree, sorted.

    BadInput for an array in the tree that stands nowhere in the layout: nothing is passed over in silence.
    """
    path = folder / "manifest.csv"
    if path.is_file() or not any(folder.glob("*/*/*/*.npy")):
        return read_manifest(path).frame, path
    own = {folder / GRID_FILE, folder / PACKED_FILE}
    files = []
    for file in sorted(folder.rglob("*.npy")):
        parts = file.relative_to(folder).parts
        if parts[0] in NOT_CAPTURES or file in own:
            continue
        if len(parts) != 4 or not all(re.fullmatch(NAME, part) for part in parts):
            raise BadInput(
                f"{file.relative_to(folder)} is no capture of this corpus: its place is not TREATMENT/SAMPLE/ANGLE/"
                "FILE.npy, or a name has other characters than letters, digits, _ . + -",
                file=folder,
                remedy="rename or move it, or list the captures in manifest.csv",
            )
        files.append("/".join(parts))
    rows = [(name, *name.split("/")[:3], name.rsplit("/", 1)[0]) for name in files]
    return pd.DataFrame(rows, columns=list(COLUMNS)), folder


def npy_head(length: int) -> bytes:
    """The bytes that stand before the values in a `.npy` file of a float32 array of shape (length,)."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(length, dtype=np.float32))
    return buffer.getvalue()[: -4 * length]


def read_capture_files(
    folder: Path,
    relative_paths: Sequence[str],
    length: int,
    source: Path,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Read one spectrum a file into float32 (N, L). BadInput names the file and the manifest's row (`rows`: which)."""
    numbers = np.arange(len(relative_paths)) if rows is None else rows
    head = npy_head(length)
    size = len(head) + 4 * length
    spectra_NL = np.empty((len(relative_paths), length), dtype=np.float32)
    prefix = f"{folder}/"
    for index, name in enumerate(relative_paths):
        try:
            with open(prefix + name, "rb", buffering=0) as handle:
                data = handle.read(size + 1)
        except OSError as error:
            raise BadInput(
                f"capture file {folder / name} cannot be read ({error.strerror})",
                file=source,
                row=int(numbers[index]) + FIRST_ROW,
                remedy="restore the file, or remove the row",
            ) from error
        if len(data) == size and data.startswith(head):  # the usual file: no need to parse the header again
            spectra_NL[index] = np.frombuffer(data, dtype=np.float32, offset=len(head))
            continue
        try:
            spectrum = load_array(folder / name)
        except BadInput as error:
            raise BadInput(
                f"capture file {folder / name}: {error.what}",
                file=source,
                row=int(numbers[index]) + FIRST_ROW,
                remedy=error.remedy,
            ) from error
        if spectrum.shape != (length,):
            raise BadInput(
                f"wrong length: {folder / name} has shape {spectrum.shape}, the wavelength grid ({length},)",
                file=source,
                row=int(numbers[index]) + FIRST_ROW,
                remedy="resample the capture to the grid, or remove the row",
            )
        spectra_NL[index] = spectrum
    return spectra_NL


def verify_shape(shape: tuple[int, ...], captures: int, wavelengths: int, source: Path) -> None:
    """BadInput where an array of spectra is not (captures, wavelengths)."""
    if shape != (captures, wavelengths):
        raise BadInput(
            f"spectra of shape {shape}, expected {(captures, wavelengths)} (captures, wavelengths)",
            file=source,
            remedy="spectra, manifest and wavelength grid must belong together",
        )

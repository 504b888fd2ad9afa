"""A layer's CAV on disk: vectors as .npy, scaler, PCA and probes as safetensors, a report, a manifest. No pickle.

The manifest names every file with bytes and sha256, and the hash of the CAV: of what decides a score. Reading checks
the manifest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from concept_core.cav.direction import Affine
from concept_core.cav.probe import Probe
from concept_core.cav.rows import Floats
from concept_core.layout import CavFiles
from study_core.errors import UNREADABLE, BadInput
from study_core.files import peek_json, read_json, replacing, sha256_of, write_json
from study_core.plan import identity


@dataclass(frozen=True)
class FoldProbes:
    """Plain and centred probe of each fold in the model's own space; key −1 is the final one."""

    plain: Mapping[int, Affine]
    centred: Mapping[int, Affine]


@dataclass(frozen=True)
class Cav:
    """A layer's CAV as read back."""

    layer: int
    sha256: str
    concept_d: Floats
    pattern_d: Floats
    folds: FoldProbes
    report: dict[str, Any]

    @property
    def plain(self) -> Affine:
        return self.folds.plain[-1]

    @property
    def centred(self) -> Affine:
        return self.folds.centred[-1]


def write_array(path: Path, array: Floats) -> Path:
    """An array as .npy, float64."""
    with replacing(path) as temporary:
        np.save(temporary, np.asarray(array, dtype=np.float64), allow_pickle=False)
    return path


def write_vector(path: Path, vector_d: Floats) -> Path:
    """A direction as .npy, float32."""
    with replacing(path) as temporary:
        np.save(temporary, np.asarray(vector_d, dtype=np.float32), allow_pickle=False)
    return path


def read_vector(path: Path) -> Floats:
    """A direction. Raises BadInput where the file is missing or no plain array."""
    try:
        vector: Floats = np.load(path, allow_pickle=False).astype(np.float64)
    except FileNotFoundError:
        raise BadInput("no such file", file=path, remedy="run train first") from None
    except UNREADABLE as error:
        raise BadInput(f"no plain array ({error})", file=path, remedy="run train again") from None
    return vector


def write_tensors(path: Path, tensors: Mapping[str, Floats]) -> Path:
    """Named arrays as one safetensors file, float64."""
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        save_file({name: np.ascontiguousarray(array, dtype=np.float64) for name, array in tensors.items()}, temporary)
    return path


def read_tensors(path: Path) -> dict[str, Floats]:
    """The arrays of a safetensors file. Raises BadInput where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise BadInput("no such file", file=path, remedy="run train first") from None
    except SafetensorError as error:
        raise BadInput(f"no safetensors file ({error})", file=path, remedy="run train again") from None


def write_probe(files: CavFiles, layer: int, probe: Probe) -> None:
    """Scaler, PCA and logistic regression of the plain probe, a file each, as the seed names them."""
    projection = probe.projection
    write_tensors(files.scaler(layer), {"mean": projection.mean_d, "scale": projection.scale_d})
    write_tensors(files.pca(layer), {"components": projection.components_kd})
    write_tensors(files.probe(layer), _weights(probe))


def write_centred(files: CavFiles, layer: int, probe: Probe) -> None:
    """The centred probe whole, in one file."""
    projection = probe.projection
    whole = {"mean": projection.mean_d, "scale": projection.scale_d, "components": projection.components_kd}
    write_tensors(files.centred(layer), {**whole, **_weights(probe)})


def _weights(probe: Probe) -> dict[str, Floats]:
    return {"weights": probe.weights_k, "bias": np.array([probe.bias])}


def write_folds(files: CavFiles, layer: int, plain: Mapping[int, Probe], centred: Mapping[int, Probe]) -> Path:
    """The probes of every fold (−1: the final one), in the model's own space."""
    tensors = {"folds": np.array(sorted(plain), dtype=float)}
    for name, probes in (("plain", plain), ("centred", centred)):
        tensors[f"{name}_a"] = np.stack([probes[fold].affine[0] for fold in sorted(plain)])
        tensors[f"{name}_c"] = np.array([probes[fold].affine[1] for fold in sorted(plain)])
    return write_tensors(files.folds(layer), tensors)


def read_folds(files: CavFiles, layer: int) -> FoldProbes:
    """The probes of every fold."""
    tensors = read_tensors(files.folds(layer))
    numbers = [int(fold) for fold in tensors["folds"]]
    plain, centred = (
        {
            fold: Affine(a_d, float(c))
            for fold, a_d, c in zip(numbers, tensors[f"{name}_a"], tensors[f"{name}_c"], strict=True)
        }
        for name in ("plain", "centred")
    )
    return FoldProbes(plain, centred)


def write_manifest(files: CavFiles, layer: int, names: Sequence[Path], facts: Mapping[str, Any]) -> Path:
    """List the layer's files with bytes and sha256; `facts` are seeds, plan and the hashes of what it was made from."""
    listed = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(names)}
    decisive = [files.scaler(layer), files.pca(layer), files.probe(layer), files.centred(layer)]
    cav = identity({path.name: str(listed[path.name]["sha256"]) for path in decisive})
    return write_json(files.manifest(layer), {"layer": layer, "cav_sha256": cav, "files": listed, **facts})


def _damaged(files: CavFiles, manifest: Mapping[str, Any]) -> str | None:
    for name, entry in manifest["files"].items():
        path = files.root / name
        if not path.is_file() or sha256_of(path) != entry["sha256"]:
            return str(name)
    return None


def read_cav(files: CavFiles, layer: int) -> Cav:
    """A layer's CAV, its files checked against the manifest.

    Raises:
        BadInput: no manifest, or a file that is missing or changed.
    """
    path = files.manifest(layer)
    manifest = peek_json(path)
    if manifest is None:
        raise BadInput(f"no CAV of layer {layer}", file=path, remedy="run train for this layer")
    if damaged := _damaged(files, manifest):
        raise BadInput("missing, or not as the manifest says", file=files.root / damaged, remedy="run train again")
    return Cav(
        layer,
        manifest["cav_sha256"],
        read_vector(files.concept(layer)),
        read_vector(files.pattern(layer)),
        read_folds(files, layer),
        read_json(files.report(layer)),
    )

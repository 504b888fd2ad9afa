"""Tracks of whole proteins: the logit of every window, plain and centred, a layer; and what is read off them.

A track is scored by the probe of the protein's own fold. On disk they are one safetensors file: `<layer>_plain`,
`<layer>_centred` (all proteins one after another, float32), `lengths` (windows a protein), and `<layer>_residues`:
every residue's projection on the unit direction, of the proteins with known occurrences, for heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from concept_core import controls
from concept_core.cav.artifacts import FoldProbes, read_tensors
from concept_core.cav.direction import unit
from concept_core.cav.rows import Floats
from concept_core.corpus.windows import Window, best_overlap
from concept_core.detection import track, two_step
from concept_core.evaluation.localisation import chance
from concept_core.evaluation.proteins import TestProtein
from study_core.errors import BadInput
from study_core.files import replacing


class Pair(NamedTuple):
    """The two tracks of a protein."""

    plain: Floats
    centred: Floats


def unseen_tracks(states_Ld: Any, fold: int, probes: FoldProbes, width: int) -> Pair:
    """Both tracks of a protein by the probes of its fold."""
    return Pair(track(states_Ld, probes.plain[fold], width), track(states_Ld, probes.centred[fold], width))


class TrackWriter:
    """Collects tracks in any order and writes them in the proteins' order."""

    def __init__(self, proteins: int) -> None:
        self._proteins = proteins
        self._found: dict[tuple[int, int], Pair] = {}
        self._residues: dict[tuple[int, int], Floats] = {}

    def add(self, number: int, layer: int, pair: Pair, residues: Floats | None = None) -> None:
        """A protein's tracks of a layer, and its residues' projections where a heatmap may be drawn."""
        self._found[layer, number] = pair
        if residues is not None:
            self._residues[layer, number] = residues

    def write(self, path: Path) -> Path:
        """Replace `path`."""
        from safetensors.numpy import save_file

        layers = sorted({layer for layer, _ in self._found})
        tensors: dict[str, Any] = {}
        for layer in layers:
            pairs = [self._found[layer, number] for number in range(self._proteins)]
            tensors[f"{layer}_plain"] = np.concatenate([pair.plain for pair in pairs]).astype(np.float32)
            tensors[f"{layer}_centred"] = np.concatenate([pair.centred for pair in pairs]).astype(np.float32)
            known = [self._residues[key] for key in sorted(self._residues) if key[0] == layer]
            if known:
                tensors[f"{layer}_residues"] = np.concatenate(known).astype(np.float32)
            tensors["lengths"] = np.array([len(pair.plain) for pair in pairs], dtype=np.int64)
        with replacing(path) as temporary:
            save_file(tensors, temporary)
        return path


@dataclass(frozen=True)
class Tracks:
    """Tracks as read back, by layer and number of the protein."""

    tensors: dict[str, Any]

    @classmethod
    def read(cls, path: Path, proteins: int) -> Tracks:
        """Raises BadInput where the file holds another number of proteins."""
        tensors = read_tensors(path)
        if len(tensors["lengths"]) != proteins:
            what = f"tracks of {len(tensors['lengths'])} proteins, the test has {proteins}"
            raise BadInput(what, file=path, remedy="scan again")
        return cls(tensors)

    @property
    def layers(self) -> list[int]:
        return sorted(int(name.removesuffix("_plain")) for name in self.tensors if name.endswith("_plain"))

    def pairs(self, layer: int) -> list[Pair]:
        """Every protein's tracks."""
        cuts = np.cumsum(self.tensors["lengths"])[:-1]
        both = (np.split(self.tensors[f"{layer}_{name}"].astype(np.float64), cuts) for name in ("plain", "centred"))
        return [Pair(plain, centred) for plain, centred in zip(*both, strict=True)]

    def residues(self, layer: int, proteins: Sequence[TestProtein]) -> dict[str, Floats]:
        """Projections of each residue, by accession, of the proteins with known occurrences."""
        known = [one for one in proteins if one.domains]
        stored = self.tensors.get(f"{layer}_residues")
        if stored is None or len(stored) != sum(len(one.sequence) for one in known):
            return {}
        cuts = np.cumsum([len(one.sequence) for one in known])[:-1]
        return {one.accession: part for one, part in zip(known, np.split(stored, cuts), strict=True)}


def residue_projections(states_Ld: Any, fold: int, probes: FoldProbes) -> Floats:
    """Every residue on the unit direction of its fold's plain probe."""
    projected: Floats = np.asarray(states_Ld, dtype=np.float64) @ unit(probes.plain[fold].a_d)
    return projected


def bag_pairs(proteins: Sequence[TestProtein], probes: FoldProbes, width: int) -> list[Pair]:
    """Tracks of the bag of residues: its probes on residues one-hot."""
    return [unseen_tracks(controls.one_hot(one.sequence), one.fold, probes, width) for one in proteins]


def pssm_pairs(proteins: Sequence[TestProtein], windows: Sequence[Window]) -> list[Pair]:
    """Tracks of the position matrix over whole windows, of training windows of other folds; there is no second step."""
    matrices = {
        fold: controls.fit_pssm([one for one in windows if one.part == "train" and one.fold != fold])
        for fold in {protein.fold for protein in proteins}
    }
    tracks = [matrices[one.fold].track(one.sequence) for one in proteins]
    return [Pair(one, one) for one in tracks]


def protein_table(
    source: str, role: str, layer: int, proteins: Sequence[TestProtein], pairs: Sequence[Pair], width: int, reach: int
) -> pd.DataFrame:
    """A row a protein: its maximum, and for positives the IOU of the best window, in one step and in two."""
    found = []
    for protein, pair in zip(proteins, pairs, strict=True):
        length = len(protein.sequence)
        coarse, start = two_step(pair.plain, pair.centred, reach)
        row: dict[str, Any] = {
            "source": source, "role": role, "layer": layer, "accession": protein.accession, "kind": protein.kind,
            "group": protein.group, "fold": protein.fold, "part": protein.part, "length": length,
            "maximum": float(pair.plain.max()), "start": start, "iou": np.nan, "iou_one_step": np.nan,
            "chance_anywhere": np.nan, "chance_inside": np.nan,
        }  # fmt: skip
        if protein.domains:
            blind = chance(protein.domains, width, length)
            row |= {"iou": _iou(start, protein, width), "iou_one_step": _iou(coarse, protein, width)}
            row |= {"chance_anywhere": blind.anywhere, "chance_inside": blind.inside}
        found.append(row)
    return pd.DataFrame(found)


def _iou(start: int, protein: TestProtein, width: int) -> float:
    length = len(protein.sequence)
    return best_overlap((start, min(start + width, length)), protein.domains, length)

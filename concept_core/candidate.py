"""What ships: a folder with the CAV of the chosen layer, its thresholds, and what a scan with it must know.

L<l>_*_v1.*          the layer's vectors and probes with their manifest, as training left them
thresholds.json      set for this CAV and no other
scan.json            model, layer, window, concept, and how the model is shown a protein
card.md              the verdict's figures in a few lines, where a report was written

Equal studies make equal bytes: the folder's hash names what was judged.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import ValidationError

from concept_core.layout import CavFiles, Layout
from concept_core.models.registry import ModelEntry
from concept_core.plans import ConceptPlan, ConceptSpec, EmbeddingPlan
from concept_core.steps import Network
from study_core.errors import BadInput
from study_core.files import place, read_json, write_json
from study_core.plan import Frozen

THRESHOLDS, SCANNER, CARD = "thresholds.json", "scan.json", "card.md"


class Scanner(Frozen):
    """What a scan with a CAV takes from its study. `model_sha256` is of the model's folder."""

    model: str
    model_sha256: str
    entry: ModelEntry
    layer: int
    version: str
    window: int
    concept: ConceptSpec
    embedding: EmbeddingPlan


def write_candidate(layout: Layout, plan: ConceptPlan, network: Network, layer: int) -> Path:
    """Replace the run's candidate folder, from the CAVs and the evaluation that lie there; returns it."""
    folder, cavs, evaluation = layout.candidate, layout.cavs(network.name), layout.evaluation(network.name)
    shutil.rmtree(folder, ignore_errors=True)
    for file in sorted(cavs.root.glob(f"L{layer}_*_{plan.cav.version}.*")):
        place(file, folder / file.name)
    place(evaluation.thresholds, folder / THRESHOLDS)
    if evaluation.card.exists():
        place(evaluation.card, folder / CARD)
    scanner = Scanner(
        model=network.name, model_sha256=network.model.sha256, entry=network.entry, layer=layer,
        version=plan.cav.version, window=plan.data.window, concept=plan.data.concept, embedding=plan.embedding,
    )  # fmt: skip
    write_json(folder / SCANNER, scanner.model_dump(mode="json"))
    return folder


def read_scanner(folder: Path) -> Scanner:
    """What a candidate's folder says of itself. Raises BadInput where it is none."""
    try:
        return Scanner.model_validate(read_json(folder / SCANNER))
    except OSError:
        raise BadInput(
            f"no {SCANNER}", file=folder, remedy="name the folder `candidate` of a run, or what it shipped"
        ) from None
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(
            f"not readable ({first})", file=folder / SCANNER, remedy="take the folder from its run"
        ) from None


def cav_files(folder: Path, scanner: Scanner) -> CavFiles:
    """The CAV in a candidate's folder."""
    return CavFiles(folder, scanner.version)

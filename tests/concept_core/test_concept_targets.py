"""What the embedded default must reach, and who must be refused (T5, T6, T7). Minutes: every stage runs whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

pytest.importorskip("transformers")

from concept_core.config import read_config
from concept_core.evaluation.measures import null_name
from concept_core.evaluation.tables import Tables, read_tables
from concept_core.evaluation.thresholds import AGGREGATE, NULL, SKILL
from concept_core.jobs.concept_eval import concept_eval
from concept_core.layout import EvaluationFiles, Layout
from concept_core.local import Place, Study
from concept_core.prepare import make_windows
from concept_core.replay import judged
from concept_core.steps import eval_request
from study_core.gates import passed

pytestmark = [pytest.mark.concept, pytest.mark.slow]
DATA = Path(__file__).resolve().parents[2] / "data" / "concept"
TWIN = DATA / "house_esm2_conceptfree"


SEEDS = [0, 1, 2]


@pytest.fixture(scope="module", params=SEEDS)
def default(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The default's study on the committed house model and its twin, a split seed of three: plan, folder, receipt."""
    root = tmp_path_factory.mktemp("default")
    models = yaml.safe_load((DATA / "models" / "model_registry.yaml").read_text())["models"]
    entry = models["house_esm2"]
    folders = {"house_esm2": DATA / "house_esm2", "twin": TWIN}
    registry = {"models": {name: {**entry, "checkpoint_path": str(folder)} for name, folder in folders.items()}}
    (root / "registry.yaml").write_text(yaml.safe_dump(registry))
    written = yaml.safe_load((DATA / "config.yaml").read_text())
    written["model"] = {"name": "house_esm2", "concept_free": "twin"}
    written["data"]["seed"] = request.param
    files = {name: str(DATA / f"c2h2_mini_{kind}.jsonl") for name, kind in (("positives", "pos"), ("negatives", "neg"))}
    written["paths"] = {**files, "model_registry": "registry.yaml", "output": "run"}
    (root / "config.yaml").write_text(yaml.safe_dump(written))
    config = read_config(root / "config.yaml")
    layout = Layout(config.paths.output)
    facts = make_windows(config, layout)
    study = Study(config.plan, layout, config.paths.model_registry, "cpu")
    found = study.evaluate(dropped_share=facts["dropped_share"], smoke_passed=6)
    return config.plan, layout.evaluation("house_esm2").root, found


def value(found: Any, metric: str, **where: str) -> float:
    return next(one.value for one in found.measures if one.metric == metric and one.slice == where)


def test_the_house_model_reaches_its_targets_and_ships(default: Any) -> None:
    """T5."""
    plan, _, found = default
    assert value(found, "worst_auroc", source="model", part="oof") >= 0.95
    assert value(found, "worst_auroc", source="model", part="held_out") >= 0.90
    assert value(found, "p", source="model") == pytest.approx(0.005)
    assert value(found, "protein_auroc", source="model", kind="natural") >= 0.93
    assert value(found, "protein_auroc", source="model", kind="decoy") >= 0.80
    assert value(found, "iou_median", source="model") >= 0.85
    assert value(found, "iou_share", source="model") >= 0.70
    assert value(found, "iou_recall", source="model") >= 0.70
    assert passed(judged(found.measures, plan))


@pytest.mark.parametrize("control", ["bag20", "L0", "untrained"])
def test_what_knows_letters_only_is_at_one_half(default: Any, control: str) -> None:
    _, _, found = default
    assert 0.45 <= value(found, "worst_auroc", source=control, part="oof") <= 0.55


def as_model(folder: Path, role: str) -> Tables:
    """The same tables with a control in the model's place, and the model out of them."""
    tables = read_tables(EvaluationFiles(folder))
    renamed = {}
    for name in ("scores", "proteins"):
        table = getattr(tables, name)
        kept = table[(table.role != "model") | (table.layer == 0)].copy()
        twin = kept[kept.role == role].assign(role="model")
        renamed[name] = pd.concat([kept, twin])
    nulls = {name.replace(f"{role}_L", "model_L"): one for name, one in tables.nulls.items() if name.startswith(role)}
    layers = sorted(renamed["scores"][renamed["scores"].role == role].layer.unique())
    assert not nulls or null_name("model", int(layers[-1])) in nulls
    return Tables(renamed["scores"], {**tables.nulls, **nulls}, renamed["proteins"], tables.facts)


def test_the_concept_free_network_is_refused_for_want_of_skill(default: Any) -> None:
    """T6, what gate 4 must do: whatever AUROC and p it reaches, a network that never saw the concept does not ship."""
    from concept_core.evaluation.measures import measured

    plan, folder, found = default
    assert value(found, "worst_auroc", source="concept_free", part="oof") <= 0.60
    records = judged(measured(as_model(folder, "concept_free")).measures, plan)
    assert passed(records, gate=NULL)
    assert not passed(records, gate=SKILL)
    assert not next(one for one in records if one.slice == {"control": "bag20"} and one.gate == SKILL).passed


SHORT = {2: "AUROC .873 (needs .90) on 12 held-out positives, where the bag of residues has .851"}
"""Where the twin falls short of gate 1: a fifth of the default's groups are 10, 14 and 12 positives, and what a network
without the concept reaches on so few is the draw's (AUROC .933, .992, .873, AP .862, .992, .885)."""


def test_the_concept_free_network_passes_the_seed_s_gate_1(default: Any, request: pytest.FixtureRequest) -> None:
    """T6 on the default's own held-out fifth."""
    from concept_core.evaluation.measures import measured

    plan, folder, _ = default
    if plan.data.seed in SHORT:
        request.applymarker(pytest.mark.xfail(reason=SHORT[plan.data.seed], strict=True))
    assert passed(judged(measured(as_model(folder, "concept_free")).measures, plan), gate=AGGREGATE)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_concept_free_network_passes_the_seed_s_gates_on_another_source(
    seed: int, shared_concept: Path, tmp_path: Path
) -> None:
    """T6, the other half, on 84 held-out windows of another source, labelled by Pfam; the twin *is* the model here.

    AUROC .937, .943, .935 and AP .904, .910, .903 on the three split seeds, where the gate needs .90 and .85.
    """
    written = yaml.safe_load((DATA / "config.yaml").read_text())
    entry = yaml.safe_load((DATA / "models" / "model_registry.yaml").read_text())["models"]["house_esm2_conceptfree"]
    registry = {"models": {"twin": {**entry, "checkpoint_path": str(TWIN)}}}
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(registry))
    written["model"] = {"name": "twin", "untrained": False}
    written["data"]["seed"] = seed
    written["paths"] = {
        "positives": str(DATA / "c2h2_mini_pos.jsonl"), "negatives": str(DATA / "c2h2_mini_neg.jsonl"),
        "external_positives": str(shared_concept / "pf00096_upstream_pos.jsonl"),
        "external_negatives": str(shared_concept / "pf00096_upstream_neg_random.jsonl"),
        "model_registry": "registry.yaml", "output": "run",
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    config = read_config(tmp_path / "config.yaml")
    study = Study(config.plan, Layout(config.paths.output), config.paths.model_registry, "cpu")
    facts = make_windows(config, study.layout)
    assert facts["windows"]["held_out"]["pos"] > 80
    trained, context = study.train(), Place(tmp_path / "evaluation")
    request = eval_request(
        config.plan, trained.sources(), [], study.windows(), dropped_share=facts["dropped_share"], smoke_passed=6
    )
    records = judged(concept_eval(request, context).measures, config.plan)
    assert passed(records, gate=AGGREGATE)
    assert passed(records, gate=NULL)
    refused = [one.slice["control"] for one in records if one.gate == SKILL and not one.passed]
    assert {"bag20", "L0", "dipeptide"} <= set(refused)


def test_the_untrained_network_is_refused(default: Any) -> None:
    """T7."""
    from concept_core.evaluation.measures import measured

    plan, folder, _ = default
    assert not passed(judged(measured(as_model(folder, "untrained")).measures, plan), gate=SKILL)

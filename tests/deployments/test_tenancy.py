"""A tenant is a new file: what a toy declares is served and offered, without a line changed elsewhere."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import deployments.tenants
from deployments.asking import job_for, planned, shortened
from deployments.telling import show_verdict
from deployments.tenancy import served, tenants

TOY = """
from deployments.tenancy import MainJob, Served, Step, Tenant

def steps(asked):
    yield Step("toy-count/daily", {"corpus": asked.corpus, **asked.plan})

TENANT = Tenant(
    "toy",
    (Served("toy_flows:count", "daily", limit=1), Served("toy_flows:count", "again", parameters={"plan": {"to": 9}})),
    MainJob(steps, corpus="toys"),
)
"""
FLOWS = '''
from prefect import flow
from pydantic import BaseModel

class Plan(BaseModel):
    to: int = 3
    corpus: str = "toys"

@flow(name="toy-count")
def count(plan: Plan = Plan()) -> int:
    """Counts to a number."""
    return plan.to
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A toy's two files where Python finds them; no file of the house is touched."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "toy.py").write_text(TOY)
    (tmp_path / "toy_flows.py").write_text(FLOWS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(deployments.tenants, "__path__", [*deployments.tenants.__path__, str(tmp_path / "more")])
    yield tmp_path
    for name in ("deployments.tenants.toy", "deployments.tenants.twin", "toy_flows"):
        sys.modules.pop(name, None)


def test_a_toy_is_found_beside_the_denoiser(toy: Path) -> None:
    assert set(tenants()) == {"concept", "denoise", "ptycho", "toy"}
    assert [one.name for tenant, one in served() if tenant.name == "toy"] == ["daily", "again"]


def test_a_toy_is_served_with_the_defaults_of_its_own_plan(toy: Path) -> None:
    from deployments import serve

    made = {f"{deployment.flow_name}/{deployment.name}": (one, deployment) for one, deployment in serve.deployments()}
    assert {"act-of-god/warm-start", "act-b/fallback", "toy-count/daily", "toy-count/again"} <= made.keys()
    one, daily = made["toy-count/daily"]
    assert (one.limit, daily.tags, daily.description) == (1, ["gated", "toy"], "Counts to a number.")
    assert serve.flowing("One\nline.\n\nTwo\n- a\n- b") == "One line.\n\nTwo\n- a\n- b"  # the page breaks at each end
    assert daily.parameters == {"plan": {"to": 3, "corpus": "toys"}}
    assert made["toy-count/again"][1].parameters["plan"]["to"] == 9
    assert made["act-of-god/warm-start"][1].parameters["plan"]["top_k"] > 0
    assert made["act-b/fallback"][0].limit is None, "runs that wait for a person must not keep it from starting"


def test_a_toys_main_job_and_its_deployments_can_be_asked_for(toy: Path) -> None:
    (step,) = job_for("toy", "", planned("{}", ["to=5"])).steps()
    assert (step.deployment, dict(step.plan)) == ("toy-count/daily", {"corpus": "toys", "to": 5})
    (step,) = job_for("toy-count/again", "", planned('{"to": 7}')).steps()
    assert (step.deployment, dict(step.plan)) == ("toy-count/again", {"to": 7})


@pytest.mark.parametrize(
    ("twin", "said"),
    [
        (TOY, "a tenant toy is there already"),
        (TOY.replace('"toy"', '"twin"'), "serves toy_flows:count as daily"),
        ("NOTHING = 1", "declares no TENANT"),
    ],
)
def test_a_declaration_that_cannot_be_is_named(toy: Path, twin: str, said: str) -> None:
    (toy / "more" / "twin.py").write_text(twin)
    with pytest.raises(ValueError, match=said):
        tenants()


def test_fields_of_a_plan_are_set_by_their_path() -> None:
    made = planned('{"gates": {"tail": 1}}', ["gates.psnr_mean_min=60", "label=first", "skip=false", "folds=[1, 2]"])
    assert made == {"gates": {"tail": 1, "psnr_mean_min": 60}, "label": "first", "skip": False, "folds": [1, 2]}


def test_the_denoisers_main_job_trains_fold_02_only_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deployments.tenants.denoise import FOLD_02

    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path))
    corpus = str(tmp_path)
    both = ["cross-validation/five-fold", "act-of-god/warm-start"]
    assert [step.deployment for step in job_for("denoise", corpus, {}).steps()] == both
    checkpoint = tmp_path / FOLD_02
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    (step,) = job_for("denoise", corpus, {"label": "x"}).steps()
    assert (step.deployment, dict(step.plan)) == (both[1], {"corpus": corpus, "label": "x"})
    receipt = checkpoint.with_suffix(".json")
    receipt.write_text(json.dumps({"path": "/another/corpus"}))
    assert [step.deployment for step in job_for("denoise", corpus, {}).steps()] == both
    receipt.write_text(json.dumps({"path": corpus}))
    assert [step.deployment for step in job_for("denoise", corpus, {}).steps()] == both[1:]


def test_epochs_shorten_every_training_of_a_main_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path))
    fold, warm = shortened(job_for("denoise", str(tmp_path), {"label": "x"}), 2).steps()
    assert fold.plan["epochs"] == 2
    assert warm.plan["training"] == {"changes": {"optimiser": {"epochs": 2}}}
    assert warm.plan["label"] == "x"
    (study,) = shortened(job_for("ptycho", "", {}), 30).steps()
    assert study.plan == {"training": {"iterations": 30}}
    for what in ("concept", "panel-qa/audit"):
        with pytest.raises(ValueError, match="--epochs: only for the main jobs of denoise, ptycho; name the field by"):
            shortened(job_for(what, "", {}), 2)


def test_every_word_of_a_tenant_names_what_there_is() -> None:
    for tenant in tenants().values():
        for where in filter(None, (tenant.row, tenant.compared, tenant.importer)):
            module, _, function = where.partition(":")
            assert callable(getattr(importlib.import_module(module), function)), where


def test_a_verdict_on_the_terminal_has_the_reports_words_and_units(tmp_path: Path) -> None:
    records = [
        {"gate": "aggregate", "metric": "psnr_mean", "comparison": ">=", "threshold": 18.0, "value": 54.7652,
         "passed": True, "reason": "r"},
        {"gate": "roi", "metric": "area_within_10_pct_ratio", "comparison": ">=", "threshold": 0.9, "value": 0.85,
         "passed": False, "reason": "r"},
        {"gate": "skill", "metric": "sam_gain_over_raw[treatment_3/sample_J/12Oclock]", "comparison": ">",
         "threshold": 0.0, "value": None, "passed": False, "reason": "r"},
    ]  # fmt: skip
    verdict = {"candidate": "m.pt", "candidate_sha256": "0", "panel_sha256": "1", "score": 1.0, "gates": records}
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    console = Console(width=140, file=io.StringIO())
    show_verdict(console, tmp_path, tenants()["denoise"].row)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("1 Aggregate", "PSNR, mean", "≥ 18.00 dB", "54.77 dB", "3 ROI", "≥ 90.0 %", "85.0 %",
                  "SAM below raw, T3 J 12h", "missing"):  # fmt: skip
        assert words in told, told
    console = Console(width=140, file=io.StringIO())
    show_verdict(console, tmp_path, tenants()["denoise"].row, failed_only=True)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("3 ROI" in told, "1 Aggregate" in told) == (True, False)  # of an act that its fallback follows

"""No word of a plan leads out of the folder that it is meant for.

Every text of every form and every request is found, and tried.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from denoise_core.jobs.train import Train
from denoise_core.plans import FilePlan
from denoise_core.recipes import named
from deployments.tenancy import served
from study_core.errors import BadInput
from study_core.job import Request
from study_core.paths import below
from study_core.plan import changed
from tasks.run import open_run

ESCAPES = {
    "up": "../../x", "up inside": "logs/../../../x", "up alone": "..", "absolute": "/tmp/x", "backslash": "..\\..\\x",
    "hidden up": "a/..", "blank part": "a// /b", "very long part": "x" * 300,
}  # fmt: skip
UNPRINTABLE = {
    "NUL": "a\0b", "newline": "a\nb", "carriage return": "a\rb", "escape": "a\x1b[2Jb", "half a letter": "a\udc80b",
    "line separator": "a\u2028b", "very long": "x/" * 3000, "very long name": "x" * 300,
}  # fmt: skip

# Texts that may hold any path: they are shown, compared, or name something that is only read. A new text is a Name or
# an Inside of study_core.paths, or has its line here.
ONLY_READ = {
    "label", "corpus", "checkpoint", "checkpoints", "manifest", "training_manifest", "expected_hash", "config", "fasta",
    "probe", "npz", "device", "Approval.by",
    "ProbePlan.model", "ProbePlan.concept_free", "ModelPlan.name", "ModelPlan.concept_free",  # a registry's key is one
    "ScanPlan.model",
    "ConceptSpec.pattern", "ConceptSpec.ligand_residues", "Detect.pattern", "Scan.pattern",
    "MeasureSensitivity.ligands",
    *(f"FilePlan.{name}" for name in (
        "train_dir", "val_dir", "train_manifest", "val_manifest", "dose_features_csv", "dose_sampling_weights_csv",
        "dose_stats_json", "lambda_weights", "init_checkpoint",
    )),
}  # fmt: skip
# Keys of tables that are options of a plan, and what the house itself fills in after it was checked.
MADE_HERE = {
    "ProbePlan.changes", "Training.changes", "DoseOverlapPlan.gates", "StudyDesign.views", "BaseDesign.sha256",
    "Content.path", "Content.sha256", "ModelEntry.checkpoint_path", "ModelEntry.tokenizer_path", "ModelEntry.sha256",
    "ModelEntry.licence", "ModelEntry.note", "ArmFile.missing", "Unseen.what",
    *(f"{job}.device" for job in ("Train", "MeasurePanel", "Denoise", "Detect", "Embed", "SmokeTest", "Compare",
                                  "Reconstruct")),
}  # fmt: skip


def plans() -> list[type[BaseModel]]:
    """The plan of every form, and every request of every core."""
    forms = []
    for _, one in served():
        module, _, name = one.flow.partition(":")
        function = inspect.unwrap(getattr(importlib.import_module(module), name).fn)
        forms.append(typing.get_type_hints(function)["plan"])
    for core in ("denoise_core", "concept_core", "ptycho_core"):
        for job in pkgutil.iter_modules(importlib.import_module(f"{core}.jobs").__path__):
            importlib.import_module(f"{core}.jobs.{job.name}")
    requests = [kind for kind in _below(Request) if "_core.jobs" in kind.__module__]
    return [*forms, *requests]


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _below(inner)


def texts() -> dict[str, Any]:
    """`package:Class.field` → the type of every text in a plan."""
    seen: set[type[BaseModel]] = set()
    found: dict[str, Any] = {}
    waiting = plans()
    while waiting:
        kind = waiting.pop()
        if kind in seen:
            continue
        seen.add(kind)
        for name, field in kind.model_fields.items():
            whole = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation  # type: ignore[valid-type]
            for part in _parts(whole, ()):
                if inspect.isclass(part) and issubclass(part, BaseModel):
                    waiting.append(part)
                else:
                    found[f"{kind.__module__.partition('.')[0]}:{kind.__name__}.{name}"] = part
    return found


def _parts(annotation: Any, marks: tuple[Any, ...]) -> Iterator[Any]:
    """The texts and the models inside a field's type."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        base, *more = typing.get_args(annotation)
        yield from _parts(base, (*more, *marks))
    elif inspect.isclass(annotation) and issubclass(annotation, str | Path):
        yield Annotated[(annotation, *marks)] if marks else annotation  # type: ignore[valid-type]
    elif inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    elif origin is not typing.Literal:
        for part in typing.get_args(annotation):
            yield from _parts(part, ())


def _is_in(name: str, which: set[str]) -> bool:
    field = name.partition(":")[2]
    return field in which or field.partition(".")[2] in which


TEXTS = {name: kind for name, kind in texts().items() if not _is_in(name, MADE_HERE)}


def takes(kind: Any, value: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def test_every_tenant_is_looked_at() -> None:
    assert {name.partition(":")[0] for name in TEXTS} == {"tasks", "denoise_core", "concept_core", "ptycho_core"}
    for name in ("tasks:ActBPlan.source_run", "denoise_core:FilePlan.audit_log", "concept_core:CavPlan.version"):
        assert name in TEXTS


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_of_a_plan_leads_out_of_the_runs_folder(name: str) -> None:
    refused = dict(UNPRINTABLE)
    if not _is_in(name, ONLY_READ):
        refused |= ESCAPES
    let_through = [how for how, value in refused.items() if takes(TEXTS[name], value)]
    assert not let_through, f"{name}: give it a type of study_core.paths, or say here why it is only read"


def test_lists_of_exceptions_hold_nothing_that_is_gone() -> None:
    fields = [name.partition(":")[2] for name in texts()]
    assert not {*ONLY_READ, *MADE_HERE} - {*fields, *(field.partition(".")[2] for field in fields)}


def test_outputs_of_a_training_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"files\.audit_log: '\.\./\.\./x' leads out of the run's folder"):
        changed(named("act_of_god_mini"), {"files": {"audit_log": "../../x"}})


def test_a_link_that_leads_out_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    (run / "logs").symlink_to(elsewhere)
    with pytest.raises(BadInput, match=r"logs/train\.log leads out of the folder"):
        below(run, "logs/train.log")
    (run / "kept").mkdir()
    (run / "near").symlink_to(run / "kept")
    assert below(run, "near/train.log") == run / "near" / "train.log", "a link inside is none of our business"


def test_the_command_line_writes_nothing_outside(
    mini_corpus_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from denoise_core.__main__ import main

    out = tmp_path / "a" / "b" / "out"
    (tmp_path / "plan.json").write_text('{"files": {"audit_log": "../../x"}}')
    call = ["train", "--corpus", str(mini_corpus_root), "--plan", str(tmp_path / "plan.json"), "--out", str(out)]
    assert main(call) == 2
    assert "files.audit_log" in capsys.readouterr().err
    (out / "logs").parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (out / "logs").symlink_to(tmp_path / "elsewhere")
    assert main([*call[:3], "--out", str(out)]) == 2
    assert "leads out of the folder" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "elsewhere", "plan.json"]


@pytest.mark.parametrize("label", ["../../x", "/etc/x", "x" * 250, "..", "a b/c", "ä\u00a0ö"])
def test_a_label_makes_one_folder_of_the_study(label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))
    run = open_run("study", FilePlan(), label=label)
    assert run.folder.parent == tmp_path / "artifacts" / "study"
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]


def test_a_request_is_held_to_it_on_the_node_too() -> None:
    assert issubclass(Train, Request)
    with pytest.raises(ValidationError, match="leads out"):
        Train.model_validate({"plan": {"files": {"checkpoint_dir": "/etc"}}})

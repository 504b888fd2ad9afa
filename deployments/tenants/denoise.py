"""The denoiser of UV spectra: five deployments; its main job is fold 02 where it is missing, then the warm start."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from deployments.tenancy import Asked, MainJob, Served, Step, Tenant

FOLD_02 = "checkpoints/prod/Track_H_fold_02/mamba_tiny_uv_best.pt"


def steps(asked: Asked) -> Iterator[Step]:
    """The warm start begins at fold 02 of the same corpus."""
    if _needs_fold(asked):
        short = {"epochs": asked.epochs} if asked.epochs else {}
        yield Step("cross-validation/five-fold", {"corpus": asked.corpus, "folds": [2], **short})
    yield Step("act-of-god/warm-start", {"corpus": asked.corpus, **asked.plan})


def check(asked: Asked) -> str:
    """The corpus opens, and can be trained on and judged; what its values are taken for."""
    from denoise_core.corpus.usable import verify_study  # pandas takes a second: only a run of this study pays

    panel = _given(asked, "panel", "manifest")
    fold = int(_given(asked, "start", "fold") or 2)
    fold_too = fold if _needs_fold(asked) else None
    told = verify_study(asked.root / asked.corpus, asked.root / panel if panel else None, fold_too)
    return f"{asked.corpus}: {told}"


def _needs_fold(asked: Asked) -> bool:
    return not _given(asked, "start", "checkpoint") and not _trained(asked)


def _given(asked: Asked, section: str, name: str) -> str:
    """A field of the plan as it was given; empty where it was not, or where the form will refuse the section."""
    fields = asked.plan.get(section)
    return str(fields.get(name) or "") if isinstance(fields, Mapping) else ""


def _trained(asked: Asked) -> bool:
    """Whether fold 02 of this corpus is there already; a file that no campaign of ours placed counts as well."""
    here = str((asked.root / asked.corpus).resolve())
    for checkpoint in (asked.artifacts / FOLD_02, *asked.artifacts.glob(f"corpora/*/{FOLD_02}")):
        receipt = checkpoint.with_suffix(".json")
        if checkpoint.exists() and (not receipt.exists() or json.loads(receipt.read_text())["path"] == here):
            return True
    return False


TENANT = Tenant(
    name="denoise",
    served=(
        Served("flows.denoise.act_of_god:act_of_god", "warm-start"),
        # without a limit: four runs that wait for a sign-off must not keep it from starting
        Served("flows.denoise.act_b:act_b", "fallback", limit=None, backstop_of="act-of-god"),
        Served("flows.denoise.cross_validation:cross_validation", "five-fold"),
        Served("flows.denoise.panel_qa:panel_qa", "audit"),
        Served("flows.denoise.manifest:denoise_manifest", "manifest"),
    ),
    main=MainJob(
        steps,
        corpus="data/mini",
        make=("-m", "denoise_core", "corpus", "--out", "{corpus}", "--size", "mini", "--seed", "1"),
        check=check,
    ),
    epochs="training.changes.optimiser.epochs",
    row="denoise_core.report.labels:gate_row",
    terms="denoise_core.report.words:WORDS",
    compared="denoise_core.report.comparison:blocks",
    files=("report.html", "act_c_report.md", "auditors_bundle.zip", "final_analytics/panel_eval", "audit.jsonl"),
    importer="denoise_core.import_command:import_files",
    words={"val_psnr_mean": "PSNR {} dB", "val_sam_deg": "SAM {}°", "best_epoch": "best epoch {}"},
)

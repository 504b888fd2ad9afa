"""A house with runs in it, made by the functions that flows call, without a flow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from study_core.files import sha256_of, write_json
from study_core.gates import GateRecord
from study_core.plan import Frozen
from study_core.verdict import Verdict
from tasks import blessings, promotion, verification
from tasks.bundle import write_bundle
from tasks.run import Run, open_run


class Plan(Frozen):
    """A study of one threshold."""

    label: str = ""
    psnr_min: float = 50.0


@dataclass(frozen=True)
class House:
    """A house with a run that shipped and one that was refused."""

    root: Path
    shipped: Run
    refused: Run

    def findings(self) -> list[str]:
        """Every line that `gated verify` prints of this house."""
        checked = verification.house([self.root], verification.Reader.here())
        return [f"{Path(place).name}: {line}" for place, one in checked.items() for line in one.findings]

    @property
    def registry(self) -> Path:
        return blessings.registry_root("study")


def judged(tmp_path: Path, name: str, psnr: float, plan: Plan | None = None) -> Run:
    """A run from its opening to its end, by the functions that flows call."""
    plan = plan or Plan(label=name)
    run = open_run("study", plan, label=name)
    candidate = tmp_path / f"{name}.pt"
    candidate.write_text(name)
    gate = GateRecord(gate="aggregate", metric="psnr", comparison=">=", threshold=plan.psnr_min, value=psnr,
                      passed=psnr >= plan.psnr_min)  # fmt: skip
    verdict = Verdict(candidate=str(candidate), candidate_sha256=sha256_of(candidate), panel_sha256="a" * 64,
                      score=psnr, gates=(gate,))  # fmt: skip
    write_json(run.folder / "verdict.json", verdict.model_dump(mode="json"))
    (run.folder / "predictions.csv").write_text("capture,psnr\n1,54\n")
    (run.folder / "report.html").write_text(f"<p>{verdict.sentence()}</p>\n")
    run.event("report", "Report", sha256=sha256_of(run.folder / "report.html"))
    bundle = write_bundle(run.folder, {"DOC.md": "# Document\n"}, run.folder / "auditors_bundle.zip")
    run.event("bundle", "Bundle", sha256=sha256_of(bundle))
    if verdict.passed:
        promotion.ship(run, verdict, report=run.folder / "report.html")
    run.event("closed", verdict.sentence())
    return run

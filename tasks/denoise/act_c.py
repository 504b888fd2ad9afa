"""Act C: both acts failed. Nothing ships; a ranked report stands, and the run waits for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study_core.files import read_json, write_text
from study_core.markdown import markdown_table
from study_core.verdict import Verdict
from tasks import artifacts
from tasks.denoise.judging import PanelReport
from tasks.provenance import artifacts_root
from tasks.run import Run


def report(run: Run, judged: PanelReport, *, source: str) -> Path:
    """Rank everything that was judged: controls, Act of God, Act B. Production is untouched.

    The source run's verdict is read from its folder, where the two acts share one artifacts root.
    """
    rows = [_row("Act B", verdict) for verdict in judged.verdicts]
    rows += [_row("Act of God", Verdict.model_validate(read_json(path))) for path in _source_verdicts(source)]
    controls = judged.verdicts[0].facts.get("controls", []) if judged.verdicts else []
    rows += [
        {"what": f"control: {row['name']}", "score": row.get("composite_score"), "failed gates": ""} for row in controls
    ]
    rows.sort(key=lambda row: row["score"] if row["score"] is not None else float("-inf"), reverse=True)
    lines = ["# Act C: nothing ships", "", "Act of God and Act B both failed a gate. Production is untouched.", ""]
    ranked = [(rank, *row.values()) for rank, row in enumerate(rows, 1)]
    lines += [markdown_table(("rank", "what", "score", "failed gates"), ranked)]
    lines += ["", "Next: a person decides. See the gate tables and reports of both runs."]
    path = write_text(run.folder / "act_c_report.md", "\n".join(lines) + "\n")
    artifacts.publish_markdown(run, "act-c", "\n".join(lines), "Ranked report after both acts failed")
    run.event("act-c", f"Act C report: {path}", ranking=rows)
    return path


def _row(what: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "what": f"{what}: {Path(verdict.candidate).name}",
        "score": verdict.score,
        "failed gates": ", ".join(verdict.failed_gates),
    }


def _source_verdicts(source: str) -> list[Path]:
    return sorted(artifacts_root().glob(f"*/*-{source[:8]}/verdict.json")) if source else []

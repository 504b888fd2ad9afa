"""The model card of a run: the facts of its verdict in Markdown, for whoever is handed the model.

Every figure is read from the run's own files; what they do not say, the card does not say. Knows no science.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from study_core.gates import GateRecord
from study_core.markdown import markdown_table
from tasks.signing import PublicKey
from tasks.terminal import printable

CARD = "MODEL_CARD.md"


def text(
    sentence: str,
    gates: Sequence[GateRecord],
    verdict: Mapping[str, Any],
    provenance: Mapping[str, Any],
    opened: Mapping[str, Any],
    signer: PublicKey,
) -> str:
    """The card. `opened`: the log's first record, which says whose study it is and when it began."""
    about = opened.get("data")
    study = str(about.get("tenant") or "") if isinstance(about, Mapping) else ""
    facts = [
        ("Model", _model(verdict)),
        ("Study", study),
        ("Judged on", _named(verdict.get("data"), verdict.get("data_sha256"))),
        ("Panel", _named("", verdict.get("panel_sha256") or verdict.get("design_sha256"))),
        ("Score", _number(verdict.get("score"))),
        ("Thresholds", _thresholds(verdict)),
        ("Code", _named(provenance.get("git_hash"), provenance.get("code_sha256"))),
        ("Python", str(provenance.get("python") or "")),
        ("Began", str(opened.get("time") or "")),
        ("Signed by", f"{signer.line}, key {signer.id}"),
    ]
    notices = verdict.get("facts", {}).get("notices") if isinstance(verdict.get("facts"), Mapping) else ()
    return "\n".join(
        [
            "# Model card", "", f"**{printable(sentence or 'no verdict on record')}**", "",
            markdown_table(["", ""], [[name, _cell(value)] for name, value in facts if value]),
            "", "## Gates", "",
            "A candidate ships only when every gate passes. A vacuous rule cannot fail on these data and counts for "
            "nothing.", "", markdown_table(["verdict", "gate", "figure", "value", "needs", "reason"], [*_rows(gates)]),
            *_section("What the figures do not say", [f"- {_cell(str(one))}" for one in notices or ()]),
            "", "## How to check this", "",
            "`README.md` beside this card says how its signature, its files and its figures are checked.", "",
        ]
    )  # fmt: skip


def _rows(gates: Sequence[GateRecord]) -> Iterator[list[str]]:
    for one in gates:
        cells = (one.state, one.gate, one.name, _number(one.value) or "missing", one.needs, one.vacuous or one.reason)
        yield [_cell(cell) for cell in cells]


def _model(verdict: Mapping[str, Any]) -> str:
    return _named(Path(str(verdict.get("candidate") or "")).name, verdict.get("candidate_sha256"))


def _thresholds(verdict: Mapping[str, Any]) -> str:
    changed = verdict.get("changed_thresholds") or ()
    return f"CHANGED: {', '.join(map(str, changed))}" if changed else "the study's own"


def _named(name: object, digest: object) -> str:
    parts = [Path(str(name)).name if name else "", f"SHA-256 `{digest}`" if digest else ""]
    return ", ".join(part for part in parts if part)


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines] if lines else []


def _cell(value: str) -> str:
    return printable(value).replace("<", "&lt;")  # a reason may come from anywhere, a card is shown as a page

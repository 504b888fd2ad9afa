"""A run's verdict as an in-toto statement, signed: what was judged, by which thresholds, on which data and code.

The statement (`verdict.dsse.json`) is of type in-toto v1 with the test-result predicate; gates, thresholds and origin
stand beside its own fields, under `gated`. Its subjects are the candidate, every file that the verdict rests on and the
head of the audit log as of then, so that one signature holds all of them. Knows files, nothing of a science.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study_core.files import parse_json, peek_json, sha256_of, write_json
from study_core.gates import GateRecord, passed
from study_core.verdict import Verdict
from tasks import model_card, signing
from tasks.audit_log import LOG, readable
from tasks.signing import PublicKey
from tasks.terminal import printable

STATEMENT, SIGNER, README = "verdict.dsse.json", "signer.pem", "README.md"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VERDICT, PLAN, PROVENANCE = "verdict.json", "plan.json", "provenance.json"
LOG_HEAD, CANDIDATE = f"{LOG}#", "candidate "
_FACTS = ("score", "changed_thresholds", "data", "judge")


def attest(folder: Path, files: Mapping[str, str], head: Mapping[str, Any]) -> Path:
    """Sign what a run's folder says; returns the statement's file.

    `files`: name → SHA-256 of everything that the verdict rests on; `head`: the log's last record. A refused run is
    signed like one that passed: a verdict is a verdict.
    """
    return write_json(folder / STATEMENT, signing.sign(statement(folder, files, head)))


def cover(folder: Path, signer: PublicKey) -> dict[str, str]:
    """The documents that lie on top of every bundle: what it is, how it is checked, the model card, and the signer's
    public key."""
    verdict = _mapping(folder / VERDICT)
    said = sentence(folder)
    opened = next(iter(readable(folder / LOG)), {})
    card = model_card.text(said, _gates(verdict), verdict, _mapping(folder / PROVENANCE), opened, signer)
    names = {"sentence": printable(said), "statement": STATEMENT, "pem": SIGNER, "card": model_card.CARD}
    cover = _README.format(**names, line=signer.line, id=signer.id)
    return {SIGNER: signer.pem, README: cover, model_card.CARD: card}


def sentence(folder: Path) -> str:
    """The verdict of a run's folder in a line, in the study's own words where it has some."""
    return _sentence(_mapping(folder / VERDICT)) or "no verdict on record"


_README = """# An auditor's bundle

{sentence}

`{card}` has the figures; `ro-crate-metadata.json` tells the run in the terms of the Provenance Run Crate.

Signed with the key `{line}` (id `{id}`). The statement is `{statement}`: in-toto v1, test-result predicate, in a DSSE
envelope. The key lies here as `{pem}` too; whose it is only its owner can say: check against what the owner gave you.

    gated bundle BUNDLE --key PUBLIC.pem
    sha256sum -c SHA256SUMS

Without this house's software: the signed bytes are `DSSEv1 LENGTH TYPE LENGTH PAYLOAD`; `openssl pkeyutl -verify -pubin
-inkey PUBLIC.pem -rawin -in BYTES -sigfile SIGNATURE` reads them. Its subjects are the SHA-256 of the files.
"""


def statement(folder: Path, files: Mapping[str, str], head: Mapping[str, Any]) -> dict[str, Any]:
    """The in-toto statement of a run's folder, not signed yet."""
    verdict, provenance = _mapping(folder / VERDICT), _mapping(folder / PROVENANCE)
    subjects = {f"{LOG_HEAD}{head['seq']}": str(head["sha256"]), **files}
    if verdict.get("candidate_sha256"):
        subjects[f"{CANDIDATE}{Path(str(verdict.get('candidate', ''))).name}"] = str(verdict["candidate_sha256"])
    code, lock = provenance.get("code_sha256"), provenance.get("lock_sha256")
    origin = {"plan": files.get(PLAN), "code": code, "requirements.lock": lock}
    about = {"git": provenance.get("git_hash"), "versions": provenance.get("versions", {}), "time": head["time"]}
    return _statement(subjects, verdict, origin, about)


def of_blessing(path: Path, model_sha256: str, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The statement that a model was shipped: its subjects are the model and the registry's record of it."""
    subjects = {path.name: sha256_of(path), CANDIDATE.strip(): model_sha256}
    return _statement(subjects, verdict, {}, {})


def _statement(
    subjects: Mapping[str, str], verdict: Mapping[str, Any], origin: Mapping[str, Any], about: Mapping[str, Any]
) -> dict[str, Any]:
    gates = _gates(verdict)
    panel = verdict.get("panel_sha256") or verdict.get("design_sha256")
    origin = {**origin, "data": verdict.get("data_sha256"), "panel": panel}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()],
        "predicateType": TEST_RESULT,
        "predicate": {
            "result": "PASSED" if passed(gates) else "FAILED",
            "configuration": [{"name": name, "digest": {"sha256": sha}} for name, sha in origin.items() if sha],
            "passedTests": _named(gates, "pass"),
            "warnedTests": _named(gates, "vacuous"),
            "failedTests": _named(gates, "FAIL"),
            "gated": {
                **about,
                "sentence": _sentence(verdict),
                **{name: verdict[name] for name in _FACTS if verdict.get(name) is not None},
                "gates": [record.record() for record in gates],
            },
        },
    }


def check(
    envelope: bytes | None,
    present: Mapping[str, str],
    verdict: object,
    log: Mapping[str, str] | None,
    believed: Sequence[PublicKey],
) -> list[str]:
    """What is wrong with a signed statement; empty: somebody who is believed here says just what these files say.

    `present`: name → SHA-256 of the files at hand (one that is not among them is not held against the statement);
    `verdict`: the parsed verdict; `log`: SHA-256 of each audit record by its number, as text (None: a statement that
    names no log).
    """
    if envelope is None:
        return [f"{STATEMENT} is missing: nobody signed this verdict"]
    try:
        parsed = parse_json(envelope)
    except ValueError as error:
        return [f"{STATEMENT}: no JSON ({error})"]
    signed = signing.opened(parsed, believed)
    problems = [signed.problem] if signed.problem else []
    if signed.statement:
        problems += _held_against(signed.statement, present, verdict, log)
    return [f"{STATEMENT}: {problem}" for problem in problems]


def _held_against(
    statement: Mapping[str, Any], present: Mapping[str, str], verdict: object, log: Mapping[str, str] | None
) -> list[str]:
    try:
        subjects = {str(one["name"]): str(one["digest"]["sha256"]) for one in statement["subject"]}
        gates = list(statement["predicate"]["gated"]["gates"])
        result = statement["predicate"]["result"]
    except (KeyError, TypeError, AttributeError):
        return ["is no statement of a verdict"]
    problems = [
        f"{name} is not the file that was signed (SHA-256 {present[name][:12]}…, signed {digest[:12]}…)"
        for name, digest in subjects.items()
        if name in present and present[name] != digest
    ]
    if log is not None:
        problems += _log_held_against(subjects, log)
    now = _gates(verdict)
    if [record.record() for record in now] != gates:
        problems.append(f"{VERDICT}: its gates are not those that were signed")
    if result != ("PASSED" if passed(now) else "FAILED"):
        problems.append(f"{VERDICT}: reads {'PASSED' if passed(now) else 'FAILED'}, signed was {result}")
    return problems


def _log_held_against(subjects: Mapping[str, str], log: Mapping[str, str]) -> list[str]:
    head = next((name for name in subjects if name.startswith(LOG_HEAD)), "")
    number = head.removeprefix(LOG_HEAD)
    if not number.isdecimal():
        return ["names no record of the audit log"]
    if log.get(number) == subjects[head]:
        return []
    return [f"{LOG} line {int(number) + 1} is not the record that was signed: the log was cut or made anew"]


def _mapping(path: Path) -> Mapping[str, Any]:
    found = peek_json(path)
    return found if isinstance(found, dict) else {}


def _sentence(verdict: Mapping[str, Any]) -> str:
    """The verdict in a line; a study with a verdict of its own kind wrote it down."""
    try:
        return str(verdict.get("sentence") or Verdict.model_validate(verdict).sentence())
    except ValueError:
        return ""


def _gates(verdict: object) -> tuple[GateRecord, ...]:
    """The verdict's records; none where there is no readable verdict, which never passes."""
    try:
        return tuple(GateRecord.model_validate(row) for row in verdict["gates"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return ()


def _named(gates: Sequence[GateRecord], state: str) -> list[str]:
    return [f"{record.gate}: {record.name}" for record in gates if record.state == state]

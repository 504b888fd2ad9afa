"""A registry checked: its log, every blessing's record and signature, every model, and what each channel points at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from study_core.files import peek_json, sha256_of
from tasks import attestation, blessings, checking
from tasks.audit_log import LOG
from tasks.blessings import DEFAULT
from tasks.checking import Checked, Reader, Records
from tasks.signing import PublicKey


def registry(root: Path, records: Records, reader: Reader) -> Checked:
    """A registry: its log, every blessing's record and signature, every model, and what each channel points at."""
    checked, _ = checking.log(root, records, reader)
    pointed: dict[str, tuple[str, int]] = {}
    known: dict[str, str] = dict(records[0]["data"].get("found", {}))
    for record in records[1:]:
        data = record["data"]
        if {"blessing", "channel", "sha256"} <= data.keys():
            known[data["blessing"]] = data["sha256"]
            pointed[data["channel"]] = (data["blessing"], record["seq"] + 1)
    signed = set(known) - set(records[0]["data"].get("found", {}))
    names = {path.stem for path in blessings.files(root)}
    lost = sorted(known.keys() - names)
    checked.findings += [f"blessings/{name}.json: missing, though {LOG} recorded it" for name in lost]
    for path in blessings.files(root):
        checked.findings += _blessing(root, path, known.get(path.stem), path.stem in signed, reader.believed)
    checked.findings += _pointers(root, pointed)
    return checked


def _blessing(root: Path, path: Path, digest: str | None, signed: bool, believed: Sequence[PublicKey]) -> list[str]:
    name = path.relative_to(root).as_posix()
    if digest is None:
        return [f"{name}: no line of {LOG} recorded it"]
    problems = [f"{name}: is a link"] if path.is_symlink() else []
    if sha256_of(path) != digest:
        problems.append(f"{name}: is not the record that {LOG} names: edited")
    found = peek_json(path)
    if not isinstance(found, dict) or not {"model", "model_sha256", "verdict"} <= found.keys():
        return [*problems, f"{name}: no record of a blessing"]
    model = Path(str(found["model"]))
    if not model.exists():  # the house was moved
        model = root / "models" / str(found["model_sha256"]) / model.name
    if not model.exists():
        problems.append(f"{name}: its model {model} is gone")
    elif sha256_of(model) != found["model_sha256"]:
        problems.append(f"{name}: its model {model} is not the one that was blessed")
    if signed:
        statement = path.with_suffix(".dsse.json")
        envelope = statement.read_bytes() if statement.exists() else None
        present = {path.name: sha256_of(path)}
        told = attestation.check(envelope, present, found["verdict"], None, believed)
        problems += [f"{name}: {line}" for line in told]
    return problems


def _pointers(root: Path, pointed: Mapping[str, tuple[str, int]]) -> list[str]:
    problems = []
    there = {path.stem: path for path in sorted((root / "channels").glob("*.json"))}
    if (root / "production.json").exists():
        there[DEFAULT] = root / "production.json"
    problems += [f"{path.relative_to(root).as_posix()}: is a link" for path in there.values() if path.is_symlink()]
    for channel in sorted(pointed.keys() | there.keys()):
        wanted, line = pointed.get(channel, ("nothing", 0))
        path = there.get(channel)
        found = peek_json(path) if path is not None else None
        now = str(found.get("blessing")) if isinstance(found, dict) else "nothing"
        if now != wanted:
            name = path.relative_to(root).as_posix() if path else f"channel {channel}"
            by = f"{LOG} line {line} says {wanted}" if line else f"no line of {LOG} says so"
            problems.append(f"{name}: points at {now}, {by}: edited by hand")
    return problems

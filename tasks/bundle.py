"""The auditor's bundle: one zip with everything a verdict rests on, and the check that none of it was touched.

What it holds: every file of the run's folder but the model weights (the verdict names their SHA-256), the
documents that the caller hands over, and `SHA256SUMS`. Knows files and logs, nothing of a science.

Three records guard the files. `SHA256SUMS` (`sha256sum -c` reads it) finds a change by accident. The run's
hash-chained log names every file's SHA-256 in its `evidence` line: who swaps a file and mends `SHA256SUMS`
must make the whole chain anew. The signed statement names files and chain: who has not the signer's key can make
no other.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from study_core.files import parse_json, replacing
from tasks import anchor, attestation, signing
from tasks.attestation import STATEMENT
from tasks.audit_log import EVIDENCE, HEAD, LINES, LOG, AuditLog, parsed
from tasks.audit_log import verify as verify_log
from tasks.signing import Believed, PublicKey
from tasks.terminal import Json, call, existing, print_findings, single

SUMS = "SHA256SUMS"
OWN = frozenset({SUMS, LOG, HEAD, LINES, STATEMENT})  # what no line of the log can record: it is made of that line
LEFT_OUT = frozenset({".pt", ".zip", ".tmp"})
_NEVER = "events.out."  # TensorBoard's own files: large, and repeated by metrics.csv


def write_bundle(run_folder: Path, documents: Mapping[str, str], out: Path) -> Path:
    """Zip the run's files and `documents` (name → text) into `out`, checksums included; returns `out`.

    First one line is added to the run's log, naming every file's SHA-256; the log travels up to that line or
    later. Then what the verdict says, and all that, is signed. Equal content gives equal bytes. A document replaces a
    file of the same name.
    """
    run_folder, out = Path(run_folder), Path(out)
    content = {
        path.relative_to(run_folder).as_posix(): path.read_bytes()
        for path in sorted(run_folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and _belongs(path.relative_to(run_folder))
    }
    signer = signing.own_key()
    documents = {**documents, **attestation.cover(run_folder, signer)}
    content |= {name: text.encode() for name, text in documents.items()}
    sums = {name: _sha256(data) for name, data in sorted(content.items())}
    text = f"Auditor's bundle {out.name} of {len(sums)} files"
    record = AuditLog(run_folder).append(EVIDENCE, text, files=sums, documents=sorted(documents), signer=signer.id)
    anchor.tell_head(run_folder, record)
    content[STATEMENT] = attestation.attest(run_folder, sums, record).read_bytes()
    content |= _log_files(run_folder)
    sums = {name: _sha256(data) for name, data in sorted(content.items())}
    content[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    with replacing(out) as temporary:
        _write_zip(temporary, content)
    return out


def _belongs(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    own = relative.as_posix() in OWN
    return not (hidden or own or relative.suffix in LEFT_OUT or relative.name.startswith(_NEVER))


def _log_files(folder: Path) -> dict[str, bytes]:
    """The log and its head as of one moment: no writer comes between the two."""
    with open(folder / LOG, "rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        found = {LOG: handle.read()}
        return found | {name: (folder / name).read_bytes() for name in (HEAD, LINES) if (folder / name).exists()}


def _write_zip(path: Path, content: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(content.items()):
            member = zipfile.ZipInfo(name)  # its fixed date keeps equal content equal
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)


def verify(bundle: Path, believed: Sequence[PublicKey] | None = None) -> list[str]:
    """What was done to a bundle (zip or unpacked folder), each finding naming its line or file; empty: untouched.

    Finds: a changed, dropped, inserted or moved line of the log; a cut tail; a file that was changed, removed or
    added; a file that is not the one that the log recorded, even if the checksums were mended; a whole bundle made
    anew by somebody who is not believed (`believed`; None: one's own key).
    """
    content, problems = _read(Path(bundle))
    if SUMS not in content:
        return [*problems, f"{SUMS} is missing: not a bundle, or not a whole one"]
    listed = _parse_sums(content[SUMS])
    if listed is None:
        return [*problems, f"{SUMS}: not a list of checksums"]
    present = {name: _sha256(data) for name, data in content.items() if name != SUMS}
    problems += [f"{name}: missing" for name in sorted(listed.keys() - present.keys())]
    problems += [f"{name}: not part of the bundle" for name in sorted(present.keys() - listed.keys())]
    problems += [
        f"{name}: changed (SHA-256 {present[name][:12]}…, {SUMS} says {digest[:12]}…)"
        for name, digest in listed.items()
        if name in present and present[name] != digest
    ]
    if LOG not in content:
        return [*problems, f"{LOG} is missing: nothing vouches for {SUMS}"]
    problems += [*_check_log(content), *_check_evidence(content[LOG], present)]
    problems += _check_signature(content, present, signing.believed() if believed is None else believed)
    return list(dict.fromkeys(problems))


def _read(bundle: Path) -> tuple[dict[str, bytes], list[str]]:
    """Every file's bytes by name; members of a zip that cannot be read, or stand twice, are findings."""
    if bundle.is_dir():
        files = sorted(path for path in bundle.rglob("*") if path.is_file())
        return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}, []
    content: dict[str, bytes] = {}
    problems: list[str] = []
    try:
        with zipfile.ZipFile(bundle) as archive:
            for member in (entry for entry in archive.infolist() if not entry.is_dir()):
                if member.filename in content:
                    problems.append(f"{member.filename}: stands twice in the zip")
                try:
                    content[member.filename] = archive.read(member)
                except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
                    problems.append(f"{member.filename}: damaged ({error})")
    except (OSError, zipfile.BadZipFile) as error:
        problems.append(f"not a bundle: {error}")
    return content, problems


def _parse_sums(data: bytes) -> dict[str, str] | None:
    listed = {}
    for line in data.decode("utf-8", "replace").splitlines():
        digest, gap, name = line.partition("  ")
        if not gap or len(digest) != 64:
            return None
        listed[name] = digest
    return listed or None


def _check_log(content: Mapping[str, bytes]) -> list[str]:
    with tempfile.TemporaryDirectory() as temporary:
        for name in (LOG, HEAD):
            if name in content:
                (Path(temporary) / name).write_bytes(content[name])
        return [f"{LOG} {problem}" for problem in verify_log(Path(temporary) / LOG)]


def _check_evidence(log: bytes, present: Mapping[str, str]) -> list[str]:
    """The files against the last `evidence` line of the log."""
    line, record = _last_evidence(log)
    if record is None:
        return [f"{LOG}: no line records the bundle's files"]
    by = f"that {LOG} line {line} recorded"
    files: Mapping[str, str] = record["data"]["files"]
    return [
        *(f"{name}: missing, though {LOG} line {line} recorded it" for name in files if name not in present),
        *(f"{name}: is not the file {by}" for name, sha in files.items() if present.get(name, sha) != sha),
        *(f"{name}: is no file {by}" for name in present if name not in files and name not in OWN),
    ]


def _last_evidence(log: bytes) -> tuple[int, dict[str, Any] | None]:
    found: tuple[int, dict[str, Any] | None] = (0, None)
    for number, record in enumerate(parsed(log), start=1):
        if record is not None and record["kind"] == EVIDENCE and isinstance(record["data"].get("files"), dict):
            found = (number, record)
    return found


def _check_signature(
    content: Mapping[str, bytes], present: Mapping[str, str], believed: Sequence[PublicKey]
) -> list[str]:
    try:
        verdict = parse_json(content.get(attestation.VERDICT, b""))
    except ValueError:
        verdict = None
    log = {str(record["seq"]): record["sha256"] for record in parsed(content[LOG]) if record is not None}
    return attestation.check(content.get(STATEMENT), present, verdict, log, believed)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def verify_bundles(
    bundles: Annotated[list[Path], typer.Argument(metavar="ZIP|FOLDER...", help="A bundle, zipped or unpacked.")],
    keys: Believed = None,
    as_json: Json = False,
) -> int:
    """Find what was done to an auditor's bundle: exit code 0 when nothing was, 1 when something was."""
    believed = signing.believed(keys)
    for path in bundles:
        existing(path, "a run's own bundle lies in artifacts/FLOW/RUN/")
    findings = {str(path): verify(path, believed) for path in bundles}
    if as_json:
        print(json.dumps(findings))
    else:
        print_findings(findings)
    return 1 if any(findings.values()) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m tasks.bundle verify ZIP|FOLDER …`: as `gated bundle ZIP|FOLDER …`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = single(verify_bundles)
    return call(command, "python -m tasks.bundle", given[1:] if given[:1] == ["verify"] else given)


if __name__ == "__main__":
    sys.exit(main())

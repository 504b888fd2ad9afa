"""The auditor's bundle: one zip with everything a verdict rests on, and the check that none of it was touched.

What it holds: every file of the run's folder but the model weights (the verdict names their SHA-256), the
documents that the caller hands over, and `SHA256SUMS`. Knows files and logs, nothing of a science.

Two records guard the files. `SHA256SUMS` (`sha256sum -c` reads it) finds a change by accident. The run's
hash-chained log names every file's SHA-256 in its `evidence` line: who swaps a file and mends `SHA256SUMS`
must make the whole chain anew, and then its last hash is no longer the one that the run's own log goes on
from.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from study_core.files import replacing
from tasks.audit_log import AuditLog, print_findings
from tasks.audit_log import verify as verify_log
from tasks.terminal import Json, call, existing, single

SUMS = "SHA256SUMS"
LOG, HEAD, LINES = "audit.jsonl", "audit.head", "auditing_manifest.log"
EVIDENCE = "evidence"
LEFT_OUT = frozenset({".pt", ".zip", ".tmp"})
_NEVER = "events.out."  # TensorBoard's own files: large, and repeated by metrics.csv


def write_bundle(run_folder: Path, documents: Mapping[str, str], out: Path) -> Path:
    """Zip the run's files and `documents` (name → text) into `out`, checksums included; returns `out`.

    First one line is added to the run's log, naming every file's SHA-256; the log travels up to that line or
    later. Equal content gives equal bytes. A document replaces a file of the same name.
    """
    run_folder, out = Path(run_folder), Path(out)
    content = {
        path.relative_to(run_folder).as_posix(): path.read_bytes()
        for path in sorted(run_folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and _belongs(path.relative_to(run_folder))
    }
    content |= {name: text.encode() for name, text in documents.items()}
    sums = {name: _sha256(data) for name, data in sorted(content.items())}
    AuditLog(run_folder).append(EVIDENCE, f"Auditor's bundle {out.name} of {len(sums)} files", files=sums)
    content |= _log_files(run_folder)
    sums = {name: _sha256(data) for name, data in sorted(content.items())}
    content[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    with replacing(out) as temporary:
        _write_zip(temporary, content)
    return out


def _belongs(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    own = relative.as_posix() in (LOG, HEAD, LINES, SUMS)
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


def verify(bundle: Path) -> list[str]:
    """What was done to a bundle (zip or unpacked folder), each finding naming its line or file; empty: untouched.

    Finds: a changed, dropped, inserted or moved line of the log; a cut tail; a file that was changed, removed or
    added; a file that is not the one that the log recorded, even if the checksums were mended.
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
    return list(dict.fromkeys([*problems, *_check_log(content), *_check_evidence(content[LOG], present)]))


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
        try:
            return [f"{LOG} {problem}" for problem in verify_log(Path(temporary) / LOG)]
        except UnicodeDecodeError as error:
            line = content[LOG][: error.start].count(b"\n") + 1
            return [f"{LOG} line {line}: not text"]
        except (ValueError, KeyError, TypeError):  # only the head is read as a whole
            return [f"{HEAD}: not what the log's writer leaves"]


def _check_evidence(log: bytes, present: Mapping[str, str]) -> list[str]:
    """The files against the last `evidence` line of the log."""
    line, record = _last_evidence(log)
    if record is None:
        return [f"{LOG}: no line records the bundle's files"]
    by = f"that {LOG} line {line} recorded"
    files: Mapping[str, str] = record["data"]["files"]
    own = {LOG, HEAD, LINES}
    return [
        *(f"{name}: missing, though {LOG} line {line} recorded it" for name in files if name not in present),
        *(f"{name}: is not the file {by}" for name, sha in files.items() if present.get(name, sha) != sha),
        *(f"{name}: is no file {by}" for name in present if name not in files and name not in own),
    ]


def _last_evidence(log: bytes) -> tuple[int, dict[str, Any] | None]:
    found: tuple[int, dict[str, Any] | None] = (0, None)
    for number, line in enumerate(io.StringIO(log.decode("utf-8", "replace")), start=1):
        try:
            record = json.loads(line)
            if record["kind"] == EVIDENCE and isinstance(record["data"]["files"], dict):
                found = (number, record)
        except (ValueError, KeyError, TypeError):
            continue  # the chain's own check names this line
    return found


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def verify_bundles(
    bundles: Annotated[list[Path], typer.Argument(metavar="ZIP|FOLDER...", help="A bundle, zipped or unpacked.")],
    as_json: Json = False,
) -> int:
    """Find what was done to an auditor's bundle: exit code 0 when nothing was, 1 when something was."""
    for path in bundles:
        existing(path, "a run's own bundle lies in artifacts/FLOW/RUN/")
    findings = {str(path): verify(path) for path in bundles}
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

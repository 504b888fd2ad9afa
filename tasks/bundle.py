"""The auditor's bundle: one zip with everything a verdict rests on, and the check that none of it was touched.

What it holds: every file of the run's folder but the weights, the model that was judged where it is small (the verdict
names its SHA-256 in any case), the documents that the caller hands over, and `SHA256SUMS`. Knows files and logs,
nothing of a science.

Three records guard the files. `SHA256SUMS` (`sha256sum -c` reads it) finds a change by accident. The run's
hash-chained log names every file's SHA-256 in its `evidence` line: who swaps a file and mends `SHA256SUMS`
must make the whole chain anew. The signed statement names files and chain: who has not the signer's key can make
no other.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from cryptography import x509

from study_core import bundles
from study_core.files import parse_json, peek_json, replacing, sha256_of
from tasks import anchor, attestation, signing, timestamp
from tasks.attestation import STATEMENT
from tasks.audit_log import EVIDENCE, HEAD, LINES, LOG, AuditLog, parsed
from tasks.audit_log import verify as verify_log
from tasks.signing import Believed, PublicKey
from tasks.terminal import Json, call, existing, print_findings, single

SUMS = "SHA256SUMS"
STAMP = "evidence.tsr"  # a time stamp authority's token for the log's last `evidence` record, where a site has one
DOCUMENTS = frozenset({SUMS, LOG, HEAD, STATEMENT, STAMP, attestation.VERDICT})  # what the check reads whole
OWN = frozenset(
    {SUMS, LOG, HEAD, LINES, STATEMENT, STAMP}
)  # what no line of the log can record: it is made of that line
LEFT_OUT = frozenset({".pt", ".zip", ".tmp"})
MOST_MODEL = 16 << 20  # bytes of a judged model that travels: with it the verdict can be had again from the weights on
_NEVER = "events.out."  # TensorBoard's own files: large, and repeated by metrics.csv


def write_bundle(run_folder: Path, documents: Mapping[str, str], out: Path) -> Path:
    """Zip the run's files and `documents` (name → text) into `out`, checksums included; returns `out`.

    Files go through a piece at a time and are hashed as they are written. Then one line is added to the run's log,
    naming every file's SHA-256; the log travels up to that line or later. Then what the verdict says, and all that, is
    signed. Equal content gives equal bytes. A document replaces a file of the same name.
    """
    from tasks import crate  # half a second of imports that only a bundle pays, none that is checked

    run_folder, out = Path(run_folder), Path(out)
    signer = signing.own_key()
    documents = {**documents, **attestation.cover(run_folder, signer)}
    model = _model(run_folder)
    files = model | {
        path.relative_to(run_folder).as_posix(): path
        for path in sorted(run_folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and _belongs(path.relative_to(run_folder))
    }
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        sums = {name: _add_file(archive, name, path) for name, path in files.items() if name not in documents}
        sums |= {name: _add(archive, name, io.BytesIO(text.encode())) for name, text in sorted(documents.items())}
        told = crate.metadata(run_folder, sums, signer, attestation.sentence(run_folder))
        sums[crate.METADATA] = _add(archive, crate.METADATA, io.BytesIO(told.encode()))
        beside = sorted([*documents, *model, crate.METADATA])  # these lie in the bundle alone
        sums = dict(sorted(sums.items()))
        text = f"Auditor's bundle {out.name} of {len(sums)} files"
        record = AuditLog(run_folder).append(EVIDENCE, text, files=sums, documents=beside, signer=signer.id)
        stamp = anchor.tell_head(run_folder, record)
        if stamp:
            sums[STAMP] = _add(archive, STAMP, io.BytesIO(stamp))
        sums[STATEMENT] = _add_file(archive, STATEMENT, attestation.attest(run_folder, sums, record))
        with open(run_folder / LOG, "rb") as log:
            fcntl.flock(log, fcntl.LOCK_SH)  # the log and its head as of one moment: no writer comes between the two
            sums[LOG] = _add(archive, LOG, log)
            heads = (name for name in (HEAD, LINES) if (run_folder / name).exists())
            sums |= {name: _add_file(archive, name, run_folder / name) for name in heads}
        listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        _add(archive, SUMS, io.BytesIO(listed.encode()))
    return out


def _model(run_folder: Path) -> dict[str, Path]:
    """The judged model by its place in the bundle: a small file that is still the one that was judged, else nothing."""
    verdict = peek_json(run_folder / attestation.VERDICT)
    path = Path(str(verdict.get("candidate") or "")) if isinstance(verdict, dict) else Path()
    if not path.is_file() or path.stat().st_size > MOST_MODEL or sha256_of(path) != verdict.get("candidate_sha256"):
        return {}
    return {f"{bundles.MODEL}/{path.name}": path}


def _belongs(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    own = relative.as_posix() in OWN
    return not (hidden or own or relative.suffix in LEFT_OUT or relative.name.startswith(_NEVER))


def _add_file(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    with open(path, "rb") as stream:
        return _add(archive, name, stream)


def _add(archive: zipfile.ZipFile, name: str, stream: IO[bytes]) -> str:
    """Write one member, a piece at a time; the SHA-256 of what was written."""
    member = zipfile.ZipInfo(name)  # its fixed date keeps equal content equal
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    digest = hashlib.sha256()
    with archive.open(member, "w", force_zip64=True) as target:
        while piece := stream.read(bundles.CHUNK):
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest()


def verify(
    bundle: Path,
    believed: Sequence[PublicKey] | None = None,
    roots: Sequence[x509.Certificate] = (),
) -> list[str]:
    """What was done to a bundle (zip or unpacked folder), each finding naming its line or file; empty: untouched.

    Finds: a changed, dropped, inserted or moved line of the log; a cut tail; a file that was changed, removed or
    added; a file that is not the one that the log recorded, even if the checksums were mended; a whole bundle made
    anew by somebody who is not believed (`believed`; None: one's own key); a time stamp of something else, or of an
    authority that is not among `roots` (none: its signature is not looked at).
    """
    found = bundles.read(Path(bundle), DOCUMENTS)
    content, problems = found.documents, found.problems
    if SUMS not in content:
        return [*problems, f"{SUMS} is missing: not a bundle, or not a whole one"]
    listed = _parse_sums(content[SUMS])
    if listed is None:
        return [*problems, f"{SUMS}: not a list of checksums"]
    present = {name: digest for name, digest in found.sha256.items() if name != SUMS}
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
    problems += _check_stamp(content, roots)
    return list(dict.fromkeys(problems))


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


def _check_stamp(content: Mapping[str, bytes], roots: Sequence[x509.Certificate]) -> list[str]:
    """The authority's word for when the evidence was there."""
    _, record = _last_evidence(content[LOG])
    if STAMP not in content:
        return [f"{STAMP} is missing: nobody says when this was there"] if roots else []
    found = timestamp.check(content[STAMP], record["sha256"] if record else "", roots)
    late = timestamp.out_of_time(str(record["time"]), found) if record else ""
    return [f"{STAMP}: {problem}" for problem in (found.problem, late) if problem]


def verify_bundles(
    paths: Annotated[list[Path], typer.Argument(metavar="ZIP|FOLDER...", help="A bundle, zipped or unpacked.")],
    keys: Believed = None,
    authorities: timestamp.Authorities = None,
    as_json: Json = False,
) -> int:
    """Find what was done to an auditor's bundle: exit code 0 when nothing was, 1 when something was."""
    believed = signing.believed(keys)
    for path in paths:
        existing(path, "a run's own bundle lies in artifacts/FLOW/RUN/")
    trusted = timestamp.roots(authorities)
    findings = {str(path): verify(path, believed, trusted) for path in paths}
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

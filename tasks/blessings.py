"""The registry on the disk: what was blessed, what each channel has in production, and the log that recorded it.

`artifacts/registry/<tenant>/`, one a tenant: nobody's model replaces, or is compared with, another tenant's.
    models/<sha256>/…                blessed candidates, files or folders, immutable
    blessings/<id>.json, .dsse.json  candidate, what it replaces, gates with thresholds, verdict, report, run; signed
    production.json                  what the channel `default` has in production: replaced atomically
    channels/<channel>.json          the same of every other channel
    audit.jsonl …                    the registry's own log: every change with the hash of what it wrote
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from study_core.errors import BadInput
from study_core.files import read_json, sha256_of, write_json
from study_core.verdict import Verdict
from tasks import anchor, attestation, signing
from tasks.audit_log import LOG, AuditLog
from tasks.provenance import artifacts_root

FIRST = "denoise"  # whose registry `registry/` itself is, where it was written before there was one a tenant
DEFAULT = "default"
REGISTRY, SHIPPED, ROLLED_BACK = "registry", "shipped", "rolled-back"
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")


class Blessing(BaseModel):
    """A candidate that passed, and the record of why."""

    model_config = ConfigDict(frozen=True)
    id: str
    study: str
    model: str
    model_sha256: str
    replaces: str | None
    channel: str = DEFAULT
    other_data: str = (
        ""  # what the model that it replaces was judged on, where the plan let the channel go on with this
    )
    verdict: Verdict
    incumbent_score: float | None
    report: str
    run: str
    run_folder: str
    approved_by: str | None = None
    signer: str = ""
    public_key: str = ""
    blessed_at: str


def registry_root(tenant: str) -> Path:
    """The folder of a tenant's registry. One of old stays where it is and goes on as the first tenant's."""
    registries = artifacts_root() / "registry"
    return registries if tenant == FIRST and (registries / "blessings").is_dir() else registries / tenant


def registries() -> list[str]:
    """Tenants that ever shipped something."""
    found = [path.parent.name for path in (artifacts_root() / "registry").glob("*/blessings")]
    old = [FIRST] if (artifacts_root() / "registry" / "blessings").is_dir() else []
    return sorted({*found, *old})


@contextmanager
def locked(tenant: str) -> Iterator[Path]:
    """One writer at a time in a registry, over processes."""
    root = registry_root(tenant)
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield root


def pointer(root: Path, channel: str) -> Path:
    """The file that says what a channel has in production. Raises BadInput for what cannot be a channel's name."""
    if not _CHANNEL.fullmatch(channel):
        raise BadInput(f"no name of a channel: {channel!r}", remedy="letters a to z, digits, - and _, as in demo")
    return root / "production.json" if channel == DEFAULT else root / "channels" / f"{channel}.json"


def channels(tenant: str) -> list[str]:
    """Channels that have something in production."""
    root = registry_root(tenant)
    named = sorted(path.stem for path in (root / "channels").glob("*.json"))
    return ([DEFAULT] if pointer(root, DEFAULT).exists() else []) + named


def production(tenant: str, channel: str = "") -> Blessing | None:
    """What a tenant's channel has in production now, or None."""
    path = pointer(registry_root(tenant), channel or DEFAULT)
    return blessing(tenant, read_json(path)["blessing"]) if path.exists() else None


def blessing(tenant: str, identifier: str) -> Blessing:
    """One blessing by its id. Raises FileNotFoundError naming those that there are."""
    path = registry_root(tenant) / "blessings" / f"{identifier}.json"
    if not path.exists():
        known = ", ".join(one.id for one in blessings(tenant)) or "none"
        raise FileNotFoundError(f"{path}: no such blessing; known: {known}")
    return Blessing.model_validate(read_json(path))


def blessings(tenant: str) -> list[Blessing]:
    """Every blessing, oldest first."""
    return [Blessing.model_validate(read_json(path)) for path in files(registry_root(tenant))]


def files(root: Path) -> list[Path]:
    """The files of the blessings."""
    return [path for path in sorted((root / "blessings").glob("*.json")) if not path.name.endswith(".dsse.json")]


def put(root: Path, blessed: Blessing) -> None:
    """Bless: the signed record, then the log's line, then the pointer. Under the registry's lock."""
    path = root / "blessings" / f"{blessed.id}.json"
    write_json(path, blessed.model_dump(mode="json"))
    statement = attestation.of_blessing(path, blessed.model_sha256, blessed.verdict.model_dump(mode="json"))
    write_json(path.with_suffix(".dsse.json"), signing.sign(statement))
    _point(root, blessed, SHIPPED, f"Shipped {blessed.id}", replaces=blessed.replaces, by=blessed.approved_by)


def put_back(root: Path, blessed: Blessing, instead_of: Blessing, reason: str) -> None:
    """Point a channel at an earlier blessing again."""
    text = f"{instead_of.id} -> {blessed.id} | {reason}"
    _point(root, blessed, ROLLED_BACK, text, instead_of=instead_of.id, reason=reason)


def _point(root: Path, blessed: Blessing, kind: str, text: str, /, **data: str | None) -> None:
    log = AuditLog(root)
    if not (root / LOG).exists():
        known = {path.stem: sha256_of(path) for path in files(root) if path.stem != blessed.id}
        log.append(REGISTRY, f"Registry of {root.name}", found=known)
    record = log.append(
        kind, text, blessing=blessed.id, channel=blessed.channel, model=blessed.model_sha256,
        sha256=sha256_of(root / "blessings" / f"{blessed.id}.json"), **data,
    )  # fmt: skip
    write_json(pointer(root, blessed.channel), {"blessing": blessed.id})
    anchor.tell_head(root, record)

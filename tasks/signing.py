"""Who says so: this person's Ed25519 key, and statements in DSSE envelopes signed with it. Knows nothing of a verdict.

The key is made at the first use, readable by its owner alone, where no run writes: in the user's configuration folder,
or where `GATED_KEY` says. Who is believed is the reader's to say: public keys named by hand, else the reader's own.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey  # type: ignore[attr-defined]  # no py.typed exports

from study_core.errors import BadInput
from study_core.files import encode, make_folder, parse_json, write_text
from tasks.terminal import Json

Believed = Annotated[
    list[Path] | None,
    typer.Option("--key", envvar="GATED_TRUST", help="A signer's public key (PEM); again for another; none: your own."),
]
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_REMEDY = "name another file by GATED_KEY, or mend this one"


@dataclass(frozen=True)
class PublicKey:
    """A public key as people pass it on: its name (a hash), and PEM."""

    id: str
    pem: str

    @property
    def line(self) -> str:
        """On one line, for a README or a log: `ed25519:BASE64`."""
        raw = _public(self.pem.encode()).public_bytes_raw()
        return f"ed25519:{base64.b64encode(raw).decode()}"

    @property
    def short(self) -> str:
        return self.id[:12]


@dataclass(frozen=True)
class Signed:
    """An envelope's content, as far as it could be read; `problem` says why it is not to be believed."""

    statement: Mapping[str, Any]
    key_ids: tuple[str, ...]
    problem: str = ""
    stranger: bool = False  # well signed for all we know, by nobody who is believed here


def key_path() -> Path:
    """Where this person's private key lies."""
    named = os.environ.get("GATED_KEY")
    return Path(named).expanduser() if named else Path(typer.get_app_dir("gated")) / "signing-key.pem"


def own_key() -> PublicKey:
    """The public half of this person's key, which is made where there is none yet.

    Raises:
        BadInput: a key that cannot be read, is no Ed25519 key, or that others may read. Asked for when a run opens,
            so that nobody waits a day for a verdict that nobody can sign.
    """
    return _described(_private())


def known_key() -> PublicKey | None:
    """The public half of this person's key where there is one; none is made."""
    return own_key() if key_path().exists() else None


def believed(keys: Sequence[Path] | None = None) -> tuple[PublicKey, ...]:
    """Whose signatures a reader believes: those whose keys are named, else one's own where there is one."""
    own = known_key() if not keys else None
    return tuple(read_public(path) for path in keys or ()) or ((own,) if own else ())


def read_public(path: Path) -> PublicKey:
    """A public key in PEM. Raises BadInput for anything else."""
    try:
        return _described(_public(path.read_bytes()))
    except (OSError, ValueError) as error:
        remedy = "name the PEM file of a public Ed25519 key (`gated key` writes one's own)"
        raise BadInput(f"no public key ({error})", file=path, remedy=remedy) from None


def sign(statement: Mapping[str, Any]) -> dict[str, Any]:
    """The statement in a DSSE envelope, JSON-ready, signed with this person's key."""
    envelope = Envelope(encode(statement), PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(_private()))
    return cast("dict[str, Any]", envelope.to_dict())


def opened(envelope: object, believed: Sequence[PublicKey]) -> Signed:
    """What an envelope says, and whether one of the believed keys signed it. Never raises on what it is handed."""
    try:
        found = Envelope.from_dict(parse_json(encode(envelope)))  # its own copy: from_dict changes what it is given
        statement = parse_json(found.payload)
        if found.payload_type != PAYLOAD_TYPE or not isinstance(statement, dict):
            return Signed({}, (), "holds no in-toto statement")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Signed({}, (), f"no signed statement ({error})")
    ids = tuple(str(name) for name in found.signatures)
    if not ids:
        return Signed(statement, (), "carries no signature")
    keys: list[Key] = [SSlibKey.from_crypto(_public(key.pem.encode()), keyid=key.id) for key in believed]
    mine = [key for key in keys if key.keyid in ids]
    if not mine:
        asked = ", ".join(key.short for key in believed) or "no key was named"
        by = ", ".join(name[:12] for name in ids)
        return Signed(statement, ids, f"signed by key {by}, not by one that is believed here ({asked})", stranger=True)
    try:
        found.verify(mine, 1)
    except (VerificationError, ValueError):
        return Signed(statement, ids, f"the signature of key {mine[0].keyid[:12]} does not fit: changed after signing")
    return Signed(statement, ids)


def key(
    out: Annotated[Path | None, typer.Option("--out", help="Write it into this file, for whoever checks.")] = None,
    as_json: Json = False,
) -> None:
    """The public half of your signing key, made where there is none yet: with it others check your verdicts."""
    own = own_key()
    if out is not None:
        write_text(out, own.pem)
    if as_json:
        print(json.dumps({"id": own.id, "public": own.line, "pem": own.pem, "private": str(key_path())}))
    else:
        print(f"{own.pem}key {own.id}\n{own.line}\nprivate half: {key_path()}")


def _private() -> Ed25519PrivateKey:
    path = key_path()
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise BadInput("others may read this signing key", file=path, remedy=f"chmod 600 '{path}', or a new key")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except BadInput:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"no usable signing key ({_first_line(error)})", file=path, remedy=_REMEDY) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput("a signing key of another kind than Ed25519", file=path, remedy=_REMEDY)
    return key


def _make(path: Path) -> None:
    """A new key; of two processes at once, the first one's stays."""
    make_folder(path.parent)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")  # the owner's alone
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)


def _public(pem: bytes) -> Ed25519PublicKey:
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("of another kind than Ed25519")
    return key


def _described(key: Ed25519PrivateKey | Ed25519PublicKey) -> PublicKey:
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(SSlibKey.from_crypto(public).keyid, pem.decode())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

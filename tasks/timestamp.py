"""RFC 3161: a time stamp authority's word for when a log's head was there. Knows hashes, nothing of a log.

`GATED_TSA` names the authority's address; without it nothing is stamped. What is stamped is the head's SHA-256 as it is
written, 64 characters, so that anybody's tool can check a token: `openssl ts -verify -data HEAD -in TOKEN -CAfile CA`.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from cryptography import x509

from study_core.errors import BadInput

if TYPE_CHECKING:  # only who asks or checks an authority loads it
    from rfc3161_client import TimeStampResponse

Authorities = Annotated[
    list[Path] | None,
    typer.Option("--tsa-ca", envvar="GATED_TSA_CA", help="Root certificate (PEM) of a time stamp authority."),
]
PATIENCE_S, MOST_BYTES = 10.0, 1 << 16
CLOCKS = timedelta(minutes=10)  # that a machine's clock may be off


@dataclass(frozen=True)
class Stamp:
    """A token as far as it could be read; `problem` says why it is not to be believed."""

    time: datetime | None = None
    problem: str = ""


def asked() -> str:
    """The authority's address, empty where a site has none."""
    return os.environ.get("GATED_TSA", "")


def ask(sha256: str) -> bytes:
    """The authority's token for a hash. Raises OSError where it cannot be had, ValueError where the answer is none."""
    address = asked()
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"GATED_TSA {address!r} is no http(s) address")
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    query = TimestampRequestBuilder().data(sha256.encode()).hash_algorithm(HashAlgorithm.SHA256).build()
    headers = {"Content-Type": "application/timestamp-query"}
    request = urllib.request.Request(address, query.as_bytes(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        token = answer.read(MOST_BYTES)
    found = _read(token)
    if found.tst_info.nonce != query.nonce or found.tst_info.message_imprint.message != _imprint(sha256):
        raise ValueError(f"{address} answered another question")
    return bytes(token)


def check(token: bytes, sha256: str, roots: Sequence[x509.Certificate]) -> Stamp:
    """What a token says of a hash. Without `roots` its signature is not looked at, only that it is this hash's own."""
    from rfc3161_client import VerificationError, VerifierBuilder

    try:
        found = _read(token)
        time = found.tst_info.gen_time.replace(tzinfo=UTC)
        if found.tst_info.message_imprint.message != _imprint(sha256):
            return Stamp(problem="is the time stamp of something else")
        if roots:
            VerifierBuilder(roots=list(roots)).build().verify_message(found, sha256.encode())
    except (ValueError, VerificationError) as error:
        return Stamp(problem=f"no time stamp of an authority that is believed here ({str(error).partition(':')[0]})")
    return Stamp(time)


def out_of_time(recorded: str, stamp: Stamp) -> str:
    """Where a record's own time is not that of its stamp: a clock that was wrong, or set."""
    try:
        apart = datetime.fromisoformat(recorded) - stamp.time if stamp.time else timedelta()
    except (ValueError, TypeError):
        return f"says {recorded}, which is no time"
    if abs(apart) <= CLOCKS:
        return ""
    return f"the log says {recorded}, the authority {stamp.time:%Y-%m-%dT%H:%M:%S}Z: a clock that was wrong, or set"


def roots(paths: Sequence[Path] | None) -> tuple[x509.Certificate, ...]:
    """Root certificates in PEM. Raises BadInput for a file that holds none."""
    found: list[x509.Certificate] = []
    for path in paths or ():
        try:
            found += x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            remedy = "name the authority's root certificate as a PEM file"
            raise BadInput(f"no certificate ({error})", file=path, remedy=remedy) from None
    return tuple(found)


def _read(token: bytes) -> TimeStampResponse:
    from rfc3161_client import PKIStatus, decode_timestamp_response

    found = decode_timestamp_response(token)
    if found.status != PKIStatus.GRANTED:
        raise ValueError(f"refused: {'; '.join(found.status_string) or found.status}")
    return found


def _imprint(sha256: str) -> bytes:
    return hashlib.sha256(sha256.encode()).digest()

"""A run's archive, zipped or unpacked: as a folder, or read once from end to end, a piece at a time.

A bundle may come from anywhere. What it claims of itself is not believed: sizes are bounded, and whatever cannot be
read is a finding or a `BadInput`, never a crash.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from study_core.errors import UNREADABLE, BadInput

MOST_BYTES = 4 << 30  # that a zip may unpack to
MOST_DOCUMENT = 64 << 20  # of a file that is read whole: a log of some 100,000 events
CHUNK = 1 << 20
MODEL = "model"  # the folder of a bundle that the judged model lies in, where it travels
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others' memory is the writer's choice


@dataclass
class Contents:
    """What a bundle holds: each file's SHA-256, the documents asked for, and what could not be read."""

    sha256: dict[str, str] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read(bundle: Path, documents: Collection[str]) -> Contents:
    """Every file of a bundle (zip or folder), hashed piece by piece; those named in `documents` are kept whole."""
    found = Contents()
    if bundle.is_dir():
        for path in sorted(path for path in bundle.rglob("*") if path.is_symlink() or path.is_file()):
            name = path.relative_to(bundle).as_posix()
            if path.is_symlink():  # what it names today is not what it names tomorrow
                found.problems.append(f"{name}: is a link")
                continue
            _take(found, name, path.stat().st_size, partial(_open, path), documents)
        return found
    try:
        with zipfile.ZipFile(bundle) as archive:
            if too_much := _too_much(archive):
                found.problems.append(f"not a bundle: {too_much}")
                return found
            for member in (entry for entry in archive.infolist() if not entry.is_dir()):
                if member.filename in found.sha256:
                    found.problems.append(f"{member.filename}: stands twice in the zip")
                if member.compress_type not in _METHODS:
                    found.problems.append(f"{member.filename}: damaged (compressed otherwise than by deflate)")
                    continue
                _take(found, member.filename, member.file_size, partial(archive.open, member), documents)
    except UNREADABLE as error:
        found.problems.append(f"not a bundle: {error}")
    return found


def _open(path: Path) -> IO[bytes]:
    return open(path, "rb")


def _take(found: Contents, name: str, size: int, opened: Callable[[], IO[bytes]], documents: Collection[str]) -> None:
    whole = name in documents
    if whole and size > MOST_DOCUMENT:
        found.problems.append(f"{name}: {size >> 20} MiB, more than is read of one ({MOST_DOCUMENT >> 20} MiB)")
        whole = False
    digest, kept = hashlib.sha256(), []
    try:
        with opened() as stream:
            while piece := stream.read(CHUNK):
                digest.update(piece)
                if whole:
                    kept.append(piece)
    except UNREADABLE as error:
        found.problems.append(f"{name}: damaged ({error})")
        return
    found.sha256[name] = digest.hexdigest()
    if whole:
        found.documents[name] = b"".join(kept)


@contextmanager
def unpacked(bundle: Path) -> Iterator[Path]:
    """The bundle as a folder: itself, or a zip's content for as long as the block lasts.

    BadInput for anything else, and for a zip that would unpack to more than 4 GiB.
    """
    bundle = Path(bundle)
    if bundle.is_dir():
        yield bundle
        return
    with tempfile.TemporaryDirectory() as temporary:
        try:
            with zipfile.ZipFile(bundle) as archive:
                bounded(archive, bundle)
                archive.extractall(temporary)  # keeps every member below the folder, whatever its name says
        except BadInput:
            raise
        except UNREADABLE as error:
            raise BadInput(
                f"not a bundle ({error})", file=bundle, remedy="name the zip or its unpacked folder"
            ) from error
        yield Path(temporary)


def bounded(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises BadInput for a zip (an .npz, say) that unpacks to more than 4 GiB, or is compressed in an odd way."""
    odd = any(member.compress_type not in _METHODS for member in archive.infolist())
    if told := _too_much(archive) or ("compressed otherwise than by deflate" if odd else ""):
        raise BadInput(told, file=path, remedy="look at what it is before you unpack it")


def _too_much(archive: zipfile.ZipFile) -> str:
    """Python reads no more of a member than its directory says: the sum of that is what can come out."""
    size = sum(member.file_size for member in archive.infolist())
    return f"unpacks to {size / (1 << 30):.1f} GiB, more than {MOST_BYTES >> 30}" if size > MOST_BYTES else ""

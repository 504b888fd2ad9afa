"""A run's archive as a folder, whether it is a zip or was unpacked already."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study_core.errors import BadInput

MOST_BYTES = 4 << 30


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
            _unpack(bundle, Path(temporary))
        except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise BadInput(
                f"not a bundle ({error})", file=bundle, remedy="name the zip or its unpacked folder"
            ) from error
        yield Path(temporary)


def _unpack(bundle: Path, folder: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise BadInput(f"unpacks to {size >> 30} GiB", file=bundle, remedy="unpack it yourself, name the folder")
        archive.extractall(folder)  # keeps every member below the folder, whatever its name says

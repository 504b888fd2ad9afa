"""A file that lies about itself is one line that names it, in every core that reads what somebody else archived."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from concept_core.cav.artifacts import read_vector
from concept_core.evaluation.tables import read_tables
from concept_core.layout import EvaluationFiles
from concept_core.predictions import read_shard
from denoise_core.corpus.layout import load_array
from denoise_core.corpus.manifest import COLUMNS, manifest_of
from denoise_core.corpus.statistics import read_lambda_stats
from denoise_core.evaluation.predictions import read_predictions
from ptycho_core.npz import read_arrays
from study_core.errors import BadInput

Reader = Callable[[Path], object]
GROUP = "treatment_1/sample_1/6Oclock"
CAPTURE = f"{GROUP}/rep_000.npy"
MANIFEST = manifest_of(pd.DataFrame([[CAPTURE, *GROUP.split("/"), GROUP]], columns=[*COLUMNS]))
GRID = np.linspace(220.0, 820.0, 601)


def npy(header: str, data: bytes = bytes(64)) -> bytes:
    """A .npy whose header says what it likes."""
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + data


def shaped(shape: str, descr: str = "'<f8'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


LIES = {
    "an exabyte": npy(shaped("(144115188075855872,)")),
    "no such number": npy(shaped(f"({10**30},)")),
    "less than nothing": npy(shaped("(-5,)")),
    "nested": npy("(" * 5000),
    "no dictionary": npy("3"),
    "a type of none": npy(shaped("(2,)", "'<Z9'")),
    "a type in a type": npy(shaped("(2,)", "[('a', [('b', 3)])]")),
    "objects": npy(shaped("(2,)", "'|O'")),
    "cut short": npy(shaped("(99,)")),
    "not closed": npy("{'descr': '<f8', 'shape': (2,"),
    "nothing": b"",
    "something else": b"PK\x03\x04 and then nothing",
}
ARRAYS: dict[str, tuple[str, Reader]] = {
    "corpus": ("array.npy", load_array),
    "corpus, mapped": ("array.npy", lambda path: load_array(path, mapped=True)),
    "CAV": ("array.npy", read_vector),
    "prediction": (f"{GROUP}/rep_000_denoised.npy", lambda path: read_predictions(path.parents[3], MANIFEST)),
}
ARCHIVES: dict[str, tuple[str, str, Reader]] = {
    "ptychography": ("some.npz", "object", read_arrays),
    "predictions": ("denoised.npz", "denoised", lambda path: read_predictions(path, MANIFEST)),
    "their names": ("denoised.npz", "relative_path", lambda path: read_predictions(path, MANIFEST)),
    "statistics": ("stats.npz", "variance", lambda path: read_lambda_stats(path, GRID)),
    "nulls": ("nulls.npz", "model", lambda path: read_tables(EvaluationFiles(path.parent))),
    "tracks": ("tracks.npz", "0", lambda path: read_shard(path.parent)),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("reader", ARRAYS)
def test_an_array_that_lies(reader: str, lie: str, tmp_path: Path) -> None:
    name, read = ARRAYS[reader]
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(LIES[lie])
    with pytest.raises(BadInput, match=file.name):
        read(file)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("reader", ARCHIVES)
def test_an_archive_of_arrays_that_lie(reader: str, lie: str, tmp_path: Path) -> None:
    name, key, read = ARCHIVES[reader]
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{key}.npy", LIES[lie])
        if key == "denoised":
            names = npy(shaped("(1,)", f"'<U{len(CAPTURE)}'"), CAPTURE.encode("utf-32-le"))
            archive.writestr("relative_path.npy", names)
    with pytest.raises(BadInput, match=str(tmp_path)) as refused:
        read(tmp_path / name)
    assert "no such file" not in str(refused.value).lower()


@pytest.mark.parametrize("reader", ARCHIVES)
def test_an_archive_that_is_a_bomb_is_not_unpacked(reader: str, tmp_path: Path) -> None:
    name, key, read = ARCHIVES[reader]
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr(f"{key}.npy", npy(shaped("(8,)")))
        archive.getinfo(f"{key}.npy").file_size = 5 << 30
    with pytest.raises(BadInput, match=r"unpacks to 5\.0 GiB"):
        read(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", bytes(1000), npy(shaped("(8,)"))])
@pytest.mark.parametrize("reader", ARCHIVES)
def test_what_is_no_archive(reader: str, content: bytes, tmp_path: Path) -> None:
    name, _, read = ARCHIVES[reader]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=str(tmp_path)):
        read(tmp_path / name)

"""A corpus left on disk is the corpus in memory: same hash, same values, same refusals, whatever its size."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from denoise_core.corpus.manifest import read_manifest, write_manifest
from denoise_core.corpus.store import open_corpus, pack
from denoise_core.corpus.stream import open_stream
from study_core.errors import BadInput


@pytest.fixture(scope="module")
def packed_root(mini_corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(open_corpus(mini_corpus_root), tmp_path_factory.mktemp("packed"))


@pytest.mark.parametrize("layout", ["files", "packed"])
def test_it_is_the_corpus_in_memory(layout: str, mini_corpus_root: Path, packed_root: Path) -> None:
    root = mini_corpus_root if layout == "files" else packed_root
    corpus, stream = open_corpus(root), open_stream(root)
    assert stream.sha256 == corpus.sha256
    assert len(stream) == len(corpus)
    rows = stream.rows(corpus.manifest("validation_panel"))
    np.testing.assert_array_equal(stream.read(rows[::-1]), corpus.spectra_NL[rows[::-1]])
    np.testing.assert_array_equal(stream.context(rows).features_BF, corpus.context(rows).features_BF)


def test_the_real_corpus_too(real_corpus_root: Path) -> None:
    """Its dark captures dip below zero and are clipped: the hash is of what was measured."""
    corpus, stream = open_corpus(real_corpus_root), open_stream(real_corpus_root)
    assert stream.sha256 == corpus.sha256
    rows = np.unique(corpus.outside.index // len(corpus.wavelength_nm))
    assert len(rows)
    np.testing.assert_array_equal(stream.read(rows), corpus.spectra_NL[rows])


def spoil(root: Path, row: int) -> None:
    """NaN in one capture."""
    spectra = np.load(root / "spectra.npy")
    spectra[row, 5] = np.nan
    np.save(root / "spectra.npy", spectra)


def test_a_bad_value_is_refused_at_opening_with_its_row(packed_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(packed_root, root)
    spoil(root, 1234)
    with pytest.raises(BadInput) as streamed:
        open_stream(root)
    with pytest.raises(BadInput) as loaded:
        open_corpus(root)
    assert str(streamed.value) == str(loaded.value)
    assert "1236" in str(streamed.value)  # the manifest's line


def test_a_file_gone_since_opening_is_named_with_its_row(mini_corpus_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(mini_corpus_root, root)
    stream = open_stream(root)
    gone = stream.captures["relative_path"].iloc[700]
    (root / "spectra_for_fold" / gone).unlink()
    with pytest.raises(BadInput, match="702") as caught:
        stream.read([699, 700])
    assert gone in str(caught.value)


def test_an_array_that_is_not_the_listing_s_is_refused(packed_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(packed_root, root)
    write_manifest(read_manifest(root / "manifest.csv").frame.iloc[:-1], root / "manifest.csv")
    with pytest.raises(BadInput, match="belong together"):
        open_stream(root)


def test_reading_costs_a_batch_not_the_corpus(packed_root: Path) -> None:
    stream = open_stream(packed_root)
    tracemalloc.start()
    stream.read(np.arange(64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 64 * 601 * 4 < len(stream) * 601 * 4

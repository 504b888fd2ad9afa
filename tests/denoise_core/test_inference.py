"""Any denoiser over any number of captures: the right rows, whole files, memory that does not grow with them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from denoise_core.corpus.captures import Context
from denoise_core.corpus.manifest import manifest_of, read_manifest
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.inference import batches, denoise_manifest, denoise_rows
from denoise_core.model.denoiser import FloatArray
from study_core.errors import BadInput


class Halves:
    """Half of each capture, plus a trace of its treatment: shows which context came with which capture."""

    name = "halves"

    def __init__(self, fail_at: int | None = None) -> None:
        self.sizes: list[int] = []
        self.fail_at = fail_at

    def denoise(self, x_BL: FloatArray, context: Context) -> FloatArray:
        assert len(context.treatment) == len(x_BL)
        self.sizes.append(len(x_BL))
        if self.fail_at is not None and len(self.sizes) > self.fail_at:
            raise RuntimeError("power cut")
        number_B = np.array([int(treatment[-1]) for treatment in context.treatment], dtype=np.float32)
        return (x_BL / 2 + number_B[:, None] / 100).astype(np.float32)

    def standard_error(self, x_BL: FloatArray, context: Context) -> FloatArray:
        return np.full_like(x_BL, np.nan)


@pytest.fixture(scope="module")
def corpus(mini_corpus_root: Path) -> Corpus:
    return open_corpus(mini_corpus_root)


def expected(corpus: Corpus, rows: np.ndarray) -> FloatArray:
    return Halves().denoise(corpus.spectra_NL[rows], corpus.context(rows))


def every_seventh(corpus: Corpus) -> pd.DataFrame:
    """Captures of every treatment, out of order."""
    frame = corpus.manifest("manifest").frame.iloc[::7]
    return frame.sample(frac=1, random_state=3).reset_index(drop=True)


@given(st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_in_their_order_whatever_the_batch(corpus: Corpus, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(corpus) - 1), max_size=40)), dtype=np.int64)
    size = data.draw(st.integers(1, 50))
    denoiser = Halves()
    np.testing.assert_array_equal(denoise_rows(denoiser, corpus, rows, size), expected(corpus, rows))
    assert all(batch <= size for batch in denoiser.sizes)
    assert sum(denoiser.sizes) == len(rows)


def test_files_bear_the_published_names_and_their_own_captures(corpus: Corpus, tmp_path: Path) -> None:
    manifest = manifest_of(every_seventh(corpus))
    rows = corpus.rows(manifest)
    out = denoise_manifest(corpus, manifest, Halves(), tmp_path / "out", layout="files", batch_size=16)
    want_BL = expected(corpus, rows)
    for relative, want_L in zip(manifest.frame["relative_path"], want_BL, strict=True):
        got_L = np.load(out / (relative[: -len(".npy")] + "_denoised.npy"))
        assert got_L.dtype == np.float32
        np.testing.assert_array_equal(got_L, want_L)
    assert len(list(out.rglob("*.npy"))) == len(manifest)


def test_packed_array_stands_row_for_row_beside_its_manifest(corpus: Corpus, tmp_path: Path) -> None:
    manifest = manifest_of(every_seventh(corpus))
    out = denoise_manifest(corpus, manifest, Halves(), tmp_path / "out", layout="packed", batch_size=16)
    written = read_manifest(out / "manifest.csv")
    assert written.rows_sha256 == manifest.rows_sha256
    np.testing.assert_array_equal(np.load(out / "denoised.npy"), expected(corpus, corpus.rows(written)))


@pytest.mark.parametrize("layout", ["files", "packed"])
def test_a_row_that_stands_twice_is_computed_once(corpus: Corpus, tmp_path: Path, layout: str) -> None:
    panel = corpus.manifest("validation_panel")
    unique = panel.unique()
    assert len(panel) > len(unique), "this test wants twins"
    denoiser = Halves()
    out = denoise_manifest(corpus, panel, denoiser, tmp_path / "out", layout=layout)
    assert sum(denoiser.sizes) == len(unique)
    if layout == "packed":
        assert len(np.load(out / "denoised.npy")) == len(read_manifest(out / "manifest.csv")) == len(unique)


def test_a_failure_half_way_leaves_no_file_that_looks_whole(corpus: Corpus, tmp_path: Path) -> None:
    manifest = manifest_of(every_seventh(corpus))
    with pytest.raises(RuntimeError, match="power cut"):
        denoise_manifest(corpus, manifest, Halves(fail_at=2), tmp_path / "out", layout="packed", batch_size=16)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    denoise_manifest(corpus, manifest, Halves(), tmp_path / "out", layout="packed", batch_size=16)
    assert len(np.load(tmp_path / "out" / "denoised.npy")) == len(manifest)


def test_unknown_layout_and_unknown_capture_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    frame = every_seventh(corpus)
    with pytest.raises(BadInput, match=r"no layout 'zip'.*packed, files"):
        denoise_manifest(corpus, manifest_of(frame), Halves(), tmp_path, layout="zip")
    strange = frame.copy()
    strange.loc[4, "relative_path"] = "treatment_1/sample_Z/6Oclock/rep_000.npy"
    with pytest.raises(BadInput, match="rep_000"):
        denoise_manifest(corpus, manifest_of(strange), Halves(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_memory_does_not_grow_with_the_number_of_captures(corpus: Corpus) -> None:
    def peak(times: int) -> int:
        rows = np.tile(np.arange(min(len(corpus), 256)), times)
        tracemalloc.start()
        for _ in batches(Halves(), corpus, rows, 32):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(1), peak(16)
    output_bytes = 16 * 256 * 601 * 4
    assert many < few + 100_000 < output_bytes, (few, many)

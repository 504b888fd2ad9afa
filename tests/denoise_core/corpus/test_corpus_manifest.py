"""Manifests: what is read, what is refused, and the hashes that pin a panel."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_core.corpus.manifest import (
    COLUMNS,
    manifest_of,
    read_manifest,
    verify_disjoint,
    verify_manifest_hash,
    write_manifest,
)
from denoise_core.corpus.study import ANGLES, DOSES
from study_core.errors import BadInput

PUBLISHED_PANEL_SHA256 = "10d6c12bb8dd61fc17596956010771d76ba21ed7aeacd57dddc8e29ccb12e7fe"


def rows(*captures: tuple[int, str, str, int]) -> pd.DataFrame:
    """A manifest's frame of (treatment, sample, angle, replicate)."""
    table = []
    for t, s, a, n in captures:
        group = f"treatment_{t}/sample_{s}/{a}"
        table.append((f"{group}/rep_{n:03d}.npy", f"treatment_{t}", f"sample_{s}", a, group))
    return pd.DataFrame(table, columns=list(COLUMNS))


FRAME = rows((1, "A", "6Oclock", 0), (1, "A", "6Oclock", 1), (3, "J", "12Oclock", 0))


def refused(error: pytest.ExceptionInfo[BadInput], file: Path | str, row: int | None) -> str:
    """The message, after checking that it names file, row and a remedy."""
    assert str(error.value.file) == str(file)
    assert error.value.row == row
    assert error.value.remedy
    return str(error.value)


def test_a_written_manifest_reads_back_equal_with_lf_line_ends(tmp_path: Path) -> None:
    manifest = write_manifest(FRAME, tmp_path / "m.csv")
    data = (tmp_path / "m.csv").read_bytes()
    assert b"\r" not in data
    assert manifest.frame.equals(manifest_of(FRAME).frame)
    assert manifest.bytes_sha256 == hashlib.sha256(data).hexdigest()
    assert manifest.groups == ("treatment_1/sample_A/6Oclock", "treatment_3/sample_J/12Oclock")
    assert list(tmp_path.iterdir()) == [tmp_path / "m.csv"], "no temporary file stays"


def test_duplicate_rows_are_allowed_and_unique_keeps_the_first_of_each() -> None:
    twice = manifest_of(pd.concat([FRAME, FRAME]))
    assert len(twice) == 6
    assert twice.unique().rows_sha256 == manifest_of(FRAME).rows_sha256


captures = st.lists(
    st.tuples(st.integers(1, len(DOSES)), st.sampled_from("ABCJ"), st.sampled_from(ANGLES), st.integers(0, 999)),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)  # a busy machine is no fault of the code
@given(captures, st.permutations(COLUMNS))
def test_the_hash_of_the_rows_ignores_line_ends_column_order_and_further_columns(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[tuple[int, str, str, int]], order: list[str]
) -> None:
    frame = rows(*chosen)
    path = tmp_path_factory.mktemp("hash") / "m.csv"
    frame[order].assign(source_path="x, y").to_csv(path, index=False, lineterminator="\r\n")
    assert read_manifest(path).rows_sha256 == manifest_of(frame).rows_sha256
    swapped = manifest_of(frame.iloc[::-1])
    palindrome = frame.equals(frame.iloc[::-1].reset_index(drop=True))
    assert (swapped.rows_sha256 == manifest_of(frame).rows_sha256) == palindrome, "row order counts"


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("treatment", "..", "treatment '..' is no name"),
        ("angle", "6 Oclock", "angle '6 Oclock' is no name"),
        ("sample", "a/b", "sample 'a/b' is no name"),
        ("group_id", "treatment_3/sample_I/12Oclock", "not treatment/sample/angle"),
        ("relative_path", "../../etc/rep_000.npy", "not GROUP_ID/rep_NNN.npy"),
        ("relative_path", "treatment_3/sample_J/12Oclock/../x.npy", "not GROUP_ID/rep_NNN.npy"),
    ],
)
def test_a_bad_cell_is_refused_with_file_and_row(tmp_path: Path, column: str, value: str, says: str) -> None:
    frame = FRAME.copy()
    frame.loc[2, column] = value
    path = tmp_path / "bad.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(BadInput) as error:
        read_manifest(path)
    assert says in refused(error, path, 4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a CSV table"),
        ("relative_path,treatment,sample\n", "no column angle, group_id"),
        (",".join(COLUMNS) + "\n", "no rows"),
        ("a,b\n1,2\n1,2,3\n", "not a CSV table"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        read_manifest(path)
    assert says in refused(error, path, None)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        read_manifest(tmp_path / "none.csv")
    assert "No such file" in refused(error, tmp_path / "none.csv", None)


def test_a_bad_frame_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not treatment/sample/angle"):
        write_manifest(FRAME.assign(treatment="treatment_9"), tmp_path / "m.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["rows", "bytes", "upper case"])
def test_either_hash_is_accepted(tmp_path: Path, kind: str) -> None:
    manifest = write_manifest(FRAME, tmp_path / "m.csv")
    expected = {
        "rows": manifest.rows_sha256,
        "bytes": manifest.bytes_sha256 or "",
        "upper case": f" {manifest.rows_sha256.upper()}\n",
    }[kind]
    verify_manifest_hash(manifest, expected)


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "a" * 63, "a" * 65, "d41d8cd98f00b204e9800998ecf8427e", "yes"])
def test_what_is_no_hash_is_refused_as_such(tmp_path: Path, text: str) -> None:
    manifest = write_manifest(FRAME, tmp_path / "m.csv")
    with pytest.raises(BadInput, match=r"is no SHA-256; give its 64 hexadecimal digits"):
        verify_manifest_hash(manifest, text)
    verify_manifest_hash(manifest, f"sha256:{manifest.rows_sha256}")


def test_other_line_ends_are_named_as_the_cause_of_a_mismatch(tmp_path: Path) -> None:
    manifest = write_manifest(FRAME, tmp_path / "m.csv")
    crlf = (tmp_path / "m.csv").read_bytes().replace(b"\n", b"\r\n")
    with pytest.raises(BadInput) as error:
        verify_manifest_hash(manifest, hashlib.sha256(crlf).hexdigest())
    message = refused(error, tmp_path / "m.csv", None)
    assert "line ends differ" in message
    assert manifest.rows_sha256 in message
    assert str(manifest.bytes_sha256) in message


def test_other_rows_are_named_as_the_cause_of_a_mismatch(tmp_path: Path) -> None:
    manifest = write_manifest(FRAME, tmp_path / "m.csv")
    with pytest.raises(BadInput) as error:
        verify_manifest_hash(manifest, PUBLISHED_PANEL_SHA256)
    message = refused(error, tmp_path / "m.csv", None)
    assert "hash mismatch, the rows differ" in message
    assert "line ends" not in message


def test_a_panel_group_in_training_is_refused_at_its_first_row(tmp_path: Path) -> None:
    training = write_manifest(FRAME, tmp_path / "train.csv")
    panel = manifest_of(rows((3, "J", "12Oclock", 99)))  # another capture of the group: groups are held out whole
    with pytest.raises(BadInput) as error:
        verify_disjoint(panel, training)
    assert "treatment_3/sample_J/12Oclock is in the training manifest" in refused(error, tmp_path / "train.csv", 4)
    verify_disjoint(panel, manifest_of(FRAME[:2]))


def test_of_groups_keeps_order_and_refuses_a_group_without_rows() -> None:
    manifest = manifest_of(FRAME)
    assert list(manifest.of_groups(["treatment_1/sample_A/6Oclock"]).frame["relative_path"]) == list(
        FRAME["relative_path"][:2]
    )
    with pytest.raises(BadInput, match="no row of group treatment_2"):
        manifest.of_groups(["treatment_2/sample_A/6Oclock"])


def test_the_published_panel_reads_as_audited(real_corpus_root: Path) -> None:
    panel = read_manifest(real_corpus_root / "validation_panel.csv")
    assert panel.bytes_sha256 == PUBLISHED_PANEL_SHA256
    assert panel.rows_sha256 != panel.bytes_sha256
    assert (len(panel), len(panel.unique())) == (750, 450)
    assert "source_path" in panel.frame
    verify_manifest_hash(panel, PUBLISHED_PANEL_SHA256)

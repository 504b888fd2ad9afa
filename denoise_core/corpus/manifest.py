"""Manifests: which captures a step reads, in which order, and the hashes that pin them.

A manifest is a CSV of the columns `relative_path, treatment, sample, angle, group_id` (others are kept).
Duplicate rows are allowed: `manifest_full.csv` repeats twenty groups. Rows are numbered as an editor or a
spreadsheet numbers them: the header is row 1.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from denoise_core.corpus.study import NAME
from study_core.errors import BadInput
from study_core.files import replacing

COLUMNS = ("relative_path", "treatment", "sample", "angle", "group_id")
FIRST_ROW = 2  # the header is row 1


@dataclass(frozen=True, eq=False)
class Manifest:
    """Validated rows of a manifest.

    `rows_sha256` is over the parsed rows (the five columns, in row order), independent of line ends, column
    order and further columns; `bytes_sha256` is over the file as it lies on disk (None in memory).
    """

    frame: pd.DataFrame
    path: Path | None
    rows_sha256: str
    bytes_sha256: str | None

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def groups(self) -> tuple[str, ...]:
        """The `group_id`s that occur, sorted, each once."""
        return tuple(sorted(set(self.frame["group_id"])))

    def unique(self) -> Manifest:
        """The same rows with duplicates of a capture dropped (the first is kept)."""
        return manifest_of(self.frame.drop_duplicates("relative_path"))

    def of_groups(self, groups: tuple[str, ...] | list[str] | set[str]) -> Manifest:
        """The rows of the named groups, order kept; BadInput when a group has no row."""
        if missing := set(groups) - set(self.frame["group_id"]):
            raise BadInput(f"no row of group {sorted(missing)[0]}", file=self.path)
        return manifest_of(self.frame[self.frame["group_id"].isin(list(groups))])


def manifest_of(frame: pd.DataFrame) -> Manifest:
    """A manifest in memory. BadInput names the row (counted as in a file with one header line)."""
    clean = frame.reset_index(drop=True)
    _verify_rows(clean, None)
    return Manifest(clean, None, _rows_sha256(clean), None)


def read_manifest(path: Path) -> Manifest:
    """Read and validate a manifest; BadInput names file and row. LF and CRLF files give equal rows."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"cannot read the manifest ({error.strerror})", file=path, remedy="check the path, or generate the corpus"
        ) from error
    try:
        frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        raise BadInput(f"not a CSV table ({error})", file=path, remedy="give a manifest with a header line") from error
    _verify_rows(frame, path)
    return Manifest(frame, path, _rows_sha256(frame), hashlib.sha256(data).hexdigest())


def write_manifest(frame: pd.DataFrame, path: Path) -> Manifest:
    """Validate `frame`, write it with LF line ends by temporary name and rename, and read it back."""
    path = Path(path)
    _verify_rows(frame.reset_index(drop=True), path)
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")
    return read_manifest(path)


def expected_sha256(text: str) -> str:
    """The SHA-256 in a text, lower case; BadInput for anything else, which no file could ever match."""
    found = text.strip().lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", found):
        raise BadInput(
            f"expected hash {text[:80]!r} is no SHA-256",
            remedy="give its 64 hexadecimal digits: sha256sum FILE, or panel_sha256 of an earlier verdict",
        )
    return found


def verify_manifest_hash(manifest: Manifest, expected: str) -> None:
    """Pass when `expected` is the hash of the rows or of the bytes; else BadInput naming both.

    Says "line ends differ" when `expected` is the hash of the same file with the other line ends.
    """
    wanted = expected_sha256(expected)
    if wanted in (manifest.rows_sha256, manifest.bytes_sha256):
        return
    cause, remedy = "the rows differ", "restore the audited manifest, or give the hash of this one"
    if manifest.path is not None and wanted in _other_line_ends(manifest.path.read_bytes()):
        cause = "line ends differ, the rows are the same"
        remedy = f"expect the hash of the rows instead: {manifest.rows_sha256}"
    raise BadInput(
        f"hash mismatch, {cause}: expected {wanted}, rows {manifest.rows_sha256}, bytes {manifest.bytes_sha256}",
        file=manifest.path,
        remedy=remedy,
    )


def verify_disjoint(panel: Manifest, training: Manifest) -> None:
    """BadInput naming file and row of the first training row whose whole group the panel holds out."""
    leaked = training.frame["group_id"].isin(panel.groups).to_numpy()
    if leaked.any():
        row = int(leaked.argmax())
        raise BadInput(
            f"panel group {training.frame['group_id'].iloc[row]} is in the training manifest "
            f"({int(leaked.sum())} rows of panel groups in all)",
            file=training.path or "training manifest",
            row=row + FIRST_ROW,
            remedy=f"remove every row of the groups in {panel.path or 'the panel'} from the training manifest",
        )


def _rows_sha256(frame: pd.DataFrame) -> str:
    text = frame[list(COLUMNS)].to_csv(index=False, header=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()


def _other_line_ends(data: bytes) -> set[str]:
    unix = data.replace(b"\r\n", b"\n")
    return {hashlib.sha256(text).hexdigest() for text in (unix, unix.replace(b"\n", b"\r\n"))}


def _verify_rows(frame: pd.DataFrame, path: Path | None) -> None:
    """Columns present; names that a folder may have; group and path spelt as the layout has them.

    Which treatments and angles there are is the study's to say: the corpus is held against it when it is opened.
    """
    if missing := [name for name in COLUMNS if name not in frame]:
        raise BadInput(f"no column {', '.join(missing)}", file=path, remedy=f"give the columns {', '.join(COLUMNS)}")
    if frame.empty:
        raise BadInput("no rows", file=path, remedy="give a manifest of at least one capture")
    group = frame["treatment"] + "/" + frame["sample"] + "/" + frame["angle"]
    file_name = frame["relative_path"].str.rsplit("/", n=1).str[-1]
    checks = (
        *(
            (column, frame[column].str.fullmatch(NAME), f"{column} {{}} is no name: letters, digits, _ . + - only")
            for column in ("treatment", "sample", "angle")
        ),
        ("group_id", frame["group_id"] == group, "group_id {} is not treatment/sample/angle of its row"),
        (
            "relative_path",
            (frame["relative_path"] == group + "/" + file_name) & file_name.str.fullmatch(NAME + r"\.npy"),
            "relative_path {} is not GROUP_ID/rep_NNN.npy",
        ),
    )
    for column, good, message in checks:
        bad = ~good.to_numpy(dtype=bool)
        if bad.any():
            row = int(bad.argmax())
            raise BadInput(
                message.format(repr(frame[column].iloc[row])),
                file=path,
                row=row + FIRST_ROW,
                remedy="correct or remove the row",
            )

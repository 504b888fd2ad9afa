"""Tables as CSV that give the same doubles back, names that stay text whatever they look like."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from study_core.errors import BadInput
from study_core.files import replacing

TEXT = ("source", "role", "key", "stratum", "group", "part", "accession", "kind")
COUNTS = ("layer", "fold", "length", "start")


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """Replace `path`; floats in their shortest exact form."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)
    return path


def read_csv(path: Path) -> pd.DataFrame:
    """A table with exact doubles; an empty cell of a number is NaN. Raises BadInput where there is no table."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        for name in table.columns:
            if name not in TEXT:
                kind = int if name in COUNTS else float
                table[name] = [kind(cell) if cell else float("nan") for cell in table[name]]
    except FileNotFoundError:
        raise BadInput("no such file", file=path, remedy="run evaluate first") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise BadInput(f"no table ({str(error).splitlines()[0]})", file=path, remedy="run evaluate again") from None
    return table

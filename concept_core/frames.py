"""Tables as CSV that give the same doubles back, names that stay text whatever they look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from study_core.errors import BadInput
from study_core.files import replacing

TEXT = ("source", "role", "key", "stratum", "group", "part", "accession", "kind")


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """Replace `path`; floats in their shortest exact form."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)
    return path


def read_csv(path: Path) -> pd.DataFrame:
    """A table with exact floats; names stay text, whatever they look like. Raises BadInput where there is none."""
    kinds: dict[Any, Any] = dict.fromkeys(TEXT, str)
    try:
        return pd.read_csv(path, float_precision="round_trip", dtype=kinds, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise BadInput("no such file", file=path, remedy="run evaluate first") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise BadInput(f"no table ({str(error).splitlines()[0]})", file=path, remedy="run evaluate again") from None

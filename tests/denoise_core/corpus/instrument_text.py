"""One spectrum as instruments write it, in text and in JCAMP-DX, for tests of the readers and of imports."""

from __future__ import annotations

import numpy as np

X = np.linspace(300, 500, 201)
Y = 0.2 + 0.05 * np.sin(X / 17)


def lines(mark: str, comma: bool = False) -> str:
    rows = (f"{x:g}{mark}{y:.6f}" for x, y in zip(X, Y, strict=True))
    return "\n".join(row.replace(".", ",") if comma else row for row in rows) + "\n"


def jcamp(yunits: str = "REFLECTANCE", npoints: int = 201) -> str:
    pairs = "\n".join(f"{x:g}, {y:.6f}" for x, y in zip(X[::-1], Y[::-1], strict=True))
    return (
        "##TITLE=a leaf\n##JCAMP-DX=4.24\n##DATA TYPE=UV-VIS SPECTRUM\n##XUNITS=NANOMETERS\n"
        f"##YUNITS={yunits}\n##XFACTOR=1\n##YFACTOR=1\n##FIRSTX=500\n##LASTX=300\n##NPOINTS={npoints}\n"
        f"##XYPOINTS=(XY..XY)\n{pairs}\n##END=\n"
    )

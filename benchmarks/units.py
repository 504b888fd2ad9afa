"""How often noise says what values are, and how often wrongly: the real corpus and instruments drawn at random.

`python -m benchmarks.units [FOLDER of the packed published corpus]`: a line for each of what the values truly are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from denoise_core.corpus import noise_sign
from denoise_core.corpus.store import open_corpus

TRULY = {
    "reflectance": lambda y: y,
    "absorbance": lambda y: -np.log10(np.maximum(y, 1e-4)),
    "absorptance": lambda y: 1 - y,
}
DRAWS, LABORATORIES = 40, 150
Groups = list[np.ndarray[Any, Any]]


def real(root: Path, rng: np.random.Generator) -> Iterator[tuple[str, Groups, int]]:
    """Draws of groups whose absorbance lies in [0, 1] throughout, of three windows of wavelengths."""
    corpus = open_corpus(root)
    groups = [corpus.spectra_NL[corpus.group_codes == code] for code in np.unique(corpus.group_codes)]
    for window in (slice(0, 601), slice(200, 601), slice(100, 400)):
        inside = [group[:, window] for group in groups if np.quantile(group[:, window], 0.002) > 0.1]
        for count in (6, 9, 12, 18, 24, 40):
            for captures in (3, 5, 10, 40):
                for _ in range(DRAWS if count <= len(inside) else 0):
                    drawn = rng.choice(len(inside), count, replace=False)
                    yield (
                        f"{count:2d} groups of {captures}",
                        [inside[g][rng.choice(150, captures, False)] for g in drawn],
                        9,
                    )


def laboratory(kind: str, rng: np.random.Generator) -> tuple[Groups, int]:
    """Groups of smooth spectra by an instrument with a lamp, gains, glare, smoothing and decimals of its own."""
    count, captures, points = int(rng.integers(6, 40)), int(rng.integers(3, 30)), int(rng.integers(60, 400))
    x = np.linspace(0, 1, points)
    lamp = np.exp(rng.normal(0, 0.5) * np.cos(3 * x) + rng.normal(0, 0.7) * (x - 0.5))
    base = np.clip(0.12 + 0.8 * rng.random() / (1 + np.exp((rng.random() - x) * rng.uniform(3, 15))), 0.12, 0.9)
    shares = {"own": (1, 0, 0), "light": (0, 1, 0), "lamp": (0, 0, 1)}.get(kind) or 10 ** rng.uniform(-4, 0, 3)
    size, width, digits = 10 ** rng.uniform(-6, -3.3), int(rng.choice([1, 1, 3, 5])), int(rng.choice([9, 4, 4, 3]))
    drift, spread, groups = rng.choice([0, 0.2, 0.5]), rng.uniform(0.05, 0.5), []
    waves = [rng.normal() * 0.15 * np.sin(rng.uniform(2, 9) * x + rng.uniform(0, 6)) for _ in range(max(3, count // 2))]
    samples = [np.exp(spread * rng.normal() + wave) for wave in waves]
    for number in range(count):
        light = np.clip(base * samples[number % len(samples)] * np.exp(0.05 * rng.normal()), 0.1, 1.0)
        noise = shares[0] / lamp**2 + shares[1] * light / lamp + shares[2] * light**2
        sd = np.sqrt(size * noise / np.sum(shares) * np.exp(drift * rng.normal()))
        gain, glare = 1 + 0.03 * rng.normal(size=(captures, 1)), 0.01 * rng.normal(size=(captures, 1))
        spectra = light * gain + glare + sd * rng.normal(size=(captures, points))
        box = np.ones(width) / width
        smoothed = [np.convolve(np.pad(one, width // 2, "edge"), box, "valid") for one in spectra]
        groups.append(np.clip(smoothed, 0.02, 1.05))
    return groups, digits


def made(rng: np.random.Generator) -> Iterator[tuple[str, Groups, int]]:
    for kind in ("own", "light", "lamp", "mixed"):
        for _ in range(LABORATORIES):
            yield f"noise {kind}", *laboratory(kind, rng)


def told(cases: Iterator[tuple[str, Groups, int]]) -> None:
    counts: dict[tuple[str, str], list[int]] = {}
    for name, groups, digits in cases:
        for truly, of_reflectance in TRULY.items():
            found = noise_sign.likely_units([np.round(of_reflectance(group), digits) for group in groups])
            row = counts.setdefault((name, truly), [0, 0, 0])
            row[2 if found is None else 0 if found.units == truly else 1] += 1
    names = list(dict.fromkeys(name for name, _ in counts))
    print("| | " + " | ".join(f"{truly}: right, wrong, silent" for truly in TRULY) + " |")
    for name in [*names, "all"]:
        of = [
            np.sum([row for key, row in counts.items() if key[1] == t and name in (key[0], "all")], axis=0)
            for t in TRULY
        ]
        print(f"| {name} | " + " | ".join(f"{r}, {w}, {s}" for r, w, s in of) + " |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        told(real(Path(sys.argv[1]), np.random.default_rng(0)))
    told(made(np.random.default_rng(1)))

"""The statistical model behind the synthetic corpus: levels, instrument fingerprint, noise, edge ringing.

A capture is  shift(level + fingerprint + noise):  a smooth level per group, an additive near-white fingerprint of
the instrument that is nearly the same in every group, noise with a constant offset per capture, all of it moved by
a sub-pixel Fourier shift. That shift (the wavelength alignment) is what rings at both ends of the grid, because
the spectrum is not periodic.

Levels, noise, offsets, drops, ringing and the pattern's envelope are measured on the real corpus. What sets one
group's fingerprint apart is measured as a whole (median correlation of two groups 0.93, spread of its amplitude
after the level 0.06, a part that follows the level's shape, a part per treatment); its split into the numbers below
was tuned until the linear filters scored on it as they do on the real corpus. So a filter's ROI score on synthetic
data is a consequence of that tuning, no evidence about the real one.

Wavelengths in nm, values in reflectance. Shapes: G groups, S samples, A angles, R captures of a group,
L wavelengths, K Chebyshev coefficients or modes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter1d

Array = NDArray[np.float64]

WAVELENGTH_NM: Array = np.linspace(300.0, 600.0, 601)
STEP_NM = 0.5

# Log of the smooth level: Chebyshev coefficients of degree 5 over the grid.
LEVEL_MEAN = (-1.516, 0.713, 0.018, 0.021, -0.090, 0.003)
LEVEL_SD = (0.338, 0.160, 0.047, 0.026, 0.022, 0.016)
LEVEL_CORRELATION = {(0, 1): -0.55, (0, 4): 0.73, (1, 4): -0.70, (2, 3): -0.65, (2, 5): -0.58}
LEVEL_LIMIT = 2.2  # standard deviations: no group far outside the measured levels of 0.10 to 0.47
SISTER_WEIGHTS = (0.6, 0.8)  # second angle of a sample: 0.6 x the first one's deviation + 0.8 x a new one
WOBBLE_NM = 6.0  # smooth deviation of one group, relative to its level
WOBBLE_SD = 0.0045

# Fingerprint: a white pattern, high-passed, under an envelope.
ENVELOPE = {300: 0.0062, 320: 0.0026, 400: 0.0023, 460: 0.0028, 490: 0.0017, 520: 0.0016, 560: 0.0022, 600: 0.0019}
PATTERN_TAPS = (0.16, 1.0, 0.16)
PATTERN_HIGH_PASS_NM = 5.0
REFERENCE_LEVEL = 0.25
AMPLITUDE_SLOPE = -0.27  # per unit of level / 0.25 - 1
AMPLITUDE_MIN = 0.25
AMPLITUDE_LOG_SD = 0.055
JITTER_NM = 0.01  # wavelength jitter of a group's fingerprint
MODE_SD = np.array([0.048, 0.036, 0.027, 0.024, 0.018])  # common modes, relative to the pattern
MODE_ENVELOPE = {455: 1.0, 465: 2.0}  # groups differ more beyond 460 nm
SHAPE_SHARE = 0.7  # of the modes' variance: follows the shape of the smooth level
TREATMENT_SD = 0.21  # a pattern that all groups of a treatment share
OWN_SD = 0.06  # what no other group has

# Noise; at both ends the alignment below adds what is missing to the measured 0.019 and 0.016.
NOISE_SD = {
    300: 0.0125, 302: 0.0112, 305: 0.0097, 310: 0.0067, 320: 0.0047, 330: 0.0041, 340: 0.0038, 360: 0.0033,
    390: 0.0031, 420: 0.0029, 450: 0.0037, 480: 0.0040, 510: 0.0037, 540: 0.0044, 570: 0.0062, 590: 0.0064,
    595: 0.0069, 598: 0.0080, 600: 0.0095,
}  # fmt: skip
NOISE_TAPS = (0.12, 1.0, 0.12)
NOISE_LEVEL_POWER = 0.3
OFFSET_SD = 0.0060 * REFERENCE_LEVEL**0.7  # times level^0.3: 0.0015 at level 0.25
OFFSET_SHAPE = {300: 1.8, 310: 1.55, 340: 0.98, 370: 0.82, 430: 0.88, 490: 0.87, 550: 1.05, 600: 1.35}
DROP_SHARE = 0.02
DROP_START, DROP_SCALE, DROP_MAX = 3.0, 2.0, 12.0  # depth of a drop in offset sds: 3 + Exp(2), at most 12

# Alignment: sub-pixel shift of each capture.
SHIFT_SD_NM = 0.024
SHIFT_MAX_NM = 0.1


@dataclass(frozen=True, eq=False)
class Instrument:
    """What every group of one corpus shares: the pattern (L,) and its modes (K, L), each of unit variance.

    `strength` multiplies the whole fingerprint; `individuality` what sets one group's apart from the others'.
    Both are 1 for the corpus that behaves as the real one does.
    """

    pattern_L: Array
    modes_KL: Array
    strength: float = 1.0
    individuality: float = 1.0


def knots(table: dict[int, float], wavelength_nm: Array = WAVELENGTH_NM) -> Array:
    """Linear interpolation of a table of knots (nm -> value) on the grid, (L,)."""
    return np.asarray(np.interp(wavelength_nm, list(table), list(table.values())))


def draw_instrument(rng: np.random.Generator, strength: float = 1.0, individuality: float = 1.0) -> Instrument:
    """Draw the fingerprint's pattern and common modes."""
    return Instrument(_white_pattern(rng, 1)[0], _white_pattern(rng, len(MODE_SD)), strength, individuality)


def draw_treatment_pattern(rng: np.random.Generator) -> Array:
    """What one treatment adds to the fingerprint of its groups, (L,), relative to the pattern."""
    return np.asarray(TREATMENT_SD * _white_pattern(rng, 1)[0])


def draw_levels(rng: np.random.Generator, samples: int) -> tuple[Array, Array]:
    """Smooth levels of both angles of every sample, (samples, 2, L), and their standardised shapes (samples, 2, K).

    The draws are standardised over the samples, so that the corpus's mean and spread do not depend on the seed.
    """
    first, second = rng.standard_normal((2, samples, len(LEVEL_SD)))
    second = SISTER_WEIGHTS[0] * first + SISTER_WEIGHTS[1] * second
    z_SAK = np.stack([first, second], axis=1)
    z_SAK = (z_SAK - z_SAK.mean(axis=(0, 1))) / z_SAK.std(axis=(0, 1))
    z_SAK = np.clip(z_SAK, -LEVEL_LIMIT, LEVEL_LIMIT)
    x_L = np.linspace(-1.0, 1.0, len(WAVELENGTH_NM))
    log_level = (LEVEL_MEAN + z_SAK @ _level_factor().T) @ chebyshev.chebvander(x_L, len(LEVEL_SD) - 1).T
    return np.exp(log_level), z_SAK


def draw_clean(
    rng: np.random.Generator, level_L: Array, shape_K: Array, instrument: Instrument, treatment_L: Array
) -> Array:
    """Level + fingerprint of one group, (L,): the noiseless spectrum. `shape_K`: the level's standardised shape."""
    wobble_L = gaussian_filter1d(rng.standard_normal(len(level_L)), WOBBLE_NM / STEP_NM)
    wobble_L *= WOBBLE_SD * abs(1 + 0.3 * rng.standard_t(5)) / wobble_L.std()
    relative = level_L.mean() / REFERENCE_LEVEL - 1
    mean_amplitude = instrument.strength * max(AMPLITUDE_MIN, 1 + AMPLITUDE_SLOPE * relative)
    pattern_L = instrument.pattern_L + instrument.individuality * _deviation(rng, shape_K, instrument, treatment_L)
    amplitude = mean_amplitude * np.exp(instrument.individuality * AMPLITUDE_LOG_SD * rng.standard_normal())
    return np.asarray(level_L * (1 + wobble_L) + amplitude * knots(ENVELOPE) * pattern_L)


def _deviation(rng: np.random.Generator, shape_K: Array, instrument: Instrument, treatment_L: Array) -> Array:
    """What sets a group's pattern apart, (L,): treatment, modes, its own part, wavelength jitter."""
    count = len(MODE_SD)
    score_K = np.sqrt(SHAPE_SHARE) * shape_K[:count] + np.sqrt(1 - SHAPE_SHARE) * rng.standard_normal(count)
    modes_L = (MODE_SD * score_K) @ instrument.modes_KL * knots(MODE_ENVELOPE)
    own_L = OWN_SD * _white_pattern(rng, 1)[0]
    jitter_L = JITTER_NM * rng.standard_normal() * np.gradient(instrument.pattern_L, STEP_NM)
    return np.asarray(treatment_L + modes_L + own_L + jitter_L)


def draw_captures(rng: np.random.Generator, clean_L: Array, count: int) -> NDArray[np.float32]:
    """`count` noisy captures of one group before alignment, float32 (R, L)."""
    level = float(clean_L.mean())
    taps = np.array(NOISE_TAPS, dtype=np.float32) / np.linalg.norm(NOISE_TAPS)
    white_RL = rng.standard_normal((count, len(clean_L)), dtype=np.float32)
    sd_L = knots(NOISE_SD) * (level / REFERENCE_LEVEL) ** NOISE_LEVEL_POWER
    noise_RL = convolve1d(white_RL, taps, axis=1, mode="reflect") * sd_L.astype(np.float32)
    offset_R = rng.standard_normal(count)
    depth_R = np.minimum(DROP_START + rng.exponential(DROP_SCALE, count), DROP_MAX)
    offset_R = np.where(rng.random(count) < DROP_SHARE, -depth_R, offset_R)
    offset_R -= offset_R.mean()
    shape_L = OFFSET_SD * level**NOISE_LEVEL_POWER * knots(OFFSET_SHAPE)
    return np.asarray(clean_L + noise_RL + offset_R[:, None] * shape_L, dtype=np.float32)


def align(rng: np.random.Generator, captures_RL: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shift each capture by its own sub-pixel amount in the Fourier domain: the corpus's edge ringing."""
    length = captures_RL.shape[1]
    shift_R = np.clip(rng.normal(0.0, SHIFT_SD_NM, len(captures_RL)), -SHIFT_MAX_NM, SHIFT_MAX_NM) / STEP_NM
    phase = np.exp(-2j * np.pi * np.fft.rfftfreq(length) * shift_R[:, None])
    return np.fft.irfft(np.fft.rfft(captures_RL, axis=1) * phase, n=length, axis=1).astype(np.float32)


def _white_pattern(rng: np.random.Generator, count: int) -> Array:
    """Nearly white patterns of unit variance, high-passed at 5 nm, (count, L)."""
    white = convolve1d(rng.standard_normal((count, len(WAVELENGTH_NM))), PATTERN_TAPS, axis=1, mode="reflect")
    white -= gaussian_filter1d(white, PATTERN_HIGH_PASS_NM / STEP_NM, axis=1, mode="reflect")
    return np.asarray(white / white.std(axis=1, keepdims=True))


def _level_factor() -> Array:
    """Square root (K, K) of the coefficients' covariance: eigenvalues raised to 0.05, the diagonal renormalised."""
    correlation = np.eye(len(LEVEL_SD))
    for (i, j), value in LEVEL_CORRELATION.items():
        correlation[i, j] = correlation[j, i] = value
    values, vectors = np.linalg.eigh(correlation)
    correlation = (vectors * np.maximum(values, 0.05)) @ vectors.T
    scale = np.sqrt(np.diag(correlation))
    return np.asarray(np.array(LEVEL_SD)[:, None] * np.linalg.cholesky(correlation / np.outer(scale, scale)))

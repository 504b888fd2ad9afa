"""What the words of the report mean, for a reader who has not met them. A page explains those that it uses."""

from __future__ import annotations

from denoise_core.evaluation.dips import HALF_WINDOW_NM, MAX_DIPS, PROMINENCE, ROI_NM

_LOW, _HIGH = (f"{end:g}" for end in ROI_NM)

WORDS = {
    "candidate": "The model that this run judged.",
    "capture": "One spectrum as it was measured, one replicate of a group.",
    "centroid": "Where a dip lies: the wavelength averaged over its absorption, in nm.",
    "control": "A method that needs no network, judged beside the candidate on the same captures.",
    "dip": (
        f"A minimum of reflectance in the ROI that stands out by at least {PROMINENCE:g}, an absorption line; "
        f"its area is measured below a quadratic baseline over ±{HALF_WINDOW_NM:g} nm. The {MAX_DIPS} most "
        "prominent of a capture count."
    ),
    "dose": ("The UV that a sample was given; a dose response is its rank correlation with a feature of the spectra."),
    "filter F": (
        "The stronger linear control: like LMMSE, with a prior of the capture's own level and treatment, and "
        "the smooth part filtered apart from the fine one."
    ),
    "gate": "A test with a threshold that was fixed before the run; a model ships only when every gate passes.",
    "group": "All replicates of one sample at one angle: the same spectrum measured many times.",
    "in production": "The model that the registry points at now, judged on this run's panel for comparison.",
    "LMMSE": (
        "Linear minimum mean-square error: the linear filter with the least error on the training groups, "
        "fitted from the covariances of signal and noise."
    ),
    "margin": "How far a value lies on the passing side of its threshold; negative where it failed.",
    "panel": "The fixed groups that no training sees and every model is judged on.",
    "PSNR": (
        "Peak signal-to-noise ratio in dB, for a peak of 1: 20 log₁₀ of 1 over the root-mean-square error. "
        "Higher is better; 6 dB more is half the error."
    ),
    "raw": "The capture as it was measured, without denoising.",
    "reference": "What a capture is held against: the mean of its group's other captures (leave one out, loo).",
    "ROI": (
        f"Region of interest, {_LOW} to {_HIGH} nm: where the dips lie that the analysis downstream reads. ROI "
        "kept: the share of captures whose median dip area is within gate 3's limit of the reference's."
    ),
    "SAM": (
        "Spectral angle: the angle between two spectra as vectors, in degrees. 0 is the same shape; lower is better."
    ),
    "Savitzky–Golay": "A smoothing filter: a cubic fitted to each window of 61 points. The control of two parameters.",
    "sd": "Standard deviation.",
    "separability": "How far the treatments lie apart, over the spread within a treatment.",
    "score": (
        "PSNR mean less its standard deviation: what ranks models, so that a good average cannot hide bad captures."
    ),
    "spurious": "Of a dip: one that the reference does not have. It was invented, or is noise.",
    "standard error": "The model's own estimate of its error at each wavelength; the 68 % band is ± one of it.",
    "vacuous": "Of a rule: it cannot fail on these data, so that it says nothing.",
    "within-group variance": "Scatter between the replicates of one group; what a denoiser should reduce.",
}

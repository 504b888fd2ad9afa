"""Forgeries are refused by the gate made for them; honest filters are not. On the real panel where it exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.fraud import PANEL, Place, forgeries, judged, leaks
from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.features import EVERY, Feature
from denoise_core.evaluation.leak import duplicate_pairs, leaked_pairs
from denoise_core.evaluation.selection import Unseen, unseen_figures
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.evaluation.unseen import recommendation, worth_gate
from denoise_core.evaluation.worth import worth
from study_core.errors import BadInput

WAVELENGTH = 300.0 + 0.5 * np.arange(601)
REFUSED_BY = {
    "dip of 0.2 % at 376 nm, σ 1 nm": {"unsupported_feature"},
    "dip of 0.5 % at 376 nm, σ 1 nm": {"unsupported_feature"},
    "dip of 1 % at 376 nm, σ 1 nm": {"unsupported_feature", "fidelity_excess", "deeper_dips"},
    "dip of 2 % at 376 nm, σ 1 nm": {"unsupported_feature", "fidelity_excess", "deeper_dips", "treatment_difference"},
    "dip of 1 % at 376 nm, σ 5 nm": {"unsupported_feature", "fidelity_excess"},
    "dip of 3 % at 400 nm, σ 20 nm": {"fidelity_excess", "treatment_difference"},
    "dip of depth .01 at 440 nm, σ 1 nm": {"unsupported_feature", "fidelity_excess", "deeper_dips"},
    "dip of 10 % at 310 nm, σ 1 nm (outside the ROI)": {"unsupported_feature", "fidelity_excess"},
    "dip of 5 % at 430 nm in treatment 5 only": {"fidelity_excess", "treatment_difference"},
    "dip of 5 % at 430 nm in 9 % of captures": {"capture_departure", "unsupported_feature"},
    "gain of 1 % at the highest dose, in proportion below": {"fidelity_excess", "treatment_difference"},
    "the group's own mean for every capture": {"error_over_floor"},
    "half F, half the group's own mean": {"error_over_floor"},
    "a third of the group's own mean in F": {"error_over_floor"},
}


@pytest.fixture(scope="module")
def place(real: Corpus) -> Place:
    return Place(real, PANEL, None)


@pytest.fixture(scope="module")
def forged(real: Corpus, place: Place) -> dict[str, np.ndarray]:
    return forgeries(place, real.wavelength_nm)


def failures(corpus: Corpus, place: Place, values_ML: np.ndarray) -> list[Any]:
    return [r for r in judged(place, place.measures(corpus, values_ML, place.controls())) if not r.passed]


@pytest.mark.parametrize("name", sorted(REFUSED_BY))
def test_a_forgery_is_refused_by_the_gate_made_for_it(
    name: str, real: Corpus, place: Place, forged: dict[str, np.ndarray]
) -> None:
    assert set(forged) == set(REFUSED_BY)
    failed = failures(real, place, forged[name])
    assert REFUSED_BY[name] <= {record.metric for record in failed}
    assert all(record.value is not None and record.where for record in failed)


@pytest.mark.parametrize("method", ["lmmse", "f", "g"])
def test_an_honest_filter_is_not_refused(method: str, real: Corpus, place: Place) -> None:
    assert failures(real, place, place.outputs[method]) == []


def test_a_refusal_names_the_group_and_the_wavelength(
    real: Corpus, place: Place, forged: dict[str, np.ndarray]
) -> None:
    failed = failures(real, place, forged["dip of 5 % at 430 nm in treatment 5 only"])
    (excess,) = [record for record in failed if record.metric == "fidelity_excess"]
    assert excess.slice == {"group": "treatment_5/sample_H/6Oclock", "feature": "dip 2.5 nm", "at": "430.0 nm"}
    pairs = {record.slice["treatments"] for record in failed if record.metric == "treatment_difference"}
    assert pairs == {"treatment_3, treatment_5", "treatment_5, treatment_6"}


def test_a_panel_group_under_another_name_is_named_pair_by_pair(
    real: Corpus, real_panel: Manifest, place: Place
) -> None:
    """A copy with .7 of its noise again on top is still the same captures."""
    for name, (leaky, train_on) in leaks(real, real_panel, place.training).items():
        pairs = leaked_pairs(leaky, real_panel, train_on)
        assert len(pairs) == 150
        assert all(pair.one.split("/")[1:] != pair.other.split("/")[1:] for pair in pairs)
        assert all(pair.one.rsplit("/", 1)[1] == pair.other.rsplit("/", 1)[1] for pair in pairs)
        assert {pair.exact for pair in pairs} == {"noise" not in name}


def test_the_real_corpus_has_no_capture_twice(real: Corpus, real_panel: Manifest) -> None:
    assert duplicate_pairs(real) == ()
    assert leaked_pairs(real, real_panel, real.manifest("manifest_train")) == []


# ---- without the real corpus -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini(mini_corpus_root: Path) -> Place:
    return Place(open_corpus(mini_corpus_root), PANEL, None)


@pytest.mark.parametrize("feature", [feature for feature in EVERY if not feature.level], ids=lambda one: one.name)
def test_a_lone_dip_gives_its_depth_and_a_line_gives_none(feature: Feature) -> None:
    line = 0.1 + 0.001 * (WAVELENGTH - 300)
    dip = 0.02 * np.exp(-0.5 * ((WAVELENGTH - 450) / feature.width_nm) ** 2)
    depth = feature.of(line - dip, 0.5)
    assert depth[300] == pytest.approx(0.02, rel=0.08)  # sampled at 0.5 nm, the narrowest is a little shallower
    assert int(np.argmax(depth[60:-60])) == 240
    assert np.abs(feature.of(line, 0.5)[250:351]).max() < 1e-6


def test_synthetic_honest_passes_and_a_dip_does_not(mini: Place, mini_corpus_root: Path) -> None:
    corpus = open_corpus(mini_corpus_root)
    f_ML = mini.outputs["f"]
    assert failures(corpus, mini, f_ML) == []
    dipped = f_ML - 0.01 * np.exp(-0.5 * ((corpus.wavelength_nm - 441.25) / 1.0) ** 2)
    assert {"fidelity_excess"} <= {record.metric for record in failures(corpus, mini, dipped)}
    means = mini.reference_ML.copy()
    assert {"error_over_floor"} <= {record.metric for record in failures(corpus, mini, means)}
    borrowed = np.roll(f_ML - means, 1, axis=0) + means  # within a group, but for its first capture
    assert {record.metric for record in failures(corpus, mini, borrowed)} == {"own_capture"}


def test_without_controls_only_noise_is_allowed(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray
) -> None:
    honest = audit_predictions(tiny, tiny_panel, tiny_truth, training=tiny_training)
    assert honest.failed_gates == ()
    shifted = tiny_truth + 0.0012 * np.exp(-0.5 * ((tiny.wavelength_nm - 560) / 5.0) ** 2)
    judged_again = audit_predictions(tiny, tiny_panel, shifted, training=tiny_training)
    assert judged_again.failed_gates == ("fidelity",)


def test_a_value_that_is_no_number_is_refused_by_fidelity(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray
) -> None:
    broken = tiny_truth.copy()
    broken[3, 100] = np.nan
    audit = audit_predictions(tiny, tiny_panel, broken, training=tiny_training)
    assert {"integrity", "fidelity", "plausibility"} <= set(audit.failed_gates)
    assert any(r.gate == "fidelity" and r.value is None and not r.passed for r in audit.gates)


def renamed(captures: pd.DataFrame, group: str, sample: str) -> pd.DataFrame:
    frame = captures[captures["group_id"] == group].copy()
    treatment, old, angle = group.split("/")
    frame["sample"], frame["group_id"] = sample, f"{treatment}/{sample}/{angle}"
    frame["relative_path"] = frame["relative_path"].str.replace(f"/{old}/", f"/{sample}/")
    return frame


def test_a_leak_under_another_name_voids_the_audit(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray
) -> None:
    group = tiny_panel.groups[0]
    copied = renamed(tiny.captures, group, "sample_Z")
    values = tiny.spectra_NL[tiny.captures["group_id"].to_numpy() == group]
    leaky = corpus_of(
        pd.concat([tiny.captures, copied], ignore_index=True), np.concatenate([tiny.spectra_NL, values]), WAVELENGTH
    )
    training = manifest_of(pd.concat([tiny_training.frame, copied], ignore_index=True))
    audit = audit_predictions(leaky, tiny_panel, tiny_truth, training=training)
    assert audit.metrics["leaked_groups"] == 0
    assert audit.metrics["leaked_captures"] == 30
    (record,) = [r for r in audit.gates if r.metric == "leaked_captures"]
    assert not record.passed
    assert f"{group}/rep_000.npy = {copied['relative_path'].iloc[0]} (equal)" in record.reason
    assert "and 27 more" in record.reason


LEAKED = {
    "shifted": lambda x_NL, _: np.roll(x_NL, 3, axis=1),
    "averaged": lambda x_NL, _: (x_NL + np.roll(x_NL, 1, axis=0)) / 2,
    "read backwards": lambda x_NL, _: x_NL[:, ::-1],
    "noise with the other sign": lambda x_NL, _: 2 * x_NL.mean(axis=0) - x_NL,
    "noise halved": lambda x_NL, _: x_NL.mean(axis=0) + 0.5 * (x_NL - x_NL.mean(axis=0)),
    "another grid and back": lambda x_NL, _: np.array(
        [np.interp(WAVELENGTH, WAVELENGTH[:-1] + 0.25, (x_L[1:] + x_L[:-1]) / 2) for x_L in x_NL]
    ),
    "a third of the range": lambda x_NL, noise_NL: np.where(
        WAVELENGTH < 400, x_NL, x_NL.mean(axis=0) * 1.1 + 0.01 * np.sin(WAVELENGTH) + noise_NL
    ),
    "mean with other noise": lambda x_NL, noise_NL: x_NL.mean(axis=0) + noise_NL,
}


@pytest.mark.parametrize("how", LEAKED)
def test_a_leak_that_leaves_no_capture_as_it_was_is_found(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, how: str
) -> None:
    group = tiny_panel.groups[0]
    copied = renamed(tiny.captures, group, "sample_Z")
    values = tiny.spectra_NL[tiny.captures["group_id"].to_numpy() == group].astype(np.float64)
    noise = np.random.default_rng(0).normal(0, 1, values.shape) * values.std(axis=0)
    changed = LEAKED[how](values, noise).astype(np.float32)
    leaky = corpus_of(
        pd.concat([tiny.captures, copied], ignore_index=True), np.concatenate([tiny.spectra_NL, changed]), WAVELENGTH
    )
    training = manifest_of(pd.concat([tiny_training.frame, copied], ignore_index=True))
    found = leaked_pairs(leaky, tiny_panel, training)
    assert len(found) >= (1 if how == "mean with other noise" else 30)
    assert {pair.one.split("/rep")[0] for pair in found} == {group}
    assert all("/sample_Z/" in pair.other for pair in found)
    assert leaked_pairs(tiny, tiny_panel, tiny_training) == []


def test_an_equal_capture_without_noise_of_its_own_is_found(tiny: Corpus) -> None:
    """Two groups of one capture each: no residual to correlate, but the same values."""
    frame = tiny.captures.iloc[[0]]
    twin = renamed(frame, frame["group_id"].iloc[0], "sample_Z")
    values = tiny.spectra_NL[[0, 0]]
    (pair,) = duplicate_pairs(corpus_of(pd.concat([frame, twin], ignore_index=True), values, WAVELENGTH))
    assert pair.exact
    assert (pair.one, pair.other) == (frame["relative_path"].iloc[0], twin["relative_path"].iloc[0])


def test_rules_that_a_blind_method_passes_are_vacuous(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray
) -> None:
    audit = audit_predictions(tiny, tiny_panel, tiny_truth, training=tiny_training)
    empty = {record.metric for record in audit.gates if record.vacuous}
    assert {"psnr_mean", "median_delta_rho", "improved_ratio"} <= empty
    assert not empty & {"psnr_std", "area_within_10_pct_ratio", "variance_drop_pct"}
    assert audit.summary["gates"]["tail_pass"] is None  # neither passed nor failed
    strict = GateThresholds(psnr_mean_min=40.0)
    sharper = audit_predictions(tiny, tiny_panel, tiny_truth, training=tiny_training, thresholds=strict)
    (record,) = [r for r in sharper.gates if r.metric == "psnr_mean"]
    assert record.state == "pass"  # a method that never looks at a capture no longer reaches it


def test_worth_is_resolved_by_samples_not_by_captures() -> None:
    rng = np.random.default_rng(1)
    groups = [f"treatment_1/sample_{name}/{angle}" for name in "ABCDE" for angle in ("6Oclock", "12Oclock")]
    group_M = np.repeat(groups, 150)
    base_M = rng.normal(55, 4, len(group_M))
    small = base_M + np.repeat(np.repeat([0.5, -0.4, 0.1, -0.2, 0.3], 2), 150)  # many captures, five specimens
    unresolved = worth(small, base_M, group_M, "f")
    assert unresolved.low_db < 0 < unresolved.gain_db
    assert not worth_gate(unresolved, GateThresholds()).passed
    assert recommendation(unresolved, GateThresholds()).startswith("Ship the filter")
    plain = worth(base_M + np.repeat(np.repeat([0.2, 0.15, 0.25, 0.2, 0.3], 2), 150), base_M, group_M, "f")
    assert plain.low_db > 0
    assert recommendation(plain, GateThresholds()).startswith("Ship the model")
    demanding = GateThresholds(worth_gain_low_db=1.0)
    assert recommendation(plain, demanding).startswith("Ship the filter")
    assert (plain.samples, plain.groups, plain.groups_better) == (5, 10, 10)
    same = worth(base_M, base_M, group_M, "f")  # it is its base
    assert recommendation(same, GateThresholds()).startswith("Ship the filter")
    with pytest.raises(BadInput, match="samples"):
        worth(base_M[:300], base_M[:300], group_M[:300], "f")


def test_figures_on_unseen_groups_say_what_to_ship(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray
) -> None:
    """Three samples of the panel as unseen groups: half the noise is a gain, the base itself is none."""
    raw_ML = tiny.spectra_NL[tiny.rows(tiny_panel)].astype(np.float64)
    better_ML = (raw_ML + tiny_truth) / 2

    def recommended(values_ML: np.ndarray) -> str:
        figures = unseen_figures(tiny, [Unseen(tiny_panel, values_ML, tiny_training, [], raw_ML, "f")])
        audit = audit_predictions(tiny, tiny_panel, tiny_truth, training=tiny_training, unseen=figures)
        (notice,) = [notice for notice in audit.notices if notice.startswith("Ship")]
        assert figures.worth is not None
        assert notice == recommendation(figures.worth, GateThresholds())
        return notice

    assert recommended(better_ML).startswith("Ship the model: +5.")
    assert recommended(raw_ML).startswith("Ship the filter")


def test_worth_is_pooled_over_the_folds_that_measured_it(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray
) -> None:
    """A model a sample, each on its own groups alone: too few by itself, and pooled the interval over all of them."""
    raw_ML = tiny.spectra_NL[tiny.rows(tiny_panel)].astype(np.float64)
    better_ML = (raw_ML + tiny_truth) / 2
    whole = unseen_figures(tiny, [Unseen(tiny_panel, better_ML, tiny_training, [], raw_ML, "f")]).worth
    models = []
    for group in tiny_panel.groups:
        rows = (tiny_panel.frame["group_id"] == group).to_numpy()
        own = manifest_of(tiny_panel.frame[rows])
        models.append(Unseen(own, better_ML[rows], tiny_training, [], raw_ML[rows], "f"))
    assert unseen_figures(tiny, models[:1]).worth is None
    pooled = unseen_figures(tiny, models).worth
    assert whole is not None
    assert pooled is not None
    assert pooled == whole.model_copy(update={"folds": len(models)})
    assert f"{pooled.samples} samples of {len(models)} folds" in recommendation(pooled, GateThresholds())

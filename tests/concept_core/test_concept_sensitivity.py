"""True TCAV: the gradient is that of the log-probability, steering agrees with it, p is empirical and two-sided."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

from concept_core.__main__ import main
from concept_core.corpus.windows import Window
from concept_core.local import Study
from concept_core.models.registry import Registered, open_model
from concept_core.sensitivity import Probed, against_random, gradients, log_probabilities, probed, two_sided

pytestmark = pytest.mark.concept
FINGER = "MSEKPYKCPECGKSFSQSSNLQKHQRTHTGEKPYECDVCGKAFRWSSALIRHQRIHTGEK"


@pytest.fixture(scope="module")
def model(house: Registered) -> Any:
    return open_model(house, device="cpu")


EXAMPLES = [Probed(FINGER, 3, 44, 11), Probed(FINGER[:50], 3, 44, 24), Probed(FINGER[5:], 0, 41, 2)]


@pytest.mark.parametrize("layer", [1, 2, 4])
def test_s_is_the_slope_of_the_log_probability_along_the_direction(model: Any, layer: int) -> None:
    """A small push of the window's tokens changes log p by push × S: also in the last layer, after its norm."""
    u = np.random.default_rng(layer).normal(size=64)
    u /= np.linalg.norm(u)
    s = gradients(model, EXAMPLES, [layer])[layer] @ u
    step = 0.02
    up, down = (log_probabilities(model, EXAMPLES, layer=layer, push_d=sign * step * u) for sign in (1, -1))
    np.testing.assert_allclose((up - down) / (2 * step), s, atol=0.02 * max(1.0, float(np.abs(s).max())))
    assert np.abs(s).max() > 1e-3


def test_a_batch_changes_no_gradient(model: Any) -> None:
    together = gradients(model, EXAMPLES, [2, 4])
    for number, one in enumerate(EXAMPLES):
        alone = gradients(model, [one], [2, 4])
        for layer in (2, 4):
            np.testing.assert_allclose(alone[layer][0], together[layer][number], atol=1e-5)


def test_a_ligand_and_another_residue_are_masked_inside_the_known_occurrence() -> None:
    window = Window(
        key="P:3:pos", accession="P", sequence=FINGER, start=3, end=44, stratum="pos", group="g", part="held_out",
        domains=((8, 29),),
    )  # fmt: skip
    for seed in range(10):
        ligand, other = probed([window], "CH", 50, np.random.default_rng(seed))
        for one, wanted in ((ligand[0], True), (other[0], False)):
            place = FINGER.index(one.letters) + one.masked
            assert 8 <= place < 29
            assert (one.letters[one.masked] in "CH") is wanted
            assert FINGER[slice(*window.span)] == one.letters[one.start : one.end]


def test_p_is_two_sided_and_never_zero() -> None:
    random = np.linspace(-1, 1, 99)
    assert two_sided(5.0, random) == two_sided(-5.0, random) == pytest.approx(0.01)
    assert two_sided(0.0, random) == 1.0


def test_a_direction_that_every_gradient_follows_is_found_and_a_random_one_is_not() -> None:
    rng = np.random.default_rng(0)
    ligand = rng.normal(size=(30, 20)) * 0.1
    ligand[:, 0] += 1
    half = rng.normal(size=(15, 20)) * 0.1
    other = np.concatenate([half, -half])  # no direction is followed on average
    random = rng.normal(size=(99, 20))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    used = against_random(2, "logistic", np.eye(20)[0], random, ligand, other)
    assert (used.share, used.p, used.contrast_p) == (1.0, pytest.approx(0.01), pytest.approx(0.01))
    assert used.other_p > 0.05
    assert against_random(2, "logistic", np.eye(20)[7], random, ligand, other).p > 0.1


def test_the_command_reports_every_layer_and_direction_and_gates_nothing(
    small_study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sensitivity", "--config", str(small_study.config), "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["layer"], one["direction"]) for one in found["directions"]] == [
        (layer, name) for layer in (2, 4) for name in ("logistic", "pattern")
    ]
    assert all(one["random_cavs"] == 5 and one["p"] >= 1 / 6 for one in found["directions"])
    told: list[str] = []
    study: Study = replace(small_study.study, tell=told.append)
    assert study.sensitivity() == found
    assert told == []

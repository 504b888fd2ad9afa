"""Named plans against the seeds' own command lines, their differences, and what Act B makes of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoise_core import recipes
from denoise_core.evaluation.thresholds import GATES
from denoise_core.plans import LossPlan, TrainingPlan
from study_core.errors import BadInput

SEEDS = Path(__file__).resolve().parents[3] / "shared" / "seeds"
NAMES = ("track_h", "act_of_god_seed", "act_of_god")
DOCUMENT = {"track_h": "cross_validation_runbook.md", "act_of_god_seed": "act_of_god_warm_start_plan.md"}
SWITCHES = ("noise2noise", "noise2noise_pairwise", "val_noise2noise", "geometry_film", "dip_loss", "amp", "ema")
SWITCHES += ("tta_reverse", "cudnn_benchmark")


def command_of(text: str) -> dict[str, list[str]]:
    """Flags and values of the page's `python -m src.train` command."""
    lines = iter(text.splitlines())
    words: list[str] = []
    for line in lines:
        if "-m src.train" in line or words:
            if line.startswith("```"):
                break
            words += shlex.split(line.strip().removesuffix("\\").strip())
    flags: dict[str, list[str]] = {}
    for word in words[words.index("src.train") + 1 :]:
        if word.startswith("--"):
            flags[word.removeprefix("--")] = []
        else:
            flags[list(flags)[-1]].append(word)
    return flags


def leaves(plan: TrainingPlan) -> dict[str, Any]:
    """Every option by its own name; the names are unique over the plan's sections."""
    flat: dict[str, Any] = {}
    for options in plan.model_dump().values():
        if isinstance(options, dict):
            assert not flat.keys() & options.keys()
            flat |= options
    return flat


def as_written(value: Any, words: list[str]) -> Any:
    """The words of a flag in the type of the plan's value; data/ is the corpus, so paths inside it start below."""
    if isinstance(value, bool):
        return not words
    if isinstance(value, tuple):
        return tuple(words)
    (word,) = words
    if isinstance(value, (int, float)):
        return type(value)(word)
    return word.removeprefix("data/")


@pytest.mark.parametrize("name", DOCUMENT)
def test_every_flag_of_the_seeds_command_is_the_plans_value(name: str) -> None:
    page = SEEDS / DOCUMENT[name]
    if not page.exists():
        pytest.skip(f"no seed document at {page}")
    flags, plan = command_of(page.read_text("utf-8")), leaves(recipes.named(name))
    assert len(flags) > 40
    for flag, words in flags.items():
        assert flag in plan, f"--{flag} has no option in the plan"
        assert plan[flag] == as_written(plan[flag], words), f"--{flag}"
    for switch in SWITCHES:
        assert plan[switch] is (switch in flags), f"--{switch}"
    if "init_checkpoint" not in flags:
        assert plan["init_checkpoint"] is None


def test_the_flag_test_can_fail() -> None:
    page = "```\npython -m src.train \\\n  --bs 601 --dip_loss \\ \n  --film_features a b\n```\n--bs 1"
    assert command_of(page) == {"bs": ["601"], "dip_loss": [], "film_features": ["a", "b"]}
    assert leaves(recipes.named("track_h"))["bs"] != as_written(600, ["601"])


def test_a_fold_names_its_own_files() -> None:
    text = recipes.track_h(5).files.model_dump_json()
    assert "fold_05" in text
    assert "fold_03" not in text


# ---- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}_mini" for name in NAMES)])
def test_every_plan_knows_its_name_and_survives_json(name: str) -> None:
    plan = recipes.named(name)
    assert plan.name == name
    assert TrainingPlan.model_validate_json(plan.model_dump_json()) == plan


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(BadInput) as caught:
        recipes.named("act_of_dog")
    assert all(name in str(caught.value) for name in (*NAMES, *(f"{name}_mini" for name in NAMES)))


@pytest.mark.parametrize("name", NAMES)
def test_a_mini_plan_differs_in_size_and_schedule_alone(name: str) -> None:
    full, mini = recipes.named(name), recipes.named(f"{name}_mini")
    assert {line.split(":")[0] for line in recipes.difference(mini, full)} <= {
        *(f"model.{option}" for option in ("d_model", "n_layers", "d_state", "film_hidden_dim")),
        *(f"optimiser.{option}" for option in ("epochs", "early_stop_patience", "steps_per_epoch", "bs", "lr")),
        *(f"optimiser.{option}" for option in ("lr_min", "warmup_epochs", "ema_decay")),
    }
    assert (mini.loss, mini.data, mini.files) == (full.loss, full.data, full.files)
    assert mini.optimiser.early_stop_patience < mini.optimiser.epochs


def test_heads_are_the_published_one_for_the_seed_and_residual_for_new_training() -> None:
    heads = {name: (recipes.named(name).model.head, recipes.named(name).model.base) for name in NAMES}
    assert heads == {
        "track_h": ("residual", "f"),
        "act_of_god_seed": ("sigmoid", "capture"),
        "act_of_god": ("residual", "f"),
    }


# ---- difference ------------------------------------------------------------------------------------------


def test_difference_names_option_seed_and_plan() -> None:
    seed = recipes.named("act_of_god_seed")
    plan = seed.model_copy(update={"optimiser": seed.optimiser.model_copy(update={"bs": 128})})
    assert recipes.difference(plan, seed) == ["optimiser.bs: 600 → 128"]
    assert recipes.difference(seed, seed) == []


@given(st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_difference_is_empty_only_between_equal_recipes_and_mirrors(one: str, other: str) -> None:
    a, b = recipes.named(one), recipes.named(other)
    there, back = recipes.difference(a, b), recipes.difference(b, a)
    assert (there == []) == (a.model_copy(update={"name": ""}) == b.model_copy(update={"name": ""}))
    assert [line.split(":")[0] for line in there] == [line.split(":")[0] for line in back]


# ---- Act B -----------------------------------------------------------------------------------------------

SEED = recipes.act_of_god_seed()


def changed(plan: TrainingPlan, *gates: str) -> dict[str, Any]:
    after, _ = recipes.rebalance(plan, gates)
    old, new = leaves(plan), leaves(after)
    return {option: new[option] for option in new if new[option] != old[option]}


@pytest.mark.parametrize("gate", ["aggregate", "skill"])
def test_aggregate_or_skill_doubles_charbonnier_and_averages_targets(gate: str) -> None:
    assert changed(SEED, gate) == {"charbonnier_weight": 2.0, "noise2noise_pairwise": False}


def test_tail_weighs_groups_by_their_own_error() -> None:
    assert changed(SEED, "tail") == {"group_weights": "own_error"}


def test_roi_doubles_dip_derivative_and_curvature() -> None:
    assert changed(SEED, "roi") == {
        "dip_weight": 2.0,
        "derivative_weight": 0.6,
        "deriv_weight_roi": 1.2,
        "curvature_weight_roi": 0.6,
    }


def test_downstream_adds_a_consistency_term() -> None:
    (option,) = changed(SEED, "downstream")
    assert option == "consistency_weight"


def test_integrity_is_no_matter_of_losses() -> None:
    assert recipes.rebalance(SEED, ["integrity"]) == (SEED, [])
    assert recipes.rebalance(SEED, []) == (SEED, [])


def test_an_unknown_gate_is_refused() -> None:
    with pytest.raises(BadInput, match="no gate 'roy'"):
        recipes.rebalance(SEED, ["roi", "roy"])


def test_a_term_that_the_plan_left_out_comes_in_at_the_seeds_weight() -> None:
    plan = recipes.named("act_of_god")
    assert plan.loss.charbonnier_weight == 0
    assert not plan.loss.dip_loss
    after, table = recipes.rebalance(plan, ["roi", "aggregate"])
    seed = LossPlan()
    assert after.loss.dip_loss
    for option in ("charbonnier_weight", "dip_weight", "derivative_weight", "deriv_weight_roi", "curvature_weight_roi"):
        assert getattr(after.loss, option) == getattr(seed, option)
    assert any("left it out" in row["why"] for row in table)


@given(st.lists(st.sampled_from(GATES)), st.sampled_from(NAMES))
def test_the_table_tells_exactly_what_changed(gates: list[str], name: str) -> None:
    plan = recipes.named(name)
    after, table = recipes.rebalance(plan, gates)
    old, new = leaves(plan), leaves(after)
    for row in table:
        assert set(row) == {"gate", "option", "before", "after", "why"}
        assert row["gate"] in gates
        option = row["option"].split(".")[1]
        assert (row["before"], row["after"]) == (old[option], new[option])
        assert row["before"] != row["after"]
    assert {row["option"].split(".")[1] for row in table} == {key for key in new if new[key] != old[key]}
    assert after.loss.charbonnier_weight <= 2, "failing both aggregate and skill doubles once"


def test_stages_train_the_head_first_then_everything_at_a_tenth() -> None:
    plan, _ = recipes.rebalance(recipes.named("act_of_god"), ["roi"])
    one, two = recipes.act_b_stage1(plan), recipes.act_b_stage2(plan)
    assert one.model.calibrator
    assert one.optimiser.freeze_backbone
    assert one.optimiser.epochs < plan.optimiser.epochs
    assert one.optimiser.lr == plan.optimiser.lr
    assert two.model.calibrator
    assert not two.optimiser.freeze_backbone
    assert two.optimiser.lr == plan.optimiser.lr / 10
    assert two.optimiser.lr_min == plan.optimiser.lr_min / 10
    assert one.loss == two.loss == plan.loss
    assert one.data == two.data == plan.data
    assert len({one.files.checkpoint_dir, two.files.checkpoint_dir, plan.files.checkpoint_dir}) == 3
    assert len({one.files.audit_log, two.files.audit_log, plan.files.audit_log}) == 3


def test_stages_of_a_mini_plan_are_plans_too() -> None:
    for stage in (recipes.act_b_stage1, recipes.act_b_stage2):
        plan = stage(recipes.named("act_of_god_mini"))
        assert TrainingPlan.model_validate(plan.model_dump()) == plan
        assert plan.optimiser.epochs >= 1

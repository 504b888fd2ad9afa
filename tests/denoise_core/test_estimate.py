"""What a training takes is known before it starts: refused where it cannot fit, with the option that would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denoise_core.__main__ import main
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.estimate import (
    SCAN_STEPS,
    available_memory,
    gpu_kept,
    gpu_memory,
    memory,
    parameters,
    verify_memory,
)
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.plans import TrainingPlan
from denoise_core.recipes import completed, named
from study_core.errors import BadInput
from study_core.plan import changed
from tasks.denoise import inputs
from tasks.slurm.profiles import TEMPLATES

CPU_SCAN_STEPS = 16  # of scan.cpp
FULL = 8100  # captures of the published corpus

# One step of training in a process of its own: prints the bytes that it took beyond what was there before.
STEP = """
import sys, json, numpy as np, torch
from denoise_core.losses import total_loss
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.plans import TrainingPlan
plan = TrainingPlan.model_validate_json(sys.argv[1])
bytes_of = lambda key: next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(key))
wavelength = np.linspace(300, 600, plan.model.sequence_length)
model = MambaUV(plan.model, wavelength)
optimiser = torch.optim.AdamW(model.parameters())
x = torch.rand(plan.optimiser.bs, len(wavelength))
before = bytes_of("VmRSS")
ones = torch.ones(len(wavelength))
y = model(x, torch.zeros(len(x), 8), 0.9 * x)
loss, _ = total_loss(y, x, plan.loss, ones, wavelength[1] - wavelength[0], ones > 0, group_B=torch.arange(len(x)) // 4)
loss.backward()
optimiser.step()
print(bytes_of("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def mini(mini_corpus_root: Path) -> Corpus:
    return open_corpus(mini_corpus_root)


@pytest.mark.parametrize(
    ("width", "blocks", "states", "batch"),
    [(32, 2, 8, 64), (384, 2, 16, 12)],  # of few captures, what the allocator does is a tenth of a step
)
def test_the_estimate_is_what_a_step_takes(width: int, blocks: int, states: int, batch: int) -> None:
    model = {"d_model": width, "n_layers": blocks, "d_state": states}
    plan = changed(named("act_of_god"), {"model": model, "optimiser": {"bs": batch}})
    done = subprocess.run(
        [sys.executable, "-c", STEP, plan.model_dump_json()], capture_output=True, text=True, check=True
    )
    needs = memory(plan, 0)
    told = needs.of(batch) / 1.1 - 500e6
    assert told == pytest.approx(int(done.stdout), rel=0.25)


def test_parameters_are_counted_to_two_per_cent() -> None:
    for name in ("act_of_god", "act_of_god_mini", "track_h"):
        plan = named(name)
        model = MambaUV(plan.model, [300 + 0.5 * i for i in range(601)])  # type: ignore[arg-type]
        assert parameters(plan) == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.02)


def test_the_full_size_is_refused_on_this_machine_and_names_what_fits(
    mini_corpus_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["train", "--corpus", str(mini_corpus_root), "--plan", "act_of_god", "--out", str(tmp_path / "out")]
    assert main([*call, "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: training act_of_god needs about 9")
    assert "batch 600, width 384, 8 blocks, 601 wavelengths" in told
    assert "free here are" in told
    assert "the same effective batch" in told
    assert not (tmp_path / "out").exists()


def test_the_batch_that_is_named_fits_at_the_same_effective_batch() -> None:
    plan, limit = named("act_of_god"), 20 * 10**9
    with pytest.raises(BadInput) as error:
        verify_memory(plan, FULL, limit, "there are")
    largest = memory(plan, FULL).batch(limit)
    accumulate = -(-600 // largest)
    batch = -(-600 // accumulate)
    assert batch <= largest
    assert f"optimiser.bs to {batch} and optimiser.grad_accum to {accumulate}" in str(error.value)
    smaller = changed(plan, {"optimiser": {"bs": batch}})
    assert verify_memory(smaller, FULL, limit, "there are") <= limit
    with pytest.raises(BadInput, match="the recipe act_of_god_mini fits") as error:
        verify_memory(plan, FULL, 10**9, "there are")
    assert "optimiser.bs to" not in str(error.value)
    assert available_memory() > 10**8


@pytest.mark.parametrize(("amp", "states"), [(True, 16), (True, 8), (False, 16)])
def test_what_a_gpu_holds_is_what_autograd_keeps(amp: bool, states: int) -> None:
    model = {"d_model": 96, "n_layers": 3, "d_state": states, "sequence_length": 301}
    plan = changed(named("act_of_god"), {"model": model, "optimiser": {"amp": amp}})
    kept = [_kept_bytes(plan, batch) for batch in (2, 4)]
    inner, more = 2 * 96, 1 / CPU_SCAN_STEPS - 1 / SCAN_STEPS  # the native scan keeps its states more often
    counted = gpu_kept(plan, 0).capture + 301 * 3 * states * 4 * inner * more
    assert (kept[1] - kept[0]) / 2 == pytest.approx(counted, rel=0.02)


def _kept_bytes(plan: TrainingPlan, batch: int) -> int:
    """Bytes that autograd keeps in a forward pass, under the casts of a GPU."""
    model = MambaUV(plan.model, np.linspace(300, 600, plan.model.sequence_length))
    own, kept = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor: so that no other takes its place
        return tensor

    x_BL = torch.rand(batch, plan.model.sequence_length)
    with pytest.MonkeyPatch.context() as patch, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        patch.setattr(torch.nn.functional, "layer_norm", _in_float32(torch.nn.functional.layer_norm))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.optimiser.amp):
            model(x_BL, torch.zeros(batch, 8), 0.9 * x_BL)
    return sum(size for size, _ in kept.values())


def _in_float32(norm: Any) -> Any:
    """As CUDA's autocast has it; a CPU's leaves it in bfloat16."""

    def cast(x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return norm(x.float(), *rest, **named)

    return cast


def test_a_gpu_that_cannot_hold_it_is_named_with_the_batch_that_would(mini: Corpus, tmp_path: Path) -> None:
    site = tmp_path / "small.yaml"
    site.write_text((TEMPLATES / "a100.yaml").read_text().replace("gpu_memory: null", "gpu_memory: 40GB"))
    with pytest.raises(
        BadInput, match=r"GPU memory at least \(batch 600, .* a GPU of profile .* has 42\.9 GB"
    ) as error:
        inputs.recipe("recommended", "act_of_god", str(site), {}, mini)
    assert "set optimiser.bs to 200 and optimiser.grad_accum to 3 (the same effective batch)" in str(error.value)
    fits = {"optimiser": {"bs": 200, "grad_accum": 3}}
    assert inputs.recipe("recommended", "act_of_god", str(site), fits, mini).optimiser.bs == 200
    assert gpu_memory(changed(named("act_of_god"), fits), len(mini)).of(200) < 40 * 2**30


def test_a_plan_of_one_option_starts_from_the_commands_own_recipe(
    mini_corpus_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed({"optimiser": {"epochs": 2}}) == changed(named("act_of_god_mini"), {"optimiser": {"epochs": 2}})
    assert completed({"name": "track_h"}) == named("track_h")
    whole = changed(named("act_of_god"), {"name": "mine", "loss": {"dip_weight": 3}})
    assert completed(whole.model_dump(mode="json")) == whole
    short = {"model": {"base": "capture"}, "optimiser": {"epochs": 1, "steps_per_epoch": 1, "bs": 8}}
    (tmp_path / "plan.json").write_text(json.dumps(short))
    call = ["train", "--corpus", str(mini_corpus_root), "--plan", str(tmp_path / "plan.json"), "--out", str(tmp_path)]
    assert main(call) == 0
    assert "act_of_god_mini on cpu: up to 1 epochs, 0 min, about 0." in capsys.readouterr().err


def test_a_flow_holds_a_recipe_against_the_profile_before_anything_is_sent(mini: Corpus) -> None:
    for profile in ("local", "slurm-dev"):
        assert inputs.recipe("recommended", "act_of_god", profile, {}, mini).name == "act_of_god_mini", profile
        with pytest.raises(BadInput, match=rf"the stage train of profile {profile} has [28]\.\d GB"):
            inputs.recipe("act_of_god", "act_of_god", profile, {}, mini)
    assert inputs.recipe("recommended", "act_of_god", "a100", {}, mini).name == "act_of_god"

"""Checkpoints: the published format, ours, refusals that name file and remedy, warm starts."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import GRID, L, captures, network, small
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from denoise_core.corpus.dose import dose_stats, film_features
from denoise_core.model import checkpoints
from denoise_core.model.checkpoints import load_model, save_checkpoint, save_plain
from denoise_core.model.denoiser import Denoiser
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.model.neural import load_denoiser
from denoise_core.model.preprocess import Preprocess
from denoise_core.model.weights import warm_start
from denoise_core.plans import FILM_FEATURES
from study_core.errors import BadInput


def published_file(path: Path, seed: int = 0) -> tuple[MambaUV, AveragedModel]:
    """A file as the published training script writes it: raw state, AveragedModel state, flat argparse dict."""
    net = network(small(head="sigmoid", base="capture"), seed)
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ema.update_parameters(net)
    with torch.no_grad():
        net.output_proj.bias += 0.5
    ema.update_parameters(net)
    content = {
        "model_state": net.state_dict(), "ema_state": ema.state_dict(), "epoch": 249, "sam_deg": np.float64(1.04),
        "config": {"d_model": 8, "n_layers": 2, "d_state": 3, "sequence_length": L, "lr": 2e-4, "ema": True,
                   "film_features": list(FILM_FEATURES), "init_checkpoint": None},
    }  # fmt: skip
    torch.save(content, path)
    return net, ema


# --- the published format -------------------------------------------------------------------------------------


def test_published_checkpoint_loads_with_its_ema_weights(tmp_path: Path) -> None:
    path = tmp_path / "mamba_tiny_uv_best.pt"
    net, ema = published_file(path)
    loaded = load_model(path)
    assert loaded.published
    assert (loaded.epoch, loaded.sam_deg, loaded.config["lr"]) == (249, 1.04, 2e-4)
    assert loaded.model.plan == small(head="sigmoid", base="capture")
    x, features = torch.rand(3, L), torch.randn(3, 8)
    assert torch.equal(loaded.model(x, features), ema.module.eval()(x, features))
    assert torch.equal(load_model(path, prefer_ema=False).model(x, features), net(x, features))
    assert not torch.equal(net(x, features), ema(x, features))


def test_published_checkpoint_as_a_denoiser(tmp_path: Path) -> None:
    path = tmp_path / "mamba_tiny_uv_best.pt"
    _, ema = published_file(path)
    denoiser = load_denoiser(path)
    assert isinstance(denoiser, Denoiser)
    assert denoiser.name == "mamba_tiny_uv_best"
    x, context = captures()
    scaling = checkpoints.FilmScaling(
        np.float32(checkpoints.PUBLISHED_DOSE_MEAN), np.float32(checkpoints.PUBLISHED_DOSE_STD)
    )
    with torch.no_grad():
        expected = ema.module(torch.from_numpy(x), torch.from_numpy(scaling(context.features_BF)))
    np.testing.assert_allclose(denoiser.denoise(x, context), expected.numpy(), atol=1e-6)
    assert np.isnan(denoiser.standard_error(x, context)).all()  # the file knows none


def test_published_dose_statistics_are_the_corpus_own() -> None:
    treatments = [f"treatment_{t}" for t in range(1, 6) for _ in range(2)]
    stats = dose_stats(film_features(treatments, ["6Oclock", "12Oclock"] * 5), treatments)
    np.testing.assert_allclose(checkpoints.PUBLISHED_DOSE_MEAN, stats.mean_F, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(checkpoints.PUBLISHED_DOSE_STD, stats.std_F, rtol=2e-4)


def test_raw_weights_alone_are_enough(tmp_path: Path) -> None:
    net = network(small(head="sigmoid", base="capture"))
    torch.save({"model_state": net.state_dict(), "config": {"sequence_length": L}}, tmp_path / "raw.pt")
    x, features = torch.rand(3, L), torch.randn(3, 8)
    assert torch.equal(load_model(tmp_path / "raw.pt").model(x, features), net(x, features))


# --- ours -----------------------------------------------------------------------------------------------------


def full_content(path: Path, seed: int = 0) -> tuple[MambaUV, str]:
    net = network(small(base="f", calibrator=True), seed, Preprocess(True, 0.07))
    ema_state = {f"module.{name}": value * 0.5 for name, value in net.state_dict().items()}
    digest = save_checkpoint(
        path, net, ema_state={**ema_state, "n_averaged": torch.tensor(3)}, epoch=4, sam_deg=0.3,
        config={"lr": 1e-3, "names": ("a", "b")}, base_state={"kind": "test"},
        dose_stats=checkpoints.FilmScaling(np.arange(8, dtype=np.float32), np.full(8, 2, np.float32)),
        se_scale_L=np.linspace(1, 2, L), se_L=None, extra={"note": "x", "matrix": np.eye(2)},
    )  # fmt: skip
    return net, digest


def test_our_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    net, _ = full_content(tmp_path / "a.pt")
    loaded = load_model(tmp_path / "a.pt")
    assert not loaded.published
    assert loaded.model.plan == net.plan
    assert loaded.model.preprocessing == Preprocess(True, 0.07)
    np.testing.assert_array_equal(loaded.model.wavelength_nm, GRID)
    assert (loaded.epoch, loaded.sam_deg, loaded.base_state) == (4, 0.3, {"kind": "test"})
    assert loaded.config == {"lr": 1e-3, "names": ["a", "b"]}
    np.testing.assert_array_equal(loaded.film_scaling.mean_F, np.arange(8))
    assert loaded.se_scale_L is not None
    np.testing.assert_allclose(loaded.se_scale_L, np.linspace(1, 2, L), rtol=1e-6)
    assert loaded.se_L is None
    assert torch.equal(loaded.extra["matrix"], torch.eye(2, dtype=torch.float64))
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value * 0.5), name
        assert torch.equal(loaded.model_state[name], value), name


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    _, one = full_content(tmp_path / "a.pt")
    _, two = full_content(tmp_path / "another name.pt")
    assert one == two
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another name.pt").read_bytes()
    assert full_content(tmp_path / "c.pt", seed=1)[1] != one


def test_loading_leaves_the_random_stream_alone(tmp_path: Path) -> None:
    full_content(tmp_path / "a.pt")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(tmp_path / "a.pt")
    assert torch.equal(torch.rand(3), expected)


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    full_content(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("denoise_core.model.checkpoints.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        full_content(path, seed=1)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_only_plain_values_are_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="PosixPath"):
        save_plain(tmp_path / "a.pt", {"config": {"folder": tmp_path}})


# --- refusals -------------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("__import__('pathlib').Path('pwned').touch()",)


def test_a_pickle_that_wants_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    torch.save({"model_state": {}, "config": Evil()}, path)
    with pytest.raises(BadInput, match=r"evil\.pt: the pickle wants more than tensors.*eval.*save state dicts"):
        load_denoiser(path)
    path.write_bytes(pickle.dumps({"config": Evil()}))
    with pytest.raises(BadInput, match=r"evil\.pt: "):
        load_denoiser(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    full_content(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(
        BadInput, match=r"cut\.pt: cannot be read, truncated or no checkpoint.*; copy or train it again"
    ):
        load_denoiser(path)


@pytest.mark.parametrize("content", [b"not a checkpoint at all\n", b"\x00" * 500, b"relative_path,treatment\na,b\n"])
def test_another_kind_of_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "manifest.pt"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"manifest\.pt: "):
        load_denoiser(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.pt: no such checkpoint"):
        load_denoiser(tmp_path / "none.pt")
    with pytest.raises(BadInput):
        load_denoiser(tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"weights": torch.ones(2)}, {"model_state": {}}, {}])
def test_content_without_weights_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(BadInput, match=r"odd\.pt: .*expected a dict with model_state"):
        load_denoiser(tmp_path / "odd.pt")


def test_the_parameter_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    published_file(path)
    content = torch.load(path, weights_only=False)
    state = content["ema_state"]

    def refused(change: str, **altered: torch.Tensor) -> None:
        broken = {**state, **altered}
        if change == "drop":
            del broken["module.blocks.1.norm.bias"]
        torch.save({**content, "ema_state": broken}, path)
        with pytest.raises(BadInput) as caught:
            load_model(path)
        message = str(caught.value)
        assert str(path) in message
        assert {"drop": "'blocks.1.norm.bias' is missing", "add": "'extra' is unknown",
                "shape": "'blocks.0.mamba.D' has shape (5,), the model needs (16,)"}[change] in message  # fmt: skip

    refused("drop")
    refused("add", **{"module.extra": torch.ones(1)})
    refused("shape", **{"module.blocks.0.mamba.D": torch.ones(5)})


def test_an_architecture_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    torch.save({"model_state": {"encoder.weight": torch.ones(3)}}, tmp_path / "other.pt")
    with pytest.raises(BadInput, match=r"other\.pt: its architecture cannot be read \('input_proj.weight'\)"):
        load_model(tmp_path / "other.pt")


# --- warm starts ----------------------------------------------------------------------------------------------


def test_warm_start_from_published_into_residual(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    _, ema = published_file(path)
    net = MambaUV(small(base="f", calibrator=True), GRID)
    kept = warm_start(net, load_model(path))
    assert {name.split(".")[0] for name in kept} == {"output_proj", "calibrator"}
    source = ema.module.state_dict()
    assert torch.equal(net.blocks[1].mamba.D, source["blocks.1.mamba.D"])  # type: ignore[union-attr]
    assert torch.equal(net.input_proj.weight[:, :3], source["input_proj.weight"])
    assert net.input_proj.weight[:, 3:].abs().max() == 0
    x, base = torch.rand(2, L), torch.rand(2, L)
    assert (net(x, torch.zeros(2, 8), base) - base).abs().max() < 1e-6  # still starts at its base


def test_warm_start_adds_a_calibrator_and_changes_nothing_else(tmp_path: Path) -> None:
    net = network(small(base="f"))
    save_checkpoint(tmp_path / "a.pt", net)
    seeded = MambaUV(small(base="f", calibrator=True), GRID)
    assert all(name.startswith("calibrator.") for name in warm_start(seeded, load_model(tmp_path / "a.pt")))
    x, base, features = torch.rand(2, L), torch.rand(2, L), torch.randn(2, 8)
    assert (seeded(x, features, base) - net(x, features, base).clamp(1e-6, 1 - 1e-6)).abs().max() < 1e-6


def test_warm_start_from_another_width_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", network(small(base="f")))
    with pytest.raises(BadInput, match=r"a\.pt: parameter 'input_proj.weight' has shape"):
        warm_start(MambaUV(small(base="f", d_model=12), GRID), load_model(tmp_path / "a.pt"))

"""Checkpoints: the published format, ours, refusals that name file and remedy, warm starts, the denoiser on top."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from denoise_core.corpus.captures import Context
from denoise_core.corpus.dose import dose_stats, film_features
from denoise_core.corpus.store import open_corpus
from denoise_core.errors import BadInput
from denoise_core.model import checkpoints
from denoise_core.model.checkpoints import load_model, save_checkpoint, save_plain, warm_start
from denoise_core.model.denoiser import Denoiser
from denoise_core.model.linear import fit_lmmse
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.model.neural import NeuralDenoiser, load_denoiser
from denoise_core.model.preprocess import Preprocess
from denoise_core.plans import FILM_FEATURES, ModelPlan

L = 33
GRID = np.linspace(300.0, 316.0, L)


def small(**changes: object) -> ModelPlan:
    settings: dict[str, object] = {"sequence_length": L, "d_model": 8, "n_layers": 2, "d_state": 3} | changes
    return ModelPlan.model_validate(settings)


def network(plan: ModelPlan, seed: int = 0, preprocessing: Preprocess | None = None) -> MambaUV:
    torch.manual_seed(seed)
    net = MambaUV(plan, GRID, preprocessing)
    for parameter in net.parameters():  # nothing left at zero: a lost parameter shows
        torch.nn.init.normal_(parameter, std=0.1)
    return net


def captures(size: int = 7) -> tuple[NDArray[np.float32], Context]:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.5, (size, L)).astype(np.float32)
    return x, Context(np.array(["treatment_1"] * size), rng.normal(size=(size, 8)).astype(np.float32))


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


class Shift:
    """A base filter for tests: adds 0.01; standard error 0.002."""

    name = "shift"

    def denoise(self, x_BL: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        return np.asarray(x_BL + np.float32(0.01), dtype=np.float32)

    def standard_error(self, x_BL: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        return np.full_like(x_BL, 0.002)


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


# --- the denoiser ---------------------------------------------------------------------------------------------


def denoiser(tmp_path: Path, **options: Any) -> NeuralDenoiser:
    save_checkpoint(tmp_path / "a.pt", network(small(base="f")), se_scale_L=np.linspace(1, 2, L))
    return NeuralDenoiser(load_model(tmp_path / "a.pt"), base=Shift(), **options)


def test_denoiser_in_batches_corrects_its_base(tmp_path: Path) -> None:
    x, context = captures()
    whole = denoiser(tmp_path).denoise(x, context)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(denoiser(tmp_path, batch_size=3).denoise(x, context), whole, atol=1e-6)
    net = load_model(tmp_path / "a.pt").model
    features = load_model(tmp_path / "a.pt").film_scaling(context.features_BF)
    with torch.no_grad():
        expected = net(torch.from_numpy(x), torch.from_numpy(features), torch.from_numpy(x + np.float32(0.01)))
    np.testing.assert_allclose(whole, expected.numpy(), atol=1e-6)


def test_reversed_pass_is_averaged_in(tmp_path: Path) -> None:
    x, context = captures()
    plain, both = denoiser(tmp_path), denoiser(tmp_path, tta_reverse=True)
    features = plain.loaded.film_scaling(context.features_BF)
    with torch.no_grad():
        args = [torch.from_numpy(part) for part in (x, features, x + np.float32(0.01))]
        expected = (plain.model(*args) + plain.model(*args, reverse=True)) / 2
    np.testing.assert_allclose(both.denoise(x, context), expected.numpy(), atol=1e-6)
    assert np.abs(both.denoise(x, context) - plain.denoise(x, context)).max() > 1e-6


def test_standard_error_is_the_base_scaled(tmp_path: Path) -> None:
    x, context = captures()
    expected = np.broadcast_to(0.002 * np.linspace(1, 2, L), x.shape)
    np.testing.assert_allclose(denoiser(tmp_path).standard_error(x, context), expected, rtol=1e-6)


def test_standard_error_without_a_base_is_the_stored_one(tmp_path: Path) -> None:
    x, context = captures()
    save_checkpoint(tmp_path / "b.pt", network(small(base="capture")), se_L=np.linspace(0.001, 0.002, L))
    found = load_denoiser(tmp_path / "b.pt").standard_error(x, context)
    np.testing.assert_allclose(found, np.broadcast_to(np.linspace(0.001, 0.002, L), x.shape), rtol=1e-6)


def test_nan_features_count_as_average(tmp_path: Path) -> None:
    x, context = captures()
    features = context.features_BF.copy()
    features[:, 3] = np.nan
    typical = features.copy()
    typical[:, 3] = checkpoints.PUBLISHED_DOSE_MEAN[3]
    one = denoiser(tmp_path)
    np.testing.assert_array_equal(
        one.denoise(x, Context(context.treatment, features)), one.denoise(x, Context(context.treatment, typical))
    )


def test_a_missing_base_filter_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", network(small(base="f")))
    with pytest.raises(BadInput, match=r"a\.pt: its base filter 'f' is missing"):
        load_denoiser(tmp_path / "a.pt")
    save_checkpoint(tmp_path / "a.pt", network(small(base="f")), base_state={"kind": "kalman"})
    with pytest.raises(BadInput, match=r"a\.pt: its linear filter cannot be read"):
        load_denoiser(tmp_path / "a.pt")


def test_captures_on_another_grid_are_refused(tmp_path: Path) -> None:
    x, context = captures()
    with pytest.raises(ValueError, match=r"expected captures \(B, 33\), got \(7, 32\)"):
        denoiser(tmp_path).denoise(x[:, :-1], context)


# --- with a real linear filter --------------------------------------------------------------------------------


def test_linear_filter_alone_and_under_a_network(tmp_path: Path, mini_corpus_root: Path) -> None:
    corpus = open_corpus(mini_corpus_root)
    rows = np.arange(0, len(corpus.spectra_NL), 7)
    x, context = corpus.spectra_NL[rows], corpus.context(rows)
    fitted = fit_lmmse(corpus, corpus.manifest("manifest_train").groups, calibrate=False)
    checkpoints.save_linear(tmp_path / "linear.pt", fitted.state())
    alone = load_denoiser(tmp_path / "linear.pt")
    expected = fitted.denoise(x, context)
    np.testing.assert_array_equal(alone.denoise(x, context), expected)

    plan = ModelPlan(d_model=8, n_layers=1, d_state=2, base="lmmse")
    factor = np.linspace(0.5, 1, len(corpus.wavelength_nm))
    untrained = MambaUV(plan, corpus.wavelength_nm)
    path = tmp_path / "network.pt"
    save_checkpoint(path, untrained, base_state=fitted.state(), dose_stats=corpus.dose_stats, se_scale_L=factor)
    above = load_denoiser(path)
    np.testing.assert_array_equal(above.denoise(x, context), expected.clip(0, 1))
    np.testing.assert_allclose(above.standard_error(x, context), fitted.standard_error(x, context) * factor, rtol=1e-5)

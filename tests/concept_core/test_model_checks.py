"""Every fault of a model folder, a registry or a configuration is one line that names the next step (T14)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from concept_core.config import read_config
from concept_core.models.registry import Registered, chosen_layers, open_model, read_registry, registered
from concept_core.plans import ConceptPlan, ModelPlan
from concept_core.steps import networks
from study_core.errors import BadInput

pytestmark = pytest.mark.concept
pytest.importorskip("transformers")


@pytest.fixture
def copied(house: Registered, tmp_path: Path) -> Registered:
    """The house model in a folder of the test's own."""
    assert house.folder is not None
    folder = tmp_path / "model"
    shutil.copytree(house.folder, folder)
    return house.model_copy(update={"folder": folder, "tokenizer": folder})


def refused(model: Registered) -> str:
    with pytest.raises(BadInput) as caught:
        open_model(model, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_says_where_to_get_it(copied: Registered) -> None:
    told = refused(copied.model_copy(update={"folder": Path("/nowhere/esm2_t6_8M")}))
    assert "model house_esm2: no folder /nowhere/esm2_t6_8M" in told
    assert "download it where there is a network" in told


def test_a_missing_tokenizer(copied: Registered) -> None:
    assert copied.folder is not None
    (copied.folder / "vocab.txt").unlink()
    assert "no tokenizer (vocab.txt)" in refused(copied)


def test_another_alphabet(copied: Registered) -> None:
    assert copied.folder is not None
    file = copied.folder / "vocab.txt"
    file.write_text(file.read_text().replace("L\nA", "A\nL"))
    assert "vocab.txt is not ESM-2's alphabet" in refused(copied)


def test_a_registry_of_another_size(copied: Registered) -> None:
    entry = copied.entry.model_copy(update={"hidden_size": 320})
    told = refused(copied.model_copy(update={"entry": entry}))
    assert "hidden_size: registry 320, config.json 64" in told


def test_weights_of_another_model(copied: Registered) -> None:
    assert copied.folder is not None
    file = copied.folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "num_hidden_layers": 5}))
    entry = copied.entry.model_copy(update={"num_layers": 5})
    told = refused(copied.model_copy(update={"entry": entry}))
    assert "weights do not fit config.json: missing_keys esm.encoder.layer.4." in told
    assert "more" in told


def test_weights_that_are_left_over(copied: Registered) -> None:
    from safetensors.torch import load_file, save_file

    assert copied.folder is not None
    file = copied.folder / "model.safetensors"
    tensors = load_file(file)
    tensors["adapter.weight"] = tensors["lm_head.bias"].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    assert "unexpected adapter.weight" in refused(copied)


def test_no_weights_and_torn_weights(copied: Registered) -> None:
    assert copied.folder is not None
    file = copied.folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert "weights do not load" in refused(copied)
    file.unlink()
    assert "no weights" in refused(copied)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_attention_heads": None}, "expected int, got NoneType"),
        ({"model_type": "bert"}, "model_type is 'bert', not 'esm'"),
        ({"position_embedding_type": "absolute"}, "weights do not fit config.json"),
    ],
)
def test_a_configuration_of_something_else(copied: Registered, changes: dict[str, object], told: str) -> None:
    assert copied.folder is not None
    file = copied.folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    assert told in refused(copied)
    file.write_text("[]")
    assert "no JSON object" in refused(copied)


def test_weights_that_run_code_are_no_numbers_or_a_pointer(copied: Registered) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    assert copied.folder is not None
    file = copied.folder / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.bias"][3] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})
    assert "not finite lm_head.bias" in refused(copied)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 31384696\n")
    assert "a Git LFS pointer, not the weights; git lfs pull" in refused(copied)
    file.unlink()
    torch.save({"code": Path("/")}, copied.folder / "pytorch_model.bin")
    assert "weights do not load (more than tensors)" in refused(copied)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_the_layout_of_the_published_files_opens_to_the_same_states(copied: Registered, kind: str) -> None:
    """They carry tensors of old that nothing reads any more, and each layer its own rotary frequencies."""
    import numpy as np
    import torch
    from safetensors.torch import load_file, save_file

    assert copied.folder is not None
    file, letters = copied.folder / "model.safetensors", ["ACDEFGHIKLMNPQRSTVWY"]
    before = open_model(copied, device="cpu").hidden_states(letters, [4])[0][4]
    tensors = {name: one for name, one in load_file(file).items() if not name.endswith("inv_freq")}
    frequencies = 1 / 10000 ** (torch.arange(0, 16, 2) / 16)
    rotary = "esm.encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"
    tensors |= {rotary.format(layer): frequencies.clone() for layer in range(4)}
    tensors |= {
        "esm.embeddings.position_ids": torch.arange(1026)[None].clone(),
        "esm.embeddings.position_embeddings.weight": torch.randn(1026, 64),
        "esm.contact_head.regression.weight": torch.randn(1, 16),
        "esm.contact_head.regression.bias": torch.zeros(1),
    }
    file.unlink()
    if kind == "bin":
        tied = {"lm_head.decoder.weight": tensors["esm.embeddings.word_embeddings.weight"]}
        torch.save({**tensors, **tied}, copied.folder / "pytorch_model.bin")
    else:
        save_file(tensors, file, metadata={"format": "pt"})
    after = open_model(copied, device="cpu").hidden_states(letters, [4])[0][4]
    assert np.allclose(before, after, atol=1e-6)


def test_a_registered_hash_is_checked(copied: Registered) -> None:
    entry = copied.entry.model_copy(update={"sha256": "0" * 64})
    assert "registered is 000000000000" in refused(copied.model_copy(update={"entry": entry}))


def test_a_folder_may_stand_for_a_registered_size(copied: Registered) -> None:
    entry = copied.entry.model_dump(mode="json") | {"family": "esm2", "checkpoint_path": "/nowhere"}
    assert copied.folder is not None
    registry = copied.folder.parent / "registry.yaml"
    registry.write_text(json.dumps({"models": {"small": entry}}))
    found = registered(registry, str(copied.folder))
    assert (found.name, found.folder) == ("small", copied.folder.resolve())
    plan = ConceptPlan(model=ModelPlan(name=str(copied.folder)))
    assert [one.name for one in networks(plan, registry)] == ["small", "small_untrained"]  # names of jobs and folders
    with pytest.raises(BadInput, match=r"no model 'large'.*one of small"):
        registered(registry, "large")
    (copied.folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"no config\.json to read"):
        registered(registry, str(copied.folder))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: {m: {hidden_size: 8, num_layers: 2, layers_to_extract: [3]}}", "row m: .*no layer 3: layers are 0"),
        ("models: {m: {hidden_size: 8, num_layers: 2, layers_to_extract: [0]}}", "layer 0 is a control"),
        ("models: {m: {hidden: 8, num_layers: 2, layers_to_extract: [1]}}", "row m: hidden"),
        ("models: []", "holds no models"),
        ("a: [", "not YAML"),
    ],
)
def test_a_registry_that_cannot_be_read(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=told):
        read_registry(file)


def test_layers_of_a_plan(house: Registered) -> None:
    assert chosen_layers(ModelPlan(layers=(4, 1)), house.entry) == (1, 4)
    with pytest.raises(BadInput, match="no layer 9"):
        chosen_layers(ModelPlan(layers=(9,)), house.entry)
    with pytest.raises(ValueError, match="layer above 0"):
        ModelPlan(layers=(0,))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modell: {}", "no section 'modell'; sections are model, data"),
        ("cav: {pcaa: 3}", "no option cav.pcaa; options are pca, C"),
        ("data: {concept: {patern: x}}", "no option data.concept.patern; options are name, pattern"),
        ("cav: {pca: many}", "cav.pca: .*integer"),
        ("paths: {positive: a}", "paths"),
        ("[1, 2]", "holds no sections"),
    ],
)
def test_a_configuration_that_cannot_be_read(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=told):
        read_config(file)


def test_paths_are_beside_the_file_and_a_swapped_model_leaves_its_twin(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "model: {name: a, layers: [1], concept_free: b}\nembedding: {context: 96, overlap: 9}\n"
        "paths: {positives: p.jsonl, negatives: n.jsonl}\n"
    )
    config = read_config(file)
    assert config.paths.positives == tmp_path / "p.jsonl"
    assert config.plan.model.concept_free == "b"
    swapped = read_config(file, model="c").plan
    assert swapped.model == ModelPlan(name="c")
    assert (swapped.embedding.context, swapped.embedding.overlap) == (None, 9)
    assert read_config(file, model="a").plan.embedding.context == 96
    assert read_config(file).plan.cav == ConceptPlan().cav

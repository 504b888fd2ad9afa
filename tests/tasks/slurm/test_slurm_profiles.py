"""Profiles: defaults <- site <- class <- tenant's stage <- site's word on it; errors that say what would be valid."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
import yaml
from dispatch_lab import site_file

from tasks.slurm import site_files
from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.profiles import TEMPLATES, BadProfile, load_profile, profile_names
from tasks.slurm.site_files import tenant_stages


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_has_both_classes_and_every_tenants_stages(name: str) -> None:
    stages = load_profile(name).stages
    assert set(stages) == {"gpu", "cpu", *tenant_stages()}
    assert all(
        resources.gpus == 0
        for stage, resources in stages.items()
        if tenant_stages().get(stage, {}).get("class") == "cpu"
    )


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_site_file_names_no_stage_of_a_tenant(path: Path) -> None:
    named = set(yaml.safe_load(path.read_text()).get("stages") or ())
    assert named <= ({"*", "denoise/train"} if path.stem == "example" else {"*"})


def test_the_example_for_a_stranger_is_among_them() -> None:
    assert {"a100", "local", "slurm-dev", "example"} <= set(profile_names())


@pytest.fixture
def tenants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tenants with a stage of the same name, and one each of its own."""
    for tenant, text in {
        "words": 'train: {class: gpu, time: "09:00:00"}\nread: {class: cpu}\n',
        "songs": 'train: {class: cpu, time: "03:00:00"}\nhear: {class: cpu, gres: "gpu:1"}\n',
    }.items():
        (tmp_path / "tasks" / tenant).mkdir(parents=True)
        (tmp_path / "tasks" / tenant / "stages.yaml").write_text(text)
    monkeypatch.setattr(site_files, "TENANTS", tmp_path / "tasks")
    return tmp_path / "tasks"


def test_each_floor_goes_over_the_one_below(tmp_path: Path, tenants: Path) -> None:
    path = site_file(
        tmp_path,
        "partition: long\ngres: gpu:1\ncpus: 4\nclasses: {cpu: {partition: short, time: '00:10:00'}}\n"
        "stages: {'*': {qos: low}, train: {memory: 1GB}, songs/train: {memory: 2GB}, hear: {time: '00:30:00'}}\n",
    )
    profile = load_profile(path)
    told = {name: (one.partition, one.gres, one.time, one.memory) for name, one in profile.stages.items()}
    assert told == {
        "gpu": ("long", "gpu:1", "01:00:00", "4GB"),  # time and memory of defaults.yaml
        "cpu": ("short", None, "00:10:00", "4GB"),
        "words/train": ("long", "gpu:1", "09:00:00", "1GB"),
        "words/read": ("short", None, "00:10:00", "4GB"),
        "songs/train": ("short", None, "03:00:00", "2GB"),
        "songs/hear": ("short", "gpu:1", "00:30:00", "4GB"),
    }
    assert {one.qos for one in profile.stages.values()} == {"low"}
    assert {one.cpus for one in profile.stages.values()} == {4}
    assert load_profile(profile.name) == profile  # whoever reads the name in a journal finds the file again


def test_a_bare_name_is_the_stage_of_the_one_tenant_that_has_it(tmp_path: Path, tenants: Path) -> None:
    profile = load_profile(site_file(tmp_path, ""))
    assert profile.named("read") == ["words/read"]
    assert profile.named("songs/cpu") == ["cpu"], "a class is a stage of every tenant"
    assert sorted(profile.named("train")) == ["songs/train", "words/train"]
    with pytest.raises(BadProfile, match="songs/train or words/train"):
        profile.section("train")
    with pytest.raises(BadProfile, match=r"name it in tasks/words/stages.yaml"):
        profile.section("words/hear")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("read: {time: '01:00:00'}\n", "class: gpu or cpu, found None"),
        ("read: {class: tpu}\n", "class: gpu or cpu, found 'tpu'"),
        ("read: {class: cpu, tmie: '1'}\n", "did you mean 'time'"),
        ("read: {class: cpu, time: soon}\n", "not a Slurm time"),
        ("read: [cpu]\n", "expected keys and values"),
        ("- read\n", "expected keys and values"),
    ],
)
def test_a_bad_file_of_a_tenant_is_named(tmp_path: Path, tenants: Path, text: str, says: str) -> None:
    (tenants / "words" / "stages.yaml").write_text(text)
    with pytest.raises(BadProfile, match=says) as error:
        load_profile(site_file(tmp_path, ""))
    assert str(tenants / "words" / "stages.yaml") in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("partitoin: gpu\n", "did you mean 'partition'"),
        ("partitoin: gpu\n", "valid: account, accounting"),
        ("stages: {trian: {}}\n", "did you mean 'train'"),
        ("classes: {gpus: {}}\n", "did you mean 'gpu'"),
        ("classes: {gpu: {tmie: '1'}}\n", "did you mean 'time'"),
        ("stages: {train: 1}\n", "expected keys and values"),
        ("stages: {train: {tmie: '1'}}\n", "did you mean 'time'"),
        ("time: 24:00:00\n", "in quotes"),
        ("time: 'soon'\n", "not a Slurm time"),
        ("memory: lots\n", "64GB"),
        ("cpus: 0\n", "cpus"),
        ("cpus: '4'\n", "cpus"),
        ("executor: pbs\n", "executor"),
        ("- a\n- b\n", "expected keys and values"),
        ("a: [\n", "not YAML"),
    ],
)
def test_a_bad_profile_names_file_key_and_what_is_valid(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadProfile) as error:
        load_profile(site_file(tmp_path, text))
    assert says in str(error.value)
    assert "site.yaml" in str(error.value)


def test_an_unknown_name_lists_the_profiles() -> None:
    with pytest.raises(BadProfile, match="slurm-dev"):
        load_profile("slurmdev")


def test_an_unknown_stage_lists_the_stages() -> None:
    with pytest.raises(BadProfile, match=r"stages: .*cpu, .*denoise/train, .*gpu"):
        load_profile("local").section("training")


def test_only_allowed_variables_reach_a_job(tmp_path: Path) -> None:
    profile = load_profile(site_file(tmp_path, "environment: [PATH, 'LC_*']\nvariables: {MODE: fast}\n"))
    seen = profile.exported("gpu", {"PATH": "/bin", "LC_ALL": "C", "API_TOKEN": "canary", "LCX": "no"})
    assert seen == {"PATH": "/bin", "LC_ALL": "C", "MODE": "fast"}


def test_the_text_of_a_dry_run(tmp_path: Path) -> None:
    path = site_file(
        tmp_path,
        "partition: gpu\naccount: lab\nqos: high\ngres: gpu:a100:1\nconstraint: a100-80g\ntime: '1-00:00:00'\n"
        "memory: 64GB\ncpus: 8\nsetup: ['module load cuda/12.4']\nscratch: $SLURM_TMPDIR\nextra: {nice: 10}\n",
    )
    dispatcher = Dispatcher(load_profile(path), tmp_path / "a root")
    text = dispatcher.dry_run([JobSpec("train-fold-02", "slurm_jobs:train", {"steps": 3})])
    lines = text.splitlines()
    for wanted in (
        "#SBATCH --partition=gpu",
        "#SBATCH --account=lab",
        "#SBATCH --qos=high",
        "#SBATCH --gres=gpu:a100:1",
        "#SBATCH --constraint=a100-80g",
        "#SBATCH --time=1-00:00:00",
        "#SBATCH --mem=64GB",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --nice=10",
        "#SBATCH --signal=USR2@90",
        "#SBATCH --requeue",
        "module load cuda/12.4",
        'export TMPDIR="$SLURM_TMPDIR"',
    ):
        assert wanted in lines
    assert any(line.startswith("#SBATCH --job-name=train-fold-02.") for line in lines)
    assert lines.index("module load cuda/12.4") < next(n for n, line in enumerate(lines) if line.startswith("srun"))
    assert not list((tmp_path / "a root" / "submissions").iterdir())
    assert not list((tmp_path / "a root" / "code").iterdir())


def test_a_dry_run_of_an_array_is_split_like_the_array(tmp_path: Path) -> None:
    profile = load_profile("slurm-dev").model_copy(update={"max_array_size": 4})
    specs = [JobSpec(f"fold-{n}", "slurm_jobs:echo", {"n": n}) for n in range(9)]
    text = Dispatcher(profile, tmp_path).dry_run(specs, array=True)
    assert text.count("#!/bin/bash") == 3
    assert "#SBATCH --array=0-3%4" in text
    assert text.count("--array=") == 2  # the last one is alone: an ordinary job


def test_the_cap_of_a_profile_is_the_cap_of_its_arrays(tmp_path: Path) -> None:
    profile = load_profile("slurm-dev").model_copy(update={"max_parallel": 2})
    specs = [JobSpec(f"fold-{n}", "slurm_jobs:echo", {"n": n}) for n in range(5)]
    assert "#SBATCH --array=0-4%2" in Dispatcher(profile, tmp_path).dry_run(specs, array=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nodes: 2\n", "distributed: torchrun"),
        ("stages: {train: {nodes: 4}}\n", "stage denoise/train"),
        ("classes: {gpu: {nodes: 4}}\n", "stage gpu"),
        ("extra: {ntasks: 2}\n", "runs once"),
        ("extra: {ntask: 2}\n", "runs once"),
        ("extra: {array: 0-3}\n", "array: the dispatcher's own"),
        ("classes: {cpu: {extra: {job-n: mine}}}\n", "job-n: the dispatcher's own"),
        ('partition: "gpu\\n#SBATCH --wrap=x"\n', "control characters"),
        ('qos: ""\n', "leave the key out"),
        ('extra: {comment: "a\\nrm -rf ~"}\n', "one line"),
        ('extra: {"a b": x}\n', "lower-case name"),
        ('variables: {"A;B": x}\n', "no name of a variable"),
    ],
)
def test_what_would_start_two_writers_or_more_lines_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadProfile) as error:
        load_profile(site_file(tmp_path, text))
    assert says in str(error.value)


@pytest.mark.parametrize("name", ["a b", "it's", "50%", "semi;colon", "$HOME", "ü", "a\nb"])
def test_a_folder_of_any_name_is_one_word_of_the_script_or_refused(tmp_path: Path, name: str) -> None:
    path = site_file(tmp_path, "executor: slurm\npython: /bin/python3\n")
    dispatcher = Dispatcher(load_profile(path), tmp_path / name / "root")
    if name == "a\nb":
        with pytest.raises(ValueError, match="control characters"):
            dispatcher.dry_run([JobSpec("job", "slurm_jobs:echo")])
        return
    script = dispatcher.dry_run([JobSpec("job", "slurm_jobs:echo")])
    (srun,) = [shlex.split(line) for line in script.splitlines() if line.startswith("srun")]
    assert Path(srun[-1]).parent == tmp_path / name / "root" / "submissions"
    assert srun[-2] == "tasks.slurm.runner"


def test_a_distributed_stage_starts_a_rank_a_gpu(tmp_path: Path) -> None:
    path = site_file(tmp_path, "classes: {gpu: {nodes: 2, gres: 'gpu:a100:4', distributed: torchrun}}\n")
    text = Dispatcher(load_profile(path), tmp_path / "root").dry_run([JobSpec("ddp", "slurm_jobs:echo")])
    assert "#SBATCH --nodes=2" in text
    assert "#SBATCH --ntasks-per-node=4" in text
    assert "--kill-on-bad-exit=1" in text
    assert "export MASTER_ADDR=" in text


def test_srun_binds_as_many_cpus_as_were_asked_for(tmp_path: Path) -> None:
    text = Dispatcher(load_profile("a100"), tmp_path).dry_run([JobSpec("job", "slurm_jobs:echo")])
    (srun,) = [line for line in text.splitlines() if line.startswith("srun")]
    assert "--cpus-per-task=8" in srun


def test_a_profile_that_others_may_write_is_not_read(tmp_path: Path) -> None:
    path = site_file(tmp_path, "setup: ['touch /tmp/owned']\n")
    assert load_profile(path).resources.setup
    path.chmod(0o666)
    with pytest.raises(BadProfile, match="written by other users"):
        load_profile(path)
    path.chmod(0o644)
    if os.getuid() == 0:
        os.chown(path, 65534, -1)
        with pytest.raises(BadProfile, match="another user"):
            load_profile(path)


def test_nor_is_the_defaults_file_beside_it(tmp_path: Path) -> None:
    """Whoever gives the profile of his own, or a link to a shipped one, in a folder of several users."""
    foreign = tmp_path / "defaults.yaml"
    foreign.write_text("executor: slurm\nsetup: ['touch /tmp/owned']\n")
    link = tmp_path / "link.yaml"
    link.symlink_to(TEMPLATES / "slurm-dev.yaml")
    for path in (site_file(tmp_path, "cpus: 1\n"), link, tmp_path / ".." / tmp_path.name / "link.yaml"):
        foreign.chmod(0o666)
        with pytest.raises(BadProfile, match=r"defaults\.yaml can be written by other users"):
            load_profile(path)
        foreign.chmod(0o600)
        assert load_profile(path).resources.setup


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "a b", "$HOME"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(BadProfile, match="no profile"):
        load_profile(name)


def test_a_form_takes_names_alone(tmp_path: Path) -> None:
    assert load_profile("local", paths=False).name == "local"
    with pytest.raises(BadProfile, match="only names"):
        load_profile(site_file(tmp_path, "cpus: 1\n"), paths=False)


def test_options_of_slurms_commands_reach_no_job(tmp_path: Path) -> None:
    profile = load_profile(site_file(tmp_path, "environment: ['*']\nvariables: {SLURM_EXPORT_ENV: ALL}\n"))
    seen = profile.exported("gpu", {"PATH": "/bin", "SBATCH_PARTITION": "x", "SLURM_CONF": "/c", "SQUEUE_USERS": "u"})
    assert seen == {"PATH": "/bin", "SLURM_CONF": "/c", "SLURM_EXPORT_ENV": "ALL"}


def test_memory_may_be_left_to_the_site(tmp_path: Path) -> None:
    profile = load_profile(site_file(tmp_path, "memory: null\n"))
    text = Dispatcher(profile, tmp_path / "root").dry_run([JobSpec("job", "slurm_jobs:echo")])
    assert "--mem" not in text
    assert profile.section("gpu").memory_bytes is None


def test_compiled_kernels_are_cached_on_the_nodes_scratch(tmp_path: Path) -> None:
    text = Dispatcher(load_profile("a100"), tmp_path).dry_run([JobSpec("job", "slurm_jobs:echo")])
    assert 'TRITON_CACHE_DIR="$TMPDIR/triton' in text
    assert 'TORCHINDUCTOR_CACHE_DIR="$TMPDIR/inductor' in text
    assert text.index("mkdir -p") < text.index("TRITON_CACHE_DIR") < text.index("\nsrun")


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        (None, 0), ("gpu", 1), ("gpu:a100", 1), ("gpu:a100:4", 4), ("gres/gpu:2", 2), ("gpu:a100:2,nvme:1", 2),
        ("nvme:100,gpu:2", 2), ("gpu:a100:1,gpu:v100:1", 2), ("gpus_of_old:3", 0),
    ],
)  # fmt: skip
def test_gpus_are_counted_beside_other_resources(gres: str | None, gpus: int) -> None:
    assert load_profile("slurm-dev").section("gpu").model_copy(update={"gres": gres}).gpus == gpus

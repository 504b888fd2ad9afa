"""Containers of a profile: what goes around the interpreter, what gets in, and which image a job's identity names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dispatch_lab import site_file

from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.profiles import BadProfile, load_profile


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        (
            "apptainer",
            "apptainer exec --nv --bind {root} --bind /scratch --bind /data:/d {image} python3 -P -u -m tasks.slurm",
        ),
        (
            "charliecloud",
            "ch-run --bind={root}:{root} --bind=/scratch:/scratch --bind=/data:/d {image} -- python3 -P -u -m tasks",
        ),
        (
            "pyxis",
            "--container-image={image} --container-mounts={root}:{root},/scratch:/scratch,/data:/d --container-env="
            "PYTHONPATH,PYTHONDONTWRITEBYTECODE,PYTHONNOUSERSITE,TMPDIR,TRITON_CACHE_DIR,TORCHINDUCTOR_CACHE_DIR,"
            "CUDA_CACHE_PATH,MODEL /usr/bin/env python3 -P -u -m tasks.slurm",
        ),
    ],
)
def test_a_container_goes_around_the_interpreter(tmp_path: Path, runtime: str, words: str) -> None:
    image, root = tmp_path / "image", tmp_path / "root"
    image.write_bytes(b"layers")
    text = (
        "gres: gpu:1\npython: python3\nscratch: /scratch/$SLURM_JOB_ID\nvariables: {MODEL: x}\n"
        f"container: {{runtime: {runtime}, image: {image}, mounts: ['/data:/d']}}\n"
    )
    dispatcher = Dispatcher(load_profile(site_file(tmp_path, text)), root)
    script = dispatcher.dry_run([JobSpec("job", "slurm_jobs:echo")])
    assert words.format(root=root, image=image) in script
    assert "export PYTHONNOUSERSITE=1" in script  # ~/.local of the host is no part of the image
    # the image's own value wins over the host's, says apptainer's manual, but not over this
    assert ('APPTAINERENV_PYTHONPATH="$PYTHONPATH"' in script) == (runtime == "apptainer")


@pytest.mark.parametrize("runtime", ["apptainer", "pyxis"])
def test_every_variable_that_the_script_sets_gets_into_the_image(tmp_path: Path, runtime: str) -> None:
    """One that somebody adds to the script alone would lose to the image's own."""
    image = tmp_path / "image"
    image.write_bytes(b"layers")
    text = (
        f"container: {{runtime: {runtime}, image: {image}}}\nscratch: /scratch\n"
        "classes: {gpu: {nodes: 2, gres: 'gpu:2', distributed: torchrun}}\n"
    )
    script = Dispatcher(load_profile(site_file(tmp_path, text)), tmp_path).dry_run([JobSpec("job", "slurm_jobs:echo")])
    exports = " ".join(line for line in script.splitlines() if line.startswith("export "))
    told = set(re.findall(r"APPTAINERENV_(\w+)=", script))
    if runtime == "pyxis":
        told = set(re.findall(r"--container-env=([\w,]+)", script)[0].split(","))
    mine = set(re.findall(r"\b(?!APPTAINERENV_)([A-Z_]+)=", exports)) - {
        "USER",
        "SUBMITIT_EXECUTOR",
    }  # the node's, and submitit's own
    assert {"PYTHONPATH", "TMPDIR", "MASTER_ADDR"} < mine
    assert mine == told


@pytest.mark.parametrize(
    ("runtime", "image", "rendered"),
    [
        ("pyxis", "nvcr.io#nvidia/pytorch@{digest}", "nvcr.io#nvidia/pytorch:{digest}"),
        ("pyxis", "host:5000#team/net:1.2@{digest}", "host:5000#team/net:{digest}"),
        ("apptainer", "docker://alpine:3@{digest}", "docker://alpine@{digest}"),
    ],
)
def test_a_registrys_digest_is_asked_for_as_the_runtime_reads_it(
    tmp_path: Path, runtime: str, image: str, rendered: str
) -> None:
    """enroot 3 takes what stands before an @ for a user's name; no library takes a tag and a digest."""
    digest = f"sha256:{'ab' * 32}"
    text = f"container: {{runtime: {runtime}, image: '{image.format(digest=digest)}'}}\n"
    script = Dispatcher(load_profile(site_file(tmp_path, text)), tmp_path).dry_run([JobSpec("job", "slurm_jobs:echo")])
    assert f"{rendered.format(digest=digest)} " in script.replace("'", "")


def _key(folder: Path, container: str = "") -> str:
    """The job's key, as its script bears it."""
    dispatcher = Dispatcher(load_profile(site_file(folder, f"container: {{{container}}}\n" * bool(container))), folder)
    (line,) = [
        one for one in dispatcher.dry_run([JobSpec("job", "slurm_jobs:echo")]).splitlines() if "--comment" in one
    ]
    return line


@pytest.mark.parametrize("runtime", ["apptainer", "pyxis", "charliecloud"])
def test_the_images_bytes_are_part_of_a_jobs_identity_and_its_path_is_not(tmp_path: Path, runtime: str) -> None:
    """A file for apptainer and pyxis, an unpacked folder for charliecloud."""
    keys = {"": _key(tmp_path)}
    for name, content in (("here", "one"), ("there", "one"), ("here", "another")):
        image = tmp_path / name
        if runtime == "charliecloud":
            (image / "etc").mkdir(parents=True, exist_ok=True)
            (image / "bin").unlink(missing_ok=True)
            (image / "bin").symlink_to(f"usr/{content}")
            image = image / "etc"
        (image / "os-release" if image.is_dir() else image).write_text(content)
        keys[f"{name}, {content}"] = _key(tmp_path, f"runtime: {runtime}, image: {tmp_path / name}")
    assert keys["here, one"] == keys["there, one"]
    assert len(set(keys.values())) == 3


def test_a_link_of_an_unpacked_image_counts(tmp_path: Path) -> None:
    """Which of two interpreters /usr/bin/python3 is, a link alone says; where it leads outside nothing is read."""
    keys = set()
    for target in ("python3.11", "python3.12", "/etc/shadow"):
        (tmp_path / "image").mkdir(exist_ok=True)
        (tmp_path / "image" / "python3").unlink(missing_ok=True)
        (tmp_path / "image" / "python3").symlink_to(target)
        keys.add(_key(tmp_path, f"runtime: charliecloud, image: {tmp_path / 'image'}"))
    assert len(keys) == 3


def test_a_registrys_digest_is_the_identity_whatever_the_registry_is_called(tmp_path: Path) -> None:
    one, other = f"sha256:{'ab' * 32}", f"sha256:{'cd' * 32}"
    images = (f"nvcr.io#nvidia/pytorch@{one}", f"mirror.example.org#pytorch@{one}", f"nvcr.io#nvidia/pytorch@{other}")
    keys = [_key(tmp_path, f"runtime: pyxis, image: '{image}'") for image in images]
    assert keys[0] == keys[1]
    assert keys[1] != keys[2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("container: {runtime: docker, image: x}\n", "runtime"),
        ("container: {runtime: apptainer}\n", "image"),
        ("container: {runtime: apptainer, image: 'a,b'}\n", "comma"),
        (f"container: {{runtime: charliecloud, image: 'x@sha256:{'a' * 64}'}}\n", "unpacked folder"),
        (f"container: {{runtime: apptainer, image: 'x@sha256:{'a' * 64}'}}\n", "docker://NAME"),
    ],
)
def test_a_bad_container_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadProfile, match=says):
        load_profile(site_file(tmp_path, text))


def test_an_image_that_nothing_pins_is_refused_before_anything_is_submitted(tmp_path: Path) -> None:
    digest = f"sha256:{'ab' * 32}"
    for image, good in ((f"nvcr.io#nvidia/pytorch@{digest}", True), ("nvcr.io#nvidia/pytorch:25.01", False)):
        text = f"container: {{runtime: pyxis, image: '{image}'}}\n"
        dispatcher = Dispatcher(load_profile(site_file(tmp_path, text)), tmp_path / "root")
        if good:
            assert digest in dispatcher.dry_run([JobSpec("job", "slurm_jobs:echo")])
        else:
            with pytest.raises(ValueError, match="pin"):
                dispatcher.dry_run([JobSpec("job", "slurm_jobs:echo")])

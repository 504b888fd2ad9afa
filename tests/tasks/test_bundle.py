"""The auditor's bundle finds whatever was done to it, and names the line or the file."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import signing
from tasks.attestation import README, SIGNER, STATEMENT
from tasks.audit_log import HEAD, LOG, AuditLog
from tasks.bundle import DOCUMENTS as DOCUMENTS_READ
from tasks.bundle import OWN, STAMP, SUMS, main, verify, write_bundle
from tasks.cli import main as cli
from tasks.crate import METADATA
from tasks.model_card import CARD

DOCUMENTS = {"validation_panel_audit_results.md": "# Results\n", "dose_metadata_documentation.md": "# Dose\n"}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder: a log of five lines and some files, weights among them."""
    folder = tmp_path / "a run"
    files = {
        "verdict.json": '{"score": 50.2}\n',
        "plan.json": "{}\n",
        "manifests/validation_panel.csv": "relative_path\na/rep_000.npy\na/rep_001.npy\n",
        "final_analytics/panel_eval/panel_eval_summary.json": "{}\n",
        "final_analytics/panel_eval/best_panel_preds/a/rep_000_denoised.npy": "numbers",
        "checkpoints/god_run/best.pt": "weights" * 1000,
        "logs/god_run/tensorboard/events.out.tfevents.1": "events",
        "logs/god_run/metrics.csv": "epoch\n0\n",
        "report.html": "<p>passed</p>\n",
        ".hidden": "half-written",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for number in range(5):
        AuditLog(folder).append("event", f"line {number}", number=number)
    return folder


@pytest.fixture
def unpacked(run_folder: Path, tmp_path: Path) -> Path:
    bundle = write_bundle(run_folder, DOCUMENTS, tmp_path / "auditors_bundle.zip")
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def mend_sums(folder: Path) -> None:
    """What a careful forger does: checksums that fit the changed files."""
    names = [line.split("  ", 1)[1] for line in (folder / SUMS).read_text().splitlines()]
    kept = [name for name in names if (folder / name).exists()]
    done = subprocess.run(["sha256sum", *kept], cwd=folder, capture_output=True, text=True, check=True)
    (folder / SUMS).write_text(done.stdout)


def edit_log(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = (folder / LOG).read_text().splitlines()
    (folder / LOG).write_text("\n".join(change(lines)) + "\n")


def test_untouched_bundle_verifies(run_folder: Path, unpacked: Path, tmp_path: Path) -> None:
    assert verify(tmp_path / "auditors_bundle.zip") == []
    assert verify(unpacked) == []
    assert main(["verify", str(unpacked), str(tmp_path / "auditors_bundle.zip")]) == 0


def test_it_holds_everything_but_weights(unpacked: Path) -> None:
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert names == {
        *DOCUMENTS, *(OWN - {STAMP}), SIGNER, README, CARD, METADATA, "verdict.json", "plan.json", "report.html",
        "manifests/validation_panel.csv", "logs/god_run/metrics.csv",
        "final_analytics/panel_eval/panel_eval_summary.json",
        "final_analytics/panel_eval/best_panel_preds/a/rep_000_denoised.npy",
    }  # fmt: skip


def test_coreutils_read_the_checksums(unpacked: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "--strict", SUMS], cwd=unpacked, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    listed = done.stdout.count(": OK")
    assert listed == sum(path.is_file() for path in unpacked.rglob("*")) - 1


def test_equal_content_gives_equal_bytes(run_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    first, second = (
        zipfile.ZipFile(write_bundle(folder, DOCUMENTS, folder / "b.zip")) for folder in (run_folder, copy)
    )
    same = [name for name in first.namelist() if name not in OWN]
    assert first.namelist() == second.namelist()
    for name in same:
        assert first.getinfo(name).date_time == second.getinfo(name).date_time == (1980, 1, 1, 0, 0, 0)
        assert first.read(name) == second.read(name)


def test_writing_it_again_leaves_the_old_one_out(run_folder: Path) -> None:
    write_bundle(run_folder, DOCUMENTS, run_folder / "auditors_bundle.zip")
    again = write_bundle(run_folder, DOCUMENTS, run_folder / "auditors_bundle.zip")
    assert verify(again) == []
    assert not [name for name in zipfile.ZipFile(again).namelist() if name.endswith(".zip")]


def test_log_that_goes_on_does_not_spoil_the_bundle(run_folder: Path, tmp_path: Path) -> None:
    bundle = write_bundle(run_folder, DOCUMENTS, tmp_path / "b.zip")
    AuditLog(run_folder).append("closed", "shipped")
    assert verify(bundle) == []


def test_bundle_written_while_others_append(run_folder: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def append() -> None:
        while not stop.is_set():
            AuditLog(run_folder).append("noise", "from another thread")

    writer = threading.Thread(target=append)
    writer.start()
    try:
        problems = [verify(write_bundle(run_folder, DOCUMENTS, tmp_path / "b.zip")) for _ in range(10)]
    finally:
        stop.set()
        writer.join()
    assert problems == [[]] * 10


# ---- the log ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", range(6))
def test_changed_line_is_named(unpacked: Path, line: int) -> None:
    def change(lines: list[str]) -> list[str]:
        record = json.loads(lines[line])
        record["text"] += "."
        return [*lines[:line], json.dumps(record, sort_keys=True), *lines[line + 1 :]]

    edit_log(unpacked, change)
    mend_sums(unpacked)
    assert any(problem.startswith(f"{LOG} line {line + 1}: the record was changed") for problem in verify(unpacked))
    assert main(["verify", str(unpacked)]) == 1


@pytest.mark.parametrize("line", range(6))
def test_dropped_line_is_named(unpacked: Path, line: int) -> None:
    edit_log(unpacked, lambda lines: lines[:line] + lines[line + 1 :])
    mend_sums(unpacked)
    assert any(problem.startswith(f"{LOG} line {line + 1}: ") for problem in verify(unpacked))


@pytest.mark.parametrize("line", range(5))
def test_reordered_lines_are_named(unpacked: Path, line: int) -> None:
    edit_log(unpacked, lambda lines: [*lines[:line], lines[line + 1], lines[line], *lines[line + 2 :]])
    mend_sums(unpacked)
    assert any(problem.startswith(f"{LOG} line {line + 1}: does not follow") for problem in verify(unpacked))


def test_repeated_line_is_named(unpacked: Path) -> None:
    edit_log(unpacked, lambda lines: [*lines[:3], lines[2], *lines[3:]])
    mend_sums(unpacked)
    assert any(problem.startswith(f"{LOG} line 4: does not follow") for problem in verify(unpacked))


def test_log_made_anew_with_its_head_still_needs_its_evidence(unpacked: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    for number in range(6):
        AuditLog(forged).append("event", f"line {number}")
    for name in (LOG, HEAD):
        shutil.copy(forged / name, unpacked / name)
    mend_sums(unpacked)
    assert verify(unpacked) == [
        f"{LOG}: no line records the bundle's files",
        f"{STATEMENT}: {LOG} line 6 is not the record that was signed: the log was cut or made anew",
    ]


@pytest.mark.parametrize("garbage", [b"\xff\xfe", b"{}\n"])
def test_garbage_in_the_log_is_a_finding(unpacked: Path, garbage: bytes) -> None:
    data = (unpacked / LOG).read_bytes().splitlines(keepends=True)
    (unpacked / LOG).write_bytes(b"".join([*data[:2], garbage, *data[2:]]))
    assert any(problem.startswith(f"{LOG} line 3: not") for problem in verify(unpacked))


@pytest.mark.parametrize("head", ["", "[]", "{}"])
def test_spoilt_head_is_a_finding(unpacked: Path, head: str) -> None:
    (unpacked / HEAD).write_text(head)
    mend_sums(unpacked)
    assert any(HEAD in problem for problem in verify(unpacked))


# ---- the signature ---------------------------------------------------------------------------------------


def test_a_bundle_made_anew_by_somebody_else_is_not_believed(
    run_folder: Path, unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything fits in itself: files, checksums, chain, signature. Only the key is another."""
    own = signing.own_key()
    (tmp_path / "own.pem").write_text(own.pem)
    (run_folder / "verdict.json").write_text('{"score": 99.9}\n')
    with monkeypatch.context() as forger:
        forger.setenv("GATED_KEY", str(tmp_path / "forger.pem"))
        forger.setenv("GATED_ANCHOR", str(tmp_path / "anchors.jsonl"))
        forged = write_bundle(run_folder, DOCUMENTS, tmp_path / "forged.zip")
        assert verify(forged) == []
        other = signing.own_key()
    told = f"{STATEMENT}: signed by key {other.short}, not by one that is believed here ({own.short})"
    assert verify(forged) == [told]
    assert main(["verify", "--key", str(tmp_path / "own.pem"), str(forged)]) == 1
    assert main(["verify", "--key", str(tmp_path / "own.pem"), str(tmp_path / "auditors_bundle.zip")]) == 0


def test_an_unsigned_bundle_says_so(unpacked: Path) -> None:
    (unpacked / STATEMENT).unlink()
    mend_sums(unpacked)
    assert verify(unpacked) == [f"{STATEMENT} is missing: nobody signed this verdict"]


def test_who_has_no_key_is_asked_for_one(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "none.pem"))
    assert main(["verify", str(unpacked)]) == 1
    assert "no key was named" in capsys.readouterr().out
    assert not (tmp_path / "none.pem").exists()


def test_the_statement_is_in_toto_and_names_files_and_log(unpacked: Path) -> None:
    signed = signing.opened(json.loads((unpacked / STATEMENT).read_text()), signing.believed())
    statement = signed.statement
    assert signed.problem == ""
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert statement["predicate"]["result"] == "FAILED", "no gates: silence refuses, and a refusal is signed too"
    digests = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert digests["report.html"] == hashlib.sha256((unpacked / "report.html").read_bytes()).hexdigest()
    evidence = json.loads((unpacked / LOG).read_text().splitlines()[5])
    assert digests[f"{LOG}#5"] == evidence["sha256"]


# ---- the files -------------------------------------------------------------------------------------------

PANEL = "manifests/validation_panel.csv"


def test_changed_file_is_named(unpacked: Path) -> None:
    (unpacked / PANEL).write_text("relative_path\na/rep_001.npy\na/rep_000.npy\n")
    problems = verify(unpacked)
    assert any(problem.startswith(f"{PANEL}: changed") for problem in problems)
    assert f"{PANEL}: is not the file that {LOG} line 6 recorded" in problems


def test_swapped_file_with_mended_checksums_is_named(unpacked: Path) -> None:
    (unpacked / PANEL).write_text("relative_path\neasy/rep_000.npy\n")
    mend_sums(unpacked)
    found = verify(unpacked)
    assert found[0] == f"{PANEL}: is not the file that {LOG} line 6 recorded"
    assert found[1].startswith(f"{STATEMENT}: {PANEL} is not the file that was signed")


def test_removed_file_is_named(unpacked: Path) -> None:
    (unpacked / "verdict.json").unlink()
    assert "verdict.json: missing" in verify(unpacked)
    mend_sums(unpacked)
    assert verify(unpacked) == [f"verdict.json: missing, though {LOG} line 6 recorded it"]


def test_added_file_is_named(unpacked: Path) -> None:
    (unpacked / "verdict_2.json").write_text("{}")
    assert "verdict_2.json: not part of the bundle" in verify(unpacked)
    with open(unpacked / SUMS, "a", encoding="utf-8") as sums:
        sums.write(f"{'0' * 64}  verdict_2.json\n")
    mend_sums(unpacked)
    assert verify(unpacked) == [f"verdict_2.json: is no file that {LOG} line 6 recorded"]


@pytest.mark.parametrize("name", [SUMS, LOG, HEAD])
def test_missing_guard_is_a_finding(unpacked: Path, name: str) -> None:
    (unpacked / name).unlink()
    assert any(name in problem for problem in verify(unpacked))


@pytest.mark.parametrize("text", ["", "nonsense\n", "abc  verdict.json\n"])
def test_spoilt_checksums_are_a_finding(unpacked: Path, text: str) -> None:
    (unpacked / SUMS).write_text(text)
    assert verify(unpacked)[0].startswith(SUMS)


def test_damaged_zip_is_a_finding(run_folder: Path, tmp_path: Path) -> None:
    bundle = write_bundle(run_folder, DOCUMENTS, tmp_path / "b.zip")
    whole = bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        start = archive.getinfo("verdict.json").header_offset
    place = start + 30 + sum(struct.unpack_from("<HH", whole, start + 26))  # behind its header, name and extra field
    bundle.write_bytes(whole[: place + 3] + bytes([whole[place + 3] ^ 0xFF]) + whole[place + 4 :])
    assert any("verdict.json" in problem for problem in verify(bundle))
    bundle.write_bytes(whole[: len(whole) // 2])
    assert verify(bundle)


def test_member_that_stands_twice_is_a_finding(run_folder: Path, tmp_path: Path) -> None:
    bundle = write_bundle(run_folder, DOCUMENTS, tmp_path / "b.zip")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr("verdict.json", '{"score": 50.2}\n')
    assert "verdict.json: stands twice in the zip" in verify(bundle)


# ---- size, and what lies about it ------------------------------------------------------------------------


def peak_mib(work: Callable[[], object]) -> float:
    """The most memory that Python held at once while `work` ran, in MiB."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / (1 << 20)
    finally:
        tracemalloc.stop()


def test_a_bundle_is_written_and_checked_a_piece_at_a_time(run_folder: Path, tmp_path: Path) -> None:
    with open(run_folder / "spectra.npy", "wb") as large:
        large.truncate(300 << 20)
    bundle = tmp_path / "b.zip"
    assert peak_mib(lambda: write_bundle(run_folder, DOCUMENTS, bundle)) < 24
    found: list[str] = []
    assert peak_mib(lambda: found.extend(verify(bundle))) < 24
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "whole")
    assert peak_mib(lambda: found.extend(verify(tmp_path / "whole"))) < 24
    assert found == []


@pytest.mark.parametrize("name", ["predictions.npy", "verdict.json", SUMS, LOG])
def test_a_zip_bomb_is_a_finding_and_costs_nothing(
    run_folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(run_folder, DOCUMENTS, tmp_path / "b.zip")
    with zipfile.ZipFile(bundle) as archive:
        kept = {one: archive.read(one) for one in archive.namelist() if one != name}
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as stream:
        for _ in range(65):  # above what is read of a document; the sizes below say that it is five gigabytes
            stream.write(bytes(1 << 20))
    with zipfile.ZipFile(bundle, "a", zipfile.ZIP_DEFLATED) as archive:
        for one, data in kept.items():
            archive.writestr(one, data)
    told: list[str] = []
    peak = peak_mib(lambda: told.extend(verify(bundle)))
    if name in DOCUMENTS_READ:
        assert f"{name}: 65 MiB, more than is read of one (64 MiB)" in told
    assert peak < 24
    assert any(line.startswith(f"{name}: ") for line in told)
    claims_five_gigabytes(bundle, name)
    (line, *_) = verify(bundle)
    assert line == "not a bundle: unpacks to 5.0 GiB, more than 4"
    assert peak_mib(lambda: verify(bundle)) < 24
    assert cli(["replay", "--bundle", str(bundle), "--corpus", str(tmp_path)]) == 2
    assert "unpacks to 5.0 GiB" in capsys.readouterr().err


def claims_five_gigabytes(bundle: Path, name: str) -> None:
    """The directory says so of one member, as that of a real bomb would; a gigabyte of deflated zeros is a megabyte."""
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.getinfo(name).file_size = 5 << 30
        archive._didModify = True  # type: ignore[attr-defined]  # write the directory anew


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_whose_memory_is_its_writers_choice_is_not_unpacked(
    run_folder: Path, tmp_path: Path, method: int
) -> None:
    bundle = write_bundle(run_folder, DOCUMENTS, tmp_path / "b.zip")
    with zipfile.ZipFile(bundle, "a", method) as archive:
        archive.writestr("more.npy", b"numbers")
    assert "more.npy: damaged (compressed otherwise than by deflate)" in verify(bundle)


def test_wrong_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["verify"]) == 2
    assert main(["verify", str(tmp_path / "nowhere.zip")]) == 2
    assert "python -m tasks.bundle --help" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["verify", str(tmp_path / "empty")]) == 1

"""Every bundle is a Provenance Run Crate by the word of its validator, and carries a model card with the same facts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import requests
import requests_cache
import rocrate
from rocrate_validator import models, services

from study_core.files import sha256_of, write_json
from study_core.gates import GateRecord
from study_core.plan import Frozen
from study_core.verdict import Verdict
from tasks import signing
from tasks.bundle import verify, write_bundle
from tasks.crate import METADATA
from tasks.model_card import CARD
from tasks.provenance import FLOW, ROOT
from tasks.run import Run, open_run

PROFILES = ("ro-crate-1.1", "process-run-crate", "workflow-run-crate", "provenance-run-crate")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the validator would fetch: the context of RO-Crate 1.1, as the library carries it. No network is asked."""
    name = tmp_path_factory.mktemp("http") / "cache"
    url = "https://w3id.org/ro/crate/1.1/context"
    with requests_cache.CachedSession(cache_name=str(name), backend="sqlite", expire_after=-1) as session:
        asked = session.prepare_request(requests.Request("GET", url, headers={"Accept": "application/ld+json"}))
        answer = requests_cache.CachedResponse(
            status_code=200, url=url, request=requests_cache.CachedRequest.from_request(asked),
            headers={"Content-Type": "application/ld+json"},
        )  # fmt: skip
        answer._content = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes()
        session.cache.save_response(answer)
    return name


def issues(folder: Path, profile: str, cache: Path) -> list[str]:
    """What the validator finds against a MUST of the profile and of those that it rests on."""
    settings = services.ValidationSettings(
        rocrate_uri=models.rocrate.URI(str(folder)) if hasattr(models, "rocrate") else str(folder),
        profile_identifier=profile, offline=True, cache_path=str(cache),
        requirement_severity=models.Severity.REQUIRED, skip_availability_check=True,
    )  # fmt: skip
    result = services.validate(settings)
    assert result.passed() == (not result.get_issues())
    return [f"{one.check.identifier}: {one.message} {one.violatingEntity}" for one in result.get_issues()]


class Plan(Frozen):
    label: str = ""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of two jobs, one lost, with the records that the dispatcher writes, and awkward names."""
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "house"))
    run = open_run("study", Plan(), label="a run")
    shutil.copy(ROOT / "flows" / "denoise" / "act_of_god.py", run.folder / FLOW)  # as a flow leaves it
    (run.folder / "sp ace ü#1.csv").write_text("x\n")
    (run.folder / "report.html").write_text("<p>\n")
    run.event("job-submitted", "train god: submitted", job="train god", key="ab" * 32, attempt=1)
    result = {"best": {"path": "/x/best.pt", "sha256": "f" * 64}, "top": [{"path": "/x/2.pt", "sha256": "e" * 64}]}
    run.log.append("receipt", "train god: result received", job="train god", key="ab" * 32, result=result,
                   function="denoise_core.jobs.train:train")  # fmt: skip
    run.log.append("lost", "audit failed: oom", job="audit", key="cd" * 32, function="denoise_core.jobs.audit:audit")
    candidate = tmp_path / "best.pt"
    candidate.write_text("weights")
    gate = GateRecord(gate="size", metric="m", comparison=">=", threshold=1.0, value=2.5, passed=True,
                      reason="a | b <script>")  # fmt: skip
    verdict = Verdict(
        candidate=str(candidate), candidate_sha256=sha256_of(candidate), panel_sha256="a" * 64, data="/data/mini",
        data_sha256="b" * 64, score=1.25, gates=(gate,), changed_thresholds=("m_min 1 (standard 3)",),
        facts={"notices": ["twelve groups only"]},
    )  # fmt: skip
    write_json(run.folder / "verdict.json", verdict.model_dump(mode="json"))
    return run


@pytest.fixture
def unpacked(run: Run, tmp_path: Path) -> Path:
    bundle = write_bundle(run.folder, {}, tmp_path / "b.zip")
    assert verify(bundle) == []
    shutil.unpack_archive(bundle, tmp_path / "unpacked")
    return tmp_path / "unpacked"


def graph(folder: Path) -> dict[str, dict[str, Any]]:
    return {one["@id"]: one for one in json.loads((folder / METADATA).read_text())["@graph"]}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_validator_finds_nothing_against_the_profile(unpacked: Path, cache: Path, profile: str) -> None:
    assert issues(unpacked, profile, cache) == []


@pytest.mark.parametrize(
    ("entity", "lost", "told"),
    [
        ("#run", "instrument", "instrument"),
        ("flow.py", "programmingLanguage", "programmingLanguage"),
        ("#orchestration", "object", "OrganizeAction"),
        ("./", "license", "license"),
    ],
)
def test_the_validator_would_find_what_is_missing(
    unpacked: Path, cache: Path, entity: str, lost: str, told: str
) -> None:
    text = json.loads((unpacked / METADATA).read_text())
    for one in text["@graph"]:
        if one["@id"] == entity:
            del one[lost]
    (unpacked / METADATA).write_text(json.dumps(text))
    assert any(told in line for line in issues(unpacked, "provenance-run-crate", cache))


def test_the_crate_says_what_the_log_says(unpacked: Path) -> None:
    found = graph(unpacked)
    assert found["./"]["mainEntity"] == {"@id": FLOW}
    assert {one["@id"] for one in found["#run"]["object"]} == {"plan.json", "#data", "#panel"}
    assert {one["@id"] for one in found["#run"]["result"]} == {"verdict.json", "report.html", "#candidate"}
    train, audit = found["#job-train%20god-abababab"], found["#job-audit-cdcdcdcd"]
    assert (train["name"], train["instrument"]["@id"]) == ("train god", "#tool-denoise_core.jobs.train%3Atrain")
    assert train["startTime"] <= train["endTime"]
    assert {found[one["@id"]]["sha256"] for one in train["result"]} == {"f" * 64, "e" * 64}
    assert train["actionStatus"].endswith("CompletedActionStatus")
    assert audit["actionStatus"].endswith("FailedActionStatus")
    for name in ("report.html", "sp ace ü#1.csv", CARD):
        (entity,) = [one for one in found.values() if one.get("name") == name]
        assert entity["sha256"] == sha256_of(unpacked / name)
    assert found["#signer"]["identifier"] == signing.own_key().id


def test_a_run_that_no_flow_opened_is_a_process_run_crate(run: Run, tmp_path: Path, cache: Path) -> None:
    (run.folder / FLOW).unlink()
    shutil.unpack_archive(write_bundle(run.folder, {}, tmp_path / "b.zip"), tmp_path / "u")
    assert issues(tmp_path / "u", "process-run-crate", cache) == []
    assert issues(tmp_path / "u", "provenance-run-crate", cache)


def test_the_card_has_the_verdicts_facts(unpacked: Path) -> None:
    card = (unpacked / CARD).read_text()
    for fact in (
        "PASSED all 1 gates; under changed thresholds: m_min 1 (standard 3)", "CHANGED: m_min 1 (standard 3)",
        "best.pt", "mini", "a" * 64, "b" * 64, "| 1.25 |", "twelve groups only", signing.own_key().line,
        "| pass | size | m | 2.5 | ≥ 1.0 | a \\| b &lt;script> |",
    ):  # fmt: skip
        assert fact in card


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"{}", b"[]", b'{"gates": 3, "facts": 3, "candidate": []}'])
def test_whatever_the_verdict_is_the_bundle_is_made(run: Run, tmp_path: Path, garbage: bytes) -> None:
    (run.folder / "verdict.json").write_bytes(garbage)
    bundle = write_bundle(run.folder, {}, tmp_path / "b.zip")
    assert verify(bundle) == []
    shutil.unpack_archive(bundle, tmp_path / "u")
    assert "no verdict on record" in (tmp_path / "u" / CARD).read_text()

"""``groundup doctor`` as it is typed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import DataError, UsageError
from groundup.diagnosis import Finding, command

Make = Callable[[Path, Any], Path]

LONG = Finding(
    "mask-not-causal",
    "failure",
    "the attention mask is not causal: tokens see what they have to predict",
    "changing token 24 moves the logits of 24 of 24 earlier positions, by up to 4.9 (their deviation is 2.7)",
    "repair the attention mask (groundup/model/attention.py); then train anew",
    "pretrain, the model as it is computed now",
)
FINE = Finding("disk", "ok", "disk", "66 GB free of 271 GB")


def test_a_healthy_run_ends_with_0_and_a_sick_one_with_1(
    healthy: Path, plan: Any, make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", plan.but(encoded=lambda split, ids: ids[split == "train" :], steps=8))
    assert command.run([str(run), "--no-machine"]) == 1
    out = capsys.readouterr().out
    assert "✗ failure: the end of a text cannot be learnt" in out
    assert "1 failure" in out.splitlines()[-1]
    assert command.run([str(healthy), "--no-machine"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(healthy)


def test_findings_as_json(healthy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "diagnose", lambda path: [LONG])
    monkeypatch.setattr(command, "examine_machine", lambda folder: [FINE])
    assert command.run([str(healthy), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(each["name"], each["severity"]) for each in found] == [("mask-not-causal", "failure"), ("disk", "ok")]


def test_without_a_run_the_machine_alone_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "examine_machine", lambda folder: [FINE])
    assert command.run([]) == 0
    assert (
        capsys.readouterr().out
        == "this machine\n  ✓ disk: 66 GB free of 271 GB\n\neverything that was checked is healthy\n"
    )


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_report_fits_the_terminal_and_says_what_why_and_what_to_do(columns: int) -> None:
    lines = command.report({"runs/mine": [LONG], "this machine": [FINE]}, columns).splitlines()
    assert max(map(len, lines)) < min(columns, 101)
    text = "".join("".join(lines).split())  # a long path is broken anywhere
    told = f"✗ failure: {LONG.what} [{LONG.where}] why {LONG.evidence} do {LONG.remedy}"
    assert "".join(told.split()) in text
    assert lines[-1] == "1 failure; 1 check is healthy"


def test_reference_bands_are_printed_as_a_file(
    plan: Any, make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(make_run(tmp_path / str(seed), plan.but(seed=seed, steps=4))) for seed in (1, 2, 3)]
    assert command.run(["--record", *runs]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pretrain"]["seeds"] == [1, 2, 3]
    with pytest.raises(DataError):
        command.run(["--record", runs[0]])


def test_wrong_use_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="holds no records"):
        command.run([str(tmp_path)])
    with pytest.raises(UsageError, match="nothing to check"):
        command.run(["--no-machine"])
    with pytest.raises(UsageError, match="unknown key"):
        command.run(["--jason"])
    with pytest.raises(SystemExit):
        command.run(["--help"])
    assert "groundup doctor" in capsys.readouterr().out


def test_the_findings_of_a_run_are_kept_for_its_page(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.run([str(healthy), "--no-machine", "--json"])
    kept = json.loads((healthy / "doctor.json").read_text(encoding="utf-8"))
    assert kept == json.loads(capsys.readouterr().out)

"""What the audit says of published weaknesses, of a database out of reach, and of none."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest

from bootstrap import audit

WEAK = {
    "name": "urllib3",
    "version": "1.23",
    "vulns": [{"id": "PYSEC-2019-133", "fix_versions": ["1.24.2"]}, {"id": "PYSEC-2020-148", "fix_versions": []}],
}
SOUND = {"name": "rich", "version": "15.0.0", "vulns": []}
UNKNOWN = {"name": "torch", "skip_reason": "not found"}


def answers(monkeypatch: pytest.MonkeyPatch, *packages: object) -> None:
    said = json.dumps({"dependencies": packages})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=said, returncode=0))


def test_a_known_weakness_is_named_with_its_remedy_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, WEAK, SOUND, UNKNOWN)
    assert audit.main() == 1
    said = capsys.readouterr().out
    assert "urllib3 1.23: PYSEC-2019-133, PYSEC-2020-148; fixed in 1.24.2" in said
    assert "2 of 3 pinned packages audited, 1 with a known weakness" in said


def test_packages_that_could_not_be_looked_up_are_not_called_audited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, UNKNOWN, UNKNOWN)
    assert audit.main() == 0
    assert "0 of 2 pinned packages audited" in capsys.readouterr().out


def test_no_answer_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="", returncode=0))
    assert audit.main() == 0
    assert "no package was audited" in capsys.readouterr().out


def test_packages_at_odds_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "advisories", lambda: True)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    assert audit.main() == 1

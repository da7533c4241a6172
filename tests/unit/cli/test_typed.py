"""The command as a person can type it."""

from pathlib import Path

import pytest

from shoal.cli.up.typed import typed


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "here/.venv/bin/shoal"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", "/nonexistent")
    return path


def test_where_it_is_not_on_the_path_it_is_named_by_its_own(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed(str(program)) == typed(".venv/bin/shoal") == ".venv/bin/shoal"
    monkeypatch.chdir(program.parent)
    assert typed(str(program)) == "./shoal"
    elsewhere = program.parents[3] / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert typed(str(program)) == str(program)


def test_where_the_path_leads_to_it_its_name_will_do(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    assert typed(str(program)) == "shoal"


def test_another_of_that_name_on_the_path_is_not_this_one(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = program.parents[3] / "other"
    other.mkdir()
    (other / "shoal").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other))
    assert typed(str(program)) == ".venv/bin/shoal"

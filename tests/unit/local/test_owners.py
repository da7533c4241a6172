"""Which labs a run of the tests takes for orphans of another."""

import contextlib
import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from tests.e2e.conftest import OWNER, end_orphans, owned

from shoal.local import links, processes
from shoal.local.lab import Lab
from shoal.local.lab_files import LabRecord

NAME = "test-x"


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    async def down(lab: Lab) -> None:
        names.append(lab.name)

    monkeypatch.setenv("SHOAL_LAB_DIR", str(tmp_path))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setattr(Lab, "down", down)
    return names


def come_up(directory: Path) -> None:
    plan = links.Plan(block="10.0.0.0/16", number=0, links=1, hosts=["h1"])
    record = LabRecord(name=NAME, plan=plan, cluster_cidr="10.1.0.0/16")
    (directory / "lab.json").write_bytes(msgspec.json.encode(record))


def test_a_lab_is_its_runs_from_before_it_comes_up_until_that_run_ends(ended: list[str], tmp_path: Path) -> None:
    with owned(NAME):
        come_up(tmp_path / NAME)
        end_orphans()
    end_orphans()
    assert ended == []

    other = subprocess.Popen(["sleep", "60"])
    processes.write_pidfile(tmp_path / NAME / OWNER, other.pid)
    end_orphans()
    assert ended == []
    other.kill()
    other.wait()
    end_orphans()
    assert ended == [NAME]


def test_a_worker_notes_the_pytest_that_started_it(
    ended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    with owned(NAME):
        owner = processes.read_pidfile(tmp_path / NAME / OWNER)
    assert owner is not None
    assert owner.pid == os.getppid()


def test_nothing_is_left_of_a_lab_that_did_not_come_up(ended: list[str], tmp_path: Path) -> None:
    with contextlib.suppress(RuntimeError), owned(NAME):
        raise RuntimeError
    assert not (tmp_path / NAME).exists()


def test_a_persons_lab_is_left_alone(ended: list[str], tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    come_up(tmp_path / NAME)
    end_orphans()
    assert ended == []

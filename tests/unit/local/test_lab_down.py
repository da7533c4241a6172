"""What `lab exec ... &` left in a lab ends with it: a lab of its own network alone, without hosts."""

import os
import subprocess
from pathlib import Path

import pytest

from shoal.local import links
from shoal.local.control import launch
from shoal.local.lab import Lab, _lab_keeper
from shoal.local.lab_files import LabRecord
from shoal.local.lab_places import CONTROL_PLANE, KEEPER

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("SHOAL_LAB_DIR", str(tmp_path))
    plan = links.Plan(block="10.0.0.0/16", number=250, links=1, hosts=[])
    return Lab(LabRecord(name="x", plan=plan, cluster_cidr="10.1.0.0/16"))


async def test_down_ends_what_was_started_inside(lab: Lab) -> None:
    await launch(lab.directory)
    await lab.control.add([_lab_keeper(lab.directory)])
    await lab.control.wait([KEEPER], seconds=20)
    command = await lab.command(CONTROL_PLANE, ["sh", "-c", "echo inside; exec sleep 60"])
    left = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220  (it is left behind: that is the point)
    try:
        assert left.stdout is not None
        assert left.stdout.readline() == b"inside\n"

        await lab.down()
        assert left.poll() is not None
        assert not lab.directory.exists()
    finally:
        left.kill()
        left.communicate()

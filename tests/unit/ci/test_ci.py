"""`.ci/test`, with stand-ins for what it runs: what fails it, and what it prints last."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("checked", "tested", "code"), [(0, 0, 0), (1, 0, 1), (0, 2, 2), (1, 5, 5)])
def test_static_checks_fail_the_run_and_pytests_closing_line_is_the_last(
    tmp_path: Path, checked: int, tested: int, code: int
) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/test", tmp_path / ".ci/test")
    _program(tmp_path / ".ci/check", f'[ "$*" = --static ] && exit {checked}; exit 9')
    _program(tmp_path / ".ci/tools", "exit 0")
    _program(tmp_path / ".venv/bin/pytest", f'echo "pytest: ${{@: -1}}"; exit {tested}')

    ran = subprocess.run([tmp_path / ".ci/test", "last"], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (code, "pytest: last")


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(0o755)

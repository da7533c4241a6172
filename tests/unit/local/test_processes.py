"""A pidfile names one process, never a later one with the same pid."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shoal.local import processes
from shoal.local.processes import Identity


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_process_is_known_by_pid_and_start(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.identify(sleeper.pid)

    assert found is not None
    assert found.pid == sleeper.pid
    assert found.started > 0
    assert processes.alive(found)


def test_a_process_that_waits_to_be_reaped_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.identify(sleeper.pid)
    assert found is not None
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # ended, not reaped

    assert not processes.alive(found)
    assert processes.identify(sleeper.pid) is None


def test_a_recycled_pid_is_not_signalled(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """As if the pid had belonged to somebody who started a tick earlier."""
    real = processes.identify(sleeper.pid)
    assert real is not None
    stale = Identity(real.pid, real.started - 1)
    (tmp_path / "pid").write_bytes(msgspec.json.encode(stale))

    assert processes.read_pidfile(tmp_path / "pid") is None
    assert processes.send(stale, signal.SIGKILL) is False
    assert processes.wait_gone(stale, 0.0) is True
    processes.end([stale], seconds=1)
    assert sleeper.poll() is None


def test_the_very_process_is_ended(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    known = processes.write_pidfile(tmp_path / "pid", sleeper.pid)

    assert processes.read_pidfile(tmp_path / "pid") == known
    processes.end([known], seconds=5)
    assert sleeper.wait(1) == -signal.SIGTERM


def test_what_ignores_sigterm_is_killed() -> None:
    script = "trap '' TERM; echo on; while :; do sleep 1; done"
    process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        known = processes.identify(process.pid)
        assert known is not None
        processes.end([known], seconds=0.1)
        assert process.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("content", [b"", b"{", b'"x"', b'{"pid": "1"}'])
def test_a_broken_pidfile_names_nobody(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "pid").write_bytes(content)

    assert processes.read_pidfile(tmp_path / "pid") is None


def test_no_process_is_pid_zero() -> None:
    """To signal pid 0 would signal our own group."""
    assert processes.send(Identity(), signal.SIGKILL) is False
    assert not processes.alive(Identity())


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_whatever_is_in_a_network_is_killed_and_nothing_in_ours() -> None:
    keeper = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    while _net(keeper.pid) == _net(os.getpid()):
        time.sleep(0.001)
    left = subprocess.Popen(["nsenter", "-t", str(keeper.pid), "-n", "sleep", "60"])
    while _net(left.pid) != _net(keeper.pid):
        time.sleep(0.001)
    beside = subprocess.Popen(["sleep", "60"])
    try:
        with processes.Networks([keeper.pid, beside.pid, os.getpid()]) as networks:
            assert {p.pid for p in networks.inside()} == {keeper.pid, left.pid}
            keeper.kill()
            keeper.wait()
            networks.kill()
        assert left.wait(5) == -signal.SIGKILL
        assert beside.poll() is None
    finally:
        for process in (keeper, left, beside):
            process.kill()
            process.wait()


def _net(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())

"""What carries a mark ends, and what it began; nothing else does."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.node_agent.simulated import Pieces

from shoal.node_agent import exec_processes
from shoal.node_agent.exec_processes import INSIDE, MARK, end, end_marked, new_mark
from shoal.node_agent.runtime.port import EngineError


@contextmanager
def begun(script: str, mark: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sh", "-c", script], env={**os.environ, MARK: mark}, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        assert made.stdout.readline() == b"begun\n"
        try:
            yield made
        finally:
            made.kill()


def test_all_that_a_marked_process_began_ends_wherever_it_went() -> None:
    mark = new_mark()
    with begun("setsid sleep 71 & (setsid sleep 72 &) ; env -i sleep 73 & echo begun; wait", mark) as made:
        assert end_marked(mark) >= 4
        assert made.wait(10) == -9
        assert end_marked(mark) == 0


def test_what_has_another_mark_or_none_goes_on() -> None:
    marks = new_mark(), new_mark()
    with begun("echo begun; exec sleep 71", marks[0]) as other:
        assert end_marked(marks[1]) == 0
        assert other.poll() is None
        assert end_marked(marks[0]) == 1
        assert other.wait(10) == -9


def test_what_may_not_be_killed_stays_and_nothing_else_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError("operation not permitted")

    mark = new_mark()
    with begun("echo begun; exec sleep 71", mark) as made, monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        assert end_marked(mark) == 0
        assert made.poll() is None
        patched.undo()
        assert end_marked(mark) == 1
        assert made.wait(10) == -9


def test_what_looks_in_the_container_ends_the_same_and_leaves_the_same() -> None:
    marks = new_mark(), new_mark()
    with begun("echo begun; exec sleep 71", marks[0]) as other:
        with begun("setsid sleep 72 & (setsid sleep 73 &) ; echo begun; wait", marks[1]) as made:
            looking = ["sh", "-c", INSIDE, "sh", f"{MARK}={marks[1]}"]
            assert subprocess.run(looking, check=True, capture_output=True, timeout=60).stdout == b"done\n"
            made.wait(10)  # by the signal, or because all that it waited for has ended
            assert end_marked(marks[1]) == 0
        assert other.poll() is None
        assert end_marked(marks[0]) == 1


class Container:
    """What looks in it says this."""

    def __init__(self, said: bytes | Exception) -> None:
        self.said = said
        self.asked: list[str] = []

    async def exec(self, container: str, command: list[str], **_: Any) -> Pieces:
        self.asked.append(command[-1])
        if isinstance(self.said, Exception):
            raise self.said
        return Pieces([(1, self.said)])


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"done\n", ""),
        (EngineError("container c is not running", status=409), ""),
        (EngineError("No such container: c", status=404), ""),
        (b"the image has no tr or no grep\n", "the image has no tr or no grep"),
        (b"", "the container has no shell that could look for it"),
        (EngineError('exec: "sh": executable file not found in $PATH', status=400), 'exec: "sh": executable'),
    ],
)
async def test_what_is_not_seen_from_here_is_looked_for_inside_and_a_failure_is_said(
    monkeypatch: pytest.MonkeyPatch, said: bytes | Exception, why: str
) -> None:
    warned: list[str] = []
    told = SimpleNamespace(warning=lambda _, **fields: warned.append(fields["why"]))
    monkeypatch.setattr(exec_processes, "log", told)
    container: Any = Container(said)
    mark = new_mark()
    await end(container, "c", mark)
    assert container.asked == [f"{MARK}={mark}"]
    assert [w.removeprefix("what an exec began may go on: ")[: len(why)] for w in warned] == ([why] if why else [])


async def test_an_agent_that_sees_only_some_of_them_looks_inside_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for root in (True, False):
        monkeypatch.setattr(os, "geteuid", lambda root=root: 0 if root else 1000)
        container: Any = Container(b"done\n")
        mark = new_mark()
        with begun("echo begun; exec sleep 71", mark):
            await end(container, "c", mark)
        asked.append(len(container.asked))
    assert asked == [0, 1]

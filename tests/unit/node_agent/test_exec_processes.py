"""What carries a mark ends, and what it began; nothing else does."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from shoal.node_agent.exec_processes import MARK, end_marked, new_mark


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

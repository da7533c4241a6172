"""Waiting for what comes from elsewhere, with a bound and a name for what did not come."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(probe: Callable[[], T], what: str, timeout_s: float = 60.0, every_s: float = 0.1) -> T:
    """The first answer that is true. Raises: AssertionError, naming `what`, if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := probe():
            return answer
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s:.0f} s"
        time.sleep(every_s)

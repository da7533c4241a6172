"""A test's folder says what it needs, and when it runs: the lab's tests are the longest chain and come first, those that
need programs which `make test` may still be installing come last.
"""

import signal
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LAST = ("e2e/test_compose.py", "e2e/tracing")  # in this order


def pytest_configure() -> None:
    """A shell's background job (`make test &`) is started with SIGINT ignored, and hands that on: what tests interrupt
    would never hear of it. A handler, unlike that, is not handed on.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE / "integration"):
            item.add_marker(pytest.mark.integration)
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    for place, path in enumerate(LAST, 2):
        if item.path.is_relative_to(HERE / path):
            return place
    return 1 if item.path.name == "test_readme.py" else 0

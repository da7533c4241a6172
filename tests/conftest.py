"""A test's folder says what it needs: a marker each for `integration` and `e2e`, and one worker for all of e2e."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        part = item.path.relative_to(HERE).parts[0]
        if part in {"integration", "e2e"}:
            item.add_marker(part)
        if part == "e2e" and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group("lab"))  # one lab a run, started by one worker

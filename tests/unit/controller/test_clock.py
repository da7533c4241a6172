"""Whoever takes a clock and is given none follows the time module, also where that is replaced after the import."""

import time
from inspect import signature

import pytest

from shoal.api import writing
from shoal.controller import shell
from shoal.controller.lease import Lease
from shoal.node_agent.images import Images
from shoal.node_agent.node import Node


def test_what_is_made_before_time_is_replaced_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    controllers, api = shell.Clock(), writing.Clock()
    lease = signature(Lease).parameters["clock"].default
    images = signature(Images).parameters["monotonic"].default
    node = signature(Node).parameters["now"].default
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    assert (controllers.monotonic(), lease(), images()) == (5.0, 5.0, 5.0)
    assert {clock() for clock in (controllers.now, api.now, node)} == {1_800_000_000.0}

"""nats-py without what Shoal does not use of it: a third of what it takes to import, and 1 MB less in each process.

`nats` imports aiohttp (for WebSocket URLs; Shoal speaks TCP) and `nats.js` (Shoal speaks to JetStream by plain
requests), 245 and 40 of its 390 ms. aiohttp is hidden for the moment of the import. `nats.js` is stood in for: the
client itself wants the names of three headers from it; whoever wants more gets the real one, imported then. And
`importlib.metadata` (20 ms, with the email and zip packages) would only tell the client its own version.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import ModuleType
from typing import Any


class _Header(StrEnum):
    STATUS = "Status"
    DESCRIPTION = "Description"
    CONSUMER_STALLED = "Nats-Consumer-Stalled"


class _Api(ModuleType):
    Header = _Header


class _JetStream(ModuleType):
    """`nats.js`, until more is wanted of it than `api.Header`."""

    def __init__(self) -> None:
        super().__init__("nats.js")
        self.api = _Api("nats.js.api")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module("nats.js"), name)


@contextmanager
def hidden(*modules: str) -> Iterator[None]:
    """An import in the block does not find these, unless they are there already. Afterwards they can be imported."""
    gone = [name for name in modules if name not in sys.modules]
    for name in gone:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in gone:
            del sys.modules[name]


@contextmanager
def small_nats() -> Iterator[None]:
    """For the first import of `nats` in a process; later it does nothing."""
    if "nats" in sys.modules:
        yield
        return
    sys.modules["nats.js"] = stand_in = _JetStream()
    try:
        with hidden("aiohttp", "importlib.metadata"):
            yield
    finally:
        del sys.modules["nats.js"]
        sys.modules["nats"].js = stand_in  # type: ignore[attr-defined]

"""The import of nats: without what is heavy, and still whole for whoever wants more."""

import subprocess
import sys


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_bus_imports_nothing_heavy() -> None:
    heavy = ("aiohttp", "nats.js.client", "importlib.metadata", "email", "structlog", "rich", "opentelemetry")
    code = f"import sys, shoal.bus.connecting, shoal.store.store; print([m for m in {heavy!r} if sys.modules.get(m)])"
    assert python(code) == "[]"


def test_what_was_hidden_can_be_imported_afterwards() -> None:
    code = """
import shoal.bus.connecting
import importlib.metadata, aiohttp
print(importlib.metadata.version("nats-py").split(".")[0], bool(aiohttp.ClientSession))
"""
    assert python(code) == "2 True"


def test_the_real_jetstream_is_there_for_whoever_wants_it() -> None:
    code = """
import shoal.bus.connecting
import nats
print(type(nats.NATS().jetstream()).__module__, nats.js.api.Header.STATUS.value)
import nats.js.errors
print(nats.js.errors.NotFoundError.__name__)
"""
    assert python(code) == "nats.js.client Status\nNotFoundError"


def test_nats_that_is_there_already_is_left_alone() -> None:
    code = """
import nats, nats.js
real = nats.js.api
import shoal.bus.connecting
print(nats.js.api is real, nats.aio.client.Client.__mro__[0] in shoal.bus.client.NatsClient.__mro__)
"""
    assert python(code) == "True True"

"""One lab a run: three real Docker hosts, a nats-server, every process. Mended after each test, ended with the run.

`lab` the lab · `client` the api's client · `docker("h1")` an engine's · `namespace` one of a test's own. Tests that use
the lab stay on one worker (xdist_group); should several workers want it, the first starts it and the last ends it.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from shoal.config import BusConfig
from shoal.local import processes
from shoal.local.lab import Lab
from shoal.local.lab_files import base, records

HERE = Path(__file__).parent
PREFIX = "test-"
OWNER = "owner.json"  # in a lab's directory: the pytest that it belongs to
HOSTS = 3

Docker = Callable[[str], Awaitable[Any]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    grouped = config.pluginmanager.hasplugin("xdist")
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.e2e)
        if grouped and "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("lab"))


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    require_lab()
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    shared = tmp_path_factory.getbasetemp().parent if run else tmp_path_factory.getbasetemp()
    users = shared / "lab-users"
    with _locked(shared):
        name = users.read_text().split()[0] if users.exists() else ""
        if not name:
            end_orphans()
            name = f"{PREFIX}{secrets.token_hex(3)}"
            with owned(name):
                asyncio.run(Lab.up(name, hosts=HOSTS))
        lab = Lab.open(name)
        _count(users, name, 1)
    yield lab
    with _locked(shared):
        if _count(users, name, -1) == 0:
            asyncio.run(lab.down())


@pytest.fixture
async def lab(shared_lab: Lab) -> AsyncIterator[Lab]:
    """The lab of this run, whole: after the test every fault is undone."""
    yield shared_lab
    await shared_lab.mend()


@pytest.fixture
def bus_config(lab: Lab) -> BusConfig:
    return BusConfig(servers=(lab.nats_url,))


@pytest.fixture
async def client(bus_config: BusConfig) -> AsyncIterator[Any]:
    """`shoal.client.Client`, as admin."""
    from shoal.bus.connecting import connect
    from shoal.client import Client

    async with connect(bus_config, name="e2e") as bus:
        client = Client(bus)
        await answering(client)
        yield client


@pytest.fixture
async def docker(lab: Lab) -> AsyncIterator[Docker]:
    """`await docker("h1")` is an aiodocker.Docker of that host's engine."""
    import aiodocker

    async with AsyncExitStack() as stack:
        known: dict[str, Any] = {}

        async def of(host: str) -> Any:
            if host not in known:
                known[host] = await stack.enter_async_context(aiodocker.Docker(url=f"unix://{lab.docker_socket(host)}"))
            return known[host]

        yield of


@pytest.fixture
async def namespace(client: Any) -> AsyncIterator[str]:
    """A namespace of the test's own, deleted with all that is in it afterwards."""
    from shoal import wire

    name = f"e2e-{secrets.token_hex(4)}"
    reply = await client.apply(
        wire.ApplyRequest(manifest=f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
    )
    assert reply.error is None, reply.error
    yield name
    await answering(client)
    await client.delete("namespaces", "", wire.DeleteRequest(name=name))


async def answering(client: Any, *, patience_s: float = 30.0) -> None:
    """Until the api answers: a test before may have killed it, or the server, a moment ago."""
    from shoal.errors import Unavailable

    async with asyncio.timeout(patience_s):
        while True:
            try:
                await client.get("namespaces", "", "default")
            except Unavailable:
                await asyncio.sleep(0.1)
            else:
                return


def require_lab() -> None:
    """Skip where no lab can be."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    lacking = [
        c
        for c in ("dockerd", "nft", "ip", "nsenter")
        if shutil.which(c, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
    ]
    if lacking:
        pytest.skip(f"a lab needs {', '.join(lacking)}")


@contextmanager
def owned(name: str) -> Iterator[None]:
    """Around a lab's coming up: note that it belongs to this pytest, so that a later run can end it if this one is killed.

    Before the lab is there, so that it is nobody's at no time. With xdist the owner is the pytest that started the
    workers: a worker may end long before the others.
    """
    directory = base() / name
    directory.mkdir(parents=True)
    processes.write_pidfile(directory / OWNER, os.getppid() if os.environ.get("PYTEST_XDIST_WORKER") else os.getpid())
    try:
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def end_orphans() -> None:
    """End labs of runs that were killed; never one whose owner lives, nor one that a person started."""
    for record in records():
        owner = base() / record.name / OWNER
        if owner.exists() and processes.read_pidfile(owner) is None:
            asyncio.run(Lab(record).down())


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "lab-lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _count(users: Path, name: str, by: int) -> int:
    """Workers that use the lab now; kept in a file, under the lock."""
    count = int(users.read_text().split()[1]) if users.exists() else 0
    if count + by:
        users.write_text(f"{name} {count + by}")
    else:
        users.unlink(missing_ok=True)
    return count + by

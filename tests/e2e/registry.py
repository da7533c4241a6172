"""A real registry on the loopback of a lab's host, which wants a password. (An engine speaks plain HTTP to a loopback.)"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from shoal.local.engine import path_env
from shoal.local.lab import Lab

PROGRAM = "docker-registry"  # of Debian's package of that name
ADDRESS = "127.0.0.1:5000"
USER, PASSWORD = "shoal", "drift-net"
BCRYPT = "$2b$04$7ATnpK//jL9SADm9PpYL2uwTjm8gJK1NXbPFCe/0Bcq8MsXJvc/MO"  # of PASSWORD
LOGIN = {"username": USER, "password": PASSWORD, "serveraddress": ADDRESS}
CONFIG = """
version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: {directory}/blobs}}}}
http: {{addr: {address}}}
auth: {{htpasswd: {{realm: nets, path: {directory}/htpasswd}}}}
"""


def found() -> bool:
    return shutil.which(PROGRAM, path=path_env()) is not None


@asynccontextmanager
async def registry(lab: Lab, host: str, directory: Path) -> AsyncIterator[None]:
    """It listens when this is entered."""
    (directory / "htpasswd").write_text(f"{USER}:{BCRYPT}\n")
    config = directory / "registry.yml"
    config.write_text(CONFIG.format(directory=directory, address=ADDRESS))
    process = await asyncio.create_subprocess_exec(
        *await lab.command(host, [PROGRAM, "serve", str(config)]),
        env={"PATH": path_env(), "OTEL_TRACES_EXPORTER": "none"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(30):
        while b"listening on" not in said:
            line = await process.stderr.readline()
            assert line, said.decode()
            said += line
    draining = asyncio.create_task(_drain(process.stderr), name="registry's log")
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await draining


async def _drain(log: asyncio.StreamReader) -> None:
    while await log.read(65_536):
        pass


def write_login(directory: Path, user: str = USER, password: str = PASSWORD) -> None:
    """As `docker login` leaves it. Whole at once: an agent reads it for each pull."""
    import base64

    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    new = directory / "config.json.new"
    new.write_bytes(msgspec.json.encode({"auths": {ADDRESS: {"auth": auth}}}))
    os.replace(new, directory / "config.json")  # noqa: PTH105


async def push(docker: Any, reference: str, version: str) -> str:
    """An image that says `version` in its environment; its digest. The engine keeps it under that name."""
    repository, _, tag = reference.rpartition(":")
    made = await docker.containers.create({"Image": "shoal/busybox", "Env": [f"VERSION={version}"], "Cmd": ["sh"]})
    try:
        await made.commit(repository=repository, tag=tag)
    finally:
        await made.delete(force=True)
    said = await docker.images.push(repository, tag=tag, auth=LOGIN)
    errors = [line["error"] for line in said if "error" in line]
    assert not errors, errors
    [digest] = [line["aux"]["Digest"] for line in said if "Digest" in line.get("aux", {})]
    return str(digest)

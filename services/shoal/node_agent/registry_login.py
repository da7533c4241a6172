"""Credentials for registries, from the host's Docker configuration: `auths`, `credsStore`, `credHelpers`.

Rules are Docker's (cli/config): a registry's own helper, else the store, else what the file itself holds. Docker Hub is
known as `https://index.docker.io/v1/`. A helper that fails or knows nothing means: ask without credentials.
"""

import asyncio
import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shoal.telemetry.logs import log

HUB = "https://index.docker.io/v1/"
HELPER_S = 20.0


class _Auth(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class DockerConfig(msgspec.Struct):
    auths: dict[str, _Auth] = {}
    credsStore: str = ""  # noqa: N815  (Docker's name)
    credHelpers: dict[str, str] = {}  # noqa: N815


class _Secret(msgspec.Struct):
    Username: str = ""
    Secret: str = ""


def registry_of(reference: str) -> str:
    """`ghcr.io/a/b:1` → `ghcr.io`; a name without a host is Docker Hub's."""
    head, slash, _ = reference.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        return HUB if head in {"docker.io", "index.docker.io"} else head
    return HUB


def read_config(env: Mapping[str, str] = os.environ) -> DockerConfig:
    """From `$DOCKER_CONFIG` or `~/.docker`. No file: no credentials; one that cannot be read is said once a pull."""
    home = Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME", "/root")) / ".docker")
    try:
        return msgspec.json.decode((home / "config.json").read_bytes(), type=DockerConfig)
    except FileNotFoundError:
        return DockerConfig()
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("registry.config", path=str(home / "config.json"), error=str(error))
        return DockerConfig()


async def login(reference: str, config: DockerConfig) -> dict[str, str] | None:
    """What the engine wants in X-Registry-Auth; None: ask without."""
    registry = registry_of(reference)
    if helper := config.credHelpers.get(registry) or config.credsStore:
        return await _ask(helper, registry)
    return _from_file(registry, config.auths)


def _from_file(registry: str, auths: Mapping[str, _Auth]) -> dict[str, str] | None:
    found = next((auth for name, auth in auths.items() if name == registry or _host(name) == _host(registry)), None)
    if found is None:
        return None
    user, password = found.username, found.password
    if found.auth:
        try:
            user, _, password = base64.b64decode(found.auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            log.warning("registry.auth", registry=registry, error="auth is not base64 of user:password")
            return None
    return _header(registry, user, password.rstrip("\0"), found.identitytoken)


def _host(name: str) -> str:
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


async def _ask(helper: str, registry: str) -> dict[str, str] | None:
    """`docker-credential-<helper> get`: the registry on stdin, JSON back."""
    try:
        process = await asyncio.create_subprocess_exec(
            f"docker-credential-{helper}",
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(HELPER_S):
                said, _ = await process.communicate(registry.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
    except (OSError, TimeoutError) as error:
        log.warning("registry.helper", helper=helper, registry=registry, error=str(error) or "no answer")
        return None
    try:
        secret = msgspec.json.decode(said, type=_Secret) if process.returncode == 0 else _Secret()
    except msgspec.MsgspecError:
        log.warning("registry.helper", helper=helper, registry=registry, error="its answer cannot be read")
        return None
    if not secret.Secret:
        return None
    if secret.Username == "<token>":
        return _header(registry, "", "", secret.Secret)
    return _header(registry, secret.Username, secret.Secret, "")


def _header(registry: str, user: str, password: str, token: str) -> dict[str, str]:
    made = {"serveraddress": registry}
    if token:
        return {**made, "identitytoken": token}
    return {**made, "username": user, "password": password}

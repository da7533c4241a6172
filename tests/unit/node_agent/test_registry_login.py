"""Credentials as Docker's own client finds them."""

import base64
import stat
from pathlib import Path

import msgspec
import pytest

from shoal.node_agent.registry_login import DockerConfig, login, read_config, registry_of


def config(**content: object) -> DockerConfig:
    return msgspec.convert(content, DockerConfig)


AUTH = base64.b64encode(b"me:se:cret").decode()


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("busybox", "https://index.docker.io/v1/"),
        ("library/busybox:1", "https://index.docker.io/v1/"),
        ("docker.io/a/b", "https://index.docker.io/v1/"),
        ("ghcr.io/a/b@sha256:00", "ghcr.io"),
        ("localhost/x", "localhost"),
        ("127.0.0.1:5000/x:1", "127.0.0.1:5000"),
    ],
)
def test_the_registry_of_a_name(reference: str, registry: str) -> None:
    assert registry_of(reference) == registry


async def test_what_the_file_holds_is_used() -> None:
    found = await login("ghcr.io/a/b", config(auths={"ghcr.io": {"auth": AUTH}}))
    assert found == {"serveraddress": "ghcr.io", "username": "me", "password": "se:cret"}


async def test_a_registry_may_be_written_as_a_url() -> None:
    assert (await login("ghcr.io/a", config(auths={"https://ghcr.io/v2/": {"auth": AUTH}}))) is not None
    assert (await login("busybox", config(auths={"https://index.docker.io/v1/": {"auth": AUTH}}))) is not None


async def test_no_entry_and_a_broken_entry_mean_none() -> None:
    assert await login("ghcr.io/a/b", config(auths={"quay.io": {"auth": AUTH}})) is None
    assert await login("ghcr.io/a/b", config(auths={"ghcr.io": {"auth": "%%%"}})) is None


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program on the PATH that answers for one registry and keeps what it was asked."""
    program = tmp_path / "docker-credential-test"
    program.write_text(
        "#!/bin/sh\n"
        f'read asked; echo "$1 $asked" >> {tmp_path}/asked\n'
        'case "$asked" in\n'
        '  ghcr.io) echo \'{"Username":"u","Secret":"s"}\';;\n'
        '  tok.io) echo \'{"Username":"<token>","Secret":"t"}\';;\n'
        "  odd.io) echo nonsense;;\n"
        "  *) echo 'credentials not found in native keychain'; exit 1;;\n"
        "esac\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "asked"


async def test_a_helper_is_asked(helper: Path) -> None:
    found = await login("ghcr.io/a", config(credHelpers={"ghcr.io": "test"}))
    assert found == {"serveraddress": "ghcr.io", "username": "u", "password": "s"}
    assert helper.read_text() == "get ghcr.io\n"


async def test_the_store_is_asked_for_all_others_and_tokens_are_tokens(helper: Path) -> None:
    everything = config(credsStore="test", auths={"tok.io": {}})
    assert await login("tok.io/a", everything) == {"serveraddress": "tok.io", "identitytoken": "t"}


async def test_a_helper_that_fails_or_is_not_there_means_none(helper: Path) -> None:
    assert await login("quay.io/a", config(credsStore="test")) is None
    assert await login("odd.io/a", config(credsStore="test")) is None
    assert await login("ghcr.io/a", config(credsStore="missing")) is None


def test_the_file_is_found_and_a_broken_one_is_none(tmp_path: Path) -> None:
    env = {"DOCKER_CONFIG": str(tmp_path)}
    assert read_config(env) == DockerConfig()
    (tmp_path / "config.json").write_text('{"auths": {"a.io": {"auth": "eA=="}}, "psFormat": "x"}')
    assert "a.io" in read_config(env).auths
    (tmp_path / "config.json").write_text("{")
    assert read_config(env) == DockerConfig()

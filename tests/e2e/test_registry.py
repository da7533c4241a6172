"""Images of a real registry that wants a password: pulled with the host's Docker login, by policy, by digest."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiodocker
import pytest
import pytest_asyncio
from tests.e2e.conftest import Docker
from tests.e2e.registry import ADDRESS, PROGRAM, found, push, registry, write_login
from tests.e2e.world import apply, container, count_running, pod, run_in, until

from shoal.client import Client
from shoal.local.lab import Lab
from shoal.model.pod import Pod

HOST = "h1"
FOR_A_RETRY_S = 45.0  # a pull that failed is tried again after 10 s, then after 20 s


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest_asyncio.fixture
async def engine(lab: Lab, docker: Docker, folder: Path) -> AsyncIterator[Any]:
    """The engine of a host with a registry on its loopback; the host's agent reads the Docker login in `folder`."""
    if not found():
        pytest.skip(f"{PROGRAM} is not installed")
    async with registry(lab, HOST, folder):
        await lab.restart(HOST, "agent", env={"DOCKER_CONFIG": str(folder)})
        try:
            made = await docker(HOST)
            yield made
            for image in await made.images.list():
                for name in image.get("RepoTags") or []:
                    if name.startswith(ADDRESS):
                        await forget(made, name)
        finally:
            await lab.restart(HOST, "agent", env={})


async def forget(docker: Any, reference: str) -> None:
    """The engine has it no more."""
    try:
        await docker.images.delete(reference, force=True)
    except aiodocker.DockerError as error:
        if error.status != 404:
            raise


def on_host(name: str, namespace: str, image: str, policy: str = "IfNotPresent") -> dict[str, Any]:
    where = {"kubernetes.io/hostname": HOST}
    return pod(name, namespace, container(image=image) | {"imagePullPolicy": policy}, nodeSelector=where)


def waiting(name: str, reason: str, *words: str) -> Callable[[list[Pod]], bool]:
    def look(pods: list[Pod]) -> bool:
        states = [s.state.waiting for p in pods if p.metadata.name == name for s in p.status.container_statuses]
        return any(w is not None and w.reason == reason and all(x in w.message for x in words) for w in states)

    return look


async def version(client: Client, namespace: str, name: str) -> str:
    return (await run_in(client, namespace, name, "sh", "-c", "echo $VERSION"))[1].strip()


async def test_an_image_is_pulled_with_the_hosts_login_by_tag_and_by_digest(
    engine: Any, client: Client, namespace: str, folder: Path
) -> None:
    write_login(folder)
    tagged = f"{ADDRESS}/nets/app:1"
    digest = await push(engine, tagged, "one")
    by_digest = f"{ADDRESS}/nets/app@{digest}"
    await forget(engine, tagged)
    await apply(client, on_host("digest", namespace, by_digest))
    [first] = await until(client, namespace, count_running(1))
    assert first.status.container_statuses[0].image_id.endswith(by_digest)
    assert await version(client, namespace, "digest") == "one"

    await apply(client, on_host("tag", namespace, tagged, "Always"))
    up = await until(client, namespace, count_running(2))
    assert {s.image for p in up for s in p.status.container_statuses} == {tagged, by_digest}
    assert await version(client, namespace, "tag") == "one"


async def test_a_login_that_is_wrong_or_missing_is_said_in_the_registrys_words_and_can_be_mended(
    engine: Any, client: Client, namespace: str, folder: Path
) -> None:
    image = f"{ADDRESS}/nets/secret:1"
    await push(engine, image, "one")
    await forget(engine, image)
    write_login(folder, password="guessed")
    await apply(client, on_host("wrong", namespace, image))
    await until(client, namespace, waiting("wrong", "ImagePullBackOff", image, "unauthorized"))

    (folder / "config.json").unlink()
    other = f"{ADDRESS}/nets/secret:2"  # another name: what one failed to pull, all wait for
    await apply(client, on_host("without", namespace, other))
    await until(client, namespace, waiting("without", "ImagePullBackOff", other, "no basic auth credentials"))

    write_login(folder)
    await until(client, namespace, waiting("without", "ImagePullBackOff", "manifest unknown"), patience_s=FOR_A_RETRY_S)
    await until(
        client,
        namespace,
        lambda ps: any(p.metadata.name == "wrong" and p.status.phase == "Running" for p in ps),
        patience_s=FOR_A_RETRY_S,
    )


async def test_the_policy_says_whether_what_is_there_is_enough(
    engine: Any, client: Client, namespace: str, folder: Path
) -> None:
    """The registry has a newer image under the name than the engine."""
    write_login(folder)
    image = f"{ADDRESS}/nets/moving:latest"
    await push(engine, image, "old")
    await engine.images.tag(image, f"{ADDRESS}/nets/kept", tag="1")
    await push(engine, image, "new")
    await engine.images.tag(f"{ADDRESS}/nets/kept:1", f"{ADDRESS}/nets/moving", tag="latest")

    never, present = on_host("never", namespace, image, "Never"), on_host("present", namespace, image)
    await apply(client, never, present)
    await until(client, namespace, count_running(2))
    assert await version(client, namespace, "never") == "old"
    assert await version(client, namespace, "present") == "old"

    await apply(client, on_host("always", namespace, image, "Always"))
    await until(client, namespace, count_running(3))
    assert await version(client, namespace, "always") == "new"

    absent = f"{ADDRESS}/nets/absent:1"
    await push(engine, absent, "one")
    await forget(engine, absent)
    await apply(client, on_host("absent", namespace, absent, "Never"))
    await until(client, namespace, waiting("absent", "ErrImageNeverPull"))
    await apply(client, on_host("fetched", namespace, absent))
    await until(client, namespace, lambda ps: sum(p.status.phase == "Running" for p in ps) >= 4)
    assert await version(client, namespace, "fetched") == "one"

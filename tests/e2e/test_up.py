"""`shoal up` and `shoal down` on a machine of the test's own: what it shows, what it leaves (nothing)."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from tests.e2e.conftest import require_lab
from tests.e2e.private import SHOAL, Private

from shoal.local import processes
from shoal.local.machine import LocalRecord, read_record

pytestmark = pytest.mark.timeout(240)
JAEGER = "jaegertracing/all-in-one:1.99"  # a stand-in image of that name
NO_JAEGER_BINARY = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GOPATH": "/nonexistent", "GOBIN": "/nonexistent"}


@pytest.fixture
async def machine() -> AsyncIterator[Private]:
    require_lab()
    async with Private() as found:
        yield found


def record(machine: Private) -> LocalRecord:
    found = read_record(machine.directory / "home")
    assert found is not None
    return found


async def pods(machine: Private) -> dict[str, dict[str, object]]:
    url = {"NATS_URL": f"nats://127.0.0.1:{record(machine).port}"}
    listed = json.loads(await machine.shoal("get", "pods", "-o", "json", env=url))
    return {item["metadata"]["name"]: item["status"] for item in listed["items"]}


async def test_up_shows_the_example_running_and_down_leaves_nothing(machine: Private) -> None:
    before = await machine.state()

    shown = await machine.shoal("up")

    assert "the example runs: 4 pods" in shown
    assert re.search(r"clock +2/2 +Running", shown)
    assert len(re.findall(r"hello-\w+ +1/1 +Running", shown)) == 3
    assert re.search(r'eval "\$\(\S*shoal env\)"', shown)
    status = await pods(machine)
    for name, pod in status.items():
        answer = await machine.run("busybox", "wget", "-qO-", f"http://{pod['podIP']}:8080")
        assert answer == f"hello from {name}\n" if name.startswith("hello") else "UTC" in answer

    said = await machine.shoal("down")
    assert "the cluster is down" in said
    assert await machine.state() == before


async def test_up_again_restarts_nothing_and_what_is_kept_comes_back(machine: Private) -> None:
    await machine.shoal("up")
    running = machine.processes()
    again = await machine.shoal("up")

    assert "a cluster runs here already" in again
    assert "replicaset.apps/hello unchanged" in again
    refused = await machine.shoal("up", "--node", "other", check=False)
    assert re.fullmatch(
        r"error: a cluster runs here already, with --node \S+, not other; `shoal down` stops it\n", refused
    )
    assert set(running) <= set(machine.processes())

    await machine.shoal("scale", "rs", "hello", "--replicas", "2")
    assert "the example runs: 3 pods" in await machine.shoal("up")  # nobody's change is taken back
    async with asyncio.timeout(60):
        while len(first := await pods(machine)) != 3:  # the third of the set is on its way out
            await asyncio.sleep(0.2)
    await machine.shoal("down")
    await machine.shoal("up", "--no-example")
    async with asyncio.timeout(60):
        while not all(pod["phase"] == "Running" for pod in (await pods(machine)).values()):
            await asyncio.sleep(0.2)
    assert set(await pods(machine)) == set(first)
    await machine.shoal("down", "--purge")
    assert not (machine.directory / "home").exists()


async def test_env_points_any_client_at_it(machine: Private) -> None:
    occupy = "import socket; s = socket.create_server(('127.0.0.1', 4222)); print(flush=True); input()"
    taken = await asyncio.create_subprocess_exec(
        *machine.command(sys.executable, "-c", occupy), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert taken.stdout is not None
    assert await taken.stdout.readline() == b"\n"
    shown = await machine.shoal("up", "--no-example")
    await taken.communicate(b"\n")
    assert f"4222 is taken; NATS listens on {record(machine).port}" in shown
    earlier = {"DOCKER_HOST": f"unix://{machine.directory}/labs/lab/h1/docker.sock"}
    earlier["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://198.18.0.1:4318"
    again = await machine.run(
        "sh", "-c", f'eval "$({SHOAL} env)"; echo "$DOCKER_HOST" "$OTEL_EXPORTER_OTLP_ENDPOINT"', env=earlier
    )
    assert again.split()[0] == f"unix://{record(machine).socket}"
    assert "198.18" not in again
    lines = (await machine.shoal("env")).splitlines()

    assert f"export NATS_URL=nats://127.0.0.1:{record(machine).port}" in lines
    assert f"export DOCKER_HOST=unix://{record(machine).socket}" in lines
    ss = await machine.run("sh", "-c", "cat /proc/net/tcp")
    listening = [line.split()[1] for line in ss.splitlines()[1:] if line.split()[3] == "0A"]
    assert {address.split(":")[0] for address in listening} == {"0100007F"}  # loopback alone
    await machine.shoal("down")
    assert "no cluster runs on this machine" in await machine.shoal("env", check=False)


async def test_a_range_in_use_is_passed_over_and_said(machine: Private) -> None:
    await machine.run("ip", "address", "add", "10.210.7.1/24", "dev", "eth0")
    before = await machine.state()
    shown = await machine.shoal("up")

    assert "10.208.0.0/12 overlaps 10.210.7.0/24" in shown
    assert record(machine).cluster_cidr == "10.224.0.0/12"
    assert all(str(pod["podIP"]).startswith("10.22") for pod in (await pods(machine)).values())
    await machine.shoal("down")
    assert await machine.state() == before


@contextlib.asynccontextmanager
async def their_docker(machine: Private) -> AsyncIterator[None]:
    """A stock engine on the usual socket, with a container of the user's."""
    data = machine.directory / "theirs"
    argv = machine.command(
        "dockerd", "--data-root", str(data), "-H", "unix:///run/docker.sock", "--pidfile", "/run/theirs.pid"
    )
    theirs = await asyncio.create_subprocess_exec(*argv, env=machine.env, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(30):
            while "OK" not in await machine.run("sh", "-c", "docker version >/dev/null 2>&1 && echo OK", check=False):
                await asyncio.sleep(0.1)
        await machine.run("sh", "-c", "tar -C / -c bin/busybox | docker import - theirs")
        await machine.run(
            "docker", "run", "-d", "--name", "theirs", "--stop-signal", "KILL", "theirs", "/bin/busybox", "sleep", "600"
        )
        yield
    finally:
        theirs.terminate()
        await theirs.wait()


async def test_beside_a_docker_that_runs_only_one_marked_rule_is_added(machine: Private) -> None:
    async with their_docker(machine):
        entry = 'ENTRYPOINT ["/bin/busybox", "sh", "-c", "exec sleep 600"]'
        await machine.run("sh", "-c", f"tar -C / -c bin/busybox | docker import -c '{entry}' - {JAEGER}")
        before = await machine.state()

        shown = await machine.shoal("up", env=NO_JAEGER_BINARY)

        assert "using the engine on /var/run/docker.sock" in shown
        added = [rule for rule in (await machine.state())["iptables"] if rule not in before["iptables"]]
        [jump] = [rule for rule in added if "-A SHOAL-" not in rule and "-N SHOAL-" not in rule]
        assert jump.startswith('-A DOCKER-USER -m comment --comment "shoal node private"')
        for pod in (await pods(machine)).values():
            await machine.run("busybox", "wget", "-qO-", f"http://{pod['podIP']}:8080")
        assert f"{JAEGER} shoal-jaeger" in await machine.run("docker", "ps", "--format", "{{.Image}} {{.Names}}")
        assert "as one trace: http://127.0.0.1:16686/trace/" in shown

        await machine.shoal("down")
        assert await machine.run("docker", "ps", "-a", "--format", "{{.Names}}") == "theirs\n"
        after = await machine.state()
        after["mounts"].remove(
            "/run/docker/netns/default"
        )  # the engine's own handle on the host's network, until it ends
        assert after | {"run": []} == before | {"run": []}  # its own files under /run come and go


async def test_a_user_who_may_use_docker_needs_no_root(machine: Private) -> None:
    """The agent lets the engine make the network then. (The capability only lets it read this checkout.)"""
    read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    shoal = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *read, sys.executable, "-m", "shoal.cli"]
    await machine.run("install", "-d", "-o", "65534", "/run/nobody")
    env = {"SHOAL_HOME": "/run/nobody/shoal", "HOME": "/run/nobody"}
    async with their_docker(machine):
        await machine.run("chmod", "666", "/run/docker.sock")
        before = await machine.state()
        networks = await machine.run("docker", "network", "ls", "--format", "{{.Name}}")

        assert "the example runs: 4 pods" in await machine.run(*shoal, "up", env=env)
        await machine.run(*shoal, "down", env=env)

        assert await machine.run("docker", "ps", "-a", "--format", "{{.Names}}") == "theirs\n"
        assert await machine.run("docker", "network", "ls", "--format", "{{.Name}}") == networks
        assert await machine.state() | {"run": []} == before | {"run": []}


async def test_down_after_the_supervisor_was_killed_leaves_nothing_either(machine: Private) -> None:
    before = await machine.state()
    await machine.shoal("up")
    supervisor = processes.read_pidfile(machine.directory / "home/supervisor.pid")
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)

    await machine.shoal("down")
    assert await machine.state() == before


async def test_up_after_everything_of_ours_was_killed_goes_on_where_it_was(machine: Private) -> None:
    await machine.shoal("up")
    first = await pods(machine)
    for pid in machine.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while machine.processes():
            await asyncio.sleep(0.05)

    shown = await machine.shoal("up")  # the bridge of before is there still: its range is ours, not in the way

    assert "replicaset.apps/hello unchanged" in shown
    assert "overlaps" not in shown
    now = await pods(machine)
    assert set(now) == set(first)
    assert record(machine).cluster_cidr == "10.208.0.0/12"
    for pod in now.values():
        await machine.run("busybox", "wget", "-qO-", f"http://{pod['podIP']}:8080")


async def test_a_range_that_a_store_depends_on_is_not_changed_in_silence(machine: Private) -> None:
    await machine.shoal("up", "--no-example")
    await machine.shoal("down")
    await machine.run("ip", "address", "add", "10.210.7.1/24", "dev", "eth0")

    said = await machine.shoal("up", check=False)
    assert "10.208.0.0/12 overlaps 10.210.7.0/24, which this machine uses; `shoal down --purge`" in said
    await machine.shoal("down", "--purge")
    assert "processes run" in await machine.shoal("up", "--no-example")


async def test_in_the_foreground_logs_are_shown_and_sigint_ends_it_all(machine: Private) -> None:
    before = await machine.state()
    process = await asyncio.create_subprocess_exec(
        *machine.command(SHOAL, "up", "--no-example", "--foreground"), env=machine.env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"attached: " not in (line := await process.stderr.readline()):
            assert line
    assert b"Ctrl-C stops the cluster" in line
    async with asyncio.timeout(60):
        while b"api " not in (line := await process.stdout.readline()) or b"ready" not in line:
            assert line
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(90):
        await process.stdout.read()
        assert await process.wait() == 0
    assert await machine.state() == before


async def test_without_engine_and_root_one_sentence_says_what_to_do(machine: Private) -> None:
    await machine.run("install", "-d", "-o", "65534", "/run/nobody")
    home = {"SHOAL_HOME": "/run/nobody/shoal"}
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    said = await machine.run(*nobody, sys.executable, "-m", "shoal.cli", "up", check=False, env=home)

    assert said.strip().splitlines() == [
        "error: no engine answers, and only root can start one: start Docker, or run this as root (to run containers)"
    ]

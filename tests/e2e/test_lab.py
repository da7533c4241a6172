"""The lab itself: hosts that are hosts, faults that are faults, labs that do not meet, and nothing left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.e2e.conftest import Docker, require_lab
from tests.e2e.private import Private
from tests.e2e.world import eventually

from shoal.errors import NotFound
from shoal.local import processes
from shoal.local.lab import Lab
from shoal.local.lab_places import CONTROL_PLANE
from shoal.local.program import State

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def machine() -> AsyncIterator[Private]:
    require_lab()
    async with Private() as found:
        yield found


async def reaches(lab: Lab, host: str, address: str) -> bool:
    return "1 packets received" in await lab.run(host, "busybox", "ping", "-c1", "-W1", address, check=False)


async def test_a_host_has_a_name_an_address_and_an_engine_of_its_own(lab: Lab, docker: Docker) -> None:
    for host in lab.hosts:
        assert (await lab.run(host, "hostname")).strip() == host
        assert lab.address(host) in await lab.run(host, "ip", "-4", "-o", "address", "show", "eth0")
        assert (await (await docker(host)).system.info())["Name"] == host
    for space in ("net", "mnt", "uts"):
        found = [await namespaces(lab, host, space) for host in lab.hosts]
        assert all(len(each) == 1 for each in found)  # engine, agent and proxy share theirs
        assert len(set.union(*found)) == len(lab.hosts)


async def namespaces(lab: Lab, host: str, space: str) -> set[str]:
    pids = [await lab.pid(f"{host}/{part}") for part in ("engine", "agent", "proxy")]
    return {str(Path(f"/proc/{pid}/ns/{space}").readlink()) for pid in pids}


async def test_a_host_that_is_cut_reaches_nobody_until_it_is_healed(lab: Lab) -> None:
    assert await reaches(lab, "h2", lab.address("h1"))

    await lab.cut("h1")
    assert await lab.is_cut("h1")
    assert not await reaches(lab, "h2", lab.address("h1"))
    assert not await reaches(lab, "h1", str(lab.record.plan.nats_address))
    assert await reaches(lab, "h2", lab.address("h3"))
    assert (await lab.processes())["h1/agent"].state is State.READY  # what runs on it goes on

    await lab.heal("h1")
    await eventually(lambda: reaches(lab, "h2", lab.address("h1")), True)  # neighbours ask again after a while


async def test_what_is_killed_comes_back_or_stays_down_as_asked(lab: Lab) -> None:
    before = await lab.pid("h1/agent")
    await lab.kill("h1", "agent")
    await lab.control.wait(["h1/agent"])
    assert await lab.pid("h1/agent") != before

    await lab.kill("h1", "proxy", restart=False)
    await lab.kill(CONTROL_PLANE, "scheduler", restart=False)
    await stopped(lab, "h1/proxy", "scheduler")
    await lab.restart("h1", "proxy")
    await lab.restart(CONTROL_PLANE, "scheduler")
    reports = await lab.processes()
    assert reports["h1/proxy"].state is reports["scheduler"].state is State.READY


async def stopped(lab: Lab, *names: str) -> None:
    reports = await lab.processes()
    while {reports[name].state for name in names} != {State.STOPPED}:
        await asyncio.sleep(0.01)
        reports = await lab.processes()
    with pytest.raises(NotFound):
        await lab.pid(names[0])


async def test_an_engine_that_is_killed_comes_back_without_its_containers_processes(lab: Lab, docker: Docker) -> None:
    created = await (await docker("h3")).containers.run(
        {"Image": "shoal/busybox", "Cmd": ["sleep", "600"]}, name="victim"
    )
    pid = (await created.show())["State"]["Pid"]
    sleeper = processes.identify(pid)
    assert sleeper is not None

    await lab.kill("h3", "engine")
    await lab.control.wait(["h3/engine", "h3/agent"])

    assert not processes.alive(sleeper)
    assert not (await created.show())["State"]["Running"]
    await created.delete(force=True)


async def test_a_power_cut_takes_everything_but_the_disk(lab: Lab, docker: Docker) -> None:
    engine = await docker("h2")
    created = await engine.containers.run({"Image": "shoal/busybox", "Cmd": ["sleep", "600"]}, name="victim")
    sleeper = processes.identify((await created.show())["State"]["Pid"])
    assert sleeper is not None
    await lab.run("h2", "ip", "link", "add", "leftover", "type", "bridge")

    await lab.kill("h2", restart=False)
    await stopped(lab, "h2/agent", "h2/proxy", "h2/engine", "h2/keeper")
    assert not processes.alive(sleeper)
    assert not await reaches(lab, "h1", lab.address("h2"))

    await lab.restart("h2")
    assert await reaches(lab, "h1", lab.address("h2"))
    assert "leftover" not in await lab.run("h2", "ip", "link")
    assert "victim" in await lab.run("h2", "docker", "ps", "-a")
    await lab.run("h2", "docker", "rm", "victim")


async def test_an_environment_can_be_given_to_a_hosts_processes(lab: Lab) -> None:
    await lab.restart("h1", "proxy", env={"SHOAL_LOG_LEVEL": "debug"})
    environ = Path(f"/proc/{await lab.pid('h1/proxy')}/environ").read_bytes().split(b"\0")

    assert b"SHOAL_LOG_LEVEL=debug" in environ
    await lab.restart("h1", "proxy", env={})


async def test_unknown_hosts_and_parts_are_named(lab: Lab) -> None:
    with pytest.raises(NotFound, match="has no host 'h9'; it has h1, h2, h3"):
        await lab.cut("h9")
    with pytest.raises(NotFound, match="'api' is no part of h1; it is one of engine, agent, proxy, all"):
        await lab.kill("h1", "api")


async def test_labs_beside_each_other_do_not_meet_and_down_leaves_nothing(machine: Private) -> None:
    before = await machine.state()
    first, second = await asyncio.gather(
        machine.shoal("lab", "up", "--hosts", "2", "--links", "2", "--name", "one"),
        machine.shoal("lab", "up", "--hosts", "1", "--name", "two"),
    )
    assert "lab one is up" in first
    assert "lab two is up" in second

    nodes = {name: await in_lab(machine, name, "get", "nodes", "--no-headers") for name in ("one", "two")}
    assert [line.split()[:2] for line in nodes["one"].splitlines()] == [["h1", "Ready"], ["h2", "Ready"]]
    assert [line.split()[:2] for line in nodes["two"].splitlines()] == [["h1", "Ready"]]

    # Hosts on links of their own: a router between them, no link that they share.
    route = await machine.shoal("lab", "exec", "h1", "--name", "one", "--", "ip", "-o", "route")
    assert "default via" in route
    second_host = (
        await machine.shoal("lab", "exec", "2", "--name", "one", "--", "ip", "-4", "-o", "address", "show", "eth0")
    ).split()[3]
    address = second_host.split("/")[0]
    assert address not in route
    ping = ("busybox", "ping", "-c1", "-W2", address)
    assert "1 packets received" in await machine.shoal("lab", "exec", "h1", "--name", "one", "--", *ping)
    code = await machine.shoal(
        "lab", "exec", "h1", "--name", "two", "--", "sh", "-c", f"{' '.join(ping)} || echo unreachable"
    )
    assert "unreachable" in code

    assert "h1 is cut off" in await machine.shoal("lab", "cut", "1", "--name", "two")
    assert "h1 is plugged in" in await machine.shoal("lab", "heal", "h1", "--name", "two")
    killed = await machine.shoal("lab", "kill", "control", "scheduler", "--no-restart", "--name", "two")
    assert "scheduler was killed; it is down until `shoal lab restart control scheduler`" in killed
    restarted = await machine.shoal("lab", "restart", "control", "scheduler", "--name", "two")
    assert "scheduler was restarted and is ready" in restarted

    await machine.shoal("lab", "down", "--name", "one")
    assert "there is no lab one (two); nothing was done" in await machine.shoal("lab", "down", "--name", "one")
    assert "h1" in await in_lab(machine, "two", "get", "nodes")
    listed = await machine.shoal("lab", "list")
    assert "two" in listed
    assert "one" not in listed
    await machine.shoal("lab", "down")
    assert "no lab is here; nothing was done" in await machine.shoal("lab", "down")
    assert await machine.state() == before


async def in_lab(machine: Private, lab: str, *argv: str) -> str:
    exports = await machine.shoal("lab", "env", "--name", lab)
    env = dict(line.removeprefix("export ").split("=", 1) for line in exports.splitlines())
    return await machine.shoal(*argv, env=env)


async def test_down_after_the_supervisor_was_killed_leaves_nothing_either(machine: Private) -> None:
    before = await machine.state()
    await machine.shoal("lab", "up", "--hosts", "1", "--name", "solo")
    supervisor = processes.read_pidfile(machine.directory / "labs/solo/supervisor.pid")
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    assert "dead" in await machine.shoal("lab", "list")

    await machine.shoal("lab", "down")
    assert await machine.state() == before

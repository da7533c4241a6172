"""Several real Docker hosts on one Linux machine: `shoal lab`, and the ground that tests and benchmarks stand on.

    async with Lab.started(hosts=3) as lab: ...        # or Lab.up / Lab.open / lab.down

A host is a network, a mount namespace, a host name and an engine of its own, with an agent and a proxy inside. Bridge,
nats-server and control plane are in the lab's own namespace. One supervisor runs it all; everything hangs on processes,
so that ending them ends the lab (engine.py, links.py). Needs root.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from shoal.errors import AlreadyExists, NotFound, Unavailable
from shoal.local import cluster, engine, images, lab_files, links, processes, ranges
from shoal.local.control import Control, launch, leftovers
from shoal.local.engine_client import EngineClient
from shoal.local.jaeger import BINARIES, find_binary
from shoal.local.lab_places import CONTROL_PLANE, KEEPER, Places
from shoal.local.program import Program, Report, State

DEFAULT_NAME = "lab"
UP_SECONDS = 90.0
Say = Callable[[str], None]


class Lab(Places):
    """A lab that runs. Hosts are `h1`, `h2`, ...; `control` stands for nats and the control plane."""

    # --- coming and going ------------------------------------------------------------------------------------------

    @classmethod
    async def up(
        cls,
        name: str = DEFAULT_NAME,
        *,
        hosts: int = 3,
        link_count: int = 1,
        env: Mapping[str, str] | None = None,
        with_jaeger: bool = False,
        cluster_cidr: str = ranges.CLUSTER,
        say: Say = lambda _: None,
    ) -> Self:
        """Bring one up; `env` goes to every process. Cleared away again if that fails.

        Raises: AlreadyExists if a lab of that name runs; Invalid, Unavailable.
        """
        if os.geteuid() != 0:
            raise Unavailable("a lab makes network namespaces and starts engines in them: only root can")
        engine.require(why="to run a lab's hosts", say=say)
        binary = find_binary() if with_jaeger else None
        if with_jaeger and binary is None:
            raise Unavailable(f"there is no Jaeger ({' or '.join(BINARIES)}) on the PATH or where Go installs")
        lab_files.check(name, hosts, link_count)
        with lab_files.locked():
            await asyncio.to_thread(_make_room, name)
            record = await asyncio.to_thread(
                lab_files.reserve, name, hosts, link_count, dict(env or {}), binary, cluster_cidr
            )
        lab = cls(record)
        try:
            await lab._start(say)
        except BaseException:
            await lab.down()
            raise
        return lab

    @classmethod
    def open(cls, name: str = DEFAULT_NAME) -> Self:
        """Raises: NotFound if no lab of that name runs."""
        found = lab_files.read_record(name)
        if found is None or Control(lab_files.base() / name).process() is None:
            running = ", ".join(r.name for r in lab_files.running_labs()) or "none runs"
            raise NotFound(f"there is no lab {name!r} ({running}); `shoal lab up` starts one")
        return cls(found)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, name: str = "", *, hosts: int = 3, **options: object) -> AsyncIterator[Self]:
        """A lab of a name of its own for the length of a block."""
        lab = await cls.up(name or f"t{secrets.token_hex(3)}", hosts=hosts, **options)  # type: ignore[arg-type]
        try:
            yield lab
        finally:
            await lab.down()

    async def down(self) -> None:
        """End it all, at once. What is left of a lab that failed half-way goes too."""
        with self._networks() as networks:
            with contextlib.suppress(Unavailable):
                await self.control.kill([], hold=True)
            await asyncio.to_thread(self._kill_engines)
            await self.control.shutdown()
            await asyncio.to_thread(networks.kill)
            await asyncio.to_thread(self._clear)

    def _networks(self, host: str = "") -> processes.Networks:
        """Those that the keepers (or one host's) hold: what `lab exec` left running is found by being in them."""
        end = f"{host}/keeper" if host else "/keeper"
        keepers = [p.pid for name, p in leftovers(self.directory).items() if name.endswith(end)]
        supervisor = self.control.process()
        return processes.Networks(keepers, outside=[supervisor.pid] if supervisor else [])

    async def _start(self, say: Say) -> None:
        await launch(self.directory, env=cluster.base_env())
        say(f"{len(self.hosts)} {'host' if len(self.hosts) == 1 else 'hosts'}: namespaces, links, engines")
        keepers = [engine.keeper(self.engine_spec(host), program=f"{host}/keeper") for host in self.hosts]
        await self.control.add([_lab_keeper(self.directory), *keepers])
        pids = {name: report.process.pid for name, report in (await self.control.wait(seconds=20)).items()}
        await asyncio.to_thread(self._plumb, pids)
        inside = _inside(pids[KEEPER])
        programs = [cluster.nats(self.cluster_spec, wrap=inside)]
        programs += [self.record.jaeger.program(inside)] if self.record.jaeger else []
        for host in self.hosts:
            programs += self.host_programs(host, pids[f"{host}/keeper"])
        programs += [cluster.control(self.cluster_spec, process, wrap=inside) for process in cluster.CONTROL]
        await self.control.add(programs)
        say("nats-server and the control plane; images for the hosts")
        async with asyncio.TaskGroup() as tasks:
            for host in self.hosts:
                tasks.create_task(self._load_images(host), name=f"images of {host}")
        await self.control.wait(seconds=UP_SECONDS)

    def _plumb(self, pids: Mapping[str, int]) -> None:
        links.build(self.record.plan, pids[KEEPER])
        for host in self.hosts:
            links.attach(self.record.plan, host, pids[KEEPER], pids[f"{host}/keeper"])

    async def _load_images(self, host: str) -> None:
        await self.control.wait([f"{host}/engine"], seconds=UP_SECONDS)
        await asyncio.to_thread(images.build, EngineClient(self.docker_socket(host)))

    def _kill_engines(self) -> None:
        for host in self.hosts:
            engine.kill_all(self.engine_spec(host))

    def _clear(self) -> None:
        processes.end(leftovers(self.directory).values(), seconds=0.5)
        subprocess.run(["ip", "link", "del", self.record.plan.uplink], stderr=subprocess.DEVNULL, check=False)
        for host in self.hosts:
            engine.clear(self.engine_spec(host), data=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- what runs ---------------------------------------------------------------------------------------------------------

    async def processes(self) -> dict[str, Report]:
        return await self.control.status()

    async def pid(self, program: str) -> int:
        """Raises: NotFound if it does not run."""
        report = (await self.control.status()).get(program)
        if report is None or report.process.pid == 0:
            raise NotFound(f"{program} does not run in lab {self.name}")
        return report.process.pid

    # --- faults ----------------------------------------------------------------------------------------------------------

    async def cut(self, host: str) -> None:
        """Pull the host's cable: it reaches nobody, nobody reaches it; what runs on it goes on."""
        await asyncio.to_thread(links.cable, self.known(host), await self.pid(KEEPER), plugged=False)

    async def heal(self, host: str) -> None:
        await asyncio.to_thread(links.cable, self.known(host), await self.pid(KEEPER), plugged=True)

    async def is_cut(self, host: str) -> bool:
        return await asyncio.to_thread(links.is_unplugged, self.known(host), await self.pid(KEEPER))

    async def kill(self, host: str, part: str = "all", *, restart: bool = True) -> None:
        """SIGKILL. `all` of a host is a power cut: every process, container, mount, link and rule of it is gone at once.

        Without `restart` it stays down until `restart()`; with it the supervisor starts it again (a host: it boots).
        """
        if host == CONTROL_PLANE or part != "all":
            await self.control.kill(self.programs(host, part), hold=not restart)
            return
        host = self.known(host)
        unplugged = await self.is_cut(host)
        with self._networks(host) as network:
            await self.control.kill([*self.programs(host, "all"), f"{host}/keeper"], hold=True)
            await asyncio.to_thread(engine.kill_all, self.engine_spec(host))
            await asyncio.to_thread(network.kill)
        await asyncio.to_thread(
            links.detach, host, await self.pid(KEEPER)
        )  # the dead namespace would go, but not at once
        if restart:
            await self._boot(host, unplugged=unplugged)

    async def restart(self, host: str, part: str = "all", *, env: Mapping[str, str] | None = None) -> None:
        """Stop in order what runs, start, and wait until it is ready. `env`: for the agent and proxy, from now on."""
        names = self.programs(host, part)
        if host != CONTROL_PLANE and part == "all":
            host = self.known(host)
            unplugged = await self.is_cut(host)
            await self.control.stop([*names, f"{host}/keeper"])
            await asyncio.to_thread(links.detach, host, await self.pid(KEEPER))
            await self._boot(host, unplugged=unplugged, env=env)
        elif env is not None:
            host = self.known(host)
            programs = self.host_programs(host, await self.pid(f"{host}/keeper"), env)
            await self.control.add([p for p in programs if p.name in names])
        else:
            await self.control.stop(names)
            await self.control.start(names)
        await self.control.wait(names, seconds=UP_SECONDS)

    async def mend(self) -> None:
        """Undo every fault: cables in, what is down started, and wait until all is ready again."""
        for host in self.hosts:
            if await self.is_cut(host):
                await self.heal(host)
        reports = await self.control.status()
        for host in self.hosts:
            if reports[f"{host}/keeper"].state is State.STOPPED:
                await self._boot(host, unplugged=False)
        await self.control.start([])
        await self.control.wait(seconds=UP_SECONDS)

    async def _boot(self, host: str, *, unplugged: bool, env: Mapping[str, str] | None = None) -> None:
        """A host from nothing but its disk: namespaces, cable, engine, agent, proxy."""
        keeper = f"{host}/keeper"
        await self.control.add([engine.keeper(self.engine_spec(host), program=keeper)])
        await self.control.wait([keeper], seconds=20)
        lab_pid, keeper_pid = await self.pid(KEEPER), await self.pid(keeper)
        await asyncio.to_thread(links.attach, self.record.plan, host, lab_pid, keeper_pid)
        if unplugged:
            await asyncio.to_thread(links.cable, host, lab_pid, plugged=False)
        await self.control.add(self.host_programs(host, keeper_pid, env))

    # --- inside ------------------------------------------------------------------------------------------------------------

    async def command(self, host: str, argv: Sequence[str]) -> list[str]:
        """`argv` as it runs inside a host's namespaces (or, for `control`, in the lab's network)."""
        if host == CONTROL_PLANE:
            return ["nsenter", "-t", str(await self.pid(KEEPER)), "-n", "--", *argv]
        return engine.enter(await self.pid(f"{self.known(host)}/keeper"), list(argv), own_network=True)

    async def run(self, host: str, *argv: str, check: bool = True) -> str:
        """Run it inside, and give its output. Raises: Unavailable if it fails and `check`."""
        process = await asyncio.create_subprocess_exec(
            *await self.command(host, argv),
            env=os.environ | {"PATH": engine.path_env()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        text = out.decode(errors="replace")
        if check and process.returncode != 0:
            raise Unavailable(f"{' '.join(argv)} on {host} ended with {process.returncode}: {text.strip()}")
        return text


def _lab_keeper(directory: Path) -> Program:
    ready = directory / "keeper.ready"
    script = 'ip link set lo up && : > "$0" && exec sleep infinity'
    return Program(
        name=KEEPER,
        argv=["unshare", "--net", "--", "/bin/sh", "-c", script, str(ready)],
        env={"PATH": engine.path_env()},
        ready=f"file:{ready}",
        stop_seconds=2,
        restart=False,
    )


def _inside(pid: int) -> cluster.Wrap:
    return lambda argv: ["nsenter", "-t", str(pid), "-n", "--", *argv]


def _make_room(name: str) -> None:
    """Clear away what a crash left of a lab of that name. Raises: AlreadyExists if one runs."""
    if (old := lab_files.read_record(name)) is not None:
        lab = Lab(old)
        if lab.control.process() is not None:
            raise AlreadyExists(f"lab {name} runs already; `shoal lab down --name {name}` ends it")
        lab._kill_engines()  # noqa: SLF001
        lab._clear()  # noqa: SLF001

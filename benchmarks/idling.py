"""What a cluster costs while nothing happens: PSS and CPU of every process, and `shoal get` from a shell."""

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

from benchmarks.cluster import Cluster
from benchmarks.figures import Figure

TICKS = os.sysconf("SC_CLK_TCK")


def pss_mib(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def idle(cluster: Cluster, *, settle_s: float = 20, watch_s: float = 60) -> list[Figure]:
    """Of a cluster of one host: the supervisor, nats-server and the five processes, and the two of a joined host."""
    lab = cluster.lab
    [host] = lab.hosts
    node = [f"{host}/agent", f"{host}/proxy"]
    programs = ["nats", "api", "scheduler", "replica-controller", *node]
    pids = {p: await lab.pid(p) for p in programs}
    supervisor = lab.control.process()
    if supervisor is None:
        raise RuntimeError("the lab has no supervisor")
    pids["supervisor"] = supervisor.pid
    await asyncio.sleep(settle_s)
    before = {p: cpu_seconds(pid) for p, pid in pids.items()}
    await asyncio.sleep(watch_s)
    cpu = {p: (cpu_seconds(pid) - before[p]) / watch_s * 100 for p, pid in pids.items()}
    pss = {p: pss_mib(pid) for p, pid in pids.items()}
    each = ", ".join(f"{p.removeprefix(f'{host}/')} {pss[p]:.0f} MiB {cpu[p]:.2f} %" for p in pids)
    whole, joined = sum(pss.values()), sum(pss[p] for p in node)

    def figure(name: str, unit: str, value: float, goal: float, most: float | None = None, note: str = "") -> Figure:
        return Figure(
            name=f"idle: {name}",
            unit=unit,
            ours=(value,),
            goal=f"{goal:g}" + (f", {most:g} at most" if most else ""),
            met=value <= goal,
            bearable=most is not None and value <= most,
            note=note,
        )

    return [
        figure("PSS of all processes, nats-server and supervisor", "MiB", whole, 250, 350, each),
        figure("CPU of all", "% of a core", sum(cpu.values()), 2),
        figure("PSS of agent and proxy", "MiB", joined, 80, 110),
        figure("CPU of agent and proxy", "% of a core", sum(cpu[p] for p in node), 0.5),
    ]


async def shoal_get(cluster: Cluster, *, tries: int = 20) -> Figure:
    """`shoal get pods` as a shell runs it, beside a Python that does nothing, in turn."""
    shoal = Path(sys.executable).with_name("shoal")
    env = os.environ | {"NATS_URL": cluster.lab.nats_url}

    async def timed(*argv: str) -> float:
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*argv, env=env, stdout=asyncio.subprocess.DEVNULL)
        if await process.wait() != 0:
            raise RuntimeError(f"{argv} failed")
        return (time.perf_counter() - began) * 1000

    await timed(str(shoal), "get", "nodes")  # compiles, and fills the page cache
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(tries):
        bare.append(await timed(sys.executable, "-c", "pass"))
        ours.append(await timed(str(shoal), "get", "nodes"))
    return Figure(
        name="`shoal get nodes` from a shell",
        unit="ms",
        ours=tuple(ours),
        yardstick=tuple(bare),
        yardstick_name="python -c pass",
        goal="250",
        met=statistics.median(ours) <= 250,
    )

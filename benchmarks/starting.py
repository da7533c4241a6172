"""How fast pods start, are healed, and follow a publish: each beside the bare engine on the same hosts."""

import statistics
import time
from collections.abc import Sequence

from benchmarks.cluster import COMMAND, IMAGE, MAIN, Cluster, Starts, engines
from benchmarks.figures import Figure, percentile
from benchmarks.yardstick import BareEngine, start_many
from shoal import names

AT_ONCE = 4  # plain containers started at once on a host: more made an engine slower, not faster


def bare_engines(cluster: Cluster) -> list[BareEngine]:
    return [BareEngine(f"unix://{cluster.lab.docker_socket(h)}", IMAGE, COMMAND) for h in cluster.lab.hosts]


async def bare_start_ms(engine: BareEngine, starts: Starts) -> float:
    """One create and start, from the first request to the engine's `start` event."""
    began = time.perf_counter()
    took = await starts.of(await engine.start_one()) - began
    await engine.clear()
    return took * 1000


async def pods_per_second(cluster: Cluster, *, rounds: int = 5, each: int = 20) -> Figure:
    """Publish of a ReplicaSet to the start of its last container, beside as many plain containers."""
    hosts = len(cluster.lab.hosts)
    ours: list[float] = []
    bare: list[float] = []
    plain = bare_engines(cluster)
    async with engines(cluster.lab) as docker, Starts(docker) as starts:
        for i in range(rounds):
            starts.forget()
            began = time.perf_counter()
            await start_many(plain, each, AT_ONCE)
            bare.append(each * hosts / (await starts.count(each * hosts) - began))
            for engine in plain:
                await engine.clear()
            starts.forget()
            began = time.perf_counter()
            await cluster.publish(cluster.replicaset(f"many-{i}", each * hosts))
            ours.append(each * hosts / (await starts.count(each * hosts) - began))
            await cluster.until_running(each * hosts)
            await cluster.clear()
    for engine in plain:
        await engine.close()
    ratio = statistics.median(ours) / statistics.median(bare)
    return Figure(
        name=f"full pods started, {hosts} hosts, {each} on each",
        unit="1/s",
        ours=tuple(ours),
        yardstick=tuple(bare),
        yardstick_name="plain containers, bare engine",
        goal="ratio 1.0 or better",
        met=ratio >= 1.0,
    )


async def killed_to_replaced(cluster: Cluster, *, tries: int = 20) -> Figure:
    """SIGKILL of a pod's container to the start of its successor. The back-off is not part of it: a new pod each time."""
    ours: list[float] = []
    bare: list[float] = []
    plain = bare_engines(cluster)
    async with engines(cluster.lab) as docker, Starts(docker) as starts:
        for i in range(tries):
            bare.append(await bare_start_ms(plain[0], starts))
            name = f"killed-{i}"
            await cluster.apply(cluster.pod(name))
            await starts.of(name)
            await cluster.until_running(1)
            wanted = f'{{"label": ["{names.CONTAINER_POD_NAME}={name}", "{names.CONTAINER_NAME}={MAIN}"]}}'
            [victim] = [c for engine in docker for c in await engine.containers.list(filters=wanted)]
            began = time.perf_counter()
            await victim.kill(signal="KILL")
            ours.append((await starts.of(name, after=began) - began) * 1000)
            await cluster.clear()
    for engine in plain:
        await engine.close()
    return Figure(
        name="killed container to replacement running",
        unit="ms",
        ours=tuple(ours),
        yardstick=tuple(bare),
        yardstick_name="one create and start, bare engine",
        goal="ratio 1.2 at most",
        met=statistics.median(ours) / statistics.median(bare) <= 1.2,
    )


async def publish_to_started(cluster: Cluster, *, tries: int = 100) -> Sequence[Figure]:
    """An acknowledged publish of one pod to its container's start, idle cluster, beside one bare create and start."""
    ours: list[float] = []
    bare: list[float] = []
    plain = bare_engines(cluster)
    async with engines(cluster.lab) as docker, Starts(docker) as starts:
        for i in range(tries):
            bare.append(await bare_start_ms(plain[i % len(plain)], starts))
            name = f"one-{i}"
            began = time.perf_counter()
            await cluster.publish(cluster.pod(name))
            ours.append((await starts.of(name) - began) * 1000)
            await cluster.clear()
    for engine in plain:
        await engine.close()
    on_top = percentile(ours, 99) - percentile(bare, 99)
    return (
        Figure(
            name=f"publish to container started, {tries} tries, median",
            unit="ms",
            ours=(statistics.median(ours),),
            yardstick=(statistics.median(bare),),
            yardstick_name="one create and start, bare engine",
        ),
        Figure(
            name=f"publish to container started, {tries} tries, p99",
            unit="ms",
            ours=(percentile(ours, 99),),
            yardstick=(percentile(bare, 99),),
            yardstick_name="one create and start, bare engine",
            goal="50 ms on top",
            met=on_top <= 50,
            note=f"on top of the bare start: {statistics.median(ours) - statistics.median(bare):.0f} ms in the median,"
            f" {on_top:.0f} ms at p99",
        ),
    )

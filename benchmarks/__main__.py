"""`make bench`: every figure, or those named (`python -m benchmarks starting idle`), to benchmarks/results.md."""

import sys

import uvloop

from benchmarks.cluster import cluster
from benchmarks.figures import Figure, table, write
from benchmarks.idling import idle, shoal_get
from benchmarks.starting import killed_to_replaced, pods_per_second, publish_to_started

HOW = """\
Hosts are those of `shoal lab`: network namespaces with a real Docker Engine each, on this one machine, so that control \
plane, engines and clients share its cores.
The yardstick of every start is the same engine, driven by aiodocker, making and starting a plain container (`docker run \
-d`: the engine's default network) of the same image, in turn with ours.
A start, ours and the yardstick's, is the engine's `start` event, read by the benchmark from the engine itself.
PSS and CPU are read from /proc over 60 s after 20 s of rest; one host, an empty cluster.""".splitlines()


async def starting() -> list[Figure]:
    async with cluster(hosts=2) as two:
        return [
            await pods_per_second(two),
            await killed_to_replaced(two),
            *await publish_to_started(two),
        ]


async def idling() -> list[Figure]:
    async with cluster(hosts=1) as one:
        return [*await idle(one), await shoal_get(one)]


ALL = {"starting": starting, "idle": idling}


async def main(wanted: list[str]) -> int:
    if unknown := [w for w in wanted if w not in ALL]:
        print(f"error: no benchmark {unknown[0]}; there are {', '.join(ALL)}", file=sys.stderr)
        return 1
    figures: list[Figure] = []
    for name in wanted or ALL:
        print(f"{name} …", file=sys.stderr, flush=True)
        figures += await ALL[name]()
    print(table(figures))
    if not wanted:
        write(figures, HOW)
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main(sys.argv[1:])))

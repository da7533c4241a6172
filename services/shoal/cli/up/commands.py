"""`shoal up`, `shoal down`, `shoal env`. What they do is `shoal.local.machine`; here is what a person sees of it."""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from shoal.cli.up.progress import Progress
from shoal.cli.up.typed import typed
from shoal.errors import BadRequest
from shoal.local import exports
from shoal.local.machine import LocalRecord, Machine, read_record
from shoal.local.program import Report, State


def up(
    *,
    store: Annotated[str, Parameter(help="Where nats-server keeps its data; kept by `down`.")] = "",
    node: Annotated[
        str, Parameter(env_var="SHOAL_NODE", help="Name of this machine as a node; its host name by default.")
    ] = "",
    cluster_cidr: Annotated[
        str,
        Parameter(
            env_var="SHOAL_CLUSTER_CIDR", help="Range of the pods' addresses; by default the first that is free here."
        ),
    ] = "",
    example: Annotated[bool, Parameter(negative="--no-example", help="Apply the example.")] = True,
    foreground: Annotated[
        bool,
        Parameter(
            negative=(), help="Stay, show every process's log, and stop the cluster at Ctrl-C, one that ran before too."
        ),
    ] = False,
) -> None:
    """Start a whole cluster on this machine: an engine if none answers, nats-server, every process, and an example."""
    progress = Progress()
    with Machine.locked():
        machine = asyncio.run(_up(progress, store, node, cluster_cidr))
    os.environ.update(machine.environment())
    ran = asyncio.run(_run_example(machine, progress)) if example else None
    if ran is not None:
        _show_pods()
    _say_what_next(machine, ran)
    if foreground:
        _stay(machine, progress)


async def _up(progress: Progress, store: str, node: str, cluster_cidr: str) -> Machine:
    record = read_record()
    if record is not None and (machine := Machine(record)).running:
        _check_same(record, store, node, cluster_cidr)
        progress.note(f"a cluster runs here already ({machine.nats_url}); what is down in it is started")
        await machine.resume()
    else:
        machine = await Machine.plan(node=node, store=store, cluster_cidr=cluster_cidr, say=progress.note)
        await machine.start(progress.done)
    told: set[str] = set()
    await machine.wait(lambda reports: _show_processes(progress, reports, told))
    progress.done(f"{len(await machine.control.status())} processes run; nats-server listens on {machine.nats_url}")
    return machine


def _check_same(record: LocalRecord, store: str, node: str, cluster_cidr: str) -> None:
    """What a cluster began with stays while it runs. Raises: BadRequest."""
    asked = (
        ("--store", os.path.abspath(store) if store else "", record.store),  # noqa: PTH100  (as `Machine.plan` does)
        ("--node", node, record.node),
        ("--cluster-cidr", cluster_cidr, record.cluster_cidr),
    )
    if other := [f"{flag} {has}, not {wish}" for flag, wish, has in asked if wish and wish != has]:
        raise BadRequest(f"a cluster runs here already, with {', '.join(other)}; `shoal down` stops it")


def _show_processes(progress: Progress, reports: Mapping[str, Report], told: set[str]) -> None:
    waiting = [name for name, report in reports.items() if report.state is not State.READY]
    for name, report in reports.items():
        if report.exit is not None and report.state is State.BACKOFF and name not in told:
            told.add(name)
            progress.failed(f"{name} ended with {report.exit} and is started again; its log: {report.log}")
    if waiting:
        progress.running(f"waiting for {', '.join(waiting)}")


class _Ran(NamedTuple):
    """`trace`: id of the wish's trace, "" if nothing was changed by it. `address`: of one of its web servers."""

    trace: str
    address: str


async def _run_example(machine: Machine, progress: Progress) -> _Ran:
    """Apply it and wait until it runs."""
    from shoal.bus.connecting import connect
    from shoal.cli.resources import shown
    from shoal.cli.up import example
    from shoal.client import Client
    from shoal.config import bus_config
    from shoal.model.registry import by_resource
    from shoal.telemetry import trace
    from shoal.telemetry.traceparent import trace_id

    manifest = example.text()
    environment = machine.environment()
    trace.setup("cli", environment)
    try:
        async with connect(bus_config(environment), name="shoal-up") as bus:
            client = Client(bus)
            with trace.span("publish") as span:
                results, wanted = await example.apply(client, manifest, span.traceparent)
            for result in results:
                progress.done(f"{shown(by_resource(result.resource), result.name)} {result.result}")
            address = await example.wait(client, wanted, progress.running)
            progress.done(f"the example runs: {wanted} pods")
            changed = any(result.result != "unchanged" for result in results)
            return _Ran(trace_id(span.traceparent) if changed else "", address)
    finally:
        trace.shutdown()


def _show_pods() -> None:
    from shoal.cli.loading import execute, load

    print()
    parser, module = load("get", "get")
    execute(module, parser.parse(["pods", "-o", "wide"]))


def _say_what_next(machine: Machine, ran: _Ran | None) -> None:
    jaeger = machine.record.jaeger
    if jaeger and ran and ran.trace:
        print(f"\nFrom the wish to the running containers, as one trace: {jaeger.trace_url(ran.trace)}")
    shoal = typed(sys.argv[0])
    steps = {f'eval "$({shoal} env)"': "point any NATS client at this cluster"}
    if ran is not None:
        fetch = "curl" if shutil.which("curl") else "busybox wget -qO-"
        steps |= {
            f"{fetch} http://{ran.address}:8080": "ask one of the pods above",
            f"{shoal} scale rs hello --replicas 5": "have more of them",
            f"{shoal} logs -f clock -c writer": "follow what a container writes",
            f"{shoal} delete pod -l app=hello": f"and `{shoal} get pods -w` beside it: they are replaced",
        }
    steps[f"{shoal} down"] = "stop it all, and leave nothing behind"
    width = max(map(len, steps))
    print("\nWhat to try next:")
    for command, why in steps.items():
        print(f"  {command.ljust(width)}   {why}")


def _stay(machine: Machine, progress: Progress) -> None:
    from shoal.cli.up.following import follow

    progress.note("attached: the processes' logs follow; Ctrl-C stops the cluster")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follow(machine.control, sys.stdout))
    progress.note("stopping")
    asyncio.run(machine.stop(purge=False))


def down(
    *,
    purge: Annotated[
        bool, Parameter(negative=(), help="Delete the store, the images and all else of it, too.")
    ] = False,
) -> None:
    """Stop the cluster of this machine: no process, container, network, mount, route or rule of it is left."""
    progress = Progress()
    record = read_record()
    if record is None:
        progress.note("no cluster is here")
        return
    machine = Machine(record)
    was = machine.running
    progress.running("stopping")
    with Machine.locked():
        asyncio.run(machine.stop(purge=purge))
    kept = "" if purge else f"; what it knows is kept in {record.store} (--purge deletes it)"
    progress.done(f"{'the cluster is down' if was else 'no cluster ran; what was left is gone'}{kept}")


def env() -> None:
    """Print the `export` lines that point any client at this machine's cluster: eval "$(shoal env)"."""
    for line in exports.lines(Machine.open().environment(), os.environ, exports.ours()):
        print(line)

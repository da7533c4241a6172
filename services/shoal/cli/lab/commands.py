"""The commands of `shoal lab`. What they do is `shoal.local.lab`; here are words and print."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from shoal.errors import BadRequest
from shoal.local import exports, lab_files
from shoal.local.lab import DEFAULT_NAME, Lab
from shoal.local.lab_places import CONTROL_PLANE

app = cyclopts.App(
    name="lab",
    help="Several real Docker hosts on this machine (Linux, root), to try and to break.",
    help_format="plaintext",
    result_action="return_value",
)

Name = Annotated[str, Parameter(help="Which lab; by default the one that runs.")]
Host = Annotated[str, Parameter(help="h1, h2, ... (or 1, 2, ...).")]
HostOrControl = Annotated[str, Parameter(help="h1, h2, ... (or 1, 2, ...); `control`: nats and the control plane.")]
Part = Literal["all", "agent", "proxy", "engine", "nats", "api", "scheduler", "replica-controller"]
Restart = Annotated[bool, Parameter(negative="--no-restart", help="Let the supervisor start again what was killed.")]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _open(name: str) -> Lab:
    running = lab_files.running_labs()
    if not name and len(running) > 1 and all(r.name != DEFAULT_NAME for r in running):
        raise BadRequest(f"several labs run ({', '.join(r.name for r in running)}): say which with --name")
    if not name and len(running) == 1:
        name = running[0].name
    return Lab.open(name or DEFAULT_NAME)


@app.command
def up(
    *,
    hosts: int = 3,
    links: Annotated[int, Parameter(help="Hosts are dealt to that many links, which only the lab's router joins.")] = 1,
    name: Annotated[str, Parameter(help="What to call it; labs beside each other do not meet.")] = DEFAULT_NAME,
    jaeger: Annotated[
        bool,
        Parameter(
            negative=(),
            help="With a Jaeger inside, whose binary must be there.",
        ),
    ] = False,
    env: Annotated[
        list[str] | None, Parameter(negative=(), help="NAME=VALUE for every process; may be repeated.")
    ] = None,
) -> None:
    """Bring one up: a network, an engine, an agent and a proxy a host; one nats-server, one control plane."""
    began = time.monotonic()
    extra = dict(_pair(text) for text in env or ())
    lab = asyncio.run(
        Lab.up(name, hosts=hosts, link_count=links, env=extra, with_jaeger=jaeger, say=lambda text: say(f"  {text}"))
    )
    say(f"lab {lab.name} is up after {time.monotonic() - began:.1f} s: {', '.join(lab.hosts)}")
    if lab.record.jaeger:
        say(f"traces: {lab.record.jaeger.query_url}")
    select = "" if name == DEFAULT_NAME else f" --name {name}"
    say(f'\n  eval "$(shoal lab env{select})"      then: shoal get nodes -o wide')
    say(f"  shoal lab cut h1{select}              pull a host's cable;  heal h1 plugs it in")
    say(f"  shoal lab down{select}                end it, with all that belongs to it")


@app.command
def down(
    *,
    name: Name = "",
    every: Annotated[bool, Parameter(name="--all", negative=(), help="Every lab of this machine.")] = False,
) -> None:
    """End a lab: no process, container, network, mount or rule of it is left."""
    records = lab_files.records() if every else [r for r in lab_files.records() if r.name == (name or _only())]
    if not records:
        others = ", ".join(r.name for r in lab_files.records())
        what = (
            f"there is no lab {name}" if name else "no lab is here" if not others else "name the lab to end with --name"
        )
        say(f"{what}{f' ({others})' if others else ''}; nothing was done")
    for record in records:
        asyncio.run(Lab(record).down())
        say(f"lab {record.name} is down")


def _only() -> str:
    names = [r.name for r in lab_files.records()]
    return names[0] if len(names) == 1 else DEFAULT_NAME


@app.command(name="list")
def list_() -> None:
    """List the labs of this machine."""
    rows = [("NAME", "HOSTS", "LINKS", "NATS", "STATE")]
    running = {r.name for r in lab_files.running_labs()}
    for record in lab_files.records():
        state = "running" if record.name in running else "dead"
        plan = record.plan
        rows.append((record.name, str(len(plan.hosts)), str(plan.links), Lab(record).nats_url, state))
    _table(rows)


@app.command
def status(*, name: Name = "") -> None:
    """Show a lab's processes."""
    lab = _open(name)
    rows = [("PROCESS", "STATE", "PID", "RESTARTS", "SINCE", "LOG")]
    for report in asyncio.run(lab.processes()).values():
        pid = str(report.process.pid or "-")
        since = f"{time.time() - report.since:.0f}s"
        rows.append((report.name, report.state.value, pid, str(report.restarts), since, report.log))
    _table(rows)


@app.command
def env(host: Host = "", /, *, name: Name = "") -> None:
    """Print the `export` lines that point any client at the lab, and with HOST at that host's engine too."""
    for line in exports.lines(_open(name).environment(host), os.environ, exports.ours()):
        print(line)


@app.command
def cut(host: Host, /, *, name: Name = "") -> None:
    """Pull a host's cable: it reaches nobody, what runs on it goes on."""
    lab = _open(name)
    asyncio.run(lab.cut(host))
    say(f"{lab.known(host)} is cut off; `shoal lab heal {host}` plugs it in again")


@app.command
def heal(host: Host, /, *, name: Name = "") -> None:
    """Plug the cable in again."""
    lab = _open(name)
    asyncio.run(lab.heal(host))
    say(f"{lab.known(host)} is plugged in")


@app.command
def kill(host: HostOrControl, part: Part = "all", /, *, restart: Restart = True, name: Name = "") -> None:
    """Kill (-9) a part of a host, or a process of the control plane (`kill control api`). All of a host is a power cut."""
    lab = _open(name)
    asyncio.run(lab.kill(host, part, restart=restart))
    then = "started again" if restart else f"down until `shoal lab restart {host}{'' if part == 'all' else f' {part}'}`"
    say(f"{_what(lab, host, part)} was killed; it is {then}")


@app.command
def restart(
    host: HostOrControl,
    part: Part = "all",
    /,
    *,
    env: Annotated[
        list[str] | None, Parameter(negative=(), help="NAME=VALUE for agent and proxy, from now on.")
    ] = None,
    name: Name = "",
) -> None:
    """Stop what runs, start it, and wait until it is ready; also what `kill --no-restart` left down."""
    extra = dict(_pair(text) for text in env) if env else None
    lab = _open(name)
    asyncio.run(lab.restart(host, part, env=extra))
    say(f"{_what(lab, host, part)} was restarted and is ready")


@app.command(name="exec")
def exec_(
    host: HostOrControl,
    command: Annotated[list[str], Parameter(allow_leading_hyphen=True, consume_multiple=True, help="After `--`.")],
    /,
    *,
    name: Name = "",
) -> None:
    """Run a command inside a host (its network, mounts and name), or in the lab's own network (`control`)."""
    lab = _open(name)
    argv = asyncio.run(lab.command(host, command))
    sys.stdout.flush()
    inside = {} if host == CONTROL_PLANE else {"DOCKER_HOST": "unix:///run/docker.sock"}
    os.execvpe(argv[0], argv, os.environ | {"NATS_URL": lab.nats_url} | inside)  # noqa: S606


@app.command
def logs(
    process: str, *, follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False, name: Name = ""
) -> None:
    """Print what a process wrote (`api`, `h1/agent`, ...)."""
    path = _open(name).log(process)
    if not path.exists():
        raise BadRequest(f"{process} has written no log; `shoal lab status` lists the processes")
    sys.stdout.flush()
    argv = ["tail", "-n", "+1", *(["-F"] if follow else []), str(path)]
    os.execvp(argv[0], argv)  # noqa: S606


def _what(lab: Lab, host: str, part: str) -> str:
    """`h1`, `h1/agent`, `api`, `the control plane`."""
    if host == CONTROL_PLANE:
        return "the control plane" if part == "all" else part
    return lab.known(host) if part == "all" else f"{lab.known(host)}/{part}"


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise BadRequest(f"{text!r} is not NAME=VALUE")
    return name, value


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

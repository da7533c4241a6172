"""A Docker host of its own for compose.yaml: an engine in a network namespace that can reach the outside, since a build
fetches packages. Nothing of the machine's own engine or network stays changed.
"""

import ipaddress
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.e2e.composed.waiting import until

from shoal.local import engine
from shoal.local.engine_client import EngineClient
from shoal.local.program import Program

NETS = ipaddress.ip_network("10.213.0.0/16")  # a /30 of these each; several may run beside each other
LINKS = "shoalc"  # how our links' names begin
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
STATE = Path("/var/lib/shoal")  # what compose.yaml shares between the agent and the engine


def run(*argv: str, check: bool = True, text: str | None = None) -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.stdout}"
    return done.stdout


class Host:
    """`socket`: the engine's, seen from everywhere. `inside`: a command line that runs in the host's network."""

    def __init__(self, directory: Path, keeper: int) -> None:
        self.directory = directory
        self.keeper = keeper
        self.engine = EngineClient(str(directory / "docker.sock"))

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self.directory}/docker.sock"}

    def inside(self, *argv: str) -> list[str]:
        return ["nsenter", "-t", str(self.keeper), "-n", "-u", *argv]

    def call(self, argv: Sequence[str], timeout_s: float = 60.0, text: str | None = None) -> str:
        done = subprocess.run(
            self.inside(*argv), input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.stdout}"
        return done.stdout


@contextmanager
def host(directory: Path) -> Iterator[Host]:
    number = secrets.randbelow(1 << 14)
    spec = engine.EngineSpec(name=f"shoal-composed{number}", directory=directory, hostname="composed", own_network=True)
    with ExitStack() as stack:
        keeper = _started(stack, engine.keeper(spec, program="keeper"), directory)
        stack.callback(engine.clear, spec, data=False)
        until(spec.ready_file.exists, "the host's namespaces")
        plumb(stack, number, keeper.pid)
        _share_state(stack, directory, keeper.pid)
        program = engine.engine(spec, keeper.pid, program="engine", needs=[])
        subprocess.run(program.prepare, check=True, timeout=30)
        _started(stack, program, directory)
        made = Host(directory, keeper.pid)
        until(made.engine.answers, "the engine")
        yield made


def _started(stack: ExitStack, program: Program, directory: Path) -> "subprocess.Popen[bytes]":
    log = stack.enter_context((directory / f"{program.name}.log").open("wb"))
    process = subprocess.Popen(program.argv, env=program.env, stdout=log, stderr=log)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(program.stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    stack.callback(stop)
    return process


def plumb(stack: ExitStack, number: int, pid: int) -> None:
    """A link to the machine, and masquerade there, as long as the host lives."""
    link, net = f"{LINKS}{number}", ipaddress.ip_network((int(NETS[0]) + 4 * number, 30))
    outside, inside = (str(a) for a in net.hosts())
    before = FORWARDING.read_text()
    stack.callback(_forward_as, before)
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    stack.callback(run, "ip", "link", "del", link, check=False)
    run("ip", "address", "add", f"{outside}/30", "dev", link)
    run("ip", "link", "set", link, "up")
    for command in (f"address add {inside}/30 dev eth0", "link set eth0 up", f"route add default via {outside}"):
        run("nsenter", "-t", str(pid), "-n", "ip", *command.split())
    FORWARDING.write_text("1")
    rules = f"""
        table ip {link} {{
            chain out {{ type nat hook postrouting priority srcnat; ip saddr {net} oifname != "{link}" masquerade; }}
        }}"""
    run("nft", "-f", "-", text=rules)
    stack.callback(run, "nft", "delete", "table", "ip", link, check=False)
    if shutil.which("iptables"):  # an engine of the user's would drop what it forwards
        for rule in (("-i", link), ("-o", link)):
            run("iptables", "-I", "FORWARD", *rule, "-j", "ACCEPT", check=False)
            stack.callback(run, "iptables", "-D", "FORWARD", *rule, "-j", "ACCEPT", check=False)


def _forward_as(before: str) -> None:
    """As it was, once no other host like this one needs it."""
    if not any(name.startswith(LINKS) for _, name in socket.if_nameindex()):
        FORWARDING.write_text(before)


def _share_state(stack: ExitStack, directory: Path, pid: int) -> None:
    """`/` is shared on a host that systemd started; here it may be private, and the folder is the test's own."""
    if not STATE.exists():
        STATE.mkdir(parents=True)
        stack.callback(STATE.rmdir)
    own = directory / "state"
    own.mkdir()
    for command in (f"mount --bind {own} {STATE}", f"mount --make-shared {STATE}"):
        run("nsenter", "-t", str(pid), "-m", *command.split())

"""A Docker host of its own for compose.yaml: an engine in a network namespace that can reach the outside, since a build
fetches packages. Nothing of the machine's own engine or network stays changed.
"""

import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.e2e.composed.waiting import until

from shoal.local import engine
from shoal.local.engine_client import EngineClient
from shoal.local.program import Program

NET = ipaddress.ip_network("10.213.77.0/30")
OUTSIDE, INSIDE = (str(a) for a in NET.hosts())
LINK = "shoalcomp"
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
    spec = engine.EngineSpec(name="shoal-composed", directory=directory, hostname="composed", own_network=True)
    with ExitStack() as stack:
        keeper = _started(stack, engine.keeper(spec, program="keeper"), directory)
        stack.callback(engine.clear, spec, data=False)
        until(spec.ready_file.exists, "the host's namespaces")
        _plumb(stack, keeper.pid)
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


def _plumb(stack: ExitStack, pid: int) -> None:
    """A link to the machine, and masquerade there, as long as the host lives."""
    run("ip", "link", "del", LINK, check=False)
    run("ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    stack.callback(run, "ip", "link", "del", LINK, check=False)
    run("ip", "address", "add", f"{OUTSIDE}/{NET.prefixlen}", "dev", LINK)
    run("ip", "link", "set", LINK, "up")
    for command in (
        f"address add {INSIDE}/{NET.prefixlen} dev eth0",
        "link set eth0 up",
        f"route add default via {OUTSIDE}",
    ):
        run("nsenter", "-t", str(pid), "-n", "ip", *command.split())
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwarding.read_text()
    forwarding.write_text("1")
    stack.callback(forwarding.write_text, before)
    run(
        "nft",
        "-f",
        "-",
        text=f"""
        table ip {LINK} {{
            chain out {{ type nat hook postrouting priority srcnat; ip saddr {NET} oifname != "{LINK}" masquerade; }}
        }}""",
    )
    stack.callback(run, "nft", "delete", "table", "ip", LINK, check=False)
    if shutil.which("iptables"):  # an engine of the user's would drop what it forwards
        for rule in (("-i", LINK), ("-o", LINK)):
            run("iptables", "-I", "FORWARD", *rule, "-j", "ACCEPT", check=False)
            stack.callback(run, "iptables", "-D", "FORWARD", *rule, "-j", "ACCEPT", check=False)


def _share_state(stack: ExitStack, directory: Path, pid: int) -> None:
    """`/` is shared on a host that systemd started; here it may be private, and the folder is the test's own."""
    if not STATE.exists():
        STATE.mkdir(parents=True)
        stack.callback(STATE.rmdir)
    own = directory / "state"
    own.mkdir()
    for command in (f"mount --bind {own} {STATE}", f"mount --make-shared {STATE}"):
        run("nsenter", "-t", str(pid), "-m", *command.split())

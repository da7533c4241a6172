"""An engine (dockerd) of our own: in a mount namespace that a small "keeper" process holds, and in a lab also in a
network and a host name of its own.

The keeper is one sleeping process. All that is mounted, plumbed and named inside lives as long as it and the processes
that joined it: when they are gone, so are the mounts, links, rules and routes. The agent and the proxy of that engine
join too, or what they mount is invisible to it. Nothing of the user's engine is touched: own data-root, exec-root,
socket, pidfile, configuration file and cgroup.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from shoal.errors import Unavailable
from shoal.local import cgroups, packages
from shoal.local.engine_client import EngineClient
from shoal.local.program import Program

DEFAULT_SOCKET = "/var/run/docker.sock"
COMMANDS = ("dockerd", "nft", "ip", "iptables", "nsenter")
READY_SECONDS = 60.0


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`name`: of the cgroup, and unique on the machine. `directory`: data, socket, and `etc/` with files that stand in
    for the machine's own. `own_network`: a network namespace, a host name and a /run of its own (a lab's host); the
    engine then works as on any host, with docker0 and its firewall rules. Without, it has neither: the agent plumbs
    pods itself, and nothing is left in the machine's network.
    """

    name: str
    directory: Path
    hostname: str = ""
    own_network: bool = False

    @property
    def socket(self) -> Path:
        return self.directory / "docker.sock"

    @property
    def exec_root(self) -> Path:
        return Path("/run/docker") if self.own_network else Path("/run") / self.name

    @property
    def ready_file(self) -> Path:
        return self.directory / "keeper.ready"


def machine_wide(name: str, directory: Path, usual: Path) -> str:
    """A name that is unique on the machine, for what lies in `directory`: itself in the usual place, else with a digest."""
    if directory == usual:
        return name
    return f"{name}.{hashlib.blake2b(str(directory).encode(), digest_size=4).hexdigest()}"


def find(own: str, env: Mapping[str, str] = os.environ) -> str | None:
    """The unix socket of an engine that answers already: DOCKER_HOST, else the usual place. `own`: the socket of ours,
    which does not count (`eval "$(shoal env)"` may have pointed there).
    """
    where = env.get("DOCKER_HOST", "").replace(f"unix://{own}", "")
    if where and not where.startswith("unix://"):
        raise Unavailable(f"DOCKER_HOST is {where}: an engine elsewhere cannot be a node of a local cluster; unset it")
    path = where.removeprefix("unix://") or DEFAULT_SOCKET
    return path if EngineClient(path, timeout=10).answers() else None


def path_env() -> str:
    """The PATH of what we start: the sbin directories belong to it."""
    parts = os.environ.get("PATH", "").split(":")
    return ":".join(
        [*filter(None, parts), *(p for p in ("/usr/local/sbin", "/usr/sbin", "/sbin", "/bin") if p not in parts)]
    )


KEEP = """
set -e
if [ -n "$HOSTNAME_OF_ITS_OWN" ]; then
    echo "$HOSTNAME_OF_ITS_OWN" > /proc/sys/kernel/hostname
    umount -Rl /run/netns 2>/dev/null || true
    mount -t tmpfs -o mode=755 shoal /run
    mkdir -p /run/lock /run/netns
    ip link set lo up
else
    for folder in /run/docker /run/containerd; do  # whatever an engine configured otherwise still puts there
        mkdir -p "$folder"
        mount -t tmpfs -o mode=711 shoal "$folder"
    done
fi
for file in "$1"/etc/*; do
    [ -e "$file" ] || continue
    place=$(readlink -m "/etc/${file##*/}")
    case $place in /run/*) mkdir -p "${place%/*}"; : > "$place";; esac
    [ -e "$place" ] && mount --bind "$file" "$place"
done
: > "$2"
exec sleep infinity
"""


def keeper(spec: EngineSpec, *, program: str) -> Program:
    """The process that holds the namespaces. It never restarts by itself: what hangs on it would be gone."""
    spaces = ["--mount", "--propagation", "slave", *(["--net", "--uts"] if spec.own_network else [])]
    return Program(
        name=program,
        argv=["unshare", *spaces, "--", "/bin/sh", "-c", KEEP, spec.name, str(spec.directory), str(spec.ready_file)],
        env={"PATH": path_env(), "HOSTNAME_OF_ITS_OWN": spec.hostname if spec.own_network else ""},
        ready=f"file:{spec.ready_file}",
        stop_seconds=2,
        restart=False,
    )


def enter(keeper_pid: int, argv: list[str], *, own_network: bool) -> list[str]:
    """`argv` inside the namespaces of a keeper; the pid stays that of the process started."""
    return ["nsenter", "-t", str(keeper_pid), "-m", *(["-n", "-u"] if own_network else []), "--", *argv]


PREPARE = """
awk -v a="$0/" -v b="$1/" '{ if (index($5, a) == 1 || index($5, b) == 1) print $5 }' /proc/self/mountinfo |
    sort -r | while read -r mount; do umount -l "$mount" 2>/dev/null; done
rm -rf "$0" "$0.pid"
"""


def engine(spec: EngineSpec, keeper_pid: int, *, program: str, needs: list[str]) -> Program:
    """An engine (dockerd and its containerd). Before each start what an earlier life left is killed, unmounted and removed."""
    own = cgroups.make(spec.name)
    config = spec.directory / "daemon.json"
    config.write_text("{}\n")  # without one the user's /etc/docker/daemon.json would count
    argv = ["dockerd", "--config-file", str(config), "--data-root", str(spec.directory / "docker")]
    argv += ["--exec-root", str(spec.exec_root), "--pidfile", f"{spec.exec_root}.pid", "--log-level", "warn"]
    argv += ["-H", f"unix://{spec.socket}"]
    argv += ["-H", "unix:///run/docker.sock"] if spec.own_network else ["--bridge=none", "--iptables=false"]
    argv += ["--exec-opt", "native.cgroupdriver=cgroupfs"]  # on v2 with systemd it would be systemd, and its slices
    argv += [f"--cgroup-parent=/{spec.name}"] if own else []
    prepare = ["/bin/sh", "-c", PREPARE, str(spec.exec_root), str(spec.directory / "docker")]
    return Program(
        name=program,
        argv=enter(keeper_pid, argv, own_network=spec.own_network),
        env={"PATH": path_env(), "HOME": os.environ.get("HOME", "/root")},
        ready=f"http:{spec.socket}",
        ready_seconds=READY_SECONDS,
        stop_seconds=20,
        needs=needs,
        cgroup=str(own) if own else "",
        kill_cgroup=str(own.parent) if own else "",
        prepare=enter(keeper_pid, prepare, own_network=spec.own_network),
    )


def kill_all(spec: EngineSpec) -> None:
    """Whatever runs under this engine, at once. Blocking."""
    if (base := cgroups.tracking()) is not None:
        cgroups.kill(base / spec.name)


def clear(spec: EngineSpec, *, data: bool) -> None:
    """After the end: what outlives processes (cgroups, files under /run), and with `data` images and volumes."""
    kill_all(spec)
    cgroups.remove(spec.name)
    if not spec.own_network:
        shutil.rmtree(spec.exec_root, ignore_errors=True)
        spec.exec_root.with_name(spec.exec_root.name + ".pid").unlink(missing_ok=True)
        for folder in ("/run/docker", "/run/containerd"):
            with suppress(OSError):  # not empty: the user's
                Path(folder).rmdir()
    spec.socket.unlink(missing_ok=True)
    if data:
        shutil.rmtree(spec.directory, ignore_errors=True)


def require(*, why: str, say: Callable[[str], None] = lambda _: None) -> None:
    """What an engine of our own needs of the machine.

    Raises: Unavailable with one sentence.
    """
    if os.geteuid() != 0:
        raise Unavailable(f"no engine answers, and only root can start one: start Docker, or run this as root ({why})")
    packages.install([*packages.missing(COMMANDS), *packages.apparmor()], why=why, say=say)

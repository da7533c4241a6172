"""The two commands of the README on the machine that it names: Debian 12 with Python 3.11, and a clone of this.

The machine is the test's own: a root file system from debootstrap, its own network (which reaches the outside: packages
are fetched), mounts and host name. Nothing of this machine's environment or engine is in it.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.composed import bases
from tests.e2e.composed.host import plumb
from tests.e2e.composed.waiting import until
from tests.e2e.conftest import require_lab

from shoal.local import cgroups, machine, processes
from shoal.local.engine import machine_wide, path_env

pytestmark = pytest.mark.timeout(900)  # of a first run: Debian and all packages are fetched

# `pivot_root`, not `chroot`: in a chroot no engine can start a container.
BOOT = """
set -e
cd "$0"
echo bare > /proc/sys/kernel/hostname
mount --bind . .
cd "$0"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mount -t tmpfs -o mode=755 run run
echo 0 > proc/sys/net/ipv4/ip_forward
ip link set lo up
mkdir -p old
pivot_root . old
umount -l /old
: > /booted
exec /bin/sleep infinity
"""
NEEDED = ("make", "git", "python3-pip")  # beside Python 3.11: what one needs to have cloned this


class Bare:
    def __init__(self, root: Path, pid: int) -> None:
        self.root = root
        self.pid = pid
        self.home = (
            Path("/var/lib/shoal") / root.parent.name
        )  # cgroups are the machine's: one of the usual name may run

    def run(self, *argv: str, timeout_s: float = 600, check: bool = True) -> str:
        """Output and errors as one text, in an environment that has nothing of ours but where packages come from."""
        kept = {
            k: v for k, v in os.environ.items() if k.lower().endswith("_proxy") or k.startswith(("PIP_", "UV_", "SSL_"))
        }
        kept.pop("PIP_FIND_LINKS", None)
        env = {
            **kept,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "SHOAL_HOME": str(self.home),
        }
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-n", "-m", "-u", "--", "env", "-C", "/root/shoal", *argv],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stdout[-3000:]}"
        return done.stdout

    def state(self) -> dict[str, list[str]]:
        """What `make down` must restore (the kernel's; packages that were installed stay)."""
        links = self.run("cat", "/proc/net/dev").splitlines()[2:]
        return {
            "links": sorted(line.split(":")[0].strip() for line in links),
            "routes": self.run("cat", "/proc/net/route").splitlines(),
            "forwarding": [self.run("cat", "/proc/sys/net/ipv4/ip_forward")],
            "mounts": sorted(line.split()[4] for line in self.run("cat", "/proc/self/mountinfo").splitlines()),
            "processes": [str(pid) for pid in self.processes()],
        }

    def processes(self) -> list[int]:
        own = Path(f"/proc/{self.pid}/ns/mnt").readlink(), Path(f"/proc/{self.pid}/ns/net").readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(entry.name) != self.pid and (
                    (entry / "ns/mnt").readlink() == own[0] or (entry / "ns/net").readlink() == own[1]
                ):
                    found.append(int(entry.name))
        return sorted(found)


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    require_lab()
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not there")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bare", dir="/var/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        root = folder / "root"
        _fill(root)
        argv = ["unshare", "--net", "--mount", "--uts", "--propagation", "private", "/bin/sh", "-c", BOOT, str(root)]
        keeper = subprocess.Popen(argv, env={"PATH": path_env()})
        stack.callback(keeper.wait)
        stack.callback(keeper.kill)
        until((root / "booted").exists, "the machine")
        plumb(stack, secrets.randbelow(1 << 14), keeper.pid)
        found = Bare(root, keeper.pid)
        stack.callback(_end, found)
        if "\nE: " in (said := found.run("apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any", check=False)):
            pytest.skip(f"no packages can be fetched: {said.strip().splitlines()[-1]}")
        yield found


def _fill(root: Path) -> None:
    """Debian, how this machine reaches packages, and this tree as it is, without what git ignores."""
    root.mkdir()
    try:
        debian = bases.debian("bookworm", *NEEDED)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no Debian can be fetched: {error.stdout.decode().strip().splitlines()[-1]}")
    subprocess.run(["tar", "-C", str(root), "-xf", str(debian)], check=True, timeout=120)
    for file in ("/etc/resolv.conf", "/etc/pip.conf", str(bases.CA)):
        if Path(file).exists():
            shutil.copyfile(file, root / file.lstrip("/"))
    clone = root / "root/shoal"
    clone.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "-C", str(bases.ROOT), "ls-files", "-z", "-co", "--exclude-standard"], check=True, capture_output=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = bases.ROOT / name, clone / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _end(bare: Bare) -> None:
    """Of a test that failed half-way, too."""
    for pid in bare.processes():
        if (process := processes.identify(pid)) is not None:
            processes.send(process, 9)
    cgroups.remove(machine_wide("shoal-local", bare.home, machine.ROOT_HOME))


def test_up_and_down(bare: Bare) -> None:
    assert "Debian GNU/Linux 12" in bare.run("cat", "/etc/os-release")
    assert bare.run("python3", "--version").startswith("Python 3.11.")
    installed = bare.run("make", "install")
    assert (bare.root / "root/shoal/.venv/bin/shoal").exists(), installed
    before = bare.state()

    shown = bare.run("make", "up")
    assert "the example runs: 4 pods" in shown
    assert bare.run("sh", "-c", 'eval "$(.venv/bin/shoal env)"; .venv/bin/shoal get pods -o name').count("pod/") == 4

    said = bare.run("make", "down")
    assert "the cluster is down" in said
    assert bare.state() == before
    assert "no cluster ran" in bare.run("make", "down")  # a second time is no error
    bare.run("make", "down", "ARGS=--purge")


def test_the_second_command(bare: Bare) -> None:
    """`make test` as it is, but for the choice of tests: static checks, the packages that tests need, pytest."""
    shown = bare.run("make", "test", "ARGS=tests/unit/ci tests/integration/bus/test_jetstream.py", timeout_s=800)
    assert "FAILED" not in shown
    assert " passed" in shown.splitlines()[-1]

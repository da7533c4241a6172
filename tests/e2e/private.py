"""A "machine" of a test's own: network, mounts and host name, so that before and after can be compared to the last rule.

Processes are shared with the real one, so that those which belong here are found by the folder that they work in.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from shoal.local import cgroups
from shoal.local.engine import machine_wide, path_env

SHOAL = str(Path(sys.executable).with_name("shoal"))
LABS = ("one", "two", "solo")  # what tests here call their labs
SCRIPT = """
set -e
echo private > /proc/sys/kernel/hostname
umount -Rl /run/netns 2>/dev/null || true
mount -t tmpfs -o mode=755 private /run
mkdir -p /run/lock /run/mount  # libmount makes the latter
: > /run/xtables.lock
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6  # its addresses come and go by themselves
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
echo 0 > /proc/sys/net/ipv4/ip_forward  # a new network may have begun as the machine's own is
ip link set lo up
ip link add eth0 type veth peer name outside
ip link set outside up
ip address add 192.0.2.2/24 dev eth0
ip link set eth0 up
ip route add default via 192.0.2.1
: > "$0/up"
exec sleep infinity
"""


class Private:
    """`async with Private() as machine`. `directory` is where everything of `shoal up` and of labs goes."""

    async def __aenter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="pm"))
        argv = [
            "unshare",
            "--net",
            "--mount",
            "--uts",
            "--propagation",
            "slave",
            "/bin/sh",
            "-c",
            SCRIPT,
            str(self.directory),
        ]
        self._keeper = await asyncio.create_subprocess_exec(*argv, env={"PATH": path_env()})
        while not (self.directory / "up").exists():
            assert self._keeper.returncode is None
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        for pid in self.processes():  # a test that failed half-way, or ends so
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for cgroup in self._cgroups():
            cgroups.kill(cgroup)
            cgroups.remove(cgroup.name)
        self._keeper.kill()
        await self._keeper.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *argv: str) -> list[str]:
        return ["nsenter", "-t", str(self._keeper.pid), "-n", "-m", "-u", "--", *argv]

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("NATS_", "DOCKER_", "SHOAL_", "OTEL_"))}
        places = {"SHOAL_HOME": str(self.directory / "home"), "SHOAL_LAB_DIR": str(self.directory / "labs")}
        return kept | {"PATH": path_env(), "LC_ALL": "C.UTF-8"} | places

    async def run(self, *argv: str, check: bool = True, env: Mapping[str, str] | None = None) -> str:
        """Output and errors as one text."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*argv),
            env=self.env | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        out = (await process.communicate())[0].decode()
        assert not check or process.returncode == 0, f"{argv} ended with {process.returncode}: {out}"
        return out

    async def shoal(self, *argv: str, check: bool = True, env: Mapping[str, str] | None = None) -> str:
        return await self.run(SHOAL, *argv, check=check, env=env)

    async def state(self) -> dict[str, list[str]]:
        """What `down` must restore."""
        names = await self.run("ip", "-o", "link")
        return {
            "links": sorted(line.split(":")[1].strip().split("@")[0] for line in names.splitlines()),
            "addresses": (await self.run("ip", "-4", "-o", "address")).splitlines(),
            "routes": sorted((await self.run("ip", "route", "show", "table", "all")).splitlines()),
            "nft": (await self.run("nft", "list", "ruleset")).splitlines(),
            "iptables": (await self.run("iptables", "-S")).splitlines()
            + (await self.run("iptables", "-t", "nat", "-S")).splitlines(),
            "mounts": [
                line.split()[4] for line in Path(f"/proc/{self._keeper.pid}/mountinfo").read_text().splitlines()
            ],
            "forwarding": [await self.run("cat", "/proc/sys/net/ipv4/ip_forward")],
            "run": sorted((await self.run("find", "/run")).splitlines()),
            "cgroups": [str(c) for c in self._cgroups()],
            "processes": [str(pid) for pid in self.processes()],
        }

    def _cgroups(self) -> list[Path]:
        """Named after a folder of ours (engine.machine_wide), which may be gone by now."""
        folders = [self.directory / "home", *(self.directory / "labs" / name for name in LABS)]
        ends = {machine_wide("", folder, Path()) for folder in folders}
        found = (c for h in cgroups.hierarchies() for c in h.glob("shoal-*.*"))
        return sorted(c for c in found if c.name[c.name.rindex(".") :] in ends)

    def processes(self) -> list[int]:
        """All that work in our folder, by their command line, environment or root's network."""
        own = Path(f"/proc/{self._keeper.pid}/ns/net").readlink()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in {self._keeper.pid, os.getpid()}:
                continue
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(self.directory).encode() in text or (entry / "ns/net").readlink() == own:
                    found.append(int(entry.name))
            except OSError:
                continue
        return sorted(found)

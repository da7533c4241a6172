"""Installs what is missing from the distribution, as root and on Debian's kin; elsewhere one sentence says what to do."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shoal.errors import Unavailable

POLICY = Path("/usr/sbin/policy-rc.d")  # Debian: may a package start its services? 101 = no
COMMANDS = {  # what we run → the package that has it
    "dockerd": "docker.io",
    "nft": "nftables",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
}


def missing(commands: Iterable[str]) -> list[str]:
    """Packages whose command is not there."""
    return [COMMANDS[command] for command in commands if which(command) is None]


def apparmor(enabled: Path = Path("/sys/module/apparmor/parameters/enabled")) -> list[str]:
    """Where the kernel has AppArmor an engine loads its profile by this program, or starts nothing; it is not depended on."""
    try:
        on = enabled.read_text().strip() == "Y"
    except OSError:
        return []
    return ["apparmor"] if on and which("apparmor_parser") is None else []


def which(command: str) -> str | None:
    """Also in the sbin directories, which a plain user's PATH lacks."""
    return shutil.which(command) or shutil.which(command, path="/usr/local/sbin:/usr/sbin:/sbin")


def install(packages: list[str], *, why: str, say: Callable[[str], None] = lambda _: None) -> None:
    """apt-get install them; services that they bring are not started.

    Raises: Unavailable with one sentence if we may not, or cannot.
    """
    if not packages:
        return
    names = " ".join(packages)
    if os.geteuid() != 0:
        raise Unavailable(f"{names} is missing, {why}: install it, or run this as root")
    if shutil.which("apt-get") is None:
        raise Unavailable(f"{names} is missing, {why}: install it with this distribution's package manager")
    say(f"installing {names}")
    with _no_services():
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
        done = _apt(command)
        if done.returncode != 0:
            _apt(["apt-get", "update", "-q"])
            done = _apt(command)
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if line.startswith("E:")] or done.stdout.splitlines()[-1:]
        raise Unavailable(f"apt-get could not install {names}: {' '.join(errors)}")


def _apt(command: list[str]) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        command,
        env=env,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def _no_services() -> Iterator[None]:
    """The packaged engine must not start by itself: it would touch the machine's firewall, and outlive `down`."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)

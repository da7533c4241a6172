"""A Docker host of the tests' own: a network, mount and host name of its own, an engine in it, a link to the machine."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from shoal.local.engine_client import EngineClient
from shoal.local.images import build

IMAGE = "shoal/busybox"


def why_not() -> str:
    """Why there can be no such host here; "" if there can."""
    if os.geteuid() != 0:
        return "needs root, for an engine of its own"
    missing = [
        c for c in ("dockerd", "nft", "ip", "iptables", "nsenter", "busybox") if shutil.which(c, path=PATH) is None
    ]
    return f"needs {', '.join(missing)}" if missing else ""


PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"


class EngineHost:
    """`address` is the host's, `outside` the machine's end of its link."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = f"shag{secrets.token_hex(3)}"
        net = f"198.18.{secrets.randbelow(256)}.{secrets.randbelow(64) * 4}".rpartition(".")
        base = int(net[2])
        self.outside, self.address = f"{net[0]}.{base + 1}", f"{net[0]}.{base + 2}"
        self.socket = directory / "docker.sock"
        self._keeper: subprocess.Popen[bytes] | None = None
        self._engine: subprocess.Popen[bytes] | None = None

    @property
    def docker_host(self) -> str:
        return f"unix://{self.socket}"

    # --- its life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        (self.directory / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # or each lookup hangs
        keep = (
            "mount -t tmpfs shoal /run && mount --bind $0 /etc/resolv.conf && hostname $1 && echo ready; exec sleep 9d"
        )
        spaces = ["unshare", "--mount", "--propagation", "private", "--net", "--uts"]
        argv = [*spaces, "sh", "-c", keep, str(self.directory / "resolv.conf"), self.name]
        self._keeper = subprocess.Popen(argv, stdout=subprocess.PIPE, env={"PATH": PATH})
        assert self._keeper.stdout is not None
        with self._keeper.stdout as said:
            assert said.readline() == b"ready\n"
        self._ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(self._keeper.pid))
        self._ip("addr", "add", f"{self.outside}/30", "dev", self.name)
        self._ip("link", "set", self.name, "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", f"{self.address}/30", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", self.outside)
        self.start_engine()
        build(EngineClient(str(self.socket)))

    def start_engine(self) -> None:
        root = self.directory / "engine"
        config = self.directory / "daemon.json"
        config.write_text("{}")
        argv = ["dockerd", "--config-file", str(config), "--data-root", str(root), "--exec-root", "/run/docker"]
        argv += ["--pidfile", "/run/docker.pid", "-H", self.docker_host, "--exec-opt", "native.cgroupdriver=cgroupfs"]
        with (self.directory / "engine.log").open("ab") as log:
            self._engine = subprocess.Popen(self.enter(argv), stdout=log, stderr=log, env={"PATH": PATH})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                if self.engine("GET", "/_ping"):
                    return
            time.sleep(0.05)  # nothing tells when dockerd listens
        raise AssertionError((self.directory / "engine.log").read_text()[-3000:])

    def stop_engine(self, number: int = signal.SIGTERM) -> None:
        """SIGKILL: its containerd and shims die too, as on a host that crashed."""
        assert self._engine is not None
        self._engine.send_signal(number)
        self._engine.wait(60)
        if number == signal.SIGKILL:
            for pid in self._pids("containerd"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(f"/proc/{self._keeper_pid}/root/run/docker", ignore_errors=True)
            Path(f"/proc/{self._keeper_pid}/root/run/docker.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        if self._engine is not None and self._engine.poll() is None:
            with suppress(OSError, AssertionError):
                for container in json.loads(self.engine("GET", "/containers/json?all=1")):
                    self.engine("DELETE", f"/containers/{container['Id']}?force=1")
            self.stop_engine()
        if self._keeper is not None:
            subprocess.run(["ip", "link", "del", self.name], check=False, env={"PATH": PATH}, capture_output=True)
            self._keeper.kill()
            self._keeper.wait()

    # --- in and around it ------------------------------------------------------------------------------------------------

    @property
    def _keeper_pid(self) -> int:
        assert self._keeper is not None
        return self._keeper.pid

    def enter(self, argv: Sequence[str]) -> list[str]:
        return ["nsenter", "-t", str(self._keeper_pid), "-m", "-n", "-u", "--", *argv]

    def run(self, *argv: str, check: bool = True) -> str:
        done = subprocess.run(
            self.enter(argv), capture_output=True, text=True, check=False, env={"PATH": PATH}, timeout=60
        )
        assert not check or done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def engine(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> str:
        """One plain call to the engine; the body of its answer."""
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(60)
            wire.connect(str(self.socket))
            head = f"{method} {path} HTTP/1.0\r\nHost: e\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            wire.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: wire.recv(65536), b""))
        status, _, rest = answer.partition(b"\r\n\r\n")
        assert int(status.split()[1]) < 400, rest
        return rest.decode()

    def containers(self, **labels: str) -> dict[str, str]:
        """id -> state of every container with these labels (`pod="x"`: of the pod x)."""
        wanted = [f"io.kubernetes.{k.replace('_', '.')}={v}" for k, v in labels.items()]
        query = json.dumps({"label": wanted}).replace('"', "%22").replace(" ", "")
        listed = json.loads(self.engine("GET", f"/containers/json?all=1&filters={query}"))
        return {c["Id"]: c["State"] for c in listed}

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, env={"PATH": PATH}, capture_output=True)

    def _pids(self, command: str) -> list[int]:
        """Processes of that name in this host's network."""
        own = Path(f"/proc/{self._keeper_pid}/ns/net").readlink()
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                named = entry.name.isdigit() and (entry / "comm").read_text().startswith(command)
                if named and (entry / "ns/net").readlink() == own:
                    found.append(int(entry.name))
        return found

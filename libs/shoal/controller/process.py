"""How a process of controllers starts and ends: logs, traces, uvloop, the connection, the shell; SIGTERM is a clean stop."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from shoal.config import BusConfig, bus_config
from shoal.errors import ShoalError
from shoal.telemetry import logs, trace
from shoal.telemetry.logs import log

if TYPE_CHECKING:
    from shoal.controller.controller import Controller


async def serve(controllers: "Sequence[Controller]", config: BusConfig, *, process: str, group: str) -> None:
    """Run until cancelled. Makes the streams if nobody did, says `ready` once the view is whole."""
    from shoal.bus.connecting import connect
    from shoal.controller.shell import run
    from shoal.local.notify import ready
    from shoal.store.store import Store
    from shoal.store.streams import ensure_streams
    from shoal.telemetry.watchdog import watchdog

    async with connect(config, name=process) as bus, watchdog():
        await ensure_streams(bus)
        await run(controllers, bus=bus, store=Store(bus), group=group, on_ready=ready)


def main(process: str, service: Callable[[BusConfig], Awaitable[None]]) -> int:
    """The exit code: 0 after SIGTERM or SIGINT, 1 after a failure, which is told in one sentence."""
    logs.configure(process)
    trace.setup(process)
    try:
        config = bus_config()
        import uvloop

        uvloop.run(_until_stopped(service(config)))
    except ShoalError as error:
        log.error("failed", error=str(error))  # noqa: TRY400  (a sentence, as exit code 1 promises)
        return 1
    finally:
        trace.shutdown()
    return 0


async def _until_stopped(work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise
        log.info("stopped")


def exit_with(process: str, service: Callable[[BusConfig], Awaitable[None]]) -> None:
    sys.exit(main(process, service))

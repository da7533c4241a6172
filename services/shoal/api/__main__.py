"""`python -m shoal.api`: what it needs is in the environment (`shoal.config`, `shoal.api.service.settings`)."""

from shoal.api.service import serve
from shoal.config import BusConfig
from shoal.controller.process import exit_with
from shoal.local.notify import ready
from shoal.telemetry.watchdog import watchdog


async def service(config: BusConfig) -> None:
    async with watchdog():
        await serve(config, on_ready=ready)


if __name__ == "__main__":
    exit_with("api", service)

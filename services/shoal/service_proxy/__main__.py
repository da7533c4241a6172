"""`python -m shoal.service_proxy`: routes, and later virtual addresses and DNS, of this host."""

from shoal.config import BusConfig
from shoal.controller.process import exit_with


async def proxy(bus: BusConfig) -> None:
    from shoal.service_proxy.service import proxy_config, serve
    from shoal.telemetry.watchdog import watchdog

    async with watchdog():
        await serve(proxy_config(bus))


if __name__ == "__main__":
    exit_with("service-proxy", proxy)

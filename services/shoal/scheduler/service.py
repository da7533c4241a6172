"""The scheduler as a process: the shell around `binding.Scheduler`. Two may run; one decides."""

from shoal.config import BusConfig
from shoal.controller.process import serve as serve_controllers
from shoal.scheduler.binding import Scheduler

GROUP = "scheduler"


async def serve(config: BusConfig) -> None:
    """Until cancelled."""
    await serve_controllers([Scheduler()], config, process=GROUP, group=GROUP)

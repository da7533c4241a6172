"""The home of every controller that turns one kind of object into others, as a process.

All of them are one group by default: one lease, one watch, one view. `--only replicasets` runs one (or some) alone, as
a group of its own, beside which the others must run elsewhere.
"""

from collections.abc import Sequence

from shoal.config import BusConfig
from shoal.controller.controller import Controller
from shoal.controller.process import serve as serve_controllers
from shoal.errors import Invalid
from shoal.replica_controller.delivery import Delivery
from shoal.replica_controller.garbage import Garbage
from shoal.replica_controller.namespaces import Namespaces
from shoal.replica_controller.removal import Removal
from shoal.replica_controller.replicasets import ReplicaSets

PROCESS = "replica-controller"
CONTROLLERS: dict[str, type[Controller]] = {c.name: c for c in (ReplicaSets, Delivery, Removal, Garbage, Namespaces)}


def chosen(only: Sequence[str]) -> tuple[str, list[Controller]]:
    """The group and its controllers; all if none is named. Raises: Invalid for an unknown one."""
    if unknown := [name for name in only if name not in CONTROLLERS]:
        raise Invalid(f"there is no controller {unknown[0]!r}", hint=f"known are {', '.join(CONTROLLERS)}")
    if not only:
        return PROCESS, [make() for make in CONTROLLERS.values()]
    names = sorted(set(only))
    return "-".join(names), [CONTROLLERS[name]() for name in names]


async def serve(config: BusConfig, only: Sequence[str] = ()) -> None:
    """Until cancelled."""
    group, controllers = chosen(only)
    await serve_controllers(controllers, config, process=PROCESS, group=group)

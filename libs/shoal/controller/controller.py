"""What a controller is: three pure questions. The shell (`shell.py`) does everything else."""

from collections.abc import Hashable, Iterable
from typing import Any, Protocol, runtime_checkable

from shoal.controller.actions import Decision
from shoal.names import ObjectKey
from shoal.store.view import View


class Controller(Protocol):
    """`filters`: the keys of the bucket it must see, as the watch takes them. Subclass it, or just look like it.

    `keys` turns "this object was touched" into what has to be looked at; `view.before(touched)` is the object as it was
    before. It must be cheap and total: it is asked for every entry, by a process that stands by too.
    `reporter`: in whose name its events are told.
    `decide` looks at one key. It is pure (`now`: Unix seconds), and settles: the actions done, it decides nothing more.
    """

    @property
    def name(self) -> str: ...

    @property
    def reporter(self) -> str: ...

    @property
    def filters(self) -> tuple[str, ...]: ...

    def keys(self, touched: ObjectKey, view: View) -> Iterable[Hashable]: ...

    def decide(self, key: Any, view: View, now: float) -> Decision: ...


@runtime_checkable
class Gathering(Protocol):
    """A controller that decides one key upon what it has just decided for another.

    `order`: in which order keys that wait together are decided. `undone`: the unit of this key was refused, or nobody
    knows what became of it; what was assumed of it is void. It answers what may come of that: keys to look at again.
    """

    def order(self, keys: list[Any], view: View) -> list[Any]: ...

    def undone(self, key: Any) -> Iterable[Hashable]: ...

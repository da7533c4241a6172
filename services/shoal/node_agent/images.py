"""The images that pods need: looked for, pulled once for all who wait, and told in Kubernetes' words.

What the engine has is remembered until it says that images changed, so that a start costs no look. A pull that fails
is not tried again before its backoff (10 s doubled to 5 minutes) is over; until then its reason is ImagePullBackOff.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

import msgspec

from shoal import clock
from shoal.errors import ShoalError
from shoal.node_agent.lifecycle import BACKOFF_FIRST_S, BACKOFF_MAX_S, backoff_s
from shoal.node_agent.registry_login import login, read_config
from shoal.node_agent.runtime.port import EngineError, Image, Runtime

# distribution/reference: what an engine takes as a name
_NAME = re.compile(
    r"^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$"
)

JUST_FAILED_S = 1.0

Told = Callable[[str, str, str], None]  # type, reason, message: an event
Pulling = Callable[[Awaitable[Image]], Awaitable[Image]]


class ImageError(ShoalError):
    """The image cannot be had now. `why`: Kubernetes' word. `until`: not tried again before, by `Images`' clock."""

    def __init__(self, why: str, message: str, *, until: float) -> None:
        super().__init__(message)
        self.why = why
        self.until = until


class _Failed(msgspec.Struct, frozen=True):
    count: int
    until: float
    message: str


class Images:
    """`monotonic`: the clock of all `until`s."""

    def __init__(self, runtime: Runtime, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self._runtime = runtime
        self._now = monotonic
        self._known: dict[str, Image] = {}
        self._pulls: dict[str, asyncio.Task[Image]] = {}
        self._failed: dict[str, _Failed] = {}

    def changed(self) -> None:
        self._known.clear()

    def forget(self, reference: str) -> None:
        self._known.pop(reference, None)

    async def get(
        self, reference: str, policy: str, told: Told, pulling: Callable[[Awaitable[Image]], Awaitable[Image]]
    ) -> Image:
        """The image, pulled if the policy says so. `pulling` wraps a pull (a span).

        Raises: ImageError; Unavailable while the engine does not answer.
        """
        if not _NAME.match(reference):
            raise ImageError(
                "InvalidImageName",
                f'Failed to apply default image tag "{reference}": couldn\'t parse image name: invalid reference format',
                until=self._now() + BACKOFF_MAX_S,
            )
        if policy != "Always":
            if (found := await self._look(reference)) is not None:
                return found
            if policy == "Never":
                raise ImageError(
                    "ErrImageNeverPull",
                    f'Container image "{reference}" is not present with pull policy of Never',
                    until=self._now() + BACKOFF_FIRST_S,
                )
        if (failed := self._failed.get(reference)) is not None and failed.until > self._now():
            why = f'Back-off pulling image "{reference}": ErrImagePull: {failed.message}'
            raise ImageError("ImagePullBackOff", why, until=failed.until)
        told("Normal", "Pulling", f'Pulling image "{reference}"')
        began = time.monotonic()
        image = await pulling(self._pull(reference))
        told("Normal", "Pulled", f'Successfully pulled image "{reference}" in {time.monotonic() - began:.3f}s')
        return image

    async def _look(self, reference: str) -> Image | None:
        if (known := self._known.get(reference)) is None and (
            found := await self._runtime.image(reference)
        ) is not None:
            known = self._known[reference] = found
        return known

    async def _pull(self, reference: str) -> Image:
        """One pull for all who wait for it; it goes on if some of them give up."""
        task = self._pulls.get(reference)
        if task is None:
            task = self._pulls[reference] = asyncio.create_task(self._do_pull(reference), name=f"pull {reference}")
            task.add_done_callback(lambda _: self._pulls.pop(reference, None))
        return await asyncio.shield(task)

    async def _do_pull(self, reference: str) -> Image:
        try:
            await self._runtime.pull(reference, await login(reference, read_config()))
            found = await self._runtime.image(reference)
        except EngineError as error:
            raise self._pull_failed(reference, f'Failed to pull image "{reference}": {error.message}') from error
        if found is None:
            raise self._pull_failed(reference, f'"{reference}" vanished after it was pulled')
        self._failed.pop(reference, None)
        self._known[reference] = found
        return found

    def _pull_failed(self, reference: str, message: str) -> ImageError:
        count = self._failed[reference].count + 1 if reference in self._failed else 1
        until = self._now() + backoff_s(count + 1)
        self._failed[reference] = _Failed(count, until, message)
        # Looked at again soon, to say that it waits: ErrImagePull is the word for a pull that has just failed.
        return ImageError("ErrImagePull", message, until=self._now() + JUST_FAILED_S)

    async def close(self) -> None:
        for task in list(self._pulls.values()):
            task.cancel()
        await asyncio.gather(*self._pulls.values(), return_exceptions=True)

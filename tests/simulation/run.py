"""One run by its seed, and the shortest run that still goes wrong."""

import hashlib
from collections.abc import Callable, Sequence

import msgspec
from tests.simulation.steps import AnyStep, draw
from tests.simulation.world import World


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """`digest`: of every message that was stored, and when: two runs with one digest were the same. `simulated_s`: how long
    it was for those in it.
    """

    seed: int
    steps: list[AnyStep]
    violations: list[str]
    digest: str
    simulated_s: float

    def __str__(self) -> str:
        if not self.violations:
            return f"seed {self.seed}: all held ({len(self.steps)} steps, {self.simulated_s:.0f} s)"
        lines = [f"seed {self.seed}: {len(self.violations)} violated", *(f"  {v}" for v in self.violations[:8])]
        lines += ["after", *(f"  {step}" for step in self.steps)]
        return "\n".join([*lines, f"again: .venv/bin/python -m tests.simulation {self.seed} --shrink"])


def simulate(seed: int, steps: Sequence[AnyStep] | None = None) -> Outcome:
    """The whole of one run. Without `steps` those that the seed draws."""
    taken = list(draw(seed) if steps is None else steps)
    digest = hashlib.blake2b(digest_size=8)
    with World(seed) as world:
        found = world.run(taken)
        for stream in world.server.streams.values():
            for message in stream.messages.values():
                digest.update(f"{message.stored_at:.9f} {message.subject}".encode() + message.data)
        return Outcome(
            seed=seed,
            steps=taken,
            violations=[str(v) for v in found],
            digest=digest.hexdigest(),
            simulated_s=world.loop.time(),
        )


def shrink(outcome: Outcome, *, told: Callable[[str], None] = lambda _: None) -> Outcome:
    """Fewer steps with which the same invariant is violated: whole halves are left out, then quarters, then single ones."""
    invariant = outcome.violations[0].partition(":")[0]
    size = len(outcome.steps)
    while size := size // 2 or (1 if size > 1 else 0):
        at = 0
        while at < len(outcome.steps):
            fewer = [*outcome.steps[:at], *outcome.steps[at + size :]]
            tried = simulate(outcome.seed, fewer)
            if tried.violations and tried.violations[0].partition(":")[0] == invariant:
                outcome = tried
                told(f"{len(fewer)} steps")
            else:
                at += size
    return outcome

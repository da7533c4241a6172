"""The whole control plane under drawn faults: every invariant holds, and what was put in wrong on purpose is found."""

import os

import pytest
from tests.simulation.planted import FAULTS
from tests.simulation.run import Outcome, shrink, simulate

SEEDS = int(os.environ.get("SHOAL_SEEDS", "60"))
A_TEST = 10  # seeds, so that they spread over the workers
LONG = 10_000
PLANTED_SEEDS = 20
RARE = {"the_vanished_not_told", "addresses_not_adopted", "a_cursor_left_out"}  # more than a few seeds are needed


def held(seeds: range) -> None:
    for seed in seeds:
        outcome = simulate(seed)
        assert not outcome.violations, str(outcome)


@pytest.mark.parametrize("first", range(0, SEEDS, A_TEST))
def test_all_invariants_hold(first: int) -> None:
    held(range(first, first + A_TEST))


@pytest.mark.long
@pytest.mark.parametrize("first", range(SEEDS, LONG, 100))
def test_all_invariants_hold_for_long(first: int) -> None:
    held(range(first, first + 100))


def found(name: str) -> Outcome | None:
    with FAULTS[name]():
        return next((o for o in map(simulate, range(PLANTED_SEEDS)) if o.violations), None)


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - RARE))
def test_a_planted_fault_is_found(name: str) -> None:
    assert found(name) is not None, f"{PLANTED_SEEDS} seeds found nothing wrong with {name}"


def test_a_seed_is_the_same_run_each_time() -> None:
    assert simulate(7).digest == simulate(7).digest


def test_what_went_wrong_is_made_shorter_and_goes_wrong_still() -> None:
    with FAULTS["a_deletion_not_delivered"]():
        outcome = next(o for o in map(simulate, range(PLANTED_SEEDS)) if o.violations)
        shorter = shrink(outcome)
    assert shorter.violations
    assert len(shorter.steps) < len(outcome.steps) / 2

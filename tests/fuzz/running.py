"""Runs of fuzzing: a short one with the suite, the same each time, and a long one with a number and a seed."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

CASES = int(os.environ.get("DENSEHEAD_FUZZ_CASES", "10000"))
SEED = int(os.environ.get("DENSEHEAD_FUZZ_SEED", "0"))
COMMON = dict(
    deadline=None,  # machines differ
    database=None,  # nothing is left in the folder, and nothing of an earlier run is tried first
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
    print_blob=False,
)


def try_some(strategy: SearchStrategy, check: Callable[[object], None], cases: int) -> None:
    """Check some cases, the same in each run."""
    settings(max_examples=cases, derandomize=True, **COMMON)(given(strategy)(check))()


def try_many(
    strategy: SearchStrategy, check: Callable[[object], None], cases: int, name: str, record: Callable[[str, str], None]
) -> None:
    """Check many cases, and have the run say at its end how many and of which seed (``record_property`` of pytest)."""
    count, outcome = 0, "a fault"

    def counted(case: object) -> None:
        nonlocal count
        count += 1
        check(case)

    try:
        settings(max_examples=cases, **COMMON)(seed(SEED)(given(strategy)(counted)))()
        assert count >= cases
        outcome = "no fault"
    finally:
        record("fuzz", f"{count} cases of {name}, seed {SEED}: {outcome}")

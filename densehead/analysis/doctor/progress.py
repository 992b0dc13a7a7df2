"""A bar for what takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mmengine.utils import ProgressBar

#: Takes an iterable, its length and what is being done; yields what the iterable does.
Tracker = Callable[[Iterable, int, str], Iterator]


def silent(results: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """Yield the results and say nothing."""
    yield from results


def on_terminal(results: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """Yield the results and draw a bar on the error stream, if that is a terminal and it may take a while."""
    if total < 100 or not sys.stderr.isatty():
        yield from results
        return
    print(what, file=sys.stderr, flush=True)
    bar = ProgressBar(total, file=sys.stderr)
    step = max(total // 100, 1)
    for count, result in enumerate(results, 1):
        yield result
        if count % step == 0:
            bar.update(step)
    print(file=sys.stderr, flush=True)

"""``lazy``: a property that is computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class lazy:
    """What ``functools.cached_property`` is, without the lock that it has before Python 3.12.

    ``torch.compile`` cannot follow a lock. Frozen dataclasses may have it too.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = self.make(instance)
        object.__setattr__(instance, self.name, value)
        return value

"""Packages that are imported when one of their names is first used: `--help`, and a mistake's message, need none."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands for a package until then, and passes its names on."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(import_module(self.__name__), name)
        setattr(self, name, found)
        return found


def later(name: str) -> Any:
    """The package of this name. What it raises when it is not there is raised at its first use."""
    return _Later(name)

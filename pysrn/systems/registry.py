"""Which systems there are: a line each, and those that PYSRN_SYSTEMS names, which live outside this package."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from pathlib import Path

from pysrn.console import SrnError, UsageError
from pysrn.nets.folding import Weights
from pysrn.systems.system import Architecture, System

# Each has its System as SYSTEM; the first is the default.
MODULES = (
    "pysrn.systems.srn.system",
    "pysrn.systems.cnn_rnn.system",
    "pysrn.systems.msrn.system",
)
FURTHER = "PYSRN_SYSTEMS"  # modules of the same kind, divided by commas


@cache
def systems() -> dict[str, System]:
    """Name -> system. UsageError where PYSRN_SYSTEMS names a module that is not there, or that has no system."""
    named = [name for name in os.environ.get(FURTHER, "").split(",") if name]
    found: dict[str, System] = {}
    for module in (*MODULES, *named):
        try:
            system = import_module(module).SYSTEM
        except (ModuleNotFoundError, AttributeError) as error:
            if module in MODULES:
                raise
            raise UsageError(f"{FURTHER}: {module}: {error}", "name modules that have a System as SYSTEM") from None
        if found.setdefault(system.name, system) is not system:
            raise UsageError(f"{FURTHER}: {module}: there is a system {system.name} already")
    return found


def default_system() -> System:
    """The system meant where none is named."""
    return next(iter(systems().values()))


def system_named(name: str | None) -> System:
    """A system, the default one for None; UsageError where there is none of this name."""
    if name is None:
        return default_system()
    if name not in systems():
        raise UsageError(f"no system {name}: they are {', '.join(systems())}")
    return systems()[name]


def run_prefix(system: System) -> str:
    """What the names of a system's runs begin with: nothing for the default one."""
    return "" if system is default_system() else f"{system.name}-"


def recognise(weights: Weights, source: str | Path, known: System | None = None) -> Architecture:
    """The architecture of weights: of the `known` system, else of the first that recognises them; SrnError for none.

    Weights are foreign: a shape that has less axes, or a width of nothing, is their fault, and said.
    """
    failure: SrnError | None = None
    for system in [known] if known else systems().values():
        try:
            return system.recognise(weights, str(source))
        except SrnError as error:
            failure = failure or error
        except (LookupError, ValueError, ArithmeticError) as error:
            failure = failure or SrnError(f"{source} contradicts itself, or has not all of {system.title}: {error}")
    failure.cure = failure.cure or "give a caffemodel that tools/run_stage.py wrote"
    raise failure

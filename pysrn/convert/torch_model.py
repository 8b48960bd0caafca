"""The PyTorch net of every system by its class name: `from pysrn.convert.torch_model import SRN`.

People's scripts have this import, and files of `torch.export` its name; the classes themselves live with their systems.
"""

from __future__ import annotations

from pysrn.systems.registry import systems


def __getattr__(name: str) -> type:
    """A system's net; AttributeError where no system's is called so."""
    for system in systems().values():
        if system.torch_model.rpartition(":")[2] == name:
            return system.torch_class()
    raise AttributeError(f"module {__name__} has no {name}")

"""Fixtures of the proofs: which settings this Caffe has, and what every setting computes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.caffe import engine


@pytest.fixture(scope="session")
def parts() -> list[str]:
    """The parts that this Caffe has; skips where it has none."""
    found = engine.engine_parts()
    if found is None:
        pytest.skip("this Caffe was built without the speed patches: it has no caffe.engine_parts")
    return found


@pytest.fixture(scope="session")
def computed(parts, tmp_path_factory):
    """A function (module, cases) -> setting -> Result, with `stock`, every part alone, `all`, and `kernel <name>`.

    `chosen`: settings in place of every part alone.
    """
    kept: dict = {}

    def compute(module: str, cases: tuple[str, ...], nets: tuple[str, ...] = (), chosen: tuple[str, ...] = ()):
        if (module, cases) not in kept:
            folder = tmp_path_factory.mktemp(module)
            if nets:
                command = [sys.executable, "-m", "tests.caffe.net_cases", str(folder), *nets]
                subprocess.run(command, check=True, cwd=engine.ROOT, env=engine.environment(engine.STOCK))
            settings = {setting: (setting, None) for setting in (engine.STOCK, *(chosen or parts), engine.ALL)}
            settings |= {f"kernel {name}": (engine.STOCK, name) for name in engine.other_kernels()}
            kept[module, cases] = {
                name: engine.run_cases(folder / name.replace(" ", "_"), module, cases, *setting)
                for name, setting in settings.items()
            }
        return kept[module, cases]

    return compute

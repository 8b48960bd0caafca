"""What the tools import before they know what to do: no package that takes a tenth of a second."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if path.stem != "__init__")
HEAVY = "numpy", "cv2", "google.protobuf", "lmdb", "yaml", "PIL", "tqdm", "caffe", "torch", "matplotlib"
HELP = """
import contextlib, importlib, io, sys
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    importlib.import_module("tools." + sys.argv[1]).main(["--help"])
assert "usage:" in said.getvalue()
print(*[name for name in sys.argv[2:] if name in sys.modules])
"""


@pytest.mark.parametrize("tool", TOOLS)
def test_help_needs_no_heavy_package(tool):
    command = [sys.executable, "-c", HELP, tool, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []

"""What tests ask of the processor."""

from pathlib import Path

import pytest

needs_bf16 = pytest.mark.skipif(
    "avx512_bf16" not in Path("/proc/cpuinfo").read_text(encoding="ascii"),
    reason="this processor does not multiply bf16",
)

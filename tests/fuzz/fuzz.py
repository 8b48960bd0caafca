"""Search for bytes that a reader fails at: `python tests/fuzz/fuzz.py READER --seconds N`; it needs atheris.

Guided by which code of pysrn an input reaches. Prints the executions. An input that fails is written to
tests/fuzz/inputs/READER-..., where `pytest tests/fuzz` finds it from then on, and the exit code is not 0.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import atheris

from tests.fuzz.readers import READERS, prepared

LARGEST = 1 << 15  # bytes of an input
SLOWEST = 20  # seconds an input may take
MEMORY = 3000  # MiB that the process may take, PyTorch's own included


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=sorted(READERS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="folder of inputs that reached new code (default: forgotten)")
    arguments = parser.parse_args()
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None  # no disk needs to be worn
    with tempfile.TemporaryDirectory(dir=memory) as own:
        corpus = arguments.corpus or Path(own) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        with prepared(arguments.reader, Path(own)) as (reader, folder):
            for number, seed in enumerate(reader.seeds()):
                (corpus / f"seed{number}").write_bytes(seed)
                with atheris.instrument_imports(include=["pysrn"]):  # what it imports when it first reads
                    reader(seed, folder)
            found = Path(__file__).parent / "inputs" / f"{arguments.reader}-"
            found.parent.mkdir(exist_ok=True)
            options = {"max_total_time": arguments.seconds, "max_len": LARGEST, "timeout": SLOWEST}
            options |= {"rss_limit_mb": MEMORY, "artifact_prefix": found, "print_final_stats": 1}
            words = [f"-{name}={value}" for name, value in options.items()]
            atheris.Setup([sys.argv[0], *words, str(corpus)], lambda content: reader(content, folder) and None)
            atheris.Fuzz()


if __name__ == "__main__":
    main()

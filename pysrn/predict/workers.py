"""Several processes that share a prediction: each has a net of its own and computes every n-th of the chunks to do.

The parent starts `python -m pysrn.predict.workers PARENT FOLDER NUMBER ...`. A worker writes its chunks into the
folder and sends an event a batch (`processes.send`): how many images it had, or the message of an error and its cure.
It ends with its parent, however that ends.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pysrn.console import SrnError, deaf_to_interrupts
from pysrn.predict.chunks import ScoreChunks
from pysrn.processes import end_with_parent, ending, environment, events_in, python_module, send


def share_out(chunks: ScoreChunks, numbers: Sequence[int], workers: int, advance: Callable[[int], None]) -> None:
    """Compute the numbered chunks in `workers` processes; `advance` hears of every batch.

    Raises SrnError with the message of the first worker that fails or dies; the others are ended then.
    """
    shares = [numbers[first::workers] for first in range(workers) if numbers[first::workers]]
    threads = int(os.environ.get("OMP_NUM_THREADS", 0) or len(os.sched_getaffinity(0)))
    variables = environment(OMP_NUM_THREADS=str(max(1, threads // len(shares))))
    running: list[subprocess.Popen] = []
    try:
        with deaf_to_interrupts():  # Ctrl-C goes to the whole group; the parent decides
            for share in shares:
                command = python_module(__name__, os.getpid(), chunks.folder, *share)
                running.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=variables, text=True))
        _listen(running, advance)
    finally:
        for worker in running:
            worker.kill()
            worker.wait()
            worker.stdout.close()


def _listen(running: Sequence[subprocess.Popen], advance: Callable[[int], None]) -> None:
    """Read what the workers say until all of them have ended well."""
    with selectors.DefaultSelector() as selector:
        for worker in running:
            selector.register(worker.stdout, selectors.EVENT_READ, worker)
        while selector.get_map():
            for key, _ in selector.select():
                line = key.fileobj.readline()
                for event in events_in(line):
                    if isinstance(event, dict) and "error" in event:
                        raise SrnError(event["error"], event["cure"])
                    if isinstance(event, dict):
                        advance(event["images"])
                if line:
                    continue
                selector.unregister(key.fileobj)
                if code := key.data.wait():
                    how = ending(code)
                    raise SrnError(f"a predicting process died ({how})", "run the same command again: it goes on")


def main(arguments: Sequence[str]) -> int:
    """A worker."""
    from pysrn.data.pair.lmdb_pair import PairReader
    from pysrn.predict.splits import fill_chunks, net_for

    end_with_parent(int(arguments[0]))
    try:
        chunks, numbers = ScoreChunks.of_folder(Path(arguments[1])), [int(text) for text in arguments[2:]]
        job = chunks.job
        first = job.get("first", 0)
        pair = PairReader(job["data"], job["split"], lambda _: range(first, first + job["images"]), sparse=True)
        net = net_for(
            Path(job["weights"]), job["batch_size"], pair, job["cache"], announced=True, search=job.get("search")
        )
        fill_chunks(net, pair, chunks, numbers, lambda done: send(images=done))
    except BrokenPipeError:
        os._exit(1)  # Python would complain once more when it flushes
    except (SrnError, OSError, MemoryError) as error:
        send(error=str(error), cure=getattr(error, "cure", ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What one rank's net is: it reads its part of every batch, and some of its blobs are averaged over the ranks.

`parallel.py` trains with it. The checked-in nets and net.prototxt of a stage know nothing of ranks.
"""

from __future__ import annotations

from pysrn.console import UsageError
from pysrn.nets import messages
from pysrn.train.fixed.settings import change_feed, feed_of


def rank_net(net: messages.NetParameter, rank: int, ranks: int) -> messages.NetParameter:
    """The net of one of `ranks` processes: its data layers read this rank's part of every batch.

    Raises UsageError when the batch cannot be shared evenly.
    """
    own = messages.copy_of(net)
    whole = feed_of(own).batch_size
    check_batch(whole, ranks)
    change_feed(own, batch_size=whole // ranks, rank=rank, ranks=ranks)
    return own


def check_batch(batch_size: int, ranks: int) -> None:
    """Raise UsageError when a batch cannot be shared evenly."""
    if batch_size % ranks:
        raise UsageError(
            f"a batch of {batch_size} images cannot be shared evenly by {ranks} ranks",
            "give a --batch-size that --ranks divides: it is that of all ranks together",
        )


def shared_blobs(net, message: messages.NetParameter) -> tuple[list, list]:
    """The blobs of a pycaffe net that learn, and those that hold moving BN statistics."""
    learning, statistics, seen = [], [], set()
    for layer in message.layer:
        blobs = list(net.params[layer.name]) if layer.name in net.params else []
        if layer.type == "BatchNorm":  # its blobs have no gradient
            statistics += [] if layer.batch_norm_param.use_global_stats else blobs
            continue
        rates = [param.lr_mult for param in layer.param] + [1.0] * len(blobs)  # Caffe's default
        names = [param.name for param in layer.param] + [""] * len(blobs)  # of what several layers share
        parts = zip(blobs, rates, names, strict=False)
        learning += [blob for blob, rate, name in parts if rate and not (name and name in seen)]
        seen.update(names)
    return learning, statistics

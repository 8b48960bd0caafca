"""PyTorch's training step on the net of stage 4, for comparison with Caffe's on the same device.

The same net (`convert/torch_model.py`), losses (Eq. 10), stored BN statistics and SGD; eager, NCHW, as Caffe has it.
Run as `python -m pysrn.benchmark.gpu_torch_steps JSON` by a Python whose PyTorch has CUDA; Caffe is not imported.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch
from torch.nn import functional

from pysrn.recipes import CROP_SIZE, TRUNKS
from pysrn.systems.srn.torch_model import SRN

WARM_UP = 3
LABELS = 80  # MS-COCO's, as gpu_nets.py
MOMENTUM, DECAY = 0.9, 0.0005  # cost the same whatever they are; as recipes.py


def step_speed(trunk: str, batch_size: int, gpu: int | None, rounds: int, tf32: bool) -> dict:
    """Median seconds of a step, images per second, peak memory in MB, versions. Without CUDA: {"missing": why}."""
    if gpu is not None and not torch.cuda.is_available():
        return {"missing": f"PyTorch {torch.__version__} sees no CUDA device"}
    device = torch.device("cpu" if gpu is None else f"cuda:{gpu}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.manual_seed(0)
    model = SRN(TRUNKS[trunk], LABELS).to(device).eval()  # eval: stored BN statistics; gradients flow all the same
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=MOMENTUM, weight_decay=DECAY)
    images = torch.randn(batch_size, 3, CROP_SIZE, CROP_SIZE, device=device) * 60
    labels = (torch.rand(batch_size, LABELS, device=device) < 0.05).float()

    def step() -> float:
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        output = model(images)
        losses = [
            functional.binary_cross_entropy_with_logits(score, labels, reduction="sum") / batch_size
            for score in (output.score, output.score_att)
        ]
        sum(losses).backward()
        optimizer.step()
        if gpu is not None:
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    for _ in range(WARM_UP):
        step()
    seconds = statistics.median(step() for _ in range(rounds))
    memory = None if gpu is None else torch.cuda.max_memory_reserved(device) // 2**20
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"seconds": seconds, "images_per_second": batch_size / seconds, "memory_mb": memory, "versions": versions}


if __name__ == "__main__":
    print(json.dumps(step_speed(**json.loads(sys.argv[1]))))

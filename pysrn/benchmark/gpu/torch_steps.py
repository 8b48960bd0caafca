"""PyTorch's training step on the net of the last stage, for comparison with Caffe's on the same device.

The same net (`System.torch_model`), losses, stored BN statistics and SGD; eager or compiled, NCHW, as Caffe has it. Run
as `python -m pysrn.benchmark.gpu.torch_steps JSON` by a Python whose PyTorch has CUDA; Caffe is not imported.
"""

from __future__ import annotations

import json
import sys

import torch
from torch.nn import functional

from pysrn.benchmark.timing import median_seconds
from pysrn.benchmark.usual import usual_recipe
from pysrn.systems.registry import system_named
from pysrn.systems.system import Architecture


def step_speed(
    system: str,
    trunk: str,
    batch_size: int,
    gpu: int | None,
    rounds: int,
    tf32: bool,
    scores: list[str],
    compiled: bool = False,
) -> dict:
    """Median seconds of a step, images per second, peak memory in MB, versions. Without CUDA: {"missing": why}.

    `scores`: those that the losses are of.
    """
    if gpu is not None and not torch.cuda.is_available():
        return {"missing": f"PyTorch {torch.__version__} sees no CUDA device"}
    device = torch.device("cpu" if gpu is None else f"cuda:{gpu}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.manual_seed(0)
    recipe = usual_recipe(system_named(system), trunk=trunk)
    net, size = Architecture.of(recipe), recipe.input.size
    model = net.system.torch_class().of(net).to(device).eval()  # stored BN statistics; gradients flow all the same
    if compiled:
        model.compile()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    images = torch.randn(batch_size, 3, size, size, device=device) * 60
    labels = (torch.rand(batch_size, net.classes, device=device) < 0.05).float()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        output = model(images)._asdict()
        losses = [
            functional.binary_cross_entropy_with_logits(output[score], labels, reduction="sum") / batch_size
            for score in scores
        ]
        sum(losses).backward()
        optimizer.step()
        if gpu is not None:
            torch.cuda.synchronize(device)

    seconds = median_seconds(step, rounds)
    memory = None if gpu is None else torch.cuda.max_memory_reserved(device) // 2**20
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"seconds": seconds, "images_per_second": batch_size / seconds, "memory_mb": memory, "versions": versions}


if __name__ == "__main__":
    print(json.dumps(step_speed(**json.loads(sys.argv[1]))))

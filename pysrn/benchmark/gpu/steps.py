"""Images per second of Caffe's training steps, and what of a step a grouped convolution takes, on a GPU or the CPU.

The nets are those of the stages, fed from memory. Run as `python -m pysrn.benchmark.gpu.steps JSON` (`check.py` does):
one process a measurement, because Caffe ends it when the device's memory does not suffice.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from pysrn.benchmark.nets import fill_inputs, grouped_convolution, make_solver, one_layer_net, training_net
from pysrn.benchmark.timing import median_seconds
from pysrn.benchmark.usual import usual_recipe
from pysrn.nets.in_caffe import make_net, use_device
from pysrn.systems.registry import system_named

STEP, GROUPED, PROFILE = "step", "grouped", "profile"  # what is asked for


def step_speed(
    system: str, trunk: str, stage: int, batch_size: int, gpu: int | None, rounds: int, grouped_engine: str | None
) -> dict:
    """Median seconds of a step (forward, backward, update), images per second, memory used on the device in MB."""
    use_device(gpu)
    recipe = usual_recipe(system_named(system), None, trunk, batch_size)
    solver = make_solver(training_net(recipe, stage, grouped_engine), recipe, stage, rate=0.0)
    fill_inputs(solver.net)

    def step() -> None:
        solver.step(1)
        wait_for(solver.net)

    seconds = median_seconds(step, rounds)
    return {"seconds": seconds, "images_per_second": batch_size / seconds, "memory_mb": used_memory(gpu)}


def grouped_speed(
    system: str, trunk: str, stage: int, batch_size: int, gpu: int | None, rounds: int, grouped_engine: str | None
) -> dict:
    """Median seconds of the grouped convolution alone, forward and backward, with the shapes of a stage."""
    use_device(None)
    message = training_net(usual_recipe(system_named(system), None, trunk, 1), stage)
    layer = grouped_convolution(message)
    _, *shape = make_net(message, train=True).blobs[layer.bottom[0]].shape
    use_device(gpu)
    net = make_net(one_layer_net(layer, [(batch_size, *shape)], grouped_engine), train=True)
    last = len(net.layers) - 1

    def step() -> None:  # net.forward() and net.backward() would also bring their results to the host, and back again
        net._forward(0, last)
        net._backward(last, 0)
        wait_for(net)

    return {"seconds": median_seconds(step, rounds)}


def profile(
    system: str, trunk: str, stage: int, batch_size: int, gpu: int | None, rounds: int, grouped_engine: str | None
) -> dict:
    """Seconds of all layers of a type, forth and back, the longest first: medians, each layer waited for."""
    use_device(gpu)
    net = make_net(
        training_net(usual_recipe(system_named(system), None, trunk, batch_size), stage, grouped_engine), True
    )
    fill_inputs(net)
    net.forward()
    net.backward()
    seconds: dict[str, float] = {}
    for number, layer in reversed(list(enumerate(net.layers))):

        def both(number: int = number) -> None:
            net._forward(number, number)
            net._backward(number, number)
            wait_for(net)

        seconds[layer.type] = seconds.get(layer.type, 0.0) + median_seconds(both, rounds)
    return {PROFILE: dict(sorted(seconds.items(), key=lambda item: -item[1]))}


def used_memory(gpu: int | None) -> int | None:
    """Memory in use on a device in MB, that of other processes included; None where nvidia-smi cannot tell."""
    if gpu is None or not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    return int(answer) if answer.isdecimal() else None


def wait_for(net) -> None:
    """Until the device has done all that it was told: what is read from it comes after that."""
    smallest = min((blob for blobs in net.params.values() for blob in blobs), key=lambda blob: blob.count)
    smallest.data[...], smallest.diff[...]


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    print(json.dumps({STEP: step_speed, GROUPED: grouped_speed, PROFILE: profile}[request.pop("what")](**request)))

"""What a contestant of `figures.py` computes, in Caffe and in PyTorch; each imports its own framework alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pysrn.benchmark.contender import CAFFE, SEQUENCE, Job
from pysrn.nets import messages
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.layers import add_layer
from pysrn.predict.trained import architecture_of

BLOBS = ("of_input", "bias", "of_state")  # of an LSTM layer of Caffe's


def make_worker(job: Job) -> CaffeSequence | TorchSequence | Searches:
    """The contestant of a job."""
    if job.framework == CAFFE:
        return CaffeSequence(job) if job.work == SEQUENCE else Searches(job, _caffe_search(job))
    import torch

    torch.set_num_threads(job.threads)
    return TorchSequence(job) if job.work == SEQUENCE else Searches(job, _torch_search(job))


class CaffeSequence:
    """An LSTM layer between its inputs, forth and back."""

    def __init__(self, job: Job) -> None:
        from pysrn.nets.in_caffe import make_net, set_device

        set_device(None)
        arrays = job.arrays()
        net = messages.NetParameter(name="sequence", force_backward=True)
        for name in ("x", "cont"):
            add_layer(net, name, "Input", [], input_param={"shape": [{"dim": list(arrays[name].shape)}]})
        width = {"num_output": arrays["gradient"].shape[-1]}
        add_layer(net, "state", "LSTM", ["x", "cont"], recurrent_param=width)
        self._net = make_net(net, train=True)
        for name in ("x", "cont"):
            self._net.blobs[name].data[...] = arrays[name]
        for name, blob in zip(BLOBS, self._net.params["state"], strict=True):
            blob.data[...] = arrays[name]
        self._net.blobs["state"].diff[...] = arrays["gradient"]

    def once(self) -> None:
        """Forth and back."""
        self._net.clear_param_diffs()
        self._net.forward()
        self._net.backward()

    def check(self) -> dict[str, np.ndarray]:
        """The states, and all gradients."""
        self.once()
        gradients = {name: blob.diff.copy() for name, blob in zip(BLOBS, self._net.params["state"], strict=True)}
        return _checked(self._net.blobs["state"].data.copy(), self._net.blobs["x"].diff.copy(), gradients)


class TorchSequence:
    """nn.LSTM on the same numbers."""

    def __init__(self, job: Job) -> None:
        import torch

        from pysrn.systems.torch_parts import lstm_values

        arrays = job.arrays()
        self._lstm = torch.nn.LSTM(arrays["x"].shape[-1], arrays["gradient"].shape[-1])
        values = lstm_values([arrays[name] for name in BLOBS])
        self._lstm.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in values.items()})
        self._x = torch.from_numpy(arrays["x"]).requires_grad_()
        self._gradient = torch.from_numpy(arrays["gradient"])

    def once(self):
        """Forth and back; returns the states."""
        self._lstm.zero_grad(set_to_none=True)
        self._x.grad = None
        states, _ = self._lstm(self._x)
        states.backward(self._gradient)
        return states

    def check(self) -> dict[str, np.ndarray]:
        """The states, and all gradients; each of the two biases has the gradient of Caffe's one."""
        from pysrn.systems.torch_parts import lstm_blobs

        states = self.once().detach().numpy()
        gradients = {name: parameter.grad.numpy() for name, parameter in self._lstm.named_parameters()}
        blobs = dict(zip(BLOBS, lstm_blobs(gradients), strict=True))
        return _checked(states, self._x.grad.numpy(), blobs | {"bias": blobs["bias"] / 2})


class Searches:
    """A search of all images, a batch at a time; `search` gives scores and paths of what it reads."""

    def __init__(self, job: Job, search: Callable) -> None:
        read = job.arrays()
        batch = int(read.pop("batch"))
        images = len(next(iter(read.values())))
        self._batches = [
            {name: values[begin : begin + batch] for name, values in read.items()} for begin in range(0, images, batch)
        ]
        self._search = search

    def once(self) -> list:
        """Scores and paths of each batch."""
        return [self._search(batch) for batch in self._batches]

    def check(self) -> dict[str, np.ndarray]:
        """The scores as probabilities, and the labels of each best path."""
        done = self.once()
        logits = {name: np.concatenate([scores[name] for scores, _ in done]) for name in done[0][0]}
        best = [paths[0].labels for _, found in done for paths in found]
        labels = np.full((len(best), max(map(len, best))), -1)
        for row, path in enumerate(best):
            labels[row, : len(path)] = path
        return {name: 1 / (1 + np.exp(-values)) for name, values in logits.items()} | {"labels": labels}


def _checked(states: np.ndarray, x: np.ndarray, blobs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"states": states, "x/gradient": x} | {f"{name}/gradient": values for name, values in blobs.items()}


def _caffe_search(job: Job) -> Callable:
    from pysrn.nets.in_caffe import set_device

    set_device(None)
    weights = read_weights(job.weights)
    found = architecture_of(weights, job.weights)
    searching = found.system.searching_class()(found, weights, job.weights)
    return lambda read: (searching(read), searching.found)


def _torch_search(job: Job) -> Callable:
    import torch

    from pysrn.convert.torch_weights import load_model

    model = load_model(job.weights)
    return lambda read: model.search(*map(torch.from_numpy, read.values()))

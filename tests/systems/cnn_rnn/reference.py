"""The recurrent part of CNN-RNN written out in PyTorch from its equations, on Caffe's blobs as they are."""

import torch
from torch.nn import functional

LSTM, PAPER = "lstm", "paper"


def leaves(blobs):
    """Layer -> blobs, as float64 tensors that want gradients; what is shared is one tensor."""
    found = {
        name: [torch.tensor(blob, dtype=torch.float64, requires_grad=True) for blob in own]
        for name, own in blobs.items()
    }
    found["rnn_scores"] = found["rnn_embed"]
    return found


def cell(kind, p, seen, memory):
    """One step: what is seen (N x E), memory -> output (N x D), memory."""
    if kind == LSTM:
        h, c = memory
        x, b, r = p["rnn_lstm"]
        i, f, o, g = (seen @ x.T + b + h @ r.T).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)
    (r,) = memory
    x, b = p["rnn_input"]
    i, f, o, new = (seen @ x.T + b + r @ p["rnn_recurrent_0"][0].T).chunk(4, 1)
    r = torch.sigmoid(f) * r + torch.sigmoid(i) * torch.tanh(new)
    return torch.sigmoid(o) * r, (r,)


def start(kind, p, rows):
    """An empty memory."""
    width = p["rnn_project_state"][0].shape[1]
    return tuple(torch.zeros(rows, width, dtype=torch.float64) for _ in range(2 if kind == LSTM else 1))


def scores(p, output, image):
    """Output (N x D) and projected image (N x E) -> words (N x K)."""
    return torch.tanh(output @ p["rnn_project_state"][0].T + image) @ p["rnn_embed"][0].T


def project(p, feature):
    """Feature (N x F) -> N x E."""
    weight, bias = p["rnn_project_image"]
    return feature @ weight.T + bias


def loss(kind, p, feature, labels, order, steps):
    """-log P(labels in order, END), the mean over the images, word by word."""
    classes, total = labels.shape[1], 0.0
    image = project(p, feature)
    for n in range(len(labels)):
        words = [*(c for c in order if labels[n, c]), classes][:steps]
        last, memory = classes, start(kind, p, 1)
        for word in words:
            output, memory = cell(kind, p, p["rnn_embed"][0][last : last + 1], memory)
            total = total - functional.log_softmax(scores(p, output, image[n : n + 1]), 1)[0, word]
            last = word
    return total / len(labels)

"""Beam search against a walk over all paths, on random tiny nets."""

import math

import numpy as np
import pytest

from pysrn.systems.cnn_rnn.beam_search import greedy, search, visits
from pysrn.systems.cnn_rnn.scores import LEAST, scores_of


class TinyNet:
    """A recurrent net of random numbers: memory of 3, K words; each image has a bias of its own."""

    def __init__(self, seed, images, classes):
        generator = np.random.default_rng(seed)
        self.words = generator.normal(size=(classes + 1, 3))
        self.keep = generator.normal(size=(3, 3))
        self.out = generator.normal(size=(3, classes + 1)) * 2
        self.images = generator.normal(size=(images, classes + 1))

    def step(self, image, word, memory):
        """As `beam_search.Step`."""
        before = np.zeros((len(image), 3)) if memory is None else memory[0]
        state = np.tanh(before @ self.keep + self.words[word])
        scores = state @ self.out + self.images[image]
        return scores - np.log(np.exp(scores).sum(1, keepdims=True)), [state]


def every_path(net, image, classes, shortest):
    """All paths of an image with their log-probability, by recursion."""
    found = []

    def walk(labels, word, memory, total):
        logs, memory = net.step(np.array([image]), np.array([word]), memory)
        if len(labels) >= min(shortest, classes):
            found.append((total + logs[0, classes], labels))
        for label in range(classes):
            if label not in labels:
                walk((*labels, label), label, memory, total + logs[0, label])

    walk((), classes, None, 0.0)
    return sorted(found, key=lambda path: -path[0])


def paths_in_all(classes):
    return sum(math.perm(classes, length) for length in range(classes + 1))


@pytest.mark.parametrize("shortest", [0, 2])
def test_a_wide_beam_finds_what_a_walk_over_all_paths_finds(shortest):
    for seed in range(500):
        classes = 1 + seed % 4
        net = TinyNet(seed, 2, classes)
        found = search(net.step, 2, classes, paths_in_all(classes), shortest)
        for image in range(2):
            wanted = every_path(net, image, classes, shortest)
            assert [path.labels for path in found[image]] == [labels for _, labels in wanted]
            probabilities = [math.exp(path.log_probability) for path in found[image]]
            assert probabilities == pytest.approx([math.exp(total) for total, _ in wanted], abs=1e-6)


@pytest.mark.parametrize("digits", [12, 0])
def test_every_step_keeps_the_best_and_the_end_comes_when_nothing_better_can(digits):
    """A narrow beam is not exhaustive: its rule in plain loops. Without digits many are equal: the first counts."""

    def step(*seen):
        logs, memory = net.step(*seen)
        return np.round(logs, digits), memory

    for seed in range(200):
        classes, width = 5, 1 + seed % 3
        net = TinyNet(seed, 3, classes)
        for image, found in enumerate(search(step, 3, classes, width)):
            partial, candidates = [((), classes, None, 0.0)], []
            while partial:
                grown = []
                for labels, word, memory, total in partial:
                    logs, after = step(np.array([image]), np.array([word]), memory)
                    candidates.append((total + logs[0, classes], labels))
                    grown += [((*labels, c), c, after, total + logs[0, c]) for c in range(classes) if c not in labels]
                candidates = sorted(candidates, key=lambda one: -one[0])[:width]
                grown = sorted(grown, key=lambda one: -one[3])[:width]
                partial = [one for one in grown if len(candidates) < width or one[3] > candidates[-1][0]]
            assert [path.labels for path in found] == [labels for _, labels in candidates]


def test_images_do_not_meet_each_other():
    net = TinyNet(7, 6, 5)
    together = search(net.step, 6, 5, 3)
    for image in range(6):
        alone = search(lambda rows, word, memory, image=image: net.step(rows * 0 + image, word, memory), 1, 5, 3)
        assert [path.labels for path in together[image]] == [path.labels for path in alone[0]]


def test_the_probability_of_a_path_is_the_product_of_its_steps():
    net = TinyNet(1, 1, 4)
    for path in search(net.step, 1, 4, 9)[0]:
        word, memory, logs = 4, None, []
        for next_word in (*path.labels, 4):
            all_logs, memory = net.step(np.array([0]), np.array([word]), memory)
            logs.append(all_logs[0, next_word])
            word = next_word
        assert path.steps == pytest.approx(logs, abs=1e-12) and len(path.steps) == len(path.labels) + 1


def test_visits_are_the_shares_of_the_paths_that_come_by():
    net = TinyNet(2, 2, 3)
    found = search(net.step, 2, 3, paths_in_all(3))
    wanted = np.zeros((2, 3))
    for image in range(2):
        for total, labels in every_path(net, image, 3, 0):
            wanted[image, list(labels)] += math.exp(total)
        wanted[image] /= sum(math.exp(total) for total, _ in every_path(net, image, 3, 0))
    assert visits(found, 3) == pytest.approx(wanted, abs=1e-12)


def test_greedy_sees_the_greatest_probability_on_its_way():
    net = TinyNet(3, 4, 4)
    found = greedy(net.step, 4, 4)
    for image in range(4):
        seen, taken, word, memory = np.zeros(4), [], 4, None
        while True:
            logs, memory = net.step(np.array([image]), np.array([word]), memory)
            seen = np.maximum(seen, np.exp(logs[0, :4]))
            allowed = logs[0].copy()
            allowed[taken] = -np.inf
            word = int(allowed.argmax())
            if word == 4:
                break
            taken.append(word)
        assert found[image] == pytest.approx(seen, abs=1e-12)


def test_the_result_is_positive_for_the_best_path_alone_and_ranks_it_in_order():
    net = TinyNet(4, 5, 5)
    scores, paths = scores_of(net.step, 5, 5, 4, 0)
    assert list(scores) == ["score_greedy", "score_visits", "score"]
    for row, candidates in enumerate(paths):
        best = list(candidates[0].labels)
        assert set(np.flatnonzero(scores["score"][row] > 0)) == set(best)
        assert list(np.argsort(-scores["score"][row], kind="stable")[: len(best)]) == best
        assert np.isfinite(scores["score_visits"][row]).all() and (scores["score"][row] != 0).all()
    highest = math.log((1 - LEAST) / LEAST)
    assert np.abs(scores["score_visits"]).max() <= highest * (1 + 1e-6)


@pytest.mark.parametrize("shortest", [2, 99])
def test_a_path_has_the_least_number_of_labels(shortest):
    net = TinyNet(5, 3, 4)
    for candidates in search(net.step, 3, 4, 3, shortest):
        assert candidates and all(len(path.labels) >= min(shortest, 4) for path in candidates)
        assert all(len(set(path.labels)) == len(path.labels) for path in candidates)

"""Two processes predict the same to the last bit; with another number of threads, up to rounding."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_msmaml import FewShotClassifier

from .own_data import MAKERS, save_tiny_model

# Of a probability, as docs/trust.md states it.
TOLERANCE = 1e-5


def predict(folder: Path, threads: int, pipe) -> None:
    """Sends the probabilities of ten inputs of each modality, after a fit to six."""
    torch.set_num_threads(threads)
    found = {}
    for modality, make in MAKERS.items():
        classifier = FewShotClassifier.from_pretrained(folder, modality=modality, sampling_rate=16_000)
        examples = [make(kind, number) for kind in (0, 1) for number in range(3)]
        classifier.fit(examples, ["crow"] * 3 + ["wren"] * 3)
        found[modality] = classifier.predict_proba([make(kind, 20) for kind in range(10)])
    pipe.send(found)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """In processes that share nothing but the folder: (threads, number of the process) -> modality -> probabilities."""
    folder = save_tiny_model(tmp_path_factory.mktemp("determinism") / "model", num_inner_steps=3)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    found = {}
    for threads, number in ((1, 0), (1, 1), (2, 0), (2, 1)):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=predict, args=(folder, threads, sender))
        process.start()
        found[threads, number] = receiver.recv() if receiver.poll(120) else None
        process.join()
        assert process.exitcode == 0
    return found


@pytest.mark.parametrize("modality", MAKERS)
@pytest.mark.parametrize("threads", [1, 2])
def test_two_processes_predict_the_same_to_the_last_bit(predictions, threads, modality):
    one, other = (predictions[threads, number][modality] for number in (0, 1))
    assert one.std() > 0.01, "a model that predicts the same of everything shows nothing"
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("modality", MAKERS)
def test_threads_change_no_more_than_rounding(predictions, modality):
    np.testing.assert_allclose(predictions[2, 0][modality], predictions[1, 0][modality], rtol=0, atol=TOLERANCE)

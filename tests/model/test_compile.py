"""torch.compile on the model: threads and second derivatives, which do not go with a compiler, are kept from it."""

import pytest
import torch

from ..toys import tiny_episodes, tiny_model


@pytest.mark.parametrize(
    ("threads", "first_order", "modalities"),
    [(2, False, ("audio", "text", "image")), (2, True, ("audio", "text", "image")), (1, False, ("image",))],
    indirect=["threads"],
)
def test_compiled_model_gives_the_results_of_the_model(threads, first_order, modalities):
    model, episodes = tiny_model(torch.float32, first_order=first_order, num_inner_steps=1), tiny_episodes(modalities)
    torch._dynamo.reset()
    expected, compiled = model.train()(episodes), torch.compile(model, backend="aot_eager")(episodes)
    gradients = []
    for output in (expected, compiled):
        output.loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    torch.testing.assert_close(compiled.loss, expected.loss)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(compiled.logits, expected.logits)

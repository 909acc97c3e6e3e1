"""The level encoder of text: means over tokens, windows, padding."""

from typing import Any

import pytest
import torch
from transformers import BertModel, RobertaConfig

from modeling_msmaml.model.level_encoder import build_level_encoder
from modeling_msmaml.model.level_text import batches_by_length, windows

from .level_encoders import CLS, SEP, bert_config, texts, tiny


@pytest.fixture
def encoder():
    return tiny("text")


def library_means(encoder, ids: torch.Tensor) -> torch.Tensor:
    """Masked means of all hidden states of one batch, as sentence-transformers takes them."""
    model = BertModel(bert_config(), add_pooling_layer=False).eval()
    model.load_state_dict(encoder.model.state_dict())
    mask = (ids != 0).long()
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    return torch.cat([(state * mask[..., None]).sum(dim=1) / mask.sum(dim=1)[:, None] for state in states], dim=1)


def with_special_tokens(ids: torch.Tensor) -> torch.Tensor:
    rows = [torch.cat([torch.tensor([CLS]), row[row != 0], torch.tensor([SEP])]) for row in ids]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def flat(encoder, ids: torch.Tensor) -> torch.Tensor:
    return torch.cat(list(encoder.encode(ids).values()), dim=1)


def test_levels_are_the_masked_means_of_transformers(encoder):
    ids = texts([0, 1, 4, 10], width=10)
    expected = library_means(encoder, with_special_tokens(ids))
    torch.testing.assert_close(flat(encoder, ids), expected, rtol=1e-5, atol=1e-5)


def test_padding_and_special_tokens_of_a_row_change_nothing(encoder):
    ids = texts([3, 10, 10, 25], width=25)
    expected = flat(encoder, ids)
    padded = torch.nn.functional.pad(ids, (0, 40))
    assert torch.equal(flat(encoder, padded), expected)
    assert torch.equal(flat(encoder, with_special_tokens(ids)), expected)


def test_a_long_text_is_the_mean_over_the_tokens_of_its_windows(encoder):
    ids = texts([24], width=24)  # at most ten words a window: three windows of eight
    parts = ids.view(3, 8)
    expected = library_means(encoder, with_special_tokens(parts)).mean(dim=0)
    torch.testing.assert_close(flat(encoder, ids)[0], expected, rtol=1e-5, atol=1e-5)
    ids = texts([11], width=11)  # two windows, of six and five words, which are eight and seven tokens
    first, last = (library_means(encoder, with_special_tokens(part))[0] for part in (ids[:, :6], ids[:, 6:]))
    expected = (8 * first + 7 * last) / 15
    torch.testing.assert_close(flat(encoder, ids)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 24, 10_000])
def test_how_many_tokens_are_read_at_once_changes_nothing(encoder, monkeypatch, budget):
    ids = texts([30, 2, 7, 0, 18, 7], width=30)
    expected = flat(encoder, ids)
    monkeypatch.setattr("modeling_msmaml.model.level_text.BATCH_TOKENS", budget)
    torch.testing.assert_close(flat(encoder, ids), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [
        ([0], 10, [(0, 0, 0)]),
        ([10], 10, [(0, 0, 10)]),
        ([11], 10, [(0, 0, 6), (0, 6, 11)]),
        ([3, 25], 10, [(0, 0, 3), (1, 0, 9), (1, 9, 18), (1, 18, 25)]),
        ([3], 1, [(0, 0, 1), (0, 1, 2), (0, 2, 3)]),
    ],
)
def test_texts_are_split_into_few_windows_of_equal_length(lengths, room, expected):
    assert windows(lengths, room) == expected


def test_no_window_is_empty_or_too_long():
    for length in range(1, 200):
        for room in range(1, 40):
            found = windows([length], room)
            assert all(0 < end - start <= room for _, start, end in found)
            assert len(found) == -(-length // room) and found[-1][2] == length


@pytest.mark.parametrize(
    ("lengths", "budget", "cost", "expected"),
    [
        ([], 10, 9, []),
        ([3, 5, 4], 10, 9, [[1, 2], [0]]),
        ([3, 5, 4], 15, 9, [[1, 2, 0]]),
        ([3, 5, 4], 15, 2, [[1, 2], [0]]),
        ([3, 5, 4], 15, 0, [[1], [2], [0]]),
        ([50, 1, 1], 10, 99, [[0], [1, 2]]),
        ([0, 0], 10, 0, [[0, 1]]),
    ],
)
def test_batches_hold_like_lengths(lengths, budget, cost, expected):
    assert list(batches_by_length(lengths, budget, cost)) == expected


def test_an_encoder_to_which_0_is_a_token_reads_texts_without_special_tokens():
    config = RobertaConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=20,
    )
    torch.manual_seed(0)
    description = {"encoder": "transformers", "config": config.to_dict(), "window": 12, "special_tokens": [[0], [2]]}
    encoder: Any = build_level_encoder(description)
    ids = texts([4, 9, 25], width=30)
    together, alone = encoder.levels(ids), [encoder.levels(row[row != 0][None]) for row in ids]
    torch.testing.assert_close(together, torch.cat(alone), rtol=2e-3, atol=2e-4)
    whole = torch.cat([torch.tensor([0]), ids[0, :4], torch.tensor([2])])[None]
    with torch.no_grad():
        expected = encoder.model(input_ids=whole).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(encoder.encode(ids[:1])["L1"], expected, rtol=1e-5, atol=1e-5)


def test_without_special_tokens_an_empty_text_is_zero():
    encoder = tiny("text", special_tokens=[[], []])
    found = encoder.levels(texts([0, 3], width=3))
    assert not found[0].any() and found[1].any()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.full((1, 3), 60), "token ids range from 60 to 60, but the encoder of text has vocab_size=60"),
        (torch.full((1, 3), -1), "token ids range from -1 to -1"),
        (torch.ones(1, 3), "dtype torch.float32: give integer token ids"),
    ],
)
def test_rows_that_are_no_token_ids_are_refused(encoder, rows, message):
    with pytest.raises(ValueError, match=message):
        encoder.levels(rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 17}, "window=17: the encoder reads at most 16 tokens at once"),
        ({"window": 2}, "window=2 must be an integer of at least 3"),
        ({"special_tokens": [[1]]}, "must be two lists of ids"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny("text", **changes)

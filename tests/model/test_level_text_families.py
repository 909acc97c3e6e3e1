"""Text encoders of other families than BERT, from strings to levels, beside the libraries' own path."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from modeling_msmaml.inputs.processing_msmaml import MSMAMLProcessor
from modeling_msmaml.model.level_encoder import build_level_encoder

TEXTS = ["a cat!", "dogs bark!!", "!", "the cat saw the other cats and dogs, and barked" * 3, "0 is a number"]
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16}
T5 = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 16, "d_kv": 8}
# The tokens of a family before the others, those before and after a text; of ModernBERT and CLIP, 0 is a word.
BERT_TOKENS = (["[PAD]", "[CLS]", "[SEP]"], "[CLS]", "[SEP]", "[PAD]")
ROBERTA_TOKENS = (["<s>", "<pad>", "</s>"], "<s>", "</s>", "<pad>")
WORD_FIRST = (["!", "<s>", "</s>", "<pad>"], "<s>", "</s>", "<pad>")
FAMILIES: dict[str, tuple[dict[str, Any], tuple[list[str], str, str, str]]] = {
    "bert": ({**SIZE, "max_position_embeddings": 24}, BERT_TOKENS),
    "distilbert": ({**DISTILBERT, "max_position_embeddings": 24}, BERT_TOKENS),
    "electra": ({**SIZE, "embedding_size": 8, "max_position_embeddings": 24}, BERT_TOKENS),
    "t5": (T5, BERT_TOKENS),
    "roberta": ({**SIZE, "max_position_embeddings": 26}, ROBERTA_TOKENS),
    "xlm-roberta": ({**SIZE, "max_position_embeddings": 26}, ROBERTA_TOKENS),
    "mpnet": ({**SIZE, "max_position_embeddings": 26}, ROBERTA_TOKENS),
    "modernbert": ({**SIZE, "max_position_embeddings": 24}, WORD_FIRST),
    "clip_text_model": ({**SIZE, "max_position_embeddings": 24}, WORD_FIRST),
}


def make_tokenizer(tokens: tuple[list[str], str, str, str], length: int = 20) -> PreTrainedTokenizerFast:
    """Byte pairs, learned from the texts, after the tokens of a family, which are special unless they are words."""
    first, before, after, padding = tokens
    backend = Tokenizer(models.BPE(unk_token=after))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=50, special_tokens=first))
    vocabulary = backend.get_vocab()
    ends = [(token, vocabulary[token]) for token in (before, after)]
    if first[0] == "!":  # an ordinary word, as the merges know it
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=after))
        backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(single=f"{before} $A {after}", special_tokens=ends)
    names = {"cls_token": before, "sep_token": after, "pad_token": padding, "unk_token": after}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=length, **names)


def make_model(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The encoder of a small random model."""
    model = make_whole_model(family, tokenizer)
    return model.get_encoder() if model.config.is_encoder_decoder else model


def make_whole_model(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    torch.manual_seed(0)
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.cls_token_id}
    ids |= {"eos_token_id": tokenizer.sep_token_id, "cls_token_id": tokenizer.cls_token_id}
    ids |= {"sep_token_id": tokenizer.sep_token_id}
    config = AutoConfig.for_model(family, **FAMILIES[family][0], vocab_size=len(tokenizer), **ids)
    return AutoModel.from_config(config).eval()


def description(tokenizer: PreTrainedTokenizerFast, model: Any, **options: Any) -> dict[str, Any]:
    ends = [[tokenizer.cls_token_id], [tokenizer.sep_token_id]]
    return {
        "encoder": "transformers",
        "config": model.config.to_dict(),
        "window": 22,
        "special_tokens": ends,
        **options,
    }


def build(tokenizer: PreTrainedTokenizerFast, model: Any, **options: Any) -> Any:
    encoder: Any = build_level_encoder(description(tokenizer, model, **options))
    encoder.model.load_state_dict(model.state_dict(), strict=False)
    return encoder


def rows_of(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """The texts as a processor reads them, one of them cut."""
    with pytest.warns(UserWarning, match="reads the first"):
        return MSMAMLProcessor(tokenizer=tokenizer)(text=TEXTS, return_tensors="pt")["input_ids"]


@torch.no_grad()
def library(tokenizer: PreTrainedTokenizerFast, model: Any, text: str) -> list[torch.Tensor]:
    """The hidden states (tokens, size) of a text that is cut as a row of the processor is."""
    tokens = tokenizer([text], return_tensors="pt", truncation=True, max_length=tokenizer.model_max_length + 2)
    found = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], output_hidden_states=True)
    return [state[0] for state in (*found.hidden_states[:-1], found.last_hidden_state)]


@pytest.mark.parametrize("family", FAMILIES)
def test_levels_of_strings_are_those_of_transformers(family):
    tokenizer = make_tokenizer(FAMILIES[family][1])
    model = make_model(family, tokenizer)
    encoder = build(tokenizer, model)
    rows = rows_of(tokenizer)
    levels = encoder.split(encoder.levels(rows))
    for number, text in enumerate(TEXTS):
        states = library(tokenizer, model, text)
        assert len(states) == len(levels) == 3
        for level, state in zip(levels.values(), states, strict=True):
            torch.testing.assert_close(level[number], state.mean(dim=0), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_the_first_token_can_be_the_embedding(family):
    tokenizer = make_tokenizer(FAMILIES[family][1])
    model = make_model(family, tokenizer)
    encoder = build(tokenizer, model, pooling="cls", levels=["C", "L1"])
    assert encoder.last_level == "C" and list(encoder.level_sizes) == ["L1", "C"]
    rows = rows_of(tokenizer)
    found = encoder.split(encoder.levels(rows))["C"]
    for number, text in enumerate(TEXTS):
        first = library(tokenizer, model, text)[-1][0]
        torch.testing.assert_close(found[number], first, rtol=2e-3, atol=2e-3)


def test_rows_hold_every_token_whatever_pads():
    """Of a tokenizer to which 0 is a word, texts end in it without losing it."""
    tokenizer = make_tokenizer(WORD_FIRST)
    bare = tokenizer(["a!", "!!"], add_special_tokens=False)["input_ids"]
    assert bare[0][-1] == 0 and bare[1] == [0, 0] and tokenizer.pad_token_id == 3
    rows = MSMAMLProcessor(tokenizer=tokenizer)(text=["a!", "!!"])["input_ids"]
    assert rows[:, :3].tolist() == [[bare[0][0], 3, 0], [3, 3, 0]]


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "mpnet", "bert", "modernbert"])
def test_windows_are_as_long_as_the_positions_of_a_family(family):
    tokenizer = make_tokenizer(FAMILIES[family][1], length=30)
    model = make_model(family, tokenizer)
    encoder = build(tokenizer, model, window=24)
    rows = rows_of(tokenizer)
    assert (rows[3] != 0).sum() > 24 and encoder.levels(rows).isfinite().all()
    with pytest.raises(ValueError, match="window=25: the encoder reads at most 24 tokens at once"):
        build(tokenizer, model, window=25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "last"}, "pooling='last': choose one of mean, cls"),
        ({"pooling": "cls", "special_tokens": [[], [2]]}, "pooling='cls' needs a token before each text"),
        ({"padding": 1000}, "padding=1000 must be an id below vocab_size"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    tokenizer = make_tokenizer(BERT_TOKENS)
    with pytest.raises(ValueError, match=message):
        build(tokenizer, make_model("bert", tokenizer), **options)

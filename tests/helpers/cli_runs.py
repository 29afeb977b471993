"""Tiny checkpoints that answer the arithmetic set, and the arguments that compare them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TOKENS = ["<pad>", "<eos>", *"0123456789+=;>?"]


def save_tiny_llama(folder: Path, seed: int, layers: int = 1) -> Path:
    """Save a random Llama whose tokens are the arithmetic set's characters, and return its folder."""
    tokenizer = Tokenizer(WordLevel({token: i for i, token in enumerate(TOKENS)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=16, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=48, pad_token_id=0,
        bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_tiny_llama(folder / "base", seed=0)
    save_tiny_llama(folder / "tuned", seed=1)
    save_tiny_llama(folder / "deeper", seed=1, layers=2)
    return folder


@pytest.fixture
def all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grade all answers as right: a random model answers nothing right, and only right answers are compared."""
    monkeypatch.setattr("rlcircuits.questions.arithmetic.grade", lambda answer, gold: True)


def compare_arguments(tiny: Path, *more: str) -> list[str]:
    return [
        "compare", "--before", str(tiny / "base"), "--after", str(tiny / "tuned"), "--algorithm", "dpo",
        "--question-count", "130", "--k", "20", "--n", "1", "--noise-draws", "1", "--no-noise-groups", *more,
    ]  # fmt: skip

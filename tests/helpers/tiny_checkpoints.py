"""Tiny random checkpoints as folders on disk, with a tokenizer of single characters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from helpers.tiny_models import VOCABULARY, build
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.questions import Question, QuestionSet, load_questions

CHARACTERS = "0123456789+-*/=?;>.,: \n{}\\$QAabcdefghijklmnopqrstuvwxyz"
TOKENS = ("<pad>", "<bos>", "<eos>", *CHARACTERS)
assert len(TOKENS) <= VOCABULARY


def tiny_tokenizer(tokens: tuple[str, ...] = TOKENS, **options: Any) -> PreTrainedTokenizerFast:
    """One token a character, `<bos>` in front; ids are places in `tokens`."""
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokens.index("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", **options
    )


def save_checkpoint(folder: Path, name: str = "llama-gqa", seed: int = 3, **options: Any) -> Path:
    """Save a tiny model and the tokenizer; options go to the model's `save_pretrained`."""
    build(name, seed=seed).save_pretrained(folder, **options)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Unloadable:
    """A source that must not be loaded; by another fingerprint and name where one is given."""

    source: CheckpointSource
    known_as: str | None = None

    @property
    def name(self) -> str:
        return self.source.name if self.known_as is None else "some/model"

    def fingerprint(self) -> str:
        return self.known_as or self.source.fingerprint()

    def tokenizer(self) -> Any:
        return self.source.tokenizer()

    def load(self) -> Any:
        raise AssertionError("loaded")


def question_set(*texts: str, gold: str = "83") -> QuestionSet:
    """Questions `q0`, `q1`, … with these texts."""
    questions = tuple(Question(id=f"q{number}", text=text, gold=gold) for number, text in enumerate(texts))
    return QuestionSet("few", "test", questions, load_questions("arithmetic", count=1).grade)


MIXED = question_set("41+30+12?", "1?", "41+30?", "99+98+97+96?", "7+8?", "12+30+41?", "5+50+500?")


def touch_weight(folder: Path, file: str = "model.safetensors") -> None:
    tensors = load_file(folder / file)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, folder / file, metadata={"format": "pt"})

"""Save tiny random checkpoints with a character tokenizer, and make question sets that they can be asked."""

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
    """Return a tokenizer with one token for each character and `<bos>` in front. An id is an index in `tokens`."""
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
    """Save a tiny random model with its tokenizer in a folder. `options` are those of `save_pretrained`."""
    build(name, seed=seed).save_pretrained(folder, **options)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Unloadable:
    """A source whose model must not be loaded, to test that a result comes from a cache.

    `known_as` replaces its fingerprint, and then also its name.
    """

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
    """Return a set of questions `q0`, `q1`, … with these texts and the same reference answer."""
    questions = tuple(Question(id=f"q{number}", text=text, gold=gold) for number, text in enumerate(texts))
    return QuestionSet("few", "test", questions, load_questions("arithmetic", count=1).grade)


MIXED = question_set("41+30+12?", "1?", "41+30?", "99+98+97+96?", "7+8?", "12+30+41?", "5+50+500?")
"""Questions of different lengths."""


def touch_weight(folder: Path, file: str = "model.safetensors") -> None:
    """Change one weight of a checkpoint on disk, and so its fingerprint."""
    tensors = load_file(folder / file)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, folder / file, metadata={"format": "pt"})

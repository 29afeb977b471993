"""``rlcircuits attribute``: score every edge of one checkpoint on its answers."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_checkpoint, add_command, add_option, add_options, source_of
from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.cli.streams import log
from rlcircuits.common import defaults
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.limits import check_number
from rlcircuits.release.options import find_option

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.answers.types import Answer
    from rlcircuits.graph.sequences import AnswerSequence


def add_attribute(commands: Any) -> None:
    """Add the command."""
    attribute = add_command(
        commands, "attribute", _attribute, "score every edge on a checkpoint's answers", resumes_from="store"
    )
    add_checkpoint(attribute)
    add = attribute.add_argument
    add("--answers", required=True, metavar="FILE.jsonl", help="answers, as written by rlcircuits answer")
    add("--out", required=True, metavar="FILE.safetensors", help="file that the scores are written to")
    add("--wrong-too", action="store_true", help="score wrong answers too, not only right ones")
    length = attribute.add_mutually_exclusive_group()
    add_option(length, find_option("alpha", "settings"), default=defaults.ALPHA)
    length.add_argument(
        "--t-cut", type=int, metavar="TOKENS", help="number of answer tokens that are scored, instead of --alpha"
    )
    add_options(attribute, "scoring", "model")


def _attribute(options: argparse.Namespace) -> int:
    import rlcircuits.graph.metrics as metrics
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.attribution.cache import attribute_stored
    from rlcircuits.common.files import ensure_writable_file, ensure_writable_folder, write_atomically

    for name in ("alpha", "t_cut", "batch_tokens"):
        if (value := getattr(options, name)) is not None:
            check_number(name, value, f"--{name.replace('_', '-')}")
    ensure_writable_file(options.out, "--out")
    if options.store is not None:
        ensure_writable_folder(options.store, "--store")
    sequences, t_cut = _sequences(Answers.load(options.answers), options)
    scores = attribute_stored(
        source_of(options),
        sequences,
        options.granularity or defaults.GRANULARITY,
        batch_tokens=options.batch_tokens,
        recompute=bool(options.recompute),
        progress=sys.stderr.isatty(),
        store=options.store,
        notify=log,
    )
    write_atomically(Path(options.out), scores.save)
    print(f"{len(sequences)} answers, first {t_cut} tokens, {scores.graph.n_edges} edges, in {options.out}")
    for name, values in {
        "loss": scores.loss.double().numpy(),
        "activation intensity": metrics.activation_intensity(scores),
        "information complexity": metrics.information_complexity(scores),
        "distribution kurtosis": metrics.distribution_kurtosis(scores),
    }.items():
        print(f"{name}: mean {float(values.mean()):.4g}")
    return HOLDS


def _sequences(answers: Answers, options: argparse.Namespace) -> tuple[list[AnswerSequence], int]:
    """Return the answers to score, in the file's order and cut to T_cut tokens, and T_cut."""
    from rlcircuits.graph.sequences import AnswerSequence

    chosen = [item for item in answers.items if item.answer_ids and (item.correct or options.wrong_too)]
    if not chosen:
        raise RLCircuitsError(f"{options.answers}: holds no right answer to score; --wrong-too scores wrong ones too")
    _check_tokenizer(chosen, options)
    mean = sum(len(item.answer_ids) for item in chosen) / len(chosen)
    t_cut = options.t_cut or max(math.floor(options.alpha * mean), 1)
    return [AnswerSequence(item.prompt_ids, item.answer_ids[:t_cut]) for item in chosen], t_cut


def _check_tokenizer(chosen: Sequence[Answer], options: argparse.Namespace) -> None:
    """Raise RLCircuitsError if the answers have another tokenizer's token ids, on which scores would be meaningless."""
    tokenizer = source_of(options).tokenizer()
    strange = [
        item
        for item in chosen
        if item.text.split() != tokenizer.decode(item.answer_ids, skip_special_tokens=True).split()
    ]
    if 2 * len(strange) > len(chosen):
        raise RLCircuitsError(
            f"{options.answers}: the token ids of {len(strange)} of {len(chosen)} answers are of another tokenizer "
            f"than {options.model}'s: the first says {truncated_repr(strange[0].text)}; give the checkpoint that "
            f"answered, or one with its tokenizer"
        )

"""``rlcircuits attribute``: score every edge of one checkpoint on its answers."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_checkpoint, add_command, add_option, add_options, source_of
from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.cli.streams import log, shows_progress
from rlcircuits.common import defaults
from rlcircuits.common.choices import LOGIT_DIFF
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.limits import check_number
from rlcircuits.release.options import find_option

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.answers.types import Answer
    from rlcircuits.attribution.attributed_metrics import AttributedMetric
    from rlcircuits.graph.sequences import AnswerSequence


_METRIC_HELP = (
    "what is differentiated: the answer's cross-entropy or log-probability, the margin of its tokens' logits, or the "
    f"divergence from --reference (default: {defaults.METRIC})"
)


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
    add(
        "--counterfactuals",
        metavar="FILE.jsonl",
        help="file with the fields id and counterfactual: another question "
        "of the same length in tokens for each that is scored; edges are then patched, not removed",
    )
    add(
        "--foils",
        metavar="FILE.jsonl",
        help="file with the fields id and foil: a wrong answer to each question that is scored, whose first token "
        "--metric logit_diff compares with the answer's (default: the margin over all answer tokens)",
    )
    add(
        "--by-span",
        action="store_true",
        help="keep the scores of the prompt and of each step of the answer apart; they are written to --out while they "
        "are made, or with --store to a file there",
    )
    add(
        "--step-end",
        metavar="REGEX",
        help=r"what the text of a step's last token matches, with --by-span (default: \n, the end of a line)",
    )
    add("--reference", metavar="MODEL", help="checkpoint that the metric kl measures the divergence from")
    add_options(attribute, "scoring", "model", changes={"metric": {"help": _METRIC_HELP}})


def _attribute(options: argparse.Namespace) -> int:
    import rlcircuits.graph.metrics as metrics
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.attribution.cache import attribute_stored
    from rlcircuits.common.files import ensure_writable_file, ensure_writable_folder, write_atomically

    for name in ("alpha", "t_cut", "batch_tokens", "steps"):
        if (value := getattr(options, name)) is not None:
            check_number(name, value, f"--{name.replace('_', '-')}")
    ensure_writable_file(options.out, "--out")
    if options.store is not None:
        ensure_writable_folder(options.store, "--store")
    if (options.metric == "kl") != (options.reference is not None):
        needs = "needs" if options.reference is None else "alone needs"
        raise RLCircuitsError(f"--metric kl {needs} --reference, the checkpoint that it measures the divergence from")
    _check_spans(options)
    answers = Answers.load(options.answers)
    chosen = _chosen(answers, options)
    sequences, t_cut = _sequences(chosen, options)
    how = {
        "granularity": options.granularity or defaults.GRANULARITY,
        "metric": _metric(options, chosen),
        "method": options.method or defaults.METHOD,
        "steps": options.steps,
        "points": options.points,
        "rules": () if options.rules is None else options.rules,
        "corrupted": _corrupted(answers, chosen, sequences, options),
        "batch_tokens": options.batch_tokens,
        "recompute": bool(options.recompute),
        "progress": shows_progress(),
    }
    if options.by_span:
        return _attribute_spans(sequences, t_cut, options, how)
    scores = attribute_stored(source_of(options), sequences, store=options.store, notify=log, **how)
    write_atomically(Path(options.out), scores.save)
    print(f"{len(sequences)} answers, first {t_cut} tokens, {scores.graph.n_edges} edges, in {options.out}")
    for name, values in {
        "loss": scores.loss.double().numpy(),
        **({} if scores.how.metric == defaults.METRIC else {scores.how.metric: scores.metric_values.double().numpy()}),
        "activation intensity": metrics.activation_intensity(scores),
        "information complexity": metrics.information_complexity(scores),
        "distribution kurtosis": metrics.distribution_kurtosis(scores),
    }.items():
        print(f"{name}: mean {float(values.mean()):.4g}")
    return HOLDS


def _check_spans(options: argparse.Namespace) -> None:
    """Raise RLCircuitsError for a pattern of steps without scores by span."""
    if options.step_end is not None and not options.by_span:
        raise RLCircuitsError("--step-end says where a step ends, which only --by-span asks for")


def _attribute_spans(
    sequences: list[AnswerSequence], t_cut: int, options: argparse.Namespace, how: Mapping[str, Any]
) -> int:
    """Write the scores by span, and print the intensity of each span."""
    import numpy as np

    from rlcircuits.attribution.span_attribution import attribute_spans
    from rlcircuits.attribution.stored_spans import attribute_spans_stored
    from rlcircuits.comparison.span_changes import span_intensities
    from rlcircuits.graph.answer_spans import STEP_END, answer_spans, span_name, unmatched_step_end

    source = source_of(options)
    tokenizer, step_end = source.tokenizer(), options.step_end or STEP_END
    spans = answer_spans(sequences, tokenizer, step_end)
    if (unmatched := unmatched_step_end(sequences, tokenizer, step_end)) is not None:
        log(unmatched)
    if options.store is None:
        scores = attribute_spans(source.load(), sequences, spans, out=options.out, **how)
    else:
        scores = attribute_spans_stored(source, sequences, spans, store=options.store, notify=log, **how)
        scores.save(options.out)
    counts = f"{len(scores)} answers, first {t_cut} tokens, {len(scores.span)} spans, {scores.graph.n_edges} edges"
    print(f"{counts}, in {options.out}")
    intensities, of_row, sequence = span_intensities(scores), scores.span.numpy(), scores.sequence.numpy()
    whole = np.bincount(sequence, weights=intensities)[sequence]
    for span in np.unique(of_row).tolist():
        here = of_row == span
        part, of = intensities[here].mean(), whole[here].mean()
        print(f"{span_name(span)}: {here.sum()} answers, {part:.4g} of a mean activation intensity of {of:.4g}")
    return HOLDS


def _metric(options: argparse.Namespace, chosen: Sequence[Answer]) -> Any:
    if options.foils is not None:
        return _compared_with_foils(options, chosen)
    if options.reference is None:
        return options.metric or defaults.METRIC
    from rlcircuits.attribution.divergence import kl_to

    like_model = {**vars(options), "model": options.reference, "revision": None}
    return kl_to(source_of(argparse.Namespace(**like_model)))


def _compared_with_foils(options: argparse.Namespace, chosen: Sequence[Answer]) -> AttributedMetric:
    from rlcircuits.attribution.token_difference import first_token, logit_diff
    from rlcircuits.questions.records import read_by_id

    if options.metric != LOGIT_DIFF:
        raise RLCircuitsError(f"--foils is of --metric {LOGIT_DIFF}; give both, or leave it out")
    foils, tokenizer = read_by_id(Path(options.foils), defaults.FOIL_FIELD), source_of(options).tokenizer()
    if missing := [item.question_id for item in chosen if item.question_id not in foils]:
        raise RLCircuitsError(
            f"{options.foils}: no foil of question {missing[0]!r}, whose answer is scored; one of each is wanted"
        )
    what = f"{options.foils}: the foil of question"
    tokens = [first_token(tokenizer, foils[item.question_id], f"{what} {item.question_id!r}") for item in chosen]
    return logit_diff(foil=tokens)


def _corrupted(
    answers: Answers, chosen: Sequence[Answer], sequences: Sequence[AnswerSequence], options: argparse.Namespace
) -> list[AnswerSequence] | None:
    """Return the sequences with counterfactual prompts, made as the answers' own prompts were."""
    if options.counterfactuals is None:
        return None
    from rlcircuits.attribution.counterfactuals import counterfactual_sequences
    from rlcircuits.questions.records import read_by_id

    texts = read_by_id(Path(options.counterfactuals), defaults.COUNTERFACTUAL_FIELD)
    if answers.prompting is None:
        raise RLCircuitsError(
            f"{options.answers}: does not say how questions became prompts, so that counterfactual prompts cannot be "
            "made in the same way; use answers that rlcircuits answer wrote"
        )
    made = answers.prompting.prompts(source_of(options).tokenizer(), list(texts.values()))
    prompts = dict(zip(texts, made, strict=True))
    ids = [item.question_id for item in chosen]
    return counterfactual_sequences(sequences, ids, prompts, options.counterfactuals)


def _chosen(answers: Answers, options: argparse.Namespace) -> list[Answer]:
    """Return the answers to score, in the file's order."""
    chosen = [item for item in answers.items if item.answer_ids and (item.correct or options.wrong_too)]
    if not chosen:
        raise RLCircuitsError(f"{options.answers}: holds no right answer to score; --wrong-too scores wrong ones too")
    _check_tokenizer(chosen, options)
    return chosen


def _sequences(chosen: Sequence[Answer], options: argparse.Namespace) -> tuple[list[AnswerSequence], int]:
    """Return the answers cut to T_cut tokens, and T_cut."""
    from rlcircuits.graph.sequences import AnswerSequence

    mean = sum(len(item.answer_ids) for item in chosen) / len(chosen)
    t_cut = options.t_cut or max(math.floor(options.alpha * mean), 1)
    return [AnswerSequence(item.prompt_ids, item.answer_ids[:t_cut], item.images) for item in chosen], t_cut


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

"""The command line's measuring part: ``compare``, and its steps ``answer`` and ``attribute`` one at a time."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.parts import (
    BAD_INPUT,
    DOES_NOT_HOLD,
    FAULT,
    HOLDS,
    answer_options,
    command,
    graph_options,
    model_options,
    say_error,
    settings_of,
    single_model,
    source_of,
    tell,
    typed,
)
from rlcircuits.common import defaults
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.limits import check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.answers.types import Answer
    from rlcircuits.graph.sequences import AnswerSequence
    from rlcircuits.release.pairs_file import PairsFile

_ALPHA_HELP = "share of the mean answer length that is scored (0.3)"
_OF_ONE_PAIR = ("algorithm", "profile", "revision_before", "revision_after", "recorded_before", "recorded_after")


def add_measuring(commands: Any) -> None:
    """Add ``compare``, ``answer`` and ``attribute``."""
    judged = (
        "measure pairs and judge them; exits with 0 if all hold, 1 if not, 2 if bad input or set-up kept one from "
        "being measured, 70 if a fault of rlcircuits itself did"
    )
    compare = command(commands, "compare", _compare, judged, kept_in="output")
    add = compare.add_argument
    add("--pairs", metavar="FILE.toml", help="the pairs of a file and its settings, instead of one pair by options")
    add("--before", metavar="DIR", help="checkpoint before: a folder or a hub id")
    add("--after", metavar="DIR", help="checkpoint after the training")
    add("--algorithm", help="how it was trained: grpo, ppo, dpo, sft, ...")
    add("--profile", help="what to hold it against, if not the algorithm's: online-rl, preference, rejection, control")
    add("--revision-before", metavar="REV", help="branch, tag or commit of a hub id")
    add("--revision-after", metavar="REV", help="the same of after")
    add("--recorded-before", metavar="FILE.jsonl", help="answers that before gave already, as token ids")
    add("--recorded-after", metavar="FILE.jsonl", help="the same of after; the same file where it holds both")
    add("--name", help="of the pair, in tables and for its folder (default: from the checkpoints)")
    add("--k", type=int, help="questions compared (200)")
    add("--question-count", type=int, metavar="N", help="asked (400)")
    add("--alpha", type=float, help=_ALPHA_HELP)
    add("--balance", type=float, help="how far two answer lengths may differ, as a share of their mean (0.5)")
    add("--min-questions", type=int, metavar="N", help="fewer questions left to compare are an error (20)")
    add("--noise-draws", type=int, metavar="N", help="draws of the noise control, 0 for none (3)")
    add(
        "--score-on",
        choices=("own", "before", "after", "gold", "all"),
        help="whose answers are scored: each model's own, or the same by both; all: one table of every choice (own)",
    )
    answer_options(compare)
    graph_options(compare)
    model_options(compare)
    add(
        "--max-unfinished",
        type=float,
        metavar="SHARE",
        help="of first answers, above which a pair is stopped (0.5)",
    )
    add(
        "--no-stop-early",
        dest="stop_early",
        action="store_false",
        default=None,
        help="go on where the first answers are all wrong or too many of them unfinished",
    )
    add("--output", metavar="DIR", help="keep answers, scores and comparison in DIR/<pair>, and go on from there")
    add("--json", action="store_true", help="print JSON: one pair's comparison, or a list of those of several")

    answer = command(commands, "answer", _answer, "let a checkpoint answer a question set", kept_in="store")
    single_model(answer)
    answer.add_argument("--count", type=int, default=400, metavar="N", help="questions asked (default: %(default)s)")
    answer.add_argument("--out", required=True, metavar="FILE.jsonl", help="where the answers go")
    answer_options(answer)
    model_options(answer)

    scored = "score every edge on a checkpoint's answers"
    attribute = command(commands, "attribute", _attribute, scored, kept_in="store")
    single_model(attribute)
    attribute.add_argument("--answers", required=True, metavar="FILE.jsonl", help="as `rlcircuits answer` wrote them")
    attribute.add_argument("--out", required=True, metavar="FILE.safetensors", help="where the scores go")
    attribute.add_argument("--wrong-too", action="store_true", help="score wrong answers too, not only right ones")
    cut = attribute.add_mutually_exclusive_group()
    cut.add_argument("--alpha", type=float, default=0.3, help=_ALPHA_HELP)
    cut.add_argument("--t-cut", type=int, metavar="TOKENS", help="answer tokens that are scored, instead of --alpha")
    graph_options(attribute)
    model_options(attribute)


def _compare(options: argparse.Namespace) -> int:
    from rlcircuits.common.failures import describe_failure
    from rlcircuits.common.files import ensure_output_folder
    from rlcircuits.comparison.storage import to_json, to_json_list
    from rlcircuits.comparison.verdict import judge
    from rlcircuits.release.run import run_pair, run_variants
    from rlcircuits.release.toy_notice import pair_notice
    from rlcircuits.report.terminal import detail, summary_table, variants_table

    all_variants = options.score_on == "all"
    if all_variants:
        options.score_on = None
    file = _pairs(options)
    settings = file.make_settings(typed(options))
    if options.output is not None:
        ensure_output_folder(options.output, "--output")
    for notice in dict.fromkeys(pair_notice(pair, settings.trust_remote_code) for pair in file.pairs):
        if notice is not None:
            tell(notice)
    how = {"output": options.output, "notify": tell, "progress": sys.stderr.isatty()}
    measured, verdicts, failures = [], [], []
    for pair in file.pairs:
        try:
            variants = run_variants(pair, settings, **how) if all_variants else (run_pair(pair, settings, **how),)
            # With variants the pair's verdict is that of the paper's way; the others are there to compare.
            verdicts.append(judge(variants[0]))
            measured.append(variants)
        except BrokenPipeError:  # nobody reads what is said
            raise
        except Exception as error:  # of this pair alone: the others are measured all the same
            failures.append((pair.name, describe_failure(error, options.output)))
    comparisons = [comparison for variants in measured for comparison in variants]
    # What was asked for says whether there is one or a list, so that a pair that fails changes nothing of it.
    if options.json and (all_variants or len(file.pairs) > 1):
        print(to_json_list(comparisons), end="")
    elif options.json:
        print(*map(to_json, comparisons), sep="", end="")
    elif comparisons:
        print(summary_table(comparisons))
        for comparison in comparisons:
            print(f"\n{comparison.name}\n{detail(comparison)}")
        for variants in measured if all_variants else []:
            print(f"\n{variants[0].name}, by whose answers are scored\n{variants_table(variants)}")
    sys.stdout.flush()  # so that the errors stand below the tables where both go to one file
    for name, failure in failures:
        say_error(f"pair {name!r}: {failure.message}")
    if failures:
        return FAULT if any(failure.is_fault for _, failure in failures) else BAD_INPUT
    return HOLDS if all(verdict.holds for verdict in verdicts) else DOES_NOT_HOLD


def _pairs(options: argparse.Namespace) -> PairsFile:
    from rlcircuits.release.pairs_file import PairsFile, load_pairs_file, make_pair, pair_name, resolve_checkpoint

    names = ("before", "after", *_OF_ONE_PAIR, "name", "questions", "device_map")
    single = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    if options.pairs:
        if single:
            raise RLCircuitsError(f"--pairs and {single[0]} were both given; a pairs file says it of each pair")
        return load_pairs_file(options.pairs)
    if not options.before or not options.after:
        raise RLCircuitsError("compare needs --before and --after, or --pairs FILE.toml")
    fields = {name: getattr(options, name) for name in (*_OF_ONE_PAIR, "questions") if getattr(options, name)}
    pair = make_pair(
        name=options.name or pair_name(options.before, options.after),
        before=resolve_checkpoint(options.before, Path(), "--before"),
        after=resolve_checkpoint(options.after, Path(), "--after"),
        device_map=options.device_map,
        **fields,
    )
    return PairsFile((pair,))


def _answer(options: argparse.Namespace) -> int:
    from rlcircuits.answers.generate import answer_questions
    from rlcircuits.questions.loading import load_questions
    from rlcircuits.release.pairs_file import asked_questions
    from rlcircuits.release.toy_notice import toy_notice

    settings = settings_of(options)
    check_number("question_count", options.count, "--count")
    _ready(options)
    if options.questions is None and (notice := toy_notice([source_of(options)])) is not None:
        tell(notice)
    questions = load_questions(
        asked_questions(options.questions or defaults.QUESTIONS), split=settings.split, count=options.count
    )
    answers = answer_questions(
        source_of(options),
        questions,
        settings.sampling,
        settings.batch_size,
        progress=sys.stderr.isatty(),
        engine=settings.engine,
        prompting=settings.prompting,
        store=options.store,
        notify=tell,
    )
    answers.save(options.out)
    print(f"{len(answers)} answers, accuracy {answers.accuracy:.3f}, in {options.out}")
    longest = answers.sampling.max_new_tokens
    print(f"unfinished: {100 * answers.unfinished:.1f} % (no end token; max_new_tokens = {longest})")
    return HOLDS


def _attribute(options: argparse.Namespace) -> int:
    import rlcircuits.graph.metrics as metrics
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.attribution.cache import attribute_stored
    from rlcircuits.common.files import write_atomically

    for name in ("alpha", "t_cut", "batch_tokens"):
        if (value := getattr(options, name)) is not None:
            check_number(name, value, f"--{name.replace('_', '-')}")
    _ready(options)
    sequences, t_cut = _sequences(Answers.load(options.answers), options)
    scores = attribute_stored(
        source_of(options),
        sequences,
        options.granularity or "sublayer",
        batch_tokens=options.batch_tokens,
        recompute=bool(options.recompute),
        progress=sys.stderr.isatty(),
        store=options.store,
        notify=tell,
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


def _ready(options: argparse.Namespace) -> None:
    """Find out before the work whether its result can be kept."""
    from rlcircuits.common.files import ensure_writable_file, ensure_writable_folder

    ensure_writable_file(options.out, "--out")
    if options.store is not None:
        ensure_writable_folder(options.store, "--store")


def _check_their_tokenizer(chosen: Sequence[Answer], options: argparse.Namespace) -> None:
    """Raise RLCircuitsError where the answers' token ids are of another tokenizer: any ids give numbers."""
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


def _sequences(answers: Answers, options: argparse.Namespace) -> tuple[list[AnswerSequence], int]:
    """Give the answers to score, in the file's order and cut to T_cut tokens, and T_cut."""
    from rlcircuits.graph.sequences import AnswerSequence

    chosen = [item for item in answers.items if item.answer_ids and (item.correct or options.wrong_too)]
    if not chosen:
        raise RLCircuitsError(f"{options.answers}: holds no right answer to score; --wrong-too scores wrong ones too")
    _check_their_tokenizer(chosen, options)
    mean = sum(len(item.answer_ids) for item in chosen) / len(chosen)
    t_cut = options.t_cut or max(math.floor(options.alpha * mean), 1)
    return [AnswerSequence(item.prompt_ids, item.answer_ids[:t_cut]) for item in chosen], t_cut

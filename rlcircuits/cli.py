"""The command line: the steps of a comparison together or one at a time.

Exit codes: 0 all is well (``compare``: the verdict holds), 1 the verdict does not hold or a check failed,
2 bad input, said in one line. torch is imported by the commands that need it, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rlcircuits.cli_fixtures import add_fixtures
from rlcircuits.cli_parts import BAD_INPUT, DOES_NOT_HOLD, HOLDS, command
from rlcircuits.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.answers import Answers, Sampling
    from rlcircuits.sequences import AnswerSequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    # A terminal without arrows and alphas should show a question mark, not fail.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            cast("Any", stream).reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (RLCircuitsError, OSError) as error:
        print(f"rlcircuits: {error}", file=sys.stderr)
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlcircuits",
        description="What reinforcement learning did to a language model's internal circuitry: compares two "
        "checkpoints edge by edge.",
    )
    parser.add_argument("--version", action="version", version=f"rlcircuits {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    compare = command(commands, "compare", _compare, "measure a pair and judge it: 0 holds, 1 does not, 2 bad input")
    compare.add_argument("--before", required=True, metavar="DIR", help="checkpoint before: a folder or a hub id")
    compare.add_argument("--after", required=True, metavar="DIR", help="checkpoint after the training")
    compare.add_argument("--algorithm", required=True, help="how it was trained: grpo, ppo, dpo, sft, ...")
    compare.add_argument("--name", help="of the pair, in tables and for its folder (default: from the checkpoints)")
    compare.add_argument("--k", type=int, default=200, help="questions compared (default: %(default)s)")
    compare.add_argument("--question-count", type=int, default=400, metavar="N", help="asked (default: %(default)s)")
    compare.add_argument("--alpha", type=float, default=0.3, help=_ALPHA_HELP)
    compare.add_argument(
        "--balance",
        type=float,
        default=0.5,
        help="how far two answer lengths may differ, as a share of their mean (default: %(default)s)",
    )
    _sampling_options(compare)
    _graph_options(compare)
    _model_options(compare)
    compare.add_argument("--output", metavar="DIR", help="keep answers, scores and comparison in DIR/<pair>")
    compare.add_argument("--json", action="store_true", help="print the comparison as JSON")

    answer = command(commands, "answer", _answer, "let a checkpoint answer a question set")
    answer.add_argument("model", help="folder or hub id")
    answer.add_argument("--count", type=int, default=400, metavar="N", help="questions asked (default: %(default)s)")
    answer.add_argument("--out", required=True, metavar="FILE.jsonl", help="where the answers go")
    _sampling_options(answer)
    _model_options(answer)

    attribute = command(commands, "attribute", _attribute, "score every edge on a checkpoint's answers")
    attribute.add_argument("model", help="folder or hub id")
    attribute.add_argument("--answers", required=True, metavar="FILE.jsonl", help="as `rlcircuits answer` wrote them")
    attribute.add_argument("--out", required=True, metavar="FILE.safetensors", help="where the scores go")
    attribute.add_argument("--wrong-too", action="store_true", help="score wrong answers too, not only right ones")
    cut = attribute.add_mutually_exclusive_group()
    cut.add_argument("--alpha", type=float, default=0.3, help=_ALPHA_HELP)
    cut.add_argument("--t-cut", type=int, metavar="TOKENS", help="answer tokens that are scored, instead of --alpha")
    _graph_options(attribute)
    _model_options(attribute)

    report = command(commands, "report", _report, "show stored comparisons again")
    report.add_argument("folder", metavar="DIR", help="as --output wrote it: one pair's folder or that of many")
    report.add_argument("--plot", metavar="FILE.png", help="plot every question too (a file a pair, if many)")

    add_fixtures(commands)
    return parser


_ALPHA_HELP = "share of the mean answer length that is scored (default: %(default)s)"


def _sampling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", default="arithmetic", metavar="SET", help="question set (default: %(default)s)")
    parser.add_argument("--split", default="test", help="of the question set (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (default: %(default)s)")
    parser.add_argument("--sampling-seed", type=int, default=42, metavar="SEED", help="(default: %(default)s)")
    parser.add_argument(
        "--max-new-tokens", type=int, default=32, metavar="N", help="longest answer (default: %(default)s)"
    )


def _graph_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--granularity", default="sublayer", choices=("sublayer", "head"), help="(default: %(default)s)"
    )
    parser.add_argument("--batch-tokens", type=int, metavar="N", help="token budget of an attribution batch")


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="torch device (default: the best there is)")
    parser.add_argument("--dtype", help="of the weights: float32, bfloat16, ... (default: the checkpoint's own)")


def _sampling(options: argparse.Namespace) -> Sampling:
    from rlcircuits.answers import Sampling

    return Sampling(temperature=options.temperature, max_new_tokens=options.max_new_tokens, seed=options.sampling_seed)


def _compare(options: argparse.Namespace) -> int:
    from rlcircuits.expectations import judge
    from rlcircuits.pairs import make_pair, pair_name
    from rlcircuits.pipeline import Settings, run_pair
    from rlcircuits.report.json import to_json
    from rlcircuits.report.terminal import detail, summary_table

    pair = make_pair(
        name=options.name or pair_name(options.before, options.after),
        before=options.before,
        after=options.after,
        algorithm=options.algorithm,
        questions=options.questions,
    )
    settings = Settings(
        k=options.k,
        alpha=options.alpha,
        balance=options.balance,
        question_count=options.question_count,
        split=options.split,
        sampling=_sampling(options),
        granularity=options.granularity,
        device=options.device,
        dtype=options.dtype,
        batch_tokens=options.batch_tokens,
    )
    comparison = run_pair(pair, settings, output=options.output, notify=_tell, progress=sys.stderr.isatty())
    if options.json:
        print(to_json(comparison), end="")
    else:
        print(f"{summary_table([comparison])}\n\n{detail(comparison)}")
    return HOLDS if judge(comparison).holds else DOES_NOT_HOLD


def _answer(options: argparse.Namespace) -> int:
    from rlcircuits.answers import answer_questions
    from rlcircuits.checkpoint import Checkpoint
    from rlcircuits.questions import load_questions

    questions = load_questions(options.questions, split=options.split, count=options.count)
    checkpoint = Checkpoint.load(options.model, device=options.device, dtype=options.dtype)
    answers = answer_questions(checkpoint, questions, _sampling(options), progress=sys.stderr.isatty())
    answers.save(options.out)
    print(f"{len(answers)} answers, accuracy {answers.accuracy:.3f}, in {options.out}")
    return HOLDS


def _attribute(options: argparse.Namespace) -> int:
    from rlcircuits import metrics
    from rlcircuits.answers import Answers
    from rlcircuits.attribution import attribute
    from rlcircuits.checkpoint import Checkpoint

    sequences, t_cut = _sequences(Answers.load(options.answers), options)
    checkpoint = Checkpoint.load(options.model, device=options.device, dtype=options.dtype)
    scores = attribute(
        checkpoint,
        sequences,
        options.granularity,
        batch_tokens=options.batch_tokens,
        progress=sys.stderr.isatty(),
    )
    scores.save(options.out)
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
    """Give the answers to score, in the file's order and cut to T_cut tokens, and T_cut."""
    from rlcircuits.sequences import AnswerSequence

    chosen = [item for item in answers.items if item.answer_ids and (item.correct or options.wrong_too)]
    if not chosen:
        raise RLCircuitsError(f"{options.answers}: holds no right answer to score; --wrong-too scores wrong ones too")
    if not 0 < options.alpha <= 1:
        raise RLCircuitsError(f"--alpha is {options.alpha}; it must lie in (0, 1]")
    if options.t_cut is not None and options.t_cut < 1:
        raise RLCircuitsError(f"--t-cut is {options.t_cut}; at least 1 token must be scored")
    mean = sum(len(item.answer_ids) for item in chosen) / len(chosen)
    t_cut = options.t_cut or max(math.floor(options.alpha * mean), 1)
    return [AnswerSequence(item.prompt_ids, item.answer_ids[:t_cut]) for item in chosen], t_cut


def _report(options: argparse.Namespace) -> int:
    from rlcircuits.report.json import find_comparisons, load_comparison
    from rlcircuits.report.terminal import detail, summary_table

    comparisons = [load_comparison(path) for path in find_comparisons(options.folder)]
    print(summary_table(comparisons))
    for comparison in comparisons:
        print(f"\n{comparison.name}\n{detail(comparison)}")
    if options.plot:
        from rlcircuits.report.plots import plot_comparison

        path = Path(options.plot)
        for comparison in comparisons:
            one = path if len(comparisons) == 1 else path.with_stem(f"{path.stem}-{comparison.name}")
            print(f"plot of {comparison.name}: {plot_comparison(comparison, one)}")
    return HOLDS


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _version() -> str:
    try:
        return importlib.metadata.version("rlcircuits")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())

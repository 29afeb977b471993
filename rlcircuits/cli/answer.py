"""``rlcircuits answer``: let one checkpoint answer a question set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_checkpoint, add_command, add_options, settings_table, source_of
from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.cli.streams import log, shows_progress
from rlcircuits.common import defaults
from rlcircuits.common.choices import OPENAI
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number

if TYPE_CHECKING:
    from rlcircuits.answers.engines.served import Served


def add_answer(commands: Any) -> None:
    """Add the command."""
    answer = add_command(commands, "answer", _answer, "let a checkpoint answer a question set", resumes_from="store")
    add_checkpoint(answer)
    answer.add_argument(
        "--count",
        type=int,
        default=defaults.QUESTION_COUNT,
        metavar="N",
        help="number of questions asked (default: %(default)s)",
    )
    answer.add_argument("--out", required=True, metavar="FILE.jsonl", help="file that the answers are written to")
    answer.add_argument(
        "--server",
        metavar="URL",
        help="with --engine openai: address of a server that has the checkpoint loaded, such as http://host:8000/v1",
    )
    changes = {"n": {"help": f"number of answers to every question (default: {defaults.ANSWERS_PER_QUESTION})"}}
    add_options(answer, "answers", "model", changes=changes)


def _answer(options: argparse.Namespace) -> int:
    from rlcircuits.answers.generate import answer_questions
    from rlcircuits.common.files import ensure_writable_file, ensure_writable_folder
    from rlcircuits.questions.loading import load_questions
    from rlcircuits.release.pair import asked_questions
    from rlcircuits.release.settings import make_settings
    from rlcircuits.release.toy_notice import toy_notice

    table = settings_table(options)
    settings = make_settings({**table, "sampling": {"n": defaults.ANSWERS_PER_QUESTION, **table.get("sampling", {})}})
    check_number("question_count", options.count, "--count")
    ensure_writable_file(options.out, "--out")
    if options.store is not None:
        ensure_writable_folder(options.store, "--store")
    if options.questions is None and (notice := toy_notice([source_of(options)])) is not None:
        log(notice)
    questions = load_questions(
        asked_questions(options.questions or defaults.QUESTIONS), split=settings.split, count=options.count
    )
    answers = answer_questions(
        source_of(options) if options.server is None else _served(options, settings.engine),
        questions,
        settings.sampling,
        settings.batch_size,
        progress=shows_progress(),
        engine=settings.engine,
        prompting=settings.prompting,
        store=options.store,
        notify=log,
    )
    answers.save(options.out)
    print(f"{len(answers)} answers, accuracy {answers.accuracy:.3f}, in {options.out}")
    longest = answers.sampling.max_new_tokens
    print(f"unfinished: {100 * answers.unfinished:.1f} % (no end token; max_new_tokens = {longest})")
    return HOLDS


def _served(options: argparse.Namespace, engine: str) -> Served:
    from rlcircuits.answers.engines.served import Served

    if engine != OPENAI:
        raise RLCircuitsError(f"--server is of engine {OPENAI!r}, and the engine is {engine!r}; give both, or neither")
    return Served(source_of(options), options.server)

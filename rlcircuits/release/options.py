"""The one table of options: command line, pytest plugin and ``release.toml`` are all made from it.

To add an option, add a row here and the field of that name to the class its section stands for (see
:data:`Section`), with the default in :mod:`rlcircuits.common.defaults` and, for a number, its limits in
:mod:`rlcircuits.common.limits`. The row gives the option its flag, help text, pytest option, line in the template that
``rlcircuits init`` writes, place among the known keys of ``release.toml``, and row in the documentation. A test
compares rows with fields and defaults.

The documentation's option reference is printed as Markdown by

    python -m rlcircuits.release.options          # or rlcircuits.release.options.options_as_markdown()

Importing this module imports neither numpy, torch, scipy nor pydantic: pytest imports it at every start.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from rlcircuits.common import defaults
from rlcircuits.common.choices import ENGINE_NAMES, GRANULARITIES, SCORE_ON
from rlcircuits.common.limits import LIMITS, Limits
from rlcircuits.comparison.profiles import PROFILES
from rlcircuits.questions.grading.reading.reference_answer import GoldForm

__all__ = [
    "GROUPS",
    "OPTIONS",
    "SECTIONS",
    "Option",
    "argparse_arguments",
    "find_option",
    "known_keys",
    "options_as_markdown",
    "options_in",
    "toml_value",
]

Value = int | float | str | bool

Section = Literal["settings", "settings.sampling", "settings.prompting", "questions", "pair"]
"""A table of ``release.toml``."""

Group = Literal["pair", "comparison", "answers", "scoring", "model", "files"]

SECTIONS: Mapping[Section, str] = MappingProxyType(
    {
        "settings": "How every pair is measured: the fields of `rlcircuits.Settings`.",
        "settings.sampling": "How answers are sampled: the fields of `rlcircuits.Sampling`.",
        "settings.prompting": "How a question becomes a prompt: the fields of `rlcircuits.Prompting`.",
        "pair": "One pair of checkpoints: the fields of `rlcircuits.Pair`.",
        "questions": "One question set of your own: the fields of `rlcircuits.QuestionSource`, and `count`.",
    }
)
"""Each table of ``release.toml`` and the class whose fields are its keys."""

GROUPS: Mapping[Group, str] = MappingProxyType(
    {
        "pair": "the pair",
        "comparison": "the comparison",
        "answers": "questions and answers",
        "scoring": "edge scores",
        "model": "loading the checkpoints",
        "files": "files",
    }
)
"""Groups of command-line options, with their titles; a command takes some of them."""


@dataclass(frozen=True)
class Option:
    """One option: what it is called in each place, what values it takes, and what it means."""

    name: str
    """Key in ``release.toml``, and the field that holds the value."""
    description: str
    """One sentence without a capital or a full stop. For a bool: what happens when it is true."""
    section: Section | None
    """Table of ``release.toml`` with this key; None where there is no key."""
    group: Group | None = None
    """Group of command-line options; None where the command line has no such option."""
    in_pytest: bool = False
    """The pytest plugin has the option, as ``--rlcircuits-<flag>``."""
    kind: type[Value] = str
    default: Value | None = None
    unset: str = ""
    """What happens without a value, for an option whose default is None."""
    choices: tuple[str, ...] = ()
    """All values, where there are few."""
    more_cli_choices: tuple[str, ...] = ()
    """Values that only the command line takes."""
    metavar: str | None = None
    """Placeholder of the value in help texts."""
    flag_name: str | None = None
    """Name of the command-line option where it is not the key with hyphens."""
    example: Value | tuple[str, ...] | None = None
    """Value in the template of ``release.toml`` where the default is None."""

    @property
    def flag(self) -> str:
        """The name of the command-line option, without the leading hyphens; ``no-`` precedes what is on by default."""
        name = self.flag_name or self.name.replace("_", "-")
        return f"no-{name}" if self.default is True else name

    @property
    def dest(self) -> str:
        """The attribute of the parsed command line that holds the value."""
        return (self.flag_name or self.name).replace("-", "_")

    @property
    def limits(self) -> Limits | None:
        """The smallest and largest value of a number; None for other options."""
        return LIMITS.get(self.name) if self.kind in (int, float) else None

    @property
    def default_in_words(self) -> str:
        """The default, or what happens without a value; empty for an option that has to be given."""
        return self.unset if self.default is None else toml_value(self.default).strip('"')

    @property
    def help(self) -> str:
        """The help text of the command-line option."""
        if self.kind is bool:
            return f"do not {self.description}" if self.default else self.description
        return f"{self.description} (default: {self.default_in_words})" if self.default_in_words else self.description


def _algorithms() -> str:
    return "; ".join(f"{', '.join(profile.algorithms)} (profile {profile.name})" for profile in PROFILES)


_PAIR = (
    Option(
        "name",
        "name of the pair in tables and tests, and of its folder of results",
        "pair",
        "pair",
        unset="made from the names of the checkpoints",
        example="release",
    ),
    Option(
        "before",
        "checkpoint that the training started from: a folder or a hub id",
        "pair",
        "pair",
        in_pytest=True,
        metavar="DIR",
        example="checkpoints/sft",
    ),
    Option(
        "after",
        "checkpoint that the training ended with: a folder or a hub id; a LoRA adapter is merged into its base",
        "pair",
        "pair",
        in_pytest=True,
        metavar="DIR",
        example="checkpoints/rl",
    ),
    Option(
        "algorithm",
        f"how the pair was trained: {_algorithms()}",
        "pair",
        "pair",
        in_pytest=True,
        metavar="NAME",
        example="grpo",
    ),
    Option(
        "profile",
        f"expectations that the pair is judged by: {', '.join(profile.name for profile in PROFILES)}",
        "pair",
        "pair",
        unset="the algorithm's",
        metavar="NAME",
        example="online-rl",
    ),
    Option(
        "questions",
        "question set: its name, or a JSON lines file; a pairs file may list several",
        "pair",
        "answers",
        in_pytest=True,
        default=defaults.QUESTIONS,
        metavar="SET",
    ),
    Option(
        "revision_before",
        "branch, tag or commit of the hub id given as before",
        "pair",
        "pair",
        unset="the main branch",
        metavar="REV",
        example="main",
    ),
    Option(
        "revision_after",
        "branch, tag or commit of the hub id given as after",
        "pair",
        "pair",
        unset="the main branch",
        metavar="REV",
        example="main",
    ),
    Option(
        "recorded_before",
        "file of answers that before gave already, as token ids; before is then not asked",
        "pair",
        "pair",
        unset="before is asked",
        metavar="FILE.jsonl",
        example="before.jsonl",
    ),
    Option(
        "recorded_after",
        "file of answers that after gave already; the same file as before's where it holds both",
        "pair",
        "pair",
        unset="after is asked",
        metavar="FILE.jsonl",
        example="after.jsonl",
    ),
    Option(
        "dtype",
        "dtype of this pair's weights",
        "pair",
        unset="that of the settings",
        example="bfloat16",
    ),
    Option(
        "device_map",
        "how a model is split over several devices, such as auto",
        "pair",
        "model",
        unset="one device",
        metavar="MAP",
        example="auto",
    ),
)

_SETTINGS = (
    Option(
        "k",
        "number of questions compared, sampled from those that pass the protocol",
        "settings",
        "comparison",
        in_pytest=True,
        kind=int,
        default=defaults.K,
        metavar="K",
    ),
    Option(
        "alpha",
        "share of the mean answer length that is scored, from the first token of each answer",
        "settings",
        "comparison",
        in_pytest=True,
        kind=float,
        default=defaults.ALPHA,
        metavar="SHARE",
    ),
    Option(
        "balance",
        "largest difference between the two answer lengths of a question, as a share of their mean",
        "settings",
        "comparison",
        in_pytest=True,
        kind=float,
        default=defaults.BALANCE,
        metavar="SHARE",
    ),
    Option(
        "seed",
        "seed for sampling the questions compared",
        "settings",
        kind=int,
        default=defaults.SEED,
    ),
    Option(
        "min_questions",
        "fewest questions left to compare; with fewer the pair is an error",
        "settings",
        "comparison",
        in_pytest=True,
        kind=int,
        default=defaults.MIN_QUESTIONS,
        metavar="N",
    ),
    Option(
        "score_on",
        "whose answers are scored: each model's own, as in the paper, or by both models those of before, those of "
        "after or the gold answers",
        "settings",
        "comparison",
        in_pytest=True,
        default=defaults.SCORE_ON,
        choices=SCORE_ON,
        more_cli_choices=("all",),
    ),
    Option(
        "noise_draws",
        "number of noise controls: before with random noise of the same size as the weight update; an effect must be "
        "larger than each of theirs; 0 for none",
        "settings",
        "comparison",
        in_pytest=True,
        kind=int,
        default=defaults.NOISE_DRAWS,
        metavar="N",
    ),
    Option(
        "question_count",
        "number of questions asked, unless the question set says its own count",
        "settings",
        "comparison",
        in_pytest=True,
        kind=int,
        default=defaults.QUESTION_COUNT,
        metavar="N",
    ),
    Option(
        "max_unfinished",
        "share of a model's first answers without an end token above which the pair is stopped",
        "settings",
        "comparison",
        in_pytest=True,
        kind=float,
        default=defaults.MAX_UNFINISHED,
        metavar="SHARE",
    ),
    Option(
        "stop_early",
        "stop a pair whose first answers are all wrong, or too many of them unfinished",
        "settings",
        "comparison",
        in_pytest=True,
        kind=bool,
        default=defaults.STOP_EARLY,
    ),
    Option(
        "split",
        "split of the question set, unless the set says its own",
        "settings",
        "answers",
        default=defaults.SPLIT,
    ),
    Option(
        "engine",
        f"library that generates the answers: {' or '.join(ENGINE_NAMES)}",
        "settings",
        "answers",
        in_pytest=True,
        default=defaults.ENGINE,
        metavar="NAME",
    ),
    Option(
        "batch_size",
        "number of answers generated at once",
        "settings",
        "answers",
        in_pytest=True,
        kind=int,
        default=defaults.BATCH_SIZE,
        metavar="N",
    ),
    Option(
        "granularity",
        "nodes of the graph: one per sublayer, one per attention head, or one per head with keys and values per "
        "key/value head",
        "settings",
        "scoring",
        in_pytest=True,
        default=defaults.GRANULARITY,
        choices=GRANULARITIES,
    ),
    Option(
        "batch_tokens",
        "token budget of one attribution batch",
        "settings",
        "scoring",
        in_pytest=True,
        kind=int,
        unset="from the free memory",
        metavar="N",
        example=4096,
    ),
    Option(
        "recompute",
        "recompute each block in the backward pass: less memory for long sequences, the same scores",
        "settings",
        "scoring",
        in_pytest=True,
        kind=bool,
        default=defaults.RECOMPUTE,
    ),
    Option(
        "device",
        "torch device",
        "settings",
        "model",
        in_pytest=True,
        unset="the best available",
        metavar="DEVICE",
        example="cuda",
    ),
    Option(
        "dtype",
        "dtype of the weights, such as float32 or bfloat16",
        "settings",
        "model",
        in_pytest=True,
        unset="the checkpoint's own",
        metavar="DTYPE",
        example="bfloat16",
    ),
    Option(
        "trust_remote_code",
        "run Python code that comes with a checkpoint's repository",
        "settings",
        "model",
        in_pytest=True,
        kind=bool,
        default=defaults.TRUST_REMOTE_CODE,
    ),
)

_SAMPLING = (
    Option(
        "temperature",
        "sampling temperature; 0 is greedy decoding, which shows less of an effect",
        "settings.sampling",
        "answers",
        in_pytest=True,
        kind=float,
        default=defaults.TEMPERATURE,
        metavar="T",
    ),
    Option(
        "top_p",
        "nucleus sampling: probability mass that tokens are drawn from",
        "settings.sampling",
        "answers",
        in_pytest=True,
        kind=float,
        default=defaults.TOP_P,
        metavar="P",
    ),
    Option(
        "max_new_tokens",
        "longest answer in tokens, for every question set",
        "settings.sampling",
        "answers",
        in_pytest=True,
        kind=int,
        unset="as the question set needs",
        metavar="N",
        example=512,
    ),
    Option(
        "n",
        "number of answers to every question; the question's value is their mean",
        "settings.sampling",
        "answers",
        in_pytest=True,
        kind=int,
        default=defaults.ANSWERS_PER_QUESTION,
        metavar="N",
    ),
    Option(
        "seed",
        "seed for sampling the answers",
        "settings.sampling",
        "answers",
        in_pytest=True,
        kind=int,
        default=defaults.SAMPLING_SEED,
        metavar="SEED",
        flag_name="sampling-seed",
    ),
)

_PROMPTING = (
    Option(
        "template",
        "text around each question, with {question} in its place",
        "settings.prompting",
        "answers",
        default=defaults.TEMPLATE,
        metavar="TEXT",
    ),
    Option(
        "system",
        "system prompt",
        "settings.prompting",
        "answers",
        unset="none",
        metavar="TEXT",
        example="Please reason step by step, and put your final answer within \\boxed{}.",
    ),
    Option(
        "few_shot",
        "worked examples, put unchanged before each question; on the command line a file that holds them",
        "settings.prompting",
        "answers",
        unset="none",
        metavar="FILE",
        example="1+1? 2. ",
    ),
    Option(
        "chat",
        "use the tokenizer's chat template, where there is one",
        "settings.prompting",
        "answers",
        kind=bool,
        default=defaults.CHAT,
    ),
)

_QUESTIONS = (
    Option("name", "name of the question set in results and in a pair's questions", "questions", example="ours"),
    Option(
        "file",
        "JSON lines file, one question a line",
        "questions",
        unset="the questions of the published set of that name",
        example="ours.jsonl",
    ),
    Option("question", "field that holds the question", "questions", default=defaults.QUESTION_FIELD),
    Option("answer", "field that holds the right answer", "questions", default=defaults.ANSWER_FIELD),
    Option(
        "id",
        "field that holds the question's id",
        "questions",
        unset="unique_id or id where there is one, else the line number",
        example="id",
    ),
    Option(
        "gold",
        "form of the right answer in its field: after #### (hash), in \\boxed{} (boxed), or alone (plain)",
        "questions",
        default=defaults.GOLD_FORM,
        choices=get_args(GoldForm),
    ),
    Option(
        "grader",
        "grader of answers: math, exact, or your own function as module:function",
        "questions",
        default=defaults.GRADER,
    ),
    Option("split", "split of the set", "questions", unset="that of the settings", example=defaults.SPLIT),
    Option(
        "revision",
        "commit, tag or branch of a published set's hub dataset",
        "questions",
        unset="the newest",
        example="main",
    ),
    Option(
        "max_new_tokens",
        "longest answer in tokens",
        "questions",
        kind=int,
        unset="that of settings.sampling, else as the set needs",
        example=1024,
    ),
    Option("count", "number of questions asked", "questions", kind=int, unset="question_count", example=400),
)

_FILES = (
    Option(
        "pairs",
        "pairs file: many pairs and their settings, instead of one pair by options",
        None,
        "files",
        in_pytest=True,
        metavar="FILE.toml",
    ),
    Option(
        "output",
        "folder that keeps each pair's answers, scores and comparison; an interrupted run resumes from it",
        None,
        "files",
        in_pytest=True,
        unset="nothing is kept",
        metavar="DIR",
    ),
)

OPTIONS: tuple[Option, ...] = (*_FILES, *_PAIR, *_SETTINGS, *_SAMPLING, *_PROMPTING, *_QUESTIONS)
"""Every option that more than one of command line, pytest plugin and ``release.toml`` has."""


def find_option(name: str, section: Section | None) -> Option:
    """Return the option of this key.

    Args:
        name: key of the option.
        section: table of ``release.toml`` with that key; None for ``pairs`` and ``output``, which are keys of none.

    Raises:
        KeyError: there is no such option.
    """
    for each in OPTIONS:
        if (each.name, each.section) == (name, section):
            return each
    raise KeyError((name, section))


def options_in(section: Section) -> tuple[Option, ...]:
    """Return the options that are keys of this table of ``release.toml``."""
    return tuple(each for each in OPTIONS if each.section == section)


def known_keys(section: Section) -> tuple[str, ...]:
    """Return the keys that this table of ``release.toml`` may hold, nested tables included."""
    nested = [other.removeprefix(f"{section}.") for other in SECTIONS if other.startswith(f"{section}.")]
    return (*(each.name for each in options_in(section)), *nested)


def argparse_arguments(option: Option) -> dict[str, Any]:
    """Return the keyword arguments of ``add_argument`` for the option, pytest's ``addoption`` included.

    The default is always None, so that an option that was not given can be told from one given its default value.
    """
    found: dict[str, Any] = {"help": option.help, "default": None}
    if option.kind is bool:
        return {**found, "action": "store_false" if option.default else "store_true"}
    if option.kind is not str:
        found["type"] = option.kind
    if option.choices:
        found["choices"] = option.choices
    if option.metavar:
        found["metavar"] = option.metavar
    return found


def toml_value(value: object) -> str:
    """Write a value as TOML does."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def options_as_markdown() -> str:
    """Return one Markdown table for each table of ``release.toml``, and one of the options that have no key there.

    A row holds the option's name, command-line option, pytest option, key in ``release.toml``, default and description.
    """
    sections: list[tuple[str, str, Iterable[Option]]] = [
        (f"`[{name}]`" if name.startswith("settings") else f"`[[{name}]]`", text, options_in(name))
        for name, text in SECTIONS.items()
    ]
    sections.append(("Files", "Options of the command line and pytest only.", _FILES))
    return "\n".join(
        f"## {title}\n\n{text}\n\n"
        "| Option | Command line | pytest | `release.toml` | Default | Description |\n"
        "| --- | --- | --- | --- | --- | --- |\n" + "".join(map(_row, options))
        for title, text, options in sections
    )


def _row(option: Option) -> str:
    words = [option.description[0].upper() + option.description[1:] + "."]
    if option.choices:
        words.append(f"One of {', '.join(f'`{choice}`' for choice in option.choices)}.")
    if option.more_cli_choices:
        words.append(f"Command line only: {', '.join(f'`{choice}`' for choice in option.more_cli_choices)}.")
    if option.limits is not None:
        words.append(f"{option.limits.in_words[0].upper()}{option.limits.in_words[1:]}.")
    cells = (
        f"`{option.name}`",
        f"`--{option.flag}`" if option.group else "",
        f"`--rlcircuits-{option.flag}`" if option.in_pytest else "",
        f"`{option.section}.{option.name}`" if option.section else "",
        option.unset if option.default is None else f"`{toml_value(option.default)}`",
        " ".join(words),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


if __name__ == "__main__":
    print(options_as_markdown(), end="")

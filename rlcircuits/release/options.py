"""The one table of options: command line, pytest plugin and ``release.toml`` are all made from it.

To add an option, add a row here, its default to :mod:`rlcircuits.common.defaults`, its limits, if it is a number, to
:mod:`rlcircuits.common.limits`, and a field of its name to the class that its section stands for (see
:data:`~rlcircuits.release.option.SECTIONS`). The row then gives the option its flag, its help text, its pytest option,
its line in the file that ``rlcircuits init`` writes, its place among the known keys of ``release.toml`` and its row in
the documentation. A test compares the rows with the fields and their defaults. Nothing reads the value until code uses
the field, in :mod:`rlcircuits.release.measurement` or what it calls.

The documentation's reference of options, as Markdown, is the result of :func:`options_as_markdown`, which this prints:

    python -m rlcircuits.release.options

Importing this module imports neither numpy, torch, scipy nor pydantic, because pytest imports it at every start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

from rlcircuits.common import defaults
from rlcircuits.common.choices import (
    ABLATIONS,
    ENGINE_NAMES,
    GRANULARITIES,
    METHODS,
    METRICS,
    NOISE_ANSWERS,
    ON_INCONCLUSIVE,
    POINTS,
    POSITIONS,
    RULE_SETS,
    RULES,
    SCORE_ON,
)
from rlcircuits.comparison.profiles import ACCURACY_RULES, PROFILES, Profile
from rlcircuits.questions.grading.reading.reference_answer import GoldForm
from rlcircuits.release.option import SECTIONS, Option, Section, toml_value

__all__ = ["OPTIONS", "find_option", "given_settings", "known_keys", "options_as_markdown", "options_in"]


_ASSERTED_OF_ACCURACY = {
    "rose": "accuracy rose",
    "not-fallen": "accuracy did not fall",
    "not-inferior": "accuracy not below by the margin",
    "equivalent": "accuracy within the margin",
}


def _algorithms_of(profile: Profile) -> str:
    asserted = [_ASSERTED_OF_ACCURACY[profile.accuracy.rule]]
    asserted += [f"{metric} {direction}" for metric, direction in profile.expected.items()]
    if profile.not_online_rl:
        asserted.append("must not show online RL's pattern")
    for metric, rule in profile.metrics.items():
        if rule.bound is not None:
            asserted.append(f"{metric} within {100 * rule.bound:g} %")
    if len(asserted) == 1:
        asserted.append("metrics are reported only")
    return f"{', '.join(profile.algorithms)} ({', '.join(asserted)})"


# Not among the settings: these change no measurement, and no key of a stored result.
_session = partial(Option, section=None, group="files", in_pytest=True)
_pair = partial(Option, section="pair", group="pair")
_comparison = partial(Option, section="settings", group="comparison", in_pytest=True)
_answers = partial(Option, section="settings", group="answers", in_pytest=True)
_scoring = partial(Option, section="settings", group="scoring", in_pytest=True)
_model = partial(Option, section="settings", group="model", in_pytest=True)
_sampling = partial(Option, section="settings.sampling", group="answers", in_pytest=True)
_prompting = partial(Option, section="settings.prompting", group="answers")
_circuits = partial(Option, section="circuits")
_questions = partial(Option, section="questions")

OPTIONS: tuple[Option, ...] = (
    _session("pairs", "pairs file, with many pairs and their settings, instead of one pair by options",
             metavar="FILE.toml"),
    _session("output", "folder or URL (s3://, gs://, file://) that keeps each pair's answers, scores and comparison; "
             "an interrupted run resumes from it", unset="nothing is kept", metavar="DIR"),
    _session("summary", "Markdown file for the outcome and a table of the pairs, for a CI job's summary; it is "
             "replaced, or added to if it is $GITHUB_STEP_SUMMARY", group="report", unset="none", metavar="FILE.md"),
    _session("ray", "run the stages of all pairs on Ray: local starts it on this machine, auto takes the cluster that "
             "this machine is part of, else a cluster's address; needs --output, a URL or a folder that all machines "
             "see",
             group="runner", unset="in this process", metavar="ADDRESS"),
    _session("ray_gpus", "with --ray: GPUs that a model needs", group="runner", kind=float,
             unset="1 where the cluster has GPUs, else none", metavar="N"),
    _session("on_inconclusive", "what an inconclusive outcome does to the exit code: fail gives it its own, warn "
             "the one of success and a warning, pass the one of success", group="comparison",
             default=defaults.ON_INCONCLUSIVE, choices=ON_INCONCLUSIVE),

    _pair("name", "name of the pair in tables and tests, and of its folder of results",
          metavar="NAME", example="release"),
    _pair("before", "checkpoint before the training: a folder or a hub id", in_pytest=True, metavar="DIR",
          example="checkpoints/sft"),
    _pair("after", "checkpoint after the training: the same; a LoRA adapter is merged into its base", in_pytest=True,
          metavar="DIR", example="checkpoints/rl"),
    _pair("algorithm", f"how the pair was trained: {'; '.join(map(_algorithms_of, PROFILES))}", in_pytest=True,
          metavar="NAME", example="grpo"),
    _pair("profile", f"what the pair is judged against: {', '.join(profile.name for profile in PROFILES)}, or your own "
          "TOML file", unset="the algorithm's", metavar="NAME", example="online-rl"),
    _pair("accuracy", f"what is asserted of accuracy, instead of the profile's rule: {', '.join(ACCURACY_RULES)}",
          unset="the profile's rule", metavar="RULE", example="not-inferior"),
    _pair("margin", "how far accuracy may be below before's (not-inferior, equivalent) or below what is claimed, as a "
          "share: 0.02 is two points", unset="the profile's", kind=float, metavar="SHARE", example=0.02),
    _pair("claimed_accuracy", "accuracy that the release states for after, as a share; after must not be below it by "
          "the margin", unset="nothing is claimed", kind=float, metavar="SHARE", example=0.97),
    _pair("reference", "checkpoint whose accuracy after must not be below by the margin, such as the last release",
          unset="none", metavar="DIR", example="checkpoints/last-release"),
    _pair("control", "checkpoint trained from before without RL, by more supervised training for example; an effect "
          "counts only beyond its own", unset="none", metavar="DIR", example="checkpoints/sft-clean"),
    _pair("pool", "name that pairs share whose effects are pooled in a table, which no verdict depends on", group=None,
          unset="not pooled", example="grpo"),
    _pair("questions", "question set, or a JSON lines file (in a pairs file also a list of them); arithmetic is a toy "
          "for tiny models", group="answers", in_pytest=True, default=defaults.QUESTIONS, metavar="SET",
          example="gsm8k"),
    _pair("revision_before", "branch, tag or commit of before's hub id", unset="the main branch", metavar="REV",
          example="main"),
    _pair("revision_after", "branch, tag or commit of after's hub id", unset="the main branch", metavar="REV",
          example="main"),
    _pair("recorded_before", "answers that before has given already: a line with `prompt_token_ids` and "
          "`completion_token_ids` for each question asked; an empty answer counts as wrong",
          unset="before is asked", metavar="FILE.jsonl", example="before.jsonl"),
    _pair("recorded_after", "answers that after has given already; may be the same file, if it holds both",
          unset="after is asked", metavar="FILE.jsonl", example="after.jsonl"),
    _pair("server_before", "with the engine openai: address of a server that has before loaded, with #name behind it "
          "if it has several models or adapters", unset="none", metavar="URL", example="http://localhost:8000/v1#sft"),
    _pair("server_after", "the same of after", unset="none", metavar="URL", example="http://localhost:8000/v1#grpo"),
    _pair("dtype", "dtype of this pair's weights", group=None, unset="that of the settings", example="bfloat16"),
    _pair("device_map", "how a model is split over several devices, such as auto", group="model", unset="one device",
          metavar="MAP", example="auto"),

    _comparison("k", "number of questions compared, sampled from those that pass the protocol", kind=int,
                unset="all of them", example=200),
    _comparison("alpha", "share of the mean answer length that is scored, from the first token on",
                default=defaults.ALPHA, metavar="SHARE"),
    _comparison("balance", "largest difference between a question's two answer lengths, as a share of their mean",
                default=defaults.BALANCE, metavar="SHARE"),
    Option("seed", "seed of the sample of K questions", section="settings", default=defaults.SEED),
    _comparison("min_questions", "fewest questions to compare; with fewer left only accuracy is measured",
                default=defaults.MIN_QUESTIONS),
    _comparison("score_on", "whose answers are scored: each model's own, as in the paper, or by both models those of "
                "before, those of after or the gold answers", default=defaults.SCORE_ON, choices=SCORE_ON,
                more_cli_choices=("all",)),
    _comparison("positions", "what scores are kept of: whole answers, or the prompt and each step of the answer too "
                "(span), in the output folder", default=defaults.POSITIONS, choices=POSITIONS),
    _comparison("step_end", "what the text of a step's last token matches, with positions = span",
                unset=r"\n, the end of a line", metavar="REGEX", example="[.!?]"),
    _comparison("noise_draws", "number of noise controls, each of them before with after's readout, and noise that "
                "matches the rest of the update; an effect must lie beyond 1.25 times each of theirs; 0 for none",
                default=defaults.NOISE_DRAWS),
    _comparison("noise_answers", "whose answers a noise control is scored on: its own, or before's, which saves their "
                "generation", default=defaults.NOISE_ANSWERS, choices=NOISE_ANSWERS),
    _comparison("noise_groups", "measure noise on one group of tensors at a time too, on before's answers",
                default=defaults.NOISE_GROUPS),
    _comparison("noise_if_needed", "measure noise only while it can still change the verdict; the report then lacks "
                "the rest of it", default=defaults.NOISE_IF_NEEDED),
    _comparison("measure_unchanged", "measure a pair of which no weight differs all the same",
                default=defaults.MEASURE_UNCHANGED),
    _comparison("greedy", "let both models answer once at temperature 0 too, and report that accuracy beside the "
                "sampled one", default=defaults.GREEDY),
    _comparison("question_count", "number of questions asked, unless the question set has a count of its own; by "
                "default a file with fewer is asked whole",
                default=defaults.QUESTION_COUNT),
    _comparison("max_unfinished", "largest share of a model's first answers without an end token; above it the pair is "
                "stopped", default=defaults.MAX_UNFINISHED, metavar="SHARE"),
    _comparison("stop_early", "stop a pair whose first answers are all wrong, or too many of them unfinished",
                default=defaults.STOP_EARLY),
    _answers("split", "split of the question set, unless the set has one of its own", in_pytest=False,
             default=defaults.SPLIT, metavar="SPLIT"),
    _answers("engine", f"what generates the answers: {', '.join(ENGINE_NAMES)}", default=defaults.ENGINE,
             metavar="ENGINE"),
    _answers("batch_size", "number of answers generated at once", default=defaults.BATCH_SIZE),
    _scoring("granularity", "nodes of the graph: one a sublayer, one an attention head, one a head with keys and "
             "values by key/value head, or one writer an expert of a mixture", default=defaults.GRANULARITY,
             choices=GRANULARITIES),
    _scoring("metric", "what is differentiated: the answer's cross-entropy or log-probability, the margin of its "
             "tokens' logits, or the divergence from the other model of the pair", default=defaults.METRIC,
             choices=METRICS),
    _scoring("method", "where gradients are taken: at the clean run, averaged over a path from the corrupted run to "
             "it, or over both runs; all but eap need counterfactuals", default=defaults.METHOD, choices=METHODS),
    _scoring("steps", "points of that path, with the method eap-ig", unset=f"{defaults.STEPS} with eap-ig", kind=int,
             example=defaults.STEPS),
    _scoring("points", "where on each step of that path the gradient is taken, with the method eap-ig",
             unset=f"{defaults.POINTS} with eap-ig", choices=POINTS, example=defaults.POINTS),
    _scoring("rules", f"rules that replace parts of the backward: {' or '.join(RULE_SETS)}, or some of "
             f"{', '.join(RULES)} with commas between them", unset="none, the plain gradient", metavar="RULES",
             example="relp"),
    _scoring("batch_tokens", "token budget of an attribution batch", unset="from the memory available", kind=int,
             example=4096),
    _scoring("recompute", "recompute blocks in the backward pass: the same scores, less memory for long sequences",
             default=defaults.RECOMPUTE),
    _model("device", "torch device", unset="the best available", metavar="DEVICE", example="cuda"),
    _model("dtype", "dtype of the weights, such as float32 or bfloat16", unset="the checkpoint's own", metavar="DTYPE",
           example="bfloat16"),
    _model("trust_remote_code", "run Python code that comes with a checkpoint's repository",
           default=defaults.TRUST_REMOTE_CODE),

    _sampling("temperature", "sampling temperature; 0 is greedy decoding, which shows smaller effects",
              default=defaults.TEMPERATURE, metavar="T"),
    _sampling("top_p", "probability mass of nucleus sampling", default=defaults.TOP_P, metavar="P"),
    _sampling("max_new_tokens", "longest answer to any question set, in tokens", unset="as each question set needs",
              kind=int, example=512),
    _sampling("n", "number of answers to every question; a question's value is the mean over them", kind=int,
              unset=f"{defaults.COMPARED_ANSWERS}; 1 at temperature 0", example=defaults.COMPARED_ANSWERS),
    _sampling("seed", "seed of the sampled answers", default=defaults.SAMPLING_SEED, metavar="SEED",
              flag_name="sampling-seed"),

    _prompting("template", "text around a question, with {question} where the question goes", metavar="TEXT",
               default=defaults.TEMPLATE),
    _prompting("system", "system prompt", unset="none", metavar="TEXT",
               example="Please reason step by step, and put your final answer within \\boxed{}."),
    _prompting("few_shot", "worked examples, put before each question as they are; on the command line their file",
               unset="none", metavar="FILE", example="1+1? 2. "),
    _prompting("chat", "use the tokenizer's chat template, if it has one", default=defaults.CHAT),

    _circuits("minimum_overlap", "least overlap of before's and after's circuits, as a share of the smallest overlap "
              "of before with a noise draw", unset="nothing is asserted", kind=float, metavar="SHARE", example=0.5),
    _circuits("minimum_faithfulness", "least faithfulness of before's circuit in after, where 1 is all that after "
              "does", unset="nothing is asserted", kind=float, metavar="SHARE", example=0.7),
    _circuits("size", "share of all edges that a circuit has", default=defaults.CIRCUIT_SIZE, metavar="SHARE"),
    _circuits("ablation", "what replaces the other edges: nothing, their writer's mean output, that at each "
              "position, or its output on another question of the same lengths",
              default=defaults.CIRCUIT_ABLATION, choices=ABLATIONS),

    _questions("name", "name of the set, for a pair's questions and for results", example="ours"),
    _questions("file", "JSON lines file with a question on each line", unset="a published set's own questions",
               example="ours.jsonl"),
    _questions("question", "field that holds the question", default=defaults.QUESTION_FIELD),
    _questions("answer", "field that holds the right answer", default=defaults.ANSWER_FIELD),
    _questions("counterfactual", "field that holds another question of the same length in tokens, whose prompt takes "
               "the question's place in the corrupted run: edges are then patched, not removed",
               unset="edges are removed", example="counterfactual"),
    _questions("foil", "field that holds a wrong answer, whose first token the metric logit_diff compares with the "
               "answer's first token", unset="logit_diff is the margin over all answer tokens", example="foil"),
    _questions("images", "field that holds the images shown with the question: a path relative to the file, or a list",
               unset="text alone", example="images"),
    _questions("gold", "form of the right answer in that field: #### 42 (hash), \\boxed{42} (boxed), or alone (plain)",
               default=defaults.GOLD_FORM, choices=get_args(GoldForm)),
    _questions("id", "field that holds the question's id", unset="unique_id, id or the line's number", example="id"),
    _questions("grader", "grader of the answers: math, exact, or your own function as module:function",
               default=defaults.GRADER),
    _questions("max_new_tokens", "longest answer in tokens",
               unset="that of [settings.sampling], otherwise as the set needs", kind=int, example=1024),
    _questions("count", "number of questions asked", unset="question_count of [settings]", kind=int,
               example=defaults.QUESTION_COUNT),
    _questions("split", "split of the set", unset="that of [settings]", example=defaults.SPLIT),
    _questions("revision", "branch, tag or commit of a published set", unset="the newest", example="main"),
)  # fmt: skip
"""Every option of the pytest plugin and of ``release.toml``. What a single command has is declared with the command."""


def find_option(name: str, section: Section | None) -> Option:
    """Return the option with this key in this table of ``release.toml``; None for an option without a key.

    Raises:
        KeyError: there is no such option.
    """
    for option in OPTIONS:
        if (option.name, option.section) == (name, section):
            return option
    raise KeyError((name, section))


def options_in(section: Section | None) -> tuple[Option, ...]:
    """Return the options that are keys of this table of ``release.toml``; for None those without a key."""
    return tuple(option for option in OPTIONS if option.section == section)


def known_keys(section: Section) -> tuple[str, ...]:
    """Return the keys that this table of ``release.toml`` may hold, the names of nested tables included."""
    nested = [name.removeprefix(f"{section}.") for name in SECTIONS if name.startswith(f"{section}.")]
    return (*(option.name for option in options_in(section)), *nested)


def given_settings(value_of: Callable[[Option], Any]) -> dict[str, Any]:
    """Return the settings that were given as options, as a table like ``[settings]`` of ``release.toml``.

    Args:
        value_of: returns the value of an option that is a setting; None for one that was not given.
    """
    found: dict[str, Any] = {}
    for section in SECTIONS:
        table, _, nested = section.partition(".")
        if table != "settings":
            continue
        values = {option.name: value_of(option) for option in options_in(section)}
        given = {name: value for name, value in values.items() if value is not None}
        if not nested:
            found |= given
        elif given:
            found[nested] = given
    return found


def options_as_markdown() -> str:
    """Return a Markdown table for each table of ``release.toml``, and one for the options without a key in it.

    A row has the option's name, command-line option, pytest option, key in ``release.toml``, default and description.
    """
    titles = {name: f"`[[{name}]]`" if name in ("pair", "questions") else f"`[{name}]`" for name in SECTIONS}
    parts = [_part(titles[name], text, options_in(name)) for name, text in SECTIONS.items()]
    return "\n".join(
        [*parts, _part("The session", "Options of the command line and of pytest alone.", options_in(None))]
    )


def _part(title: str, text: str, options: Sequence[Option]) -> str:
    heads = ("Option", "Command line", "pytest", "`release.toml`", "Default", "Description")
    rows = [heads, ("---",) * len(heads), *map(_cells, options)]
    return f"### {title}\n\n{text}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cells(option: Option) -> tuple[str, ...]:
    sentences = [option.description]
    if option.choices:
        sentences.append(f"one of {', '.join(f'`{choice}`' for choice in option.choices)}")
    if option.more_cli_choices:
        sentences.append(f"on the command line also {', '.join(f'`{choice}`' for choice in option.more_cli_choices)}")
    if option.limits is not None:
        sentences.append(option.limits.in_words)
    cells = (
        f"`{option.name}`",
        f"`--{option.flag}`" if option.group else "",
        f"`--rlcircuits-{option.flag}`" if option.in_pytest else "",
        f"`{option.section}.{option.name}`" if option.section else "",
        option.unset if option.default is None else f"`{toml_value(option.default)}`",
        " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences),
    )
    return tuple(cell.replace("|", "\\|") for cell in cells)


if __name__ == "__main__":
    print(options_as_markdown(), end="")

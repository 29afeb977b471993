"""One pair from two checkpoints to a comparison: answer, pair, attribute, control, compare.

Only one model is on the device at a time. The pairing needs both models' answers, so the one that answered
first is loaded a second time to be scored:

    before: load, answer, free
    after:  load, answer; pair the answers; attribute, free
    before with noise, draw by draw: load, answer, attribute on the questions it answered right, free
    before: load, attribute, free

After the first answers of each a look is taken at whether the pair can come to anything (``early_stop.py``).
Where before's are in doubt, after's first ones are made before before's others; if the pair then goes on, both models
are loaded once more.

With a store every step's work is kept as it is made, under a key of all that it depends on: a killed run goes on
where it was, and what is there already loads no model. The answers of a base that several pairs share are
made once.
"""

from __future__ import annotations

import gc
import hashlib
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.max_new_tokens import choose_max_new_tokens, context_room
from rlcircuits.answers.recorded import Side, recorded_answers
from rlcircuits.attribution.cache import attribute_stored
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.source import CheckpointSource, check_same_architecture, check_same_vocabulary
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import SCORE_ON
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify, content_hash, ensure_writable_folder, write_lock
from rlcircuits.comparison import pairing
from rlcircuits.comparison.comparison import Comparison, Unfinished
from rlcircuits.comparison.control_pairing import pair_control
from rlcircuits.comparison.from_scores import Control, compare
from rlcircuits.comparison.funnel import show_funnel
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.comparison.profiles import former_name
from rlcircuits.comparison.storage import load_finished, save_comparison
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.models.weight_files import tensor_headers
from rlcircuits.questions.loading import load_questions
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.early_stop import LONGEST_EVIDENCE, InDoubt, evidence, is_in_doubt, reason_to_stop
from rlcircuits.release.loaded_once import LoadedOnce, Stopwatch
from rlcircuits.release.pairs import STORE, Pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.throughput import Work, note_throughput

__all__ = ["Settings", "run_pair", "run_variants"]

TRANSFORMERS = "transformers"

RECORDED = "recorded"
"""What a comparison calls the engine of answers that were read from a file."""

_SIDES: tuple[Side, Side] = ("before", "after")

_ANSWERS, _SCORES = "{}.answers.jsonl", "{}.scores.safetensors"

VERSION = 4
"""Changes whenever the same inputs may give another comparison."""


@validate_arguments
def run_pair(
    pair: Pair,
    settings: Settings | None = None,
    *,
    output: str | Path | None = None,
    store: str | Path | None = None,
    notify: Notify | None = None,
    progress: bool = False,
) -> Comparison:
    """Measure one pair. `notify` is told each stage in one line; `progress` shows bars within a stage.

    With `output`, the folder ``output/<pair name>`` gets both models' answers (JSON lines) and scores
    (safetensors) and ``comparison.json``, each as soon as it is there; a comparison found there that was made of
    the same weights, questions and settings is only read, if the other files are there too. Answers and scores
    are kept as they are made in the folder `store`, by default ``output/store``; without either nothing is kept.
    What another process is making there is waited for and then read.

    Warns where before and after are the same checkpoint, which is measured all the same: nothing should move.

    Raises RLCircuitsError for anything wrong with the checkpoints, the questions or the options, before/after
    with different architectures, parameters or tokenizers and too few questions left included.
    """
    settings = settings or Settings()
    folder = None if output is None else Path(output) / pair.name
    if store is None and output is not None:
        store = Path(output) / STORE
    run = _Run(pair, settings, folder, None if store is None else Path(store), notify or (lambda _line: None), progress)
    run.warn_of_one_checkpoint()
    if folder is None:
        return run.measure()
    key = run.key()
    if (finished := run.finished(folder, key, quiet=True)) is not None:
        return finished
    ensure_writable_folder(folder.parent, "output")
    with write_lock(folder, run.log):
        if (finished := run.finished(folder, key)) is not None:  # by the process that was waited for
            return finished
        comparison = run.measure()
        save_comparison(comparison, folder, key)
        return comparison


@validate_arguments
def run_variants(
    pair: Pair,
    settings: Settings | None = None,
    *,
    output: str | Path | None = None,
    notify: Notify | None = None,
    progress: bool = False,
) -> tuple[Comparison, ...]:
    """Measure one pair with each choice of whose answers are scored, :data:`rlcircuits.common.choices.SCORE_ON`.

    Questions are asked once. The pair's name says which variant a comparison is of, but for ``own``.
    """
    settings = settings or Settings()
    with TemporaryDirectory(prefix="rlcircuits-") as temporary:
        store = Path(temporary) if output is None else Path(output) / STORE
        found = []
        for score_on in SCORE_ON:
            named = pair if score_on == "own" else pair.model_copy(update={"name": f"{pair.name}-on-{score_on}"})
            variant = replace(settings, score_on=score_on)
            found.append(run_pair(named, variant, output=output, store=store, notify=notify, progress=progress))
        return tuple(found)


def _are_whole(folder: Path, log: Notify) -> bool:
    """Whether a finished pair's answers and scores are all there, none of them cut short or damaged."""
    try:
        for side in _SIDES:
            Answers.load(folder / _ANSWERS.format(side))
            for _ in tensor_headers(folder / _SCORES.format(side)):
                pass
    except RLCircuitsError as error:
        log(f"{error}; the pair is measured again, from what is in the store")
        return False
    return True


@dataclass
class _Run:
    """One pair being measured."""

    pair: Pair
    settings: Settings
    folder: Path | None
    store: Path | None
    notify: Notify
    progress: bool

    def __post_init__(self) -> None:
        if self.pair.prompting is not None:
            self.settings = replace(self.settings, prompting=self.pair.prompting)
        settings = self.settings
        self.before, self.after = self.pair.sources(settings.device, settings.dtype, settings.trust_remote_code)
        asked = self.pair.questions
        self.questions: QuestionSet = load_questions(
            asked, split=self.settings.split, count=asked.count or self.settings.question_count
        )
        self.made = tuple(side for side in _SIDES if getattr(self.pair, f"recorded_{side}") is None)
        self.first: dict[Side, Answers] = {}
        self.prompts: dict[Side, list[tuple[int, ...]]] = {}
        if settings.sampling.max_new_tokens is None:
            self.set_length()

    def set_length(self) -> None:
        """Let answers be as long as the question set needs, as far as both models' contexts reach."""
        texts = [question.text for question in self.questions.questions]
        sources = {"before": self.before, "after": self.after}
        rooms = []
        for side in _SIDES:
            self.prompts[side] = self.settings.prompting.prompts(sources[side].tokenizer(), texts)
            rooms.append(context_room(sources[side], self.prompts[side]))
        sampling = choose_max_new_tokens(self.settings.sampling, self.questions, rooms, self.log)
        self.settings = replace(self.settings, sampling=sampling)

    def log(self, line: str) -> None:
        self.notify(f"{self.pair.name}: {line}")

    def warn_of_one_checkpoint(self) -> None:
        """Say so where before and after are the same, as after a slip of the pen."""
        if self.before.fingerprint() == self.after.fingerprint():
            names = ", ".join(dict.fromkeys((self.before.name, self.after.name)))
            found = f"before and after are the same checkpoint: {names}; nothing but chance can differ"
            self.log(found)
            warnings.warn(found, stacklevel=4)

    def key(self) -> str:
        """What must be the same for a comparison to be this one."""
        settings = asdict(self.settings)
        settings |= {
            "prompting": self.settings.prompting.model_dump(),
            "sampling": self.settings.sampling.table(),
        }
        # What they change is no score; trusted code is in the sources' fingerprints.
        for name in ("device", "recompute", "trust_remote_code", "stop_early", "max_unfinished"):
            del settings[name]
        recorded = [self.pair.recorded_before, self.pair.recorded_after]
        return content_hash(
            {
                "version": VERSION,
                # By its first name, so that what an earlier version measured is found.
                "pair": [self.pair.name, *map(former_name, (self.pair.algorithm, self.pair.expectations.name))],
                "sources": [self.before.name, self.before.fingerprint(), self.after.name, self.after.fingerprint()],
                "set": [self.questions.name, self.questions.split, [asdict(q) for q in self.questions.questions]],
                "grader": self.questions.grader,
                "settings": settings,
                "recorded": [
                    None if file is None else hashlib.sha256(file.read_bytes()).hexdigest() for file in recorded
                ],
            }
        )

    def finished(self, folder: Path, key: str, quiet: bool = False) -> Comparison | None:
        """The comparison in the pair's folder, if it was made from what `key` stands for and all is there.

        What is damaged is told, unless `quiet`.
        """
        found = load_finished(folder, key)
        if found is None or not _are_whole(folder, (lambda _: None) if quiet else self.log):
            return None
        self.log("measured before, and nothing has changed since")
        return found

    def measure(self) -> Comparison:
        """All the stages."""
        settings = self.settings
        check_same_architecture(self.before, self.after)
        check_same_vocabulary(self.before, self.after)
        self.read_recorded()
        before_answers = self.answers_of_before()
        with LoadedOnce(self.after) as after:
            after_answers = self.answer(after, "after")
            paired = self.pairing(before_answers, after_answers)
            after_scores = self.score(after, "after", paired.after)
        controls = [self.control(draw, paired, before_answers) for draw in range(settings.noise_draws)]
        with LoadedOnce(self.before) as before:
            before_scores = self.score(before, "before", paired.before)
        return compare(
            before_scores,
            after_scores,
            paired,
            before_answers,
            after_answers,
            name=self.pair.name,
            algorithm=self.pair.algorithm,
            profile=self.pair.expectations.name,
            engine=self.engine(),
            controls=controls,
            trust_remote_code=settings.trust_remote_code,
        )

    def answers_of_before(self) -> Answers:
        """All answers of before; where its first are in doubt, after a look at after's first."""
        with suppress(InDoubt), LoadedOnce(self.before) as before:
            return self.answer(before, "before")
        with suppress(InDoubt), LoadedOnce(self.after) as after:
            self.answer(after, "after", only_first=True)
        self.check_first()
        with LoadedOnce(self.before) as before:
            return self.answer(before, "before")

    def look(self, side: Side, first: Answers, only_first: bool) -> None:
        """Take note of a model's first answers. Raises RLCircuitsError or InDoubt if no more are to be made."""
        known = set(self.first)
        self.first[side] = first
        if known >= {*_SIDES} - {side}:
            self.check_first()
        elif is_in_doubt(first, self.settings):
            raise InDoubt
        if only_first:
            raise InDoubt

    def check_first(self) -> None:
        """Raise RLCircuitsError where both models' first answers say that the pair can come to nothing."""
        reason = reason_to_stop(self.first, self.made, len(self.questions), self.settings)
        if reason is not None:
            raise RLCircuitsError(
                f"stopped early: {reason}; {evidence(self.first, self.questions, self.folder)}; stop_early = false "
                f"(--no-stop-early) goes on all the same",
                longest=LONGEST_EVIDENCE,
            )

    def engine(self) -> str:
        """What gave the answers, side by side where it is not the same."""
        recorded = (self.pair.recorded_before, self.pair.recorded_after)
        engines = [self.settings.engine if file is None else RECORDED for file in recorded]
        if engines[0] == engines[1]:
            return engines[0]
        return ", ".join(f"{engine} ({side})" for engine, side in zip(engines, _SIDES, strict=True))

    def pairing(self, before: Answers, after: Answers) -> Pairing:
        settings = self.settings
        gold = None
        if settings.score_on == "gold":
            tokenizer = self.before.tokenizer()
            gold = {q.id: tokenizer(q.gold, add_special_tokens=False)["input_ids"] for q in self.questions.questions}
        try:
            paired = pairing.pair(
                before,
                after,
                alpha=settings.alpha,
                k=settings.k,
                balance=settings.balance,
                seed=settings.seed,
                min_questions=settings.min_questions,
                score_on=settings.score_on,
                gold=gold,
            )
        except pairing.TooFewQuestionsError as error:
            answers: dict[Side, Answers] = {"before": before, "after": after}
            found = evidence(answers, self.questions, self.folder)
            raise RLCircuitsError(f"{error}; {found}", longest=LONGEST_EVIDENCE) from None
        if settings.score_on != "own":
            # Both models are scored on the same ids, which then must mean the same to both.
            used = {token for sequence in paired.before for token in sequence.answer_ids}
            check_same_vocabulary(self.before, self.after, used)
        funnel = show_funnel(paired.funnel)
        unfinished = Unfinished.of(before, after).words
        self.log(f"{funnel}; unfinished {unfinished}; the first {paired.t_cut} tokens are scored")
        return paired

    def control(self, draw: int, paired: Pairing, before: Answers) -> Control:
        """Let one draw of noise answer, and score it where it answered enough of the compared questions right."""
        with LoadedOnce(NoisedSource(self.before, self.after, draw)) as noised:
            answers = self.generate(noised, f"noise {draw}", self.prompts.get("before"))
            chosen = pair_control(paired, before, answers)
            scores = None
            if chosen.k >= self.settings.min_questions:
                scores = self.score(noised, f"noise {draw}", chosen.sequences, keep=False)
        return Control(draw, answers, chosen, scores)

    def read_recorded(self) -> None:
        """Read the answers that were recorded: before any work, which a file that cannot be read would undo."""
        files = {"before": self.pair.recorded_before, "after": self.pair.recorded_after}
        sources = {"before": self.before, "after": self.after}
        for side in _SIDES:
            file = files[side]
            if file is None:
                continue
            self.log(f"{side} has recorded answers in {file}")
            # One file for both holds them side by side.
            which = side if files["before"] == files["after"] else None
            sampling = self.settings.sampling
            self.first[side] = recorded_answers(file, sources[side], self.questions, sampling=sampling, side=which)

    def answer(self, source: LoadedOnce, side: Side, *, only_first: bool = False) -> Answers:
        """The answers of one of the pair: made, unless they were recorded."""
        if side in self.made:
            first_look = partial(self.look, side, only_first=only_first) if self.settings.stop_early else None
            answers = self.generate(source, side, self.prompts.get(side), first_look)
        else:
            answers = self.first[side]
        if self.folder:
            answers.save(self.folder / _ANSWERS.format(side))
        return answers

    def generate(
        self,
        source: LoadedOnce,
        who: str,
        prompts: list[tuple[int, ...]] | None,
        first_look: Callable[[Answers], None] | None = None,
    ) -> Answers:
        n = self.settings.sampling.n
        often = "" if n == 1 else f", {n} times each"
        self.log(f"{who} answers {len(self.questions)} questions of {self.questions.name}{often}")
        # Another engine loads a folder by itself, and there is none with noise in it.
        by_itself = self.settings.engine != TRANSFORMERS and isinstance(source.source, CheckpointSource)
        stopwatch = Stopwatch(source)
        answers = answer_questions(
            source.source if by_itself else source,
            self.questions,
            self.settings.sampling,
            self.settings.batch_size,
            self.progress,
            engine=self.settings.engine if by_itself else TRANSFORMERS,
            prompting=self.settings.prompting,
            store=self.store,
            notify=self.log,
            prompts=prompts,
            first_look=first_look,
        )
        if by_itself:
            gc.collect()  # what the engine held on to
        self.note("answers", stopwatch, sum(len(item.answer_ids) for item in answers.items))
        return answers

    def score(
        self, source: LoadedOnce, side: str, sequences: Sequence[AnswerSequence], keep: bool = True
    ) -> EdgeScores:
        self.log(f"{side} is attributed on {len(sequences)} answers")
        stopwatch = Stopwatch(source)
        scores = attribute_stored(
            source,
            sequences,
            self.settings.granularity,
            batch_tokens=self.settings.batch_tokens,
            recompute=self.settings.recompute,
            progress=self.progress,
            store=self.store,
            notify=self.log,
        )
        self.note("scores", stopwatch, sum(sequence.input_length for sequence in sequences))
        if self.folder and keep:
            scores.save(self.folder / _SCORES.format(side))
        return scores

    def note(self, work: Work, stopwatch: Stopwatch, tokens: int) -> None:
        """Note how fast a step was, if it was done and not read from the store."""
        if self.store is not None and stopwatch.source.loaded:
            note_throughput(self.store, work, tokens, stopwatch.seconds)

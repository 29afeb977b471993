"""Load the questions that a pair is asked."""

from __future__ import annotations

from dataclasses import replace

from rlcircuits.common import defaults
from rlcircuits.questions import QuestionSet, load_questions
from rlcircuits.questions.records import draw
from rlcircuits.release.pair import AskedQuestions
from rlcircuits.release.settings import Settings

__all__ = ["load_asked"]


def load_asked(asked: AskedQuestions, settings: Settings) -> QuestionSet:
    """Return the questions to ask: as many as the set or the settings say, drawn with a fixed seed.

    The default number is at most that of the set: whoever brings a file of 300 questions means all of them.

    Raises:
        RLCircuitsError: the questions cannot be loaded, or there are fewer than were asked for.
    """
    count = asked.count or settings.question_count
    if asked.file is None:
        return load_questions(asked, split=settings.split, count=count)
    everything = load_questions(asked, split=settings.split)
    if asked.count is None and count == defaults.QUESTION_COUNT:
        count = min(count, len(everything))
    return replace(everything, questions=draw(everything.questions, count, defaults.SEED, of=str(asked.file)))

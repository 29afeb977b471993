"""Turn a question set into prompts for one model: token ids, and the inputs of the images that questions have.

A question with images becomes a chat whose user message has an image part for each of them: in the places that the
text marks with ``<image>``, or before the text. The checkpoint's chat template writes it, and its processor replaces
each image's marker by as many image tokens as the image needs. These are positions of the prompt like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from rlcircuits.answers.prompting import Prompting
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source, processor_of
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import content_hash
from rlcircuits.graph.image_inputs import ImageInputs
from rlcircuits.models.images import ImageProcessor
from rlcircuits.questions.images import MARK
from rlcircuits.questions.question_set import Question, QuestionSet

__all__ = ["QuestionPrompts", "check_text_alone", "prompt_questions"]


@dataclass(frozen=True)
class QuestionPrompts:
    """The prompts of a question set, in its order."""

    ids: list[tuple[int, ...]]
    """Token ids, those of images included."""
    images: list[ImageInputs | None]
    """The inputs of each prompt's images; None for a prompt of text alone."""


def prompt_questions(model: Source | Checkpoint, prompting: Prompting, questions: QuestionSet) -> QuestionPrompts:
    """Return the prompts of a question set for a model, of which only tokenizer and processor are loaded.

    Raises:
        RLCircuitsError: the prompts cannot be made: see :meth:`Prompting.prompts`. Of questions with images: the model
            reads none, has no processor or no chat template; or an image is damaged or cannot be prepared.
    """
    tokenizer = model.tokenizer if isinstance(model, Checkpoint) else model.tokenizer()
    asked = questions.questions
    texts = [question.text for question in asked]
    if not questions.has_images:
        return QuestionPrompts(prompting.prompts(tokenizer, texts), [None] * len(asked))
    processor = processor_of(model)
    written = prompting.image_texts(tokenizer, processor.chat_template, [_segments(question) for question in asked])
    settings = processor.settings
    plain = iter(prompting.prompts(tokenizer, [q.text for q in asked if not q.images]))
    found = QuestionPrompts([], [])
    for question, text in zip(asked, written, strict=True):
        if question.images:
            key = content_hash({"images": [image.sha256 for image in question.images], "processor": settings})
            found.ids.append(_prepared(processor, question, text)[0])
            found.images.append(ImageInputs(key, partial(_inputs, processor, question, text)))
        else:
            found.ids.append(next(plain))
            found.images.append(None)
    return found


def check_text_alone(questions: QuestionSet, what: str) -> None:
    """Raise RLCircuitsError, saying what is not done, for a question set with images."""
    if questions.has_images:
        raise RLCircuitsError(
            f"question set {questions.name!r} has images, and {what}; leave images out of the table [[questions]] "
            "where the questions can be answered without them"
        )


def _segments(question: Question) -> list[str]:
    """Return the question's text, cut where its images stand: one segment more than there are images."""
    if MARK in question.text and question.images:
        return question.text.split(MARK)
    return [""] * len(question.images) + [question.text]


def _prepared(processor: ImageProcessor, question: Question, text: str) -> tuple[tuple[int, ...], dict[str, Tensor]]:
    try:
        return processor.prepare(text, [image.open() for image in question.images])
    except RLCircuitsError as error:
        raise RLCircuitsError(f"{question.images[0].place}: question {question.id!r}: {error}") from error


def _inputs(processor: ImageProcessor, question: Question, text: str) -> dict[str, Tensor]:
    return _prepared(processor, question, text)[1]

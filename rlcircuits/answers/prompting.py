"""Turn questions into prompts, with the tokenizer's chat template if it has one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from rlcircuits.answers.chat_template import Chat, render_chats
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.common.reprs import format_fields, short_repr
from rlcircuits.common.validation import describe_error

__all__ = ["Prompting", "PromptingUsed", "normalized", "prompts_without_question"]

_PLACE = "{question}"

# Some chat templates write today's date into the prompt. A fixed date keeps prompts the same from day to day.
_DATE = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""")
_TODAY = datetime(2024, 7, 26)


class Prompting(BaseModel):
    """How a question becomes a prompt.

    With a chat template, `system` is the system message, and `few_shot` followed by the question in its `template` is
    the user message. Without one, the prompt is `system`, an empty line, `few_shot` and the question in its `template`,
    with the tokenizer's own special tokens. The default is the text of the question alone.

    Raises:
        RLCircuitsError: a field is unknown, or `template` does not contain `{question}` exactly once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    template: str = defaults.TEMPLATE
    """The text around the question, with `{question}` in its place. Other braces have no meaning."""
    system: str | None = None
    """The system prompt."""
    few_shot: str | None = None
    """Worked examples, put directly before the question: end them with a separator, such as an empty line."""
    chat: bool = defaults.CHAT
    """Use the tokenizer's chat template if it has one."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RLCircuitsError(f"prompting{describe_error(error, type(self).model_fields, ', field')}") from None

    def __repr__(self) -> str:
        return short_repr(self, *format_fields((name, value) for name, value in self if name in self.model_fields_set))

    @field_validator("template")
    @classmethod
    def _holds_the_question(cls, template: str) -> str:
        if template.count(_PLACE) != 1:
            raise ValueError(f"{template!r} must hold {_PLACE} once")
        return template

    @validate_arguments
    def prompt_ids(self, tokenizer: Any, question: str) -> tuple[int, ...]:
        """Return the token ids of one prompt; see :meth:`prompts`."""
        return self.prompts(tokenizer, [question])[0]

    @validate_arguments
    def prompts(self, tokenizer: Any, questions: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the token ids of each question's prompt.

        Without a chat template, an end token that the tokenizer appends is removed: after it, a model would begin a new
        text instead of answering.

        Args:
            tokenizer: a Hugging Face tokenizer.
            questions: the texts of the questions.

        Raises:
            RLCircuitsError: the tokenizer has several chat templates and no default one, the template fails, or the
                tokenizer cannot encode a prompt.
        """
        texts = [(self.few_shot or "") + self.template.replace(_PLACE, question) for question in questions]
        template = self._chat_template(tokenizer)
        if template is None:
            before = "" if self.system is None else f"{self.system}\n\n"
            return [_encoded(tokenizer, before + text) for text in texts]
        chats: list[Chat] = [[*self._system_message(), {"role": "user", "content": text}] for text in texts]
        rendered = render_chats(tokenizer, _dated(template), chats)
        return [_tokenized(tokenizer, text, special=False) for text in rendered]

    @validate_arguments
    def image_texts(self, tokenizer: Any, own_template: Any, questions: Sequence[Sequence[str]]) -> list[str]:
        """Return the text of each question's prompt, with the chat template's own marker where an image stands.

        Args:
            tokenizer: a Hugging Face tokenizer.
            own_template: the processor's chat template, for a tokenizer that has none.
            questions: the text of each question, cut where its images stand: one segment more than images.

        Raises:
            RLCircuitsError: there is no chat template, which would say where images stand, or it fails.
        """
        template = self._chat_template(tokenizer) or (own_template if self.chat else None)
        if not isinstance(template, str):
            raise RLCircuitsError(
                f"{_name(tokenizer)} has no chat template{'' if self.chat else ' in use (chat = false)'}, and "
                "questions with images need one: it says where the images stand"
            )
        before, behind = self.template.split(_PLACE)
        chats: list[Chat] = []
        for segments in questions:
            texts = [*segments]
            texts[0] = (self.few_shot or "") + before + texts[0]
            texts[-1] += behind
            chats.append([*self._system_message(), {"role": "user", "content": _parts(texts)}])
        return render_chats(tokenizer, _dated(template), chats)

    @validate_arguments
    def used(self, tokenizer: Any) -> PromptingUsed:
        """Return these settings with the hash of the tokenizer's chat template, to be stored with the answers."""
        template = self._chat_template(tokenizer)
        digest = None if template is None else hashlib.sha256(template.encode()).hexdigest()
        return PromptingUsed(**self.model_dump(), chat_template_sha256=digest)

    def _system_message(self) -> list[dict[str, Any]]:
        return [] if self.system is None else [{"role": "system", "content": self.system}]

    def _chat_template(self, tokenizer: Any) -> str | None:
        """Return the chat template to use; None for none."""
        found = getattr(tokenizer, "chat_template", None)
        if not self.chat or not found:
            return None
        instead = "leave it aside with chat = false (--no-chat) and say with template what stands around a question"
        if isinstance(found, dict) and "default" not in found:
            raise RLCircuitsError(
                f"{_name(tokenizer)} has several chat templates ({', '.join(map(str, found))}) and none called "
                f"'default'; {instead}"
            )
        template = found["default"] if isinstance(found, dict) else found
        if not isinstance(template, str):
            raise RLCircuitsError(
                f"{_name(tokenizer)} has a chat template that is no text ({truncated_repr(template)}); {instead}"
            )
        return template


def _dated(template: str) -> str:
    """Return a chat template with a fixed date in the place of today's."""
    return _DATE.sub(lambda call: repr(_TODAY.strftime(call["format"])), template)


def _parts(segments: Sequence[str]) -> list[dict[str, Any]]:
    """Return the content of a message: an image between each two segments of text, empty ones left out."""
    parts: list[dict[str, Any]] = []
    for number, segment in enumerate(segments):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": segment}] if segment else []
    return parts


def _encoded(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the token ids of a text, with the special tokens before it but without those after it."""
    ids = _tokenized(tokenizer, text, special=True)
    bare = _tokenized(tokenizer, text, special=False)
    for start in range(len(ids) - len(bare) + 1):
        if ids[start : start + len(bare)] == bare:
            return ids[: start + len(bare)]
    return ids  # the tokenizer splits the text differently next to special tokens


def _tokenized(tokenizer: Any, text: str, *, special: bool) -> tuple[int, ...]:
    try:
        return tuple(tokenizer(text, add_special_tokens=special)["input_ids"])
    except Exception as error:  # tokenizer libraries have no common error class
        raise RLCircuitsError(
            f"{_name(tokenizer)} cannot encode the prompt {truncated_repr(text)}: {one_line(error)}"
        ) from error


def _name(tokenizer: Any) -> str:
    return f"the tokenizer of {getattr(tokenizer, 'name_or_path', '') or 'the checkpoint'}"


def prompts_without_question(
    tokenizer: Any, prompts: Sequence[Sequence[int]], questions: Sequence[str]
) -> list[tuple[int, str]]:
    """Return the index and decoded text of each prompt that does not contain its question.

    White space and case are ignored.
    """
    found = []
    for place, (prompt, question) in enumerate(zip(prompts, questions, strict=True)):
        text = tokenizer.decode(prompt, skip_special_tokens=True)
        if normalized(question) not in normalized(text):
            found.append((place, text))
    return found


def normalized(text: str) -> str:
    """Return a text without white space and in lower case, in which prompts may differ from their questions."""
    return "".join(text.split()).casefold()


class PromptingUsed(Prompting):
    """A `Prompting` together with the chat template of the tokenizer it was used with."""

    chat_template_sha256: str | None = None
    """The sha256 of the chat template's text; None if no chat template was used."""

"""How a question becomes a prompt: the tokenizer's chat template where it has one, and what the user adds."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any

import jinja2
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from rlcircuits.errors import RLCircuitsError

__all__ = ["Prompting", "PromptingUsed"]

_PLACE = "{question}"

# Some chat templates write today's date into the prompt. Answers asked for tomorrow must be the same ones.
_DATE = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""")
_TODAY = datetime(2024, 7, 26)


class Prompting(BaseModel):
    """How a question becomes a prompt.

    With a chat template, `few_shot` and the question in its `template` are the user's message, after `system` as
    the system's. Without one, the prompt is `system`, an empty line, `few_shot` and the question in its
    `template`, with the tokenizer's own special tokens. By default that is the question's text alone.

    Raises RLCircuitsError for an unknown field, or a template that does not hold `{question}` once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    template: str = _PLACE
    """What stands around the question, `{question}` in its place; all other braces are as they are."""
    system: str | None = None
    """The system prompt."""
    few_shot: str | None = None
    """Worked examples, put before the question as they are: end them with what separates them from it."""
    chat: bool = True
    """Use the tokenizer's chat template where it has one."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RLCircuitsError(f"prompting, field {where!r}: {first['msg']}") from None

    @field_validator("template")
    @classmethod
    def _holds_the_question(cls, template: str) -> str:
        if template.count(_PLACE) != 1:
            raise ValueError(f"{template!r} must hold {_PLACE} once")
        return template

    def prompt_ids(self, tokenizer: Any, question: str) -> tuple[int, ...]:
        """The prompt's token ids. Raises RLCircuitsError where the chat template refuses the messages."""
        text = (self.few_shot or "") + self.template.replace(_PLACE, question)
        if not self._chats(tokenizer):
            return tuple(tokenizer(text if self.system is None else f"{self.system}\n\n{text}")["input_ids"])
        messages = [{"role": "user", "content": text}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        template = _DATE.sub(lambda call: repr(_TODAY.strftime(call["format"])), tokenizer.get_chat_template())
        try:
            encoded = tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True, return_dict=True
            )
        except (jinja2.TemplateError, ValueError) as error:
            raise RLCircuitsError(f"the tokenizer's chat template cannot write the prompt: {error}") from error
        return tuple(encoded["input_ids"])

    def used(self, tokenizer: Any) -> PromptingUsed:
        """These settings with the chat template they meet, to be kept with the answers."""
        digest = None
        if self._chats(tokenizer):
            digest = hashlib.sha256(tokenizer.get_chat_template().encode()).hexdigest()
        return PromptingUsed(**self.model_dump(), chat_template_sha256=digest)

    def _chats(self, tokenizer: Any) -> bool:
        return self.chat and bool(getattr(tokenizer, "chat_template", None))


class PromptingUsed(Prompting):
    """A prompting as it was used with one tokenizer."""

    chat_template_sha256: str | None = None
    """Of the chat template's text; None where none was used."""

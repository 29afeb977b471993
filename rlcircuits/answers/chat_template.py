"""Render chat templates, in a process with limits: a template is a program that comes with a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.limited_process import LimitedProcessError, map_in_limited_process

__all__ = ["Chat", "render_chats"]

LENGTH_LIMIT = 2**24
"""Most characters of one rendered chat."""

Chat = list[dict[str, Any]]
"""Messages, each with "role" and "content": a text, or a list of parts that are texts and images."""


def render_chats(tokenizer: Any, template: str, chats: Sequence[Chat]) -> list[str]:
    """Render each chat, up to and including the marker with which the assistant's answer begins.

    Args:
        tokenizer: a Hugging Face tokenizer.
        template: the chat template, in Jinja.
        chats: the chats.

    Raises:
        RLCircuitsError: the template fails, does not end or takes too much memory; the message says which.
    """

    def write(chat: Chat) -> dict[str, str]:
        try:
            text = tokenizer.apply_chat_template(
                chat, chat_template=template, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template can raise anything
            return {"problem": one_line(error)}
        if not isinstance(text, str) or len(text) > LENGTH_LIMIT:
            return {"problem": f"it writes more than {LENGTH_LIMIT:,} characters"}
        return {"text": text}

    texts = []
    problem = None
    try:
        with closing(map_in_limited_process(write, chats)) as written:
            for one in written:
                if problem := one.get("problem"):
                    break
                texts.append(one["text"])
    except LimitedProcessError as error:
        problem = f"it {error}"
    if problem is not None:
        name = getattr(tokenizer, "name_or_path", "")
        whose = f"the chat template of {name}'s tokenizer" if name else "the tokenizer's chat template"
        raise RLCircuitsError(f"{whose} cannot write the prompt: {problem}")
    return texts

"""Chat templates, written out under limits: a template is a program that comes with a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.limited_process import LimitedProcessError, map_in_limited_process

__all__ = ["write_chats"]

LENGTH_LIMIT = 2**24
"""Most characters of one chat."""

Chat = list[dict[str, str]]


def write_chats(tokenizer: Any, template: str, chats: Sequence[Chat]) -> list[str]:
    """Return the text that the template makes of each chat, the mark with which an answer begins at its end.

    Raises RLCircuitsError, saying what the template did, where it fails, loops or takes all memory.
    """

    def write(chat: Chat) -> dict[str, str]:
        try:
            text = tokenizer.apply_chat_template(
                chat, chat_template=template, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template may do whatever an expression can
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

"""Prompts: what stands around a question, with a chat template and without."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from saved import CHARACTERS, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from rlcircuits.errors import RLCircuitsError
from rlcircuits.prompting import Prompting, PromptingUsed

PLAIN = tiny_tokenizer()
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)

texts = st.text(CHARACTERS, min_size=1, max_size=12)


def chatting(template: str = TEMPLATE) -> PreTrainedTokenizerFast:
    return tiny_tokenizer(chat_template=template)


def text(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(ids))


def test_a_question_alone_is_its_text() -> None:
    assert Prompting().prompt_ids(PLAIN, "1+1?") == tuple(PLAIN("1+1?").input_ids)
    assert text(PLAIN, Prompting().prompt_ids(PLAIN, "1+1?")) == "<bos>1+1?"


@given(question=texts, system=texts, few_shot=texts)
def test_without_a_chat_template_everything_is_one_text(question: str, system: str, few_shot: str) -> None:
    prompting = Prompting(template="Q: {question} A:", system=system, few_shot=few_shot)
    wanted = f"{system}\n\n{few_shot}Q: {question} A:"
    assert prompting.prompt_ids(PLAIN, question) == tuple(PLAIN(wanted).input_ids)


@given(question=texts, few_shot=texts)
def test_a_chat_template_gets_messages(question: str, few_shot: str) -> None:
    tokenizer = chatting()
    asked = Prompting(template="Q: {question}", system="be q", few_shot=few_shot)
    assert text(tokenizer, asked.prompt_ids(tokenizer, question)) == f"s:be q;u:{few_shot}Q: {question};a:"
    alone = Prompting().prompt_ids(tokenizer, question)
    assert text(tokenizer, alone) == f"u:{question};a:"


def test_a_chat_template_may_be_left_aside() -> None:
    assert Prompting(chat=False).prompt_ids(chatting(), "1?") == Prompting().prompt_ids(PLAIN, "1?")


def test_braces_are_as_they_are() -> None:
    prompting = Prompting(template="{question} in \\boxed{}")
    assert text(PLAIN, prompting.prompt_ids(PLAIN, "x = {question}?")) == "<bos>x = {question}? in \\boxed{}"


def test_a_template_that_writes_the_date_writes_the_same_one_tomorrow() -> None:
    tokenizer = chatting("{{ strftime_now('%Y-%m-%d') }} {{ strftime_now( \"%d\" ) }} {{ messages[0].content }}")
    assert text(tokenizer, Prompting().prompt_ids(tokenizer, "1?")) == "2024-07-26 26 1?"


def test_a_template_that_refuses_a_system_prompt() -> None:
    tokenizer = chatting("{% if messages[0].role == 'system' %}{{ raise_exception('no system, please') }}{% endif %}1")
    assert text(tokenizer, Prompting().prompt_ids(tokenizer, "1?")) == "1"
    with pytest.raises(RLCircuitsError, match="chat template cannot write the prompt: no system, please"):
        Prompting(system="be q").prompt_ids(tokenizer, "1?")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"template": "Q:"}, r"field 'template': .*'Q:' must hold \{question\} once"),
        ({"template": "{question}{question}"}, "field 'template': .*must hold"),
        ({"system": 3}, "field 'system': Input should be a valid string"),
        ({"shots": "1"}, "field 'shots': Extra inputs are not permitted"),
    ],
)
def test_bad_settings_name_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=f"prompting, {message}"):
        Prompting(**fields)


def test_what_was_used_can_be_kept() -> None:
    prompting = Prompting(template="Q: {question}", few_shot="1+1=2\n")
    used = prompting.used(chatting())
    assert used.chat_template_sha256 == hashlib.sha256(TEMPLATE.encode()).hexdigest()
    assert used.model_dump() == prompting.model_dump() | {"chat_template_sha256": used.chat_template_sha256}
    assert PromptingUsed(**json.loads(used.model_dump_json())) == used
    assert prompting.used(PLAIN).chat_template_sha256 is None
    assert Prompting(chat=False).used(chatting()).chat_template_sha256 is None

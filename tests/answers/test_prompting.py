"""Test how questions become prompts, with and without a chat template."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from helpers.tiny_checkpoints import CHARACTERS, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from rlcircuits.answers.prompting import Prompting, PromptingUsed
from rlcircuits.common import limited_process
from rlcircuits.common.errors import RLCircuitsError

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


@settings(max_examples=10)  # each example starts two processes
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
        ({"system": 3}, "field 'system': must be a string, not 3"),
        ({"shots": "1"}, "field 'shots': unknown; known keys are template"),
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


# Templates and tokenizers that fail


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "took more than 0.5 s"),
        ("{{ 10 ** (10 ** 10) }}", "took more than 0.5 s"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        (
            "{% set n = namespace(x='12345678') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "Memory",
        ),
        ("{{ 'a' * 20000000 }}", "it writes more than 16,777,216 characters"),
        ("{{ messages[0]['content'] + 1 }}", "can only concatenate str"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ nothing.there }}", "'nothing' is undefined"),
        ("{% for %}", "Expected an expression"),
        ("{{ messages[7].content.x }}", "has no element 7"),
        ("{{ raise_exception('no, thanks') }}", "no, thanks"),
    ],
)
def test_a_template_that_fails_says_how(template: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_process, "TIME_LIMIT", 0.5)
    monkeypatch.setattr(limited_process, "MEMORY_LIMIT", 2**28)
    tokenizer = chatting(template)
    with pytest.raises(RLCircuitsError, match=f"chat template cannot write the prompt: .*{reason}"):
        Prompting().prompts(tokenizer, ["1?", "2?"])


def test_a_template_that_fails_for_one_question_says_so() -> None:
    tokenizer = chatting("{% if messages[0].content == '2?' %}{{ 1 / 0 }}{% endif %}{{ messages[0].content }}")
    assert len(Prompting().prompts(tokenizer, ["1?"] * 200)) == 200
    with pytest.raises(RLCircuitsError, match="division by zero"):
        Prompting().prompts(tokenizer, ["1?", "2?", "3?"])


@settings(max_examples=10)  # each example starts a process
@given(st.lists(texts, min_size=1, max_size=3))
def test_prompts_are_the_prompts_of_each(questions: list[str]) -> None:
    for tokenizer in (PLAIN, chatting()):
        asked = Prompting(system="be q", few_shot="1+1=2\n")
        assert asked.prompts(tokenizer, questions) == [asked.prompt_ids(tokenizer, each) for each in questions]


def test_the_default_of_several_templates_is_used() -> None:
    tokenizer = chatting()
    tokenizer.chat_template = {"tool_use": "{{ 1 / 0 }}", "default": TEMPLATE}
    assert text(tokenizer, Prompting().prompt_ids(tokenizer, "1?")) == "u:1?;a:"
    assert Prompting().used(tokenizer) == Prompting().used(chatting())


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            {"tool_use": "1", "rag": "2"},
            r"has several chat templates \(tool_use, rag\) and none called 'default'; leave",
        ),
        ({"default": 3}, r"has a chat template that is no text \(3\); leave it aside with chat = false"),
        (["1"], "has a chat template that is no text"),
    ],
)
def test_templates_that_cannot_be_told_are_one_error(template: Any, message: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    for call in (lambda: Prompting().prompt_ids(tokenizer, "1?"), lambda: Prompting().used(tokenizer)):
        with pytest.raises(RLCircuitsError, match=message):
            call()
    assert Prompting(chat=False).prompt_ids(tokenizer, "1?") == Prompting().prompt_ids(PLAIN, "1?")


@pytest.mark.parametrize(
    "around", ["$A <eos>", "<bos> $A <eos>", "<bos> $A <eos> <eos>", "<bos> <bos> $A <pad> <eos>", "$A"]
)
@given(question=texts)
def test_a_prompt_ends_in_its_text_whatever_the_tokenizer_appends(around: str, question: str) -> None:
    tokenizer = tiny_tokenizer()
    names = ("<pad>", "<bos>", "<eos>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    )
    prompt = Prompting().prompt_ids(tokenizer, question)
    before = around.partition("$A")[0].replace(" ", "")
    assert text(tokenizer, prompt) == before + question


def test_a_text_that_cannot_be_encoded_is_one_error() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"1": 0}, unk_token="<unk>")))
    with pytest.raises(RLCircuitsError, match=r"the tokenizer of .* cannot encode the prompt '2': .*UNK"):
        Prompting().prompt_ids(tokenizer, "2")
    with pytest.raises(RLCircuitsError, match=r"cannot encode the prompt '\\udcff"):
        Prompting(system="\udcff").prompt_ids(PLAIN, "1?")

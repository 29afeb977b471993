"""The core needs torch, transformers, safetensors and little else: a GPU machine may have nothing more of ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

NOT_OF_THE_CORE = ("pydantic", "pydantic_core", "scipy", "statsmodels", "pandas", "datasets", "peft", "matplotlib")

PROGRAM = """
import builtins

usual = builtins.__import__

def without_the_gates_libraries(name, globals=None, *rest, **named):
    # Of rlcircuits' own imports only, since transformers looks for what is installed in its own way.
    if name.partition(".")[0] in {missing!r} and (globals or {{}}).get("__name__", "").startswith("rlcircuits"):
        raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
    return usual(name, globals, *rest, **named)

builtins.__import__ = without_the_gates_libraries
from transformers import LlamaConfig, LlamaForCausalLM
from rlcircuits import AnswerSequence, Checkpoint, attribute

config = LlamaConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    vocab_size=50,
)
checkpoint = Checkpoint(LlamaForCausalLM(config).eval())
scores = attribute(checkpoint, [AnswerSequence([1, 2, 3], [4, 5])], {granularity!r})
print(bool(scores.values.isfinite().all()))
"""


@pytest.mark.parametrize("granularity", ["sublayer", "head", "kv-head"])
def test_the_core_runs_without_the_gates_libraries(granularity: str) -> None:
    program = PROGRAM.format(missing=NOT_OF_THE_CORE, granularity=granularity)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "True\n"

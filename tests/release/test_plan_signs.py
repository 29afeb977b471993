"""What a plan says vital signs cost, and that it names each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.planned_pairs import planned
from helpers.tiny_pairs import save_tiny_pair
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.cli.main import main
from rlcircuits.release.plan_signs import SignCost, sign_costs
from rlcircuits.vital_signs.names import MEASURED_FROM, SIGNS


def costs(prompts: list[int], **fields: object) -> dict[str, SignCost]:
    return {each.source: each for each in sign_costs(planned(**fields), prompts, 1000)}  # type: ignore[arg-type]


@given(asked=st.integers(1, 60), n=st.integers(1, 8), draws=st.integers(0, 3), prompt=st.integers(1, 50))
def test_answers_and_tokens_follow_from_what_is_asked(asked: int, n: int, draws: int, prompt: int) -> None:
    found = costs([prompt] * asked, asked=asked, n=n, settings={"noise_draws": draws})
    assert tuple(found) == tuple(MEASURED_FROM)
    once = asked * n
    # hints: six kinds and two models; answers have six tokens at most
    assert [found[source].cost.answers for source in MEASURED_FROM] == [0, 0, 0, 12 * once, 2 * draws * once, once]
    assert all(each.cost.tokens_left == 6 * each.cost.answers for each in found.values())
    read = found["log-probabilities"].cost
    assert (read.models, read.scored, read.scored_tokens) == (2, 4 * once, 4 * once * (prompt + 6))
    assert [each.weight_bytes for each in found.values()] == [0, 1000, 0, 0, 0, 0]


def test_what_is_not_known_or_not_possible() -> None:
    assert costs([], asked=4)["log-probabilities"].cost.scored_tokens is None
    recorded = costs([3] * 4, asked=4, recorded_after="x.jsonl")
    assert [recorded[source].cost.answers for source in ("hints", "flatness", "rank-1")] == [0, 0, 0]


@pytest.mark.parametrize("signs", ["", "[signs]\n"])
def test_a_plan_names_every_sign(signs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = save_tiny_pair(tmp_path)
    file = tmp_path / "release.toml"
    file.write_text(f'{signs}[[pair]]\nname = "a"\nbefore = "{before}"\nafter = "{after}"\nalgorithm = "grpo"\n')
    assert main(["plan", str(file)]) == 0
    printed = capsys.readouterr().out
    names = {name for line in printed.splitlines() for name in line.replace(",", " ").split()}
    assert names >= SIGNS
    for source in ("hints", "flatness", "rank-1"):
        assert f"--answer-anew {source}" in printed
    assert ("compare and pytest measure the first three" in printed) == bool(signs)

"""Flatness: what noise costs after, beside before; and the noise itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlcircuits import CheckpointSource, RLCircuitsError
from rlcircuits.answers.answer_file import Answers
from rlcircuits.checkpoints.source import Source
from rlcircuits.vital_signs.flatness import flatness_sign
from rlcircuits.vital_signs.shaken_source import ShakenSource
from tests.helpers.answer_makers import make_answers
from tests.helpers.tiny_pairs import save_tiny_pair


def graded(share: float, count: int = 60) -> Answers:
    return make_answers({f"q{index}": [index < share * count] for index in range(count)})


def parameters(source: Source) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in source.load().model.named_parameters()}


def test_no_noise_costs_nothing() -> None:
    before, after = graded(0.5), graded(0.8)
    sign = flatness_sign(before, after, [before] * 3, [after] * 3)
    assert (sign.before, sign.after, sign.change, sign.outcome) == (0, 0, 0, "no alarm")


def test_a_narrower_place_is_trouble() -> None:
    sign = flatness_sign(graded(0.5), graded(0.8), [graded(0.5), graded(0.45)], [graded(0.5), graded(0.4)])
    assert sign.outcome == "trouble"
    assert sign.before == pytest.approx(-0.025)
    assert sign.after == pytest.approx(-0.35)


def test_draws_that_overlap_are_no_alarm() -> None:
    sign = flatness_sign(graded(0.5), graded(0.8), [graded(0.5), graded(0.3)], [graded(0.7), graded(0.2)])
    assert sign.outcome == "no alarm"
    assert "some draw costs before as much" in sign.note


def test_what_flatness_needs() -> None:
    assert flatness_sign(graded(0.5), graded(0.8), [], []).outcome == "not measurable"
    other = [make_answers({"x": [True]})]
    assert flatness_sign(graded(0.5), graded(0.8), other, other).outcome == "not measurable"


def test_noise_has_the_update_s_norm_and_is_the_same_for_both(tmp_path: Path) -> None:
    before, after = (CheckpointSource(str(path), device="cpu") for path in save_tiny_pair(tmp_path))
    ours, theirs = (parameters(source) for source in (before, after))
    shaken = [parameters(ShakenSource(*pair, draw=1)) for pair in ((before, after), (after, before))]
    for name, parameter in ours.items():
        update = theirs[name] - parameter
        noise = shaken[0][name] - parameter
        assert float(noise.norm()) == pytest.approx(float(update.norm()), rel=2e-3)
        torch.testing.assert_close(noise, shaken[1][name] - theirs[name], atol=1e-5, rtol=1e-3)
    assert ShakenSource(before, after, 1).fingerprint() != ShakenSource(after, before, 1).fingerprint()
    assert ShakenSource(before, after, 1).fingerprint() != ShakenSource(before, after, 2).fingerprint()


def test_without_an_update_there_is_no_noise(tmp_path: Path) -> None:
    source = CheckpointSource(str(save_tiny_pair(tmp_path)[0]), device="cpu")
    same = parameters(ShakenSource(source, source, 0))
    for name, parameter in parameters(source).items():
        assert torch.equal(parameter, same[name])


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    base, _ = save_tiny_pair(tmp_path)
    other, _ = save_tiny_pair(tmp_path / "other", architecture="gpt-neox")
    sources = [CheckpointSource(str(path), device="cpu") for path in (base, other)]
    with pytest.raises(RLCircuitsError, match="needs the same parameters before and after"):
        ShakenSource(sources[0], sources[1], 0).load()

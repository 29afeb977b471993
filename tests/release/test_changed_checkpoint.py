"""A checkpoint that is overwritten while it is measured: one error, and nothing of it is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.tiny_pairs import grade_kindly, save_tiny_pair
from helpers.tiny_runs import save_step
from safetensors.torch import load_file, save_file

from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.types import Sampling
from rlcircuits.attribution.cache import attribute_stored
from rlcircuits.attribution.stored_spans import attribute_spans_stored
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.checkpoints.unchanged import CheckpointChangedError
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.answer_spans import AnswerSpans
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.questions import load_questions
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import make_settings

WEIGHTS = "model.safetensors"
CHANGED = "its files changed while it was measured"
SETTINGS = make_settings(
    {
        "question_count": 24, "noise_draws": 1, "noise_groups": False, "min_questions": 5, "alpha": 0.5, "balance": 2.0,
        "device": "cpu", "sampling": {"n": 1, "max_new_tokens": 6},
    }
)  # fmt: skip
SEQUENCES = [AnswerSequence((1, 2, 3), (4, 5, 6)), AnswerSequence((2, 3), (5, 6, 7, 8))]


@pytest.fixture(autouse=True)
def kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)


def overwrite(file: Path) -> None:
    """Write other weights into a file in place, as a copy does; a process that has mapped the file sees them."""
    other = {name: tensor * 1.5 for name, tensor in load_file(file).items()}
    saved = file.with_suffix(".new")
    save_file(other, saved, metadata={"format": "pt"})
    with file.open("r+b") as target:
        target.write(saved.read_bytes())
    saved.unlink()


def at(words: str, change: Callable[[], None]) -> tuple[Callable[[str], None], list[str]]:
    """Return what calls the function at the first line that has these words, and the lines it did so at."""
    seen: list[str] = []

    def notify(line: str) -> None:
        if words in line and not seen:
            seen.append(line)
            change()

    return notify, seen


MOMENTS = ("before answers", "after answers", "after is attributed", "noise 0 is attributed", "before is attributed")
SLOW = [
    pytest.param(side, moment, marks=pytest.mark.slow)
    for side in ("before", "after")
    for moment in MOMENTS
    if (side, moment) != ("after", "after is attributed")
]


@pytest.mark.parametrize(("side", "moment"), [("after", "after is attributed"), *SLOW])
def test_a_pair_of_which_one_changes_leaves_nothing(side: str, moment: str, tmp_path: Path) -> None:
    before, after = save_tiny_pair(tmp_path)
    pair = make_pair(name="pair", before=str(before), after=str(after), algorithm="grpo", questions="arithmetic")
    file = (before if side == "before" else after) / WEIGHTS
    original = file.read_bytes()
    notify, seen = at(moment, lambda: overwrite(file))
    with pytest.raises(RLCircuitsError, match=CHANGED):
        run_pair(pair, SETTINGS, output=tmp_path / "out", notify=notify)
    assert seen, "the moment came"
    assert not [each for each in (tmp_path / "out" / "pair").glob("*") if not each.name.startswith(".")]
    # What the store holds by then serves neither the new weights nor the old ones wrongly.
    check_as_fresh(pair, tmp_path)
    file.write_bytes(original)
    check_as_fresh(pair, tmp_path)


def check_as_fresh(pair: Pair, folder: Path) -> None:
    shutil.rmtree(folder / "fresh", ignore_errors=True)
    assert run_pair(pair, SETTINGS, output=folder / "out") == run_pair(pair, SETTINGS, output=folder / "fresh")


def test_scores_of_a_model_that_changed_are_not_stored(tmp_path: Path) -> None:
    source = CheckpointSource(str(save_step(tmp_path / "model", 0)), device="cpu")
    store = tmp_path / "store"
    store.mkdir()
    spans = [AnswerSpans(len(each.prompt_ids), (len(each.answer_ids),)) for each in SEQUENCES]
    for stored in (
        lambda model: attribute_stored(model, SEQUENCES, store=store),
        lambda model: attribute_spans_stored(model, SEQUENCES, spans, store=store),
        lambda model: answer_questions(
            model, load_questions("arithmetic", count=4), Sampling(max_new_tokens=4), store=store
        ),
    ):
        with pytest.raises(CheckpointChangedError, match=CHANGED):
            stored(_ChangesOnceLoaded(source))
        kept = [file for file in store.rglob("*") if file.suffix == ".safetensors"]
        assert not kept
    assert all(len(file.read_text().splitlines()) <= 1 for file in store.glob("*.jsonl")), "a header and no answer"


class _ChangesOnceLoaded:
    """A source whose weights another process overwrites while the model is in use."""

    def __init__(self, source: CheckpointSource) -> None:
        self.source, self.name = source, source.name
        self.fingerprint, self.tokenizer = source.fingerprint, source.tokenizer
        self.context_length = source.context_length

    def load(self) -> object:
        checkpoint = self.source.load()
        overwrite(self.source.folder / WEIGHTS)
        return checkpoint


def test_a_model_that_is_in_use_has_one_fingerprint(tmp_path: Path) -> None:
    source = CheckpointSource(str(save_step(tmp_path / "model", 0)), device="cpu")
    with LoadedOnce(source) as loaded:
        known = loaded.fingerprint()
        loaded.load()
        assert loaded.fingerprint() == known == source.fingerprint()
        overwrite(source.folder / WEIGHTS)
        with pytest.raises(CheckpointChangedError, match=CHANGED):
            loaded.fingerprint()
    with LoadedOnce(source) as again:
        assert again.fingerprint() == source.fingerprint() != known


def test_noise_of_a_checkpoint_that_changed_meanwhile_is_not_remembered(tmp_path: Path) -> None:
    before, after = (CheckpointSource(str(folder), device="cpu") for folder in save_tiny_pair(tmp_path, 0.03))
    noised = NoisedSource(before, after, 0)
    original = (after.folder / WEIGHTS).read_bytes()

    class ChangesMeanwhile(CheckpointSource):
        def load(self):  # type: ignore[no-untyped-def]
            found = super().load()
            overwrite(after.folder / WEIGHTS)
            return found

    with pytest.raises(CheckpointChangedError, match=CHANGED):
        NoisedSource(ChangesMeanwhile(before.path, device="cpu"), after, 0).load()
    (after.folder / WEIGHTS).write_bytes(original)
    fresh = [each.clone() for each in noised.load().model.parameters()]
    assert all(map(torch.equal, fresh, noised.load().model.parameters()))

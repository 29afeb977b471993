"""How pairs are measured: one set of settings for every pair of a run, from Python, options or a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from rlcircuits.answers.engines.registry import check_engine
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.types import Sampling
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.choices import Granularity, ScoreOn
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.limits import check_number
from rlcircuits.common.reprs import format_changed_fields, short_repr
from rlcircuits.common.validation import describe_error
from rlcircuits.comparison import pairing
from rlcircuits.graph.edge_graph import check_granularity
from rlcircuits.models.dtypes import torch_dtype


@dataclass(frozen=True)
class Settings:
    """How a pair is measured. The same for every pair of a run."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    k: int = defaults.K
    """Questions compared, sampled from those that pass the protocol."""
    alpha: float = defaults.ALPHA
    """Share of the reference answer length that is scored."""
    balance: float = defaults.BALANCE
    """How far a question's two answer lengths may differ, as a share of their mean."""
    seed: int = defaults.SEED
    """Of the sample of K."""
    min_questions: int = defaults.MIN_QUESTIONS
    """Fewer questions left to compare are an error."""
    score_on: ScoreOn = defaults.SCORE_ON
    """Whose answers are scored; see :data:`rlcircuits.common.choices.SCORE_ON`."""
    noise_draws: int = defaults.NOISE_DRAWS
    """Draws of the noise control; 0 for none, and then only p is judged."""
    question_count: int = defaults.QUESTION_COUNT
    """Questions asked, where the question set does not say."""
    split: str = defaults.SPLIT
    """Of the question set, where it does not say."""
    sampling: Sampling = field(default_factory=Sampling)
    """How answers are drawn, the same for both models."""
    stop_early: bool = defaults.STOP_EARLY
    """Stop a pair after its first answers if it can come to nothing; see :mod:`rlcircuits.release.early_stop`."""
    max_unfinished: float = defaults.MAX_UNFINISHED
    """Share of a model's first answers that may lack an end token, above which the pair is stopped."""
    prompting: Prompting = field(default_factory=Prompting)
    """What stands around a question."""
    engine: str = defaults.ENGINE
    """What generates the answers."""
    batch_size: int = defaults.BATCH_SIZE
    """Answers written at once."""
    granularity: Granularity = defaults.GRANULARITY
    device: str | None = None
    """None: the best there is."""
    dtype: str | None = None
    """None: the checkpoint's own. A pair's own comes first."""
    trust_remote_code: bool = defaults.TRUST_REMOTE_CODE
    """Run the Python code that a checkpoint's repository brings along. Without it none is run, and nothing is asked."""
    batch_tokens: int | None = None
    """Token budget of an attribution batch; None leaves it to :func:`~rlcircuits.attribute`."""
    recompute: bool = defaults.RECOMPUTE
    """Run blocks again in the backward: the same scores of long sequences in less memory."""

    def __repr__(self) -> str:
        return short_repr(self, *format_changed_fields(self))

    def __post_init__(self) -> None:
        validate_fields(self)
        check_granularity(self.granularity)
        check_engine(self.engine)
        pairing.check_options(self.alpha, self.k, self.balance, self.min_questions, self.score_on)
        torch_dtype(self.dtype)
        _check_device(self.device)
        for name in ("seed", "noise_draws", "question_count", "batch_size", "max_unfinished"):
            check_number(name, getattr(self, name))
        if self.batch_tokens is not None:
            check_number("batch_tokens", self.batch_tokens)
        if not self.split.strip():
            raise RLCircuitsError("split is empty; the name of one of the question set's splits is wanted")


_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)


def make_settings(table: Mapping[str, Any], where: str = "the settings") -> Settings:
    """Make settings of a table such as a pairs file's ``[settings]``; what it leaves out is as by default.

    Raises RLCircuitsError naming the key (`where` comes first) for one that is unknown or does not fit.
    """
    try:
        # As JSON, where pydantic's strictness knows that a table may stand for an object.
        return _SETTINGS.validate_json(json.dumps(table, default=_as_no_text), strict=True)
    except ValidationError as error:
        raise RLCircuitsError(f"{where}{describe_error(error)}") from None


def _check_device(name: str | None) -> None:
    """Raise RLCircuitsError for what is no device's name. Whether there is such a device, only a run has to know."""
    if name is None:
        return
    try:
        torch.device(name)
    except (RuntimeError, TypeError):
        raise RLCircuitsError(
            f"device is {truncated_repr(name)}; a device of torch is wanted, such as cpu or cuda:0"
        ) from None


def _as_no_text(value: object) -> object:
    """What JSON has no word for, such as a date, in a form that no setting has."""
    return [str(value)]


def merged(first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables as one; where both have a key `last` wins, table by table."""
    both = dict(first)
    for key, value in last.items():
        ours = both.get(key)
        both[key] = merged(ours, value) if isinstance(ours, Mapping) and isinstance(value, Mapping) else value
    return both

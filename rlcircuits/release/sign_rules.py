"""How a release's vital signs are measured, and which may fail it: the table ``[signs]`` of a pairs file."""

from __future__ import annotations

from pydantic import ConfigDict, Field, field_validator, model_validator

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.validation import StrictModel
from rlcircuits.vital_signs.formats import Classifier, by_patterns, skeleton
from rlcircuits.vital_signs.gate import GATED
from rlcircuits.vital_signs.names import JUDGED, SIGNS, WITHOUT_INTERVAL
from rlcircuits.vital_signs.reopening import delimiter
from rlcircuits.vital_signs.sign import Sign, Worse, with_threshold

__all__ = ["SignRules", "Threshold"]


class Threshold(StrictModel):
    """When a sign is in trouble: its 95 % interval lies above ``up``, or below −``down``.

    Raises:
        RLCircuitsError: neither is given, or both are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    up: float | None = Field(default=None, allow_inf_nan=False)
    """How far the sign may rise, in its unit."""
    down: float | None = Field(default=None, allow_inf_nan=False)
    """How far the sign may fall, in its unit."""

    @model_validator(mode="after")
    def _one_direction(self) -> Threshold:
        if (self.up is None) == (self.down is None):
            raise RLCircuitsError("a threshold has up or down, one of the two, such as {up = 0.05}")
        return self

    def judge(self, sign: Sign) -> Sign:
        """Return the sign, judged by this threshold."""
        worse: Worse = "up" if self.up is not None else "down"
        return with_threshold(sign, worse, self.up if self.up is not None else self.down or 0.0)


class SignRules(StrictModel):
    """How signs are measured, and which of them may fail a release.

    Raises:
        RLCircuitsError: a key is unknown or its value does not fit, or the gate or a threshold names a sign that there
            is not, or that it could never fail; the message names the key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: tuple[str, ...] = GATED
    """Names of the signs that may fail a release; none if empty."""
    thresholds: dict[str, Threshold] = Field(default_factory=dict)
    """By the name of a sign, the team's own threshold instead of the sign's rule."""
    group: int | None = Field(default=None, ge=2, le=10**6, strict=True)
    """Group size of the silent share; None: 8, or the number of answers to a question if that is smaller."""
    beta: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the KL penalty of the training."""
    formats: dict[str, str] = Field(default_factory=dict)
    """Name of a format of answers → regular expression; none: answers without their numbers."""
    boundary: str | None = None
    """Regular expression that ends a step or a tool's result, after which the entropy is measured; None: it is not."""

    @field_validator("formats")
    @classmethod
    def _compiled(cls, formats: dict[str, str]) -> dict[str, str]:
        by_patterns(formats)
        return formats

    @field_validator("boundary")
    @classmethod
    def _delimiter(cls, boundary: str | None) -> str | None:
        if boundary is not None:
            delimiter(boundary)
        return boundary

    @model_validator(mode="after")
    def _with_effect(self) -> SignRules:
        """Raise RLCircuitsError if a gate or a threshold names no sign, or could never fail a release."""
        for key, names in (("gate", self.gate), ("thresholds", self.thresholds)):
            for name in names:
                if name not in SIGNS:
                    raise RLCircuitsError(f"{key}: there is no sign {name!r}; there are {', '.join(sorted(SIGNS))}")
        for name in self.thresholds:
            if name in WITHOUT_INTERVAL:
                raise RLCircuitsError(
                    f"thresholds: {name!r} has no interval that a threshold could be compared with; take it away"
                )
        for name in self.gate:
            if name not in JUDGED and name not in self.thresholds:
                how = "take it away"
                if name not in WITHOUT_INTERVAL:
                    how = f"state thresholds.{name} in [signs] of a pairs file, or {how}"
                raise RLCircuitsError(f"gate: {name!r} is only reported, and can never fail a release; {how}")
        return self

    @property
    def classify(self) -> Classifier:
        """Return what gives an answer its format."""
        return by_patterns(self.formats) if self.formats else skeleton

    def judge(self, signs: tuple[Sign, ...]) -> tuple[Sign, ...]:
        """Return the signs, judged by the thresholds."""
        return tuple(self.thresholds[sign.name].judge(sign) if sign.name in self.thresholds else sign for sign in signs)

"""A pair: two checkpoints, how training led from one to the other, and the questions to ask both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from rlcircuits.answers.engines.served_address import check_address
from rlcircuits.answers.prompting import Prompting
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import LONGEST_NAME, STORE
from rlcircuits.common.limits import LIMITS
from rlcircuits.common.validation import StrictModel, describe_error
from rlcircuits.comparison.profiles import (
    RULES_WITH,
    AccuracyRule,
    AccuracyRuleName,
    Profile,
    profile_for,
    profile_named,
)
from rlcircuits.questions.source import QuestionSource, plain_name
from rlcircuits.release.circuit_rules import CircuitRules

if TYPE_CHECKING:
    from rlcircuits.checkpoints.source import CheckpointSource

Measure = Literal[
    "intensity",
    "complexity",
    "kurtosis",
    "accuracy",
    "not-online-rl",
    "claimed-accuracy",
    "reference-accuracy",
    "circuit-overlap",
    "circuit-faithfulness",
]

_Model = TypeVar("_Model", bound=BaseModel)


class AskedQuestions(QuestionSource):
    """A question set, and how many of its questions are asked."""

    count: int | None = Field(default=None, ge=1, le=int(LIMITS["question_count"].most), strict=True)
    """Questions asked, drawn with a fixed seed. None: the settings' question_count."""


class Pair(StrictModel):
    """Two checkpoints, how training led from one to the other, and what to ask them.

    Raises:
        RLCircuitsError: a key is unknown or its value does not fit; the message names the key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of the pair in tests and tables, and of its results folder: letters, digits and ._+-, but not ``store``."""
    before: str
    """Folder or hub id of the checkpoint that training started from."""
    after: str
    """Folder or hub id of the checkpoint that training ended with; a LoRA adapter is merged into its base."""
    profile: str | None = None
    """Name of the profile that the pair is judged by, or a TOML file with one; None: the algorithm's."""
    algorithm: str = Field(default="", validate_default=True)
    """Name of the training algorithm, in :data:`rlcircuits.PROFILES`; if `profile` is given, any name or none."""
    accuracy: AccuracyRuleName | None = None
    """What is asserted of accuracy; None: the profile's rule."""
    margin: float | None = Field(default=None, gt=LIMITS["margin"].least, le=LIMITS["margin"].most, allow_inf_nan=False)
    """How far accuracy may be below before's or the claim, as a share; None: the profile's."""
    claimed_accuracy: float | None = Field(
        default=None, ge=LIMITS["claimed_accuracy"].least, le=LIMITS["claimed_accuracy"].most, allow_inf_nan=False
    )
    """The accuracy that the release states for after, as a share."""
    reference: str | None = None
    """Folder or hub id of a checkpoint whose accuracy after must not be below by the margin."""
    control: str | None = None
    """Folder or hub id of a checkpoint trained from before without RL: an effect counts only beyond its own."""
    pool: str | None = None
    """Name that pairs of a pairs file share whose effects are pooled; no verdict depends on it."""
    revision_before: str | None = None
    """Branch, tag or commit of before's hub id; None: its main branch."""
    revision_after: str | None = None
    """Branch, tag or commit of after's hub id; None: its main branch."""
    dtype: str | None = None
    """Data type of the weights; None: the settings'."""
    device_map: str | None = None
    """How to split the models over devices (``auto``, …); None: one device."""
    questions: AskedQuestions = Field(default=defaults.QUESTIONS, validate_default=True)  # type: ignore[assignment]
    """The question set. A string is the name of a set, or a file of JSON lines."""
    prompting: Prompting | None = None
    """How the pair's questions become prompts; None: the settings'."""
    recorded_before: Path | None = None
    """File of answers recorded from before (see :mod:`rlcircuits.answers.recorded`), which then generates none."""
    recorded_after: Path | None = None
    """File of answers recorded from after; the same file if it holds both models' answers."""
    server_before: str | None = None
    """Address of a server that has before loaded, for the engine ``openai``; ``#name`` behind it names its model."""
    server_after: str | None = None
    """The same of after."""
    circuits: CircuitRules | None = None
    """What is measured and asserted of the pair's circuits; true: measured with the defaults; None: nothing."""
    does_not_hold: dict[Measure, str] = Field(default_factory=dict)
    """Measures whose assertion is known to fail, each with the reason: their tests are strict expected failures."""

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if plain_name(name, "a folder").casefold() == STORE:
            raise ValueError(f"{name!r} is the folder in which answers and scores are kept; use another name")
        return name

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, dtype: str | None) -> str | None:
        if dtype is not None:
            from rlcircuits.models.dtypes import torch_dtype  # here, since it imports torch

            torch_dtype(dtype)
        return dtype

    @field_validator("before", "after", "reference", "control")
    @classmethod
    def _not_empty(cls, checkpoint: str | None) -> str | None:
        if checkpoint is not None and not checkpoint.strip():
            raise ValueError("it is empty; a folder or a hub id is wanted")
        return checkpoint

    @field_validator("pool")
    @classmethod
    def _on_one_line(cls, pool: str | None) -> str | None:
        if pool is not None and not (pool.strip() and pool.isprintable()):
            raise ValueError(f"{pool!r} is no name; text on one line is wanted")
        return pool

    @field_validator("circuits", mode="before")
    @classmethod
    def _by_default(cls, circuits: object) -> object:
        return ({} if circuits else None) if isinstance(circuits, bool) else circuits

    @field_validator("questions", mode="before")
    @classmethod
    def _by_name(cls, questions: object) -> object:
        return _question_fields(questions) if isinstance(questions, str) else questions

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, profile: str | None) -> str | None:
        if profile is None or profile.endswith(".toml"):
            return profile  # a file is read when its path is known
        return profile_named(profile).name

    @field_validator("algorithm")
    @classmethod
    def _known_algorithm(cls, algorithm: str, info: ValidationInfo) -> str:
        profile = info.data.get("profile")
        if profile is not None:
            return algorithm.lower() or plain_profile_name(profile)
        if not algorithm:
            raise ValueError("missing; say how the pair was trained, or name a profile to hold it against")
        profile_for(algorithm)
        return algorithm.lower()

    @field_validator("server_before", "server_after")
    @classmethod
    def _an_address(cls, server: str | None, info: ValidationInfo) -> str | None:
        if server is not None:
            check_address(server, str(info.field_name))
        return server

    @model_validator(mode="after")
    def _served_apart(self) -> Pair:
        if self.server_before is not None and self.server_before == self.server_after and self.before != self.after:
            raise RLCircuitsError(
                f"server_before and server_after are both {self.server_before!r}, and one model is served there; name "
                "another server, or another model of it behind #"
            )
        return self

    @model_validator(mode="after")
    def _recorded_apart(self) -> Pair:
        if (
            self.control is not None
            and self.recorded_before is not None
            and self.recorded_before == self.recorded_after
        ):
            raise RLCircuitsError(
                "control is given, and one file holds the recorded answers of both before and after; the control is "
                "compared with before alone, so record before's answers in a file of their own"
            )
        return self

    @model_validator(mode="after")
    def _asserted(self) -> Pair:
        if self.profile is None or not self.profile.endswith(".toml"):
            self.check_assertions()
        return self

    def check_assertions(self) -> None:
        """Raise RLCircuitsError if `does_not_hold` or `margin` is about what the pair does not assert."""
        rule = self.expectations.accuracy.rule
        if self.margin is not None and rule not in RULES_WITH["margin"] and not self.claims:
            raise RLCircuitsError(
                f"margin is {self.margin:g}, and nothing that the pair asserts has one: accuracy is judged by the rule "
                f"{rule!r}; leave margin out, state a claim, or set accuracy to {' or '.join(RULES_WITH['margin'])}"
            )
        for measure in self.does_not_hold:
            if measure not in self.asserted:
                raise RLCircuitsError(
                    f"does_not_hold names {measure}, of which {self._asserts_nothing_of(measure)} asserts nothing"
                )

    def _asserts_nothing_of(self, measure: str) -> str:
        return "the table circuits" if "circuit" in measure else f"the profile {self.expectations.name!r}"

    @property
    def asks_by_default(self) -> bool:
        """Return whether no question set was named, so that the default set is asked."""
        return "questions" not in self.model_fields_set

    @property
    def expectations(self) -> Profile:
        """Return the profile that the pair is judged by: the one named, else the algorithm's, with the pair's own rule.

        Raises:
            RLCircuitsError: the profile's file cannot be used.
        """
        profile = profile_for(self.algorithm) if self.profile is None else profile_named(self.profile)
        if self.accuracy is None and self.margin is None:
            return profile
        rule = profile.accuracy
        if self.accuracy is not None and self.accuracy != rule.rule:
            rule = AccuracyRule(self.accuracy, margin=rule.margin)
        return replace(profile, accuracy=rule if self.margin is None else replace(rule, margin=self.margin))

    @property
    def claims(self) -> tuple[Measure, ...]:
        """Return the measures of what the pair states of after's accuracy."""
        claimed: tuple[Measure, ...] = () if self.claimed_accuracy is None else ("claimed-accuracy",)
        return claimed if self.reference is None else (*claimed, "reference-accuracy")

    @property
    def measures(self) -> tuple[str, ...]:
        """Return the measures of the pair's verdict, in order: those of the profile, the claims, the circuits."""
        return (*self.expectations.measures, *self.claims, *self._of_circuits)

    @property
    def asserted(self) -> tuple[str, ...]:
        """Return the measures that can fail."""
        return (*self.expectations.asserted, *self.claims, *self._of_circuits)

    @property
    def _of_circuits(self) -> tuple[str, ...]:
        return () if self.circuits is None else self.circuits.measures

    @validate_arguments
    def sources(
        self, device: str | None = None, dtype: str | None = None, trust_remote_code: bool = False
    ) -> tuple[CheckpointSource, CheckpointSource]:
        """Return the sources of before and after.

        Args:
            device: where to load them; ignored if the pair has a device map.
            dtype: data type of the weights, unless the pair names one.
            trust_remote_code: whether Python code from the checkpoints' repositories may run.
        """
        from rlcircuits.checkpoints.source import CheckpointSource  # here, since it imports torch

        dtype, device = self.dtype or dtype, None if self.device_map else device
        how = (dtype, device, self.device_map, trust_remote_code)
        before = CheckpointSource(self.before, self.revision_before, *how)
        return before, CheckpointSource(self.after, self.revision_after, *how)

    def reference_source(
        self, device: str | None = None, dtype: str | None = None, trust_remote_code: bool = False
    ) -> CheckpointSource | None:
        """Return the source of the reference, loaded as before and after are; None if there is none."""
        return self._another_source(self.reference, device, dtype, trust_remote_code)

    def control_source(
        self, device: str | None = None, dtype: str | None = None, trust_remote_code: bool = False
    ) -> CheckpointSource | None:
        """Return the source of the supervised control, loaded as before and after are; None if there is none."""
        return self._another_source(self.control, device, dtype, trust_remote_code)

    def _another_source(
        self, checkpoint: str | None, device: str | None, dtype: str | None, trust_remote_code: bool
    ) -> CheckpointSource | None:
        if checkpoint is None:
            return None
        like_before = self.model_copy(update={"before": checkpoint, "revision_before": None})
        return like_before.sources(device, dtype, trust_remote_code)[0]


def plain_profile_name(profile: str) -> str:
    """Return the name of a profile, or of its file without folder and ending."""
    return Path(profile).stem if profile.endswith(".toml") else profile


def make_pair(**fields: object) -> Pair:
    """Return a pair with these fields.

    Raises:
        RLCircuitsError: a key is unknown or its value does not fit, or the profile's file cannot be used; the message
            names key or file.
    """
    pair = validate_table(Pair, fields, "the pair")
    pair.check_assertions()  # reads the profile's file, whose path is that of the working folder
    return pair


def asked_questions(questions: str) -> AskedQuestions:
    """Return the question set of this name, or the one in this JSON lines file.

    Raises:
        RLCircuitsError: the name cannot be one of a question set.
    """
    return validate_table(AskedQuestions, _question_fields(questions), f"questions {questions!r}")


def pair_name(before: str, after: str) -> str:
    """Return a name for a pair without one: ``base-to-grpo``, from the last parts of its two paths."""
    return "-to-".join(_name_from(Path(checkpoint).name, "model") for checkpoint in (before, after))


def validate_table(model: type[_Model], table: Mapping[str, object], where: str) -> _Model:
    """Return a table of a pairs file as an object of its model.

    Raises:
        RLCircuitsError: a key is unknown or its value does not fit. The message begins with `where`.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise RLCircuitsError(f"{where}{describe_error(error, model.model_fields)}") from None


def _question_fields(questions: str) -> dict[str, object]:
    """Return the fields of a question set that is given by one string."""
    if questions.endswith(".jsonl"):
        return {"name": _name_from(Path(questions).stem, "questions"), "file": questions}
    return {"name": questions}


def _name_from(text: str, kind: str) -> str:
    """Return the text as a valid name: other characters become hyphens, and ``kind-`` precedes a bad first one."""
    name = re.sub(r"[^\w.+-]", "-", text).strip("-.").lstrip("-._+")
    # A third of the longest name, because a pair's name joins two such names and more.
    name = name.encode()[: LONGEST_NAME // 3].decode(errors="ignore").rstrip("-.")
    return name if re.match("[A-Za-z0-9]", name) else f"{kind}-{name}".rstrip("-")

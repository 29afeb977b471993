"""Write what ``rlcircuits compare`` measured as JSON: comparisons, their verdicts, and the release's outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlcircuits.common.json_files import without_nan
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.evidence import judge_comparisons
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.storage import Document, dump_document, to_document
from rlcircuits.report.gated_signs import GatedSigns
from rlcircuits.report.pools import Pool


@dataclass(frozen=True)
class FailingSign:
    """A gated sign that fails the release."""

    pair: str
    sign: str


@dataclass(frozen=True)
class StoredRelease:
    """What an object says of all pairs as one release, and of its own pair's part in it."""

    outcome: Outcome | None
    """None if a pair could not be measured."""
    level: float
    """Level of the correction over all pairs."""
    unmeasured: tuple[str, ...]
    """Names of the pairs that could not be measured."""
    pools: tuple[Pool, ...]
    p_against: float
    """p of the pair's own evidence against it."""
    p_corrected: float
    """The same after the correction over all pairs."""
    fails_release: bool
    failing_signs: tuple[FailingSign, ...] | None = None
    """The gated signs of all pairs that fail the release; absent where no signs are gated."""
    without_signs: tuple[str, ...] | None = None
    """Why pairs have no signs; absent where no signs are gated."""


@dataclass(frozen=True, kw_only=True)
class ReleaseDocument(Document):
    """All that an object holds."""

    release: StoredRelease
    signs: Mapping[str, Any] | None = None
    """The pair's signs, as ``rlcircuits signs --json`` prints them; absent where no signs are gated."""


def release_json(
    measured: Sequence[Sequence[Comparison]],
    unmeasured: Sequence[str],
    pools: Sequence[Pool],
    as_list: bool,
    signs: GatedSigns | None = None,
) -> str:
    """Return one JSON document: an object for one comparison, or a list of objects. Empty if there is nothing to show.

    An object is what :func:`~rlcircuits.comparison.storage.to_json` writes, and ``release``: the outcome of all pairs
    as one release, its level, the pairs that could not be measured, the pools, and what the pair's own evidence is
    after the correction over all pairs. A release with a pair that could not be measured has the outcome null. Where
    signs are gated, the object has the pair's ``signs`` too, and ``release`` which of all pairs' signs fail it,
    whatever its outcome, and which pairs have none.

    Args:
        measured: each pair's comparison, or its variants, of which the first is the pair's verdict.
        unmeasured: names of the pairs that could not be measured.
        pools: effects that are pooled over pairs.
        as_list: whether the document is a list, however many comparisons there are.
        signs: the signs of all pairs; None if the pairs file has no table ``[signs]``.
    """
    documents = _documents(measured, unmeasured, pools, signs)
    if as_list:
        return dump_document(documents)
    return "".join(map(dump_document, documents))


def _documents(
    measured: Sequence[Sequence[Comparison]],
    unmeasured: Sequence[str],
    pools: Sequence[Pool],
    signs: GatedSigns | None,
) -> list[dict[str, object]]:
    if not measured:
        return []
    release = judge_comparisons([variants[0] for variants in measured])
    outcome = None if unmeasured else release.outcome
    of_all = (outcome, release.level, tuple(unmeasured), tuple(pools))
    failing = None if signs is None else tuple(FailingSign(*each) for each in signs.failing)
    without = None if signs is None else tuple(problem.message for problem in signs.problems)
    of_pair = {} if signs is None else {one.name: {"signs": without_nan(asdict(one))} for one in signs.found}
    documents = []
    for pair, variants in zip(release.pairs, measured, strict=True):
        of_it = (pair.pair.p_against, pair.p_corrected, pair.fails_release)
        stored = StoredRelease(*of_all, *of_it, failing, without)
        in_release = {key: value for key, value in asdict(stored).items() if value is not None or key == "outcome"}
        documents += [{**to_document(each), **of_pair.get(each.name, {}), "release": in_release} for each in variants]
    return documents

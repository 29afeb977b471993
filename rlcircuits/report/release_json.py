"""Write what ``rlcircuits compare`` measured as JSON: comparisons, their verdicts, and the release's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rlcircuits.common.json_files import without_nan
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.evidence import judge_comparisons
from rlcircuits.comparison.multiplicity import CorrectedPair
from rlcircuits.comparison.storage import dump_document, to_document
from rlcircuits.report.gated_signs import GatedSigns
from rlcircuits.report.pools import Pool


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
    of_all = {
        "outcome": None if unmeasured else release.outcome,
        "level": release.level,
        "unmeasured": list(unmeasured),
        "pools": [asdict(pool) for pool in pools],
        **({} if signs is None else _of_signs(signs)),
    }
    of_pair = {} if signs is None else {one.name: {"signs": without_nan(asdict(one))} for one in signs.found}
    return [
        {**to_document(comparison), **of_pair.get(comparison.name, {}), "release": {**of_all, **_of_pair(pair)}}
        for pair, variants in zip(release.pairs, measured, strict=True)
        for comparison in variants
    ]


def _of_pair(pair: CorrectedPair) -> dict[str, object]:
    return {
        "p_against": pair.pair.p_against,
        "p_corrected": pair.p_corrected,
        "fails_release": pair.fails_release,
    }


def _of_signs(signs: GatedSigns) -> dict[str, object]:
    return {
        "failing_signs": [{"pair": pair, "sign": sign} for pair, sign in signs.failing],
        "without_signs": list(signs.problems),
    }

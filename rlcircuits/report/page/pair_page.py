"""Everything that the page shows of one pair: its verdict, its sections in order, and what the script draws."""

from __future__ import annotations

from dataclasses import dataclass

from rlcircuits.comparison.comparison import LABELS
from rlcircuits.report.headline import make_headline
from rlcircuits.report.outcome_words import verdict_words
from rlcircuits.report.page.data import Missing, PairData
from rlcircuits.report.page.edges import edge_payload, edges_in_words, make_changed_edges
from rlcircuits.report.page.forest import accuracy_forest, metric_forest
from rlcircuits.report.page.funnel import make_funnel
from rlcircuits.report.page.glance import Tile, Trust, make_tiles, make_trust
from rlcircuits.report.page.loss import make_loss_plot
from rlcircuits.report.page.marks import Mark, mark_of
from rlcircuits.report.page.paired_plots import SHOWN, make_paired_plots
from rlcircuits.report.page.payload import pack
from rlcircuits.report.page.provenance import make_provenance
from rlcircuits.report.page.questions import Shown, make_samples, question_texts, shown_questions
from rlcircuits.report.page.release import Verdict, make_verdict
from rlcircuits.report.page.section import Section
from rlcircuits.report.page.signs import make_curves, make_sign_rows
from rlcircuits.report.page.timing import make_timing
from rlcircuits.report.page.weight_map import make_weight_map
from rlcircuits.report.terminal import detail

__all__ = ["PairPage", "make_pair_page"]


@dataclass(frozen=True)
class PairPage:
    """One pair's part of the page."""

    anchor: str
    name: str
    title: str
    mark: Mark
    verdict: Verdict
    findings: tuple[tuple[Mark, str, str], ...]
    """Mark, measure and words of everything that is asserted."""
    tiles: tuple[Tile, ...]
    trust: tuple[Trust, ...]
    sections: tuple[Section, ...]
    payload: str
    """What the script draws, packed."""


def make_pair_page(pair: PairData, anchor: str, characters: int) -> PairPage:
    """Return one pair's part of the page.

    Args:
        pair: what is stored of it.
        anchor: its id on the page, which those of its sections begin with.
        characters: most characters of each answer that the script shows.
    """
    comparison, verdict = pair.comparison, pair.verdict
    asserted = [finding for finding in verdict.all_findings.values() if finding.outcome is not None]
    return PairPage(
        anchor=anchor,
        name=comparison.name,
        title=verdict_words(verdict),
        mark=mark_of(verdict.outcome),
        verdict=make_verdict(make_headline([comparison])),
        findings=tuple((mark_of(each.outcome), each.measure, each.words) for each in asserted),
        tiles=tuple(make_tiles(pair)),
        trust=tuple(make_trust(pair)),
        sections=tuple(_sections(pair)),
        payload=pack(_payload(pair, characters)),
    )


def _sections(pair: PairData) -> list[Section]:
    comparison, verdict = pair.comparison, pair.verdict
    forests = (accuracy_forest(comparison, verdict), metric_forest(comparison, verdict))
    messages = [each.message for each in verdict.all_findings.values() if each.holds is not None]
    edges = edges_in_words(pair.edges)
    return [
        Section(
            "effects",
            "What changed, and what noise does",
            "Each row is a change from before to after. The bar is its interval, the dot its mean, the grey band what "
            "noise of the update's size does. A bar that lies beyond zero and beyond the band is no accident.",
            forests,
        ),
        Section(
            "questions",
            "Question by question",
            "Each dot is a question: above the diagonal the metric rose. The cross is the mean, its bar the interval, "
            "the short grey lines the noise draws. Point at a dot, or focus a plot and use the arrow keys.",
            make_paired_plots(comparison),
        ),
        Section(
            "heat",
            "Edges: before, after and difference",
            "Writers down, readers across, both by layer. Orange is positive (the edge helps the answer) or rose, blue "
            "is negative or fell; all three maps have one scale.",
            edges,
        ),
        Section(
            "circuit",
            "The circuit",
            "The strongest edges from the embedding (top) to the logits (bottom). The wider a line, the larger "
            "|score|; orange rose, blue fell, grey hardly changed.",
            edges,
        ),
        Section(
            "edges",
            "The edges that changed most",
            "Scores are means over the compared questions, in nats. They are signed, and can cancel: intensity, the "
            "mean |score|, may rise while few means change. Only an edge with a small q is told from chance.",
            make_changed_edges(pair.edges),
        ),
        Section(
            "weights",
            "Where the weights changed",
            "The norm of the update in percent of the weight's norm. The darker, the larger.",
            make_weight_map(comparison),
        ),
        Section(
            "loss",
            "Loss beside intensity",
            "Raw intensity follows the loss. "
            "If dots lie along a line, the change of intensity may be that of the loss.",
            make_loss_plot(comparison),
        ),
        Section(
            "signs",
            "Vital signs",
            "What neighbouring studies warn of. A sign that is not in trouble is no proof of health.",
            make_sign_rows(pair.signs),
        ),
        Section(
            "passk",
            "pass@k",
            "The share of questions that at least one of k answers gets right. The band is the 95 % interval of after, "
            "for all k at once.",
            make_curves(pair.signs),
        ),
        Section(
            "samples",
            "Questions lost and gained",
            "Questions that one of the two models answers right more often, those of the largest change first.",
            make_samples(pair),
        ),
        Section(
            "funnel",
            "How the questions were chosen",
            "The metrics are compared on the questions that are left; accuracy is over all that were asked.",
            make_funnel(comparison),
        ),
        Section(
            "timing",
            "Time",
            "The whole run that the pair was measured in, without the loading of models.",
            make_timing(pair.stages),
        ),
        Section("provenance", "Provenance", "What the numbers are of.", make_provenance(pair)),
        Section(
            "text",
            "Everything in words",
            "What the terminal prints, and the numbers behind each finding.",
            "\n\n".join([detail(comparison), *messages]),
        ),
    ]


def _payload(pair: PairData, characters: int) -> dict[str, object]:
    comparison = pair.comparison
    shown: list[Shown | None] = [None] * comparison.k
    if not isinstance(pair.answers, Missing):
        shown = shown_questions(pair.answers, comparison.question_ids, characters)
    texts = question_texts(pair, characters)
    return {
        "questions": list(comparison.question_ids),
        "texts": [texts.get(question) for question in comparison.question_ids],
        "answers": [
            None if each is None else [[side.text, side.grade, side.correct] for side in (each.before, each.after)]
            for each in shown
        ],
        "metrics": {
            metric: {
                "label": LABELS[metric],
                "before": _rounded(comparison.effects[metric].before_values),
                "after": _rounded(comparison.effects[metric].after_values),
            }
            for metric in SHOWN
        },
        "edges": None if isinstance(pair.edges, Missing) else edge_payload(pair.edges),
    }


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]

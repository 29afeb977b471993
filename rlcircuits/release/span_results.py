"""A pair's scores by span, which ``positions = "span"`` keeps in its folder of results beside those of whole answers.

They are the second attribution of the same sequences: what the comparison, its noise and its verification use stays the
scores of whole answers. ``rlcircuits.span_changes`` says of two such files which step the strengthened edges serve.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlcircuits.answers.recorded import Side
from rlcircuits.attribution.stored_spans import attribute_spans_stored
from rlcircuits.common import defaults
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.answer_spans import STEP_END, answer_spans, unmatched_step_end
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.result_files import spans_file
from rlcircuits.release.scoring import attribution_options

__all__ = ["check_spans_kept", "keep_spans"]


def check_spans_kept(measurement: Measurement) -> None:
    """Raise RLCircuitsError, before a model runs, for scores by span without a folder that they are kept in."""
    if measurement.settings.positions != defaults.POSITIONS and measurement.folder is None:
        raise RLCircuitsError(
            f"positions is {measurement.settings.positions!r}, which keeps scores by span in the output folder, and "
            "there is none; give an output (--output), or leave positions out"
        )


def keep_spans(measurement: Measurement, source: LoadedOnce, side: Side, sequences: Sequence[AnswerSequence]) -> None:
    """Score one side by span, if that is asked for, and keep the scores in the pair's folder of results."""
    settings, folder = measurement.settings, measurement.folder
    if settings.positions == defaults.POSITIONS or folder is None:
        return
    tokenizer, step_end = source.tokenizer(), settings.step_end or STEP_END
    spans = answer_spans(sequences, tokenizer, step_end)
    if (unmatched := unmatched_step_end(sequences, tokenizer, step_end)) is not None:
        measurement.log(f"{side}: {unmatched}")
    measurement.log(f"{side} is attributed by span: {sum(map(len, spans))} spans of {len(sequences)} answers")
    with attribution_options(measurement, source, side, sequences) as options:
        scores = attribute_spans_stored(source, sequences, spans, **options)
    scores.save(spans_file(folder, side))

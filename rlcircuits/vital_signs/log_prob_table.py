"""What one model says of given answers, token by token, and the file that stores it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import content_hash, write_atomically
from rlcircuits.common.input_files import check_readable
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence

__all__ = ["AnswerLogProbs", "FloatArray", "sequences_key"]

FloatArray = npt.NDArray[np.floating]

_METADATA = "rlcircuits"
"""The entry of a file's metadata that holds everything but the arrays."""
_FORMAT = "answer-log-probs"
_ARRAYS = ("log_probs", "entropies", "top_log_probs", "offsets")
_OPTIONAL = ("features", "distributions")


def sequences_key(sequences: Sequence[AnswerSequence]) -> str:
    """Return the hex sha256 of all token ids, which tells tables of different answers apart."""
    return content_hash([sequence.key_parts for sequence in sequences])


@dataclass(frozen=True, eq=False)
class AnswerLogProbs:
    """One model's log-probabilities of given answers, of all sequences one after another.

    Numbers are float32, or float64 of a float64 model. They are of softmax(logits / temperature), over the whole
    vocabulary, in nats.

    Raises:
        RLCircuitsError: the arrays do not fit each other.
    """

    model: str
    """The model's name."""
    key: str
    """The hash of the sequences; see :func:`sequences_key`."""
    temperature: float
    """What the logits were divided by."""
    vocabulary: int
    """The number V of logits at a position."""
    offsets: npt.NDArray[np.int64]
    """int64 [sequences + 1]: the tokens of sequence i are at ``offsets[i]:offsets[i + 1]``."""
    log_probs: FloatArray
    """[tokens]: log p of each answer token, given the prompt and the tokens before it."""
    entropies: FloatArray
    """[tokens]: entropy −Σ_v p_v log p_v of the distribution that the token is drawn from."""
    top_log_probs: FloatArray
    """[tokens]: log p of the most likely token at that position."""
    features: npt.NDArray[np.float32] | None = None
    """float32 [sequences, width]: the final norm's output at one scored position of each sequence; None if not kept."""
    distributions: FloatArray | None = None
    """[tokens, V]: all log-probabilities, for an exact KL divergence; None if not kept."""

    def __post_init__(self) -> None:
        tokens = int(self.offsets[-1]) if len(self.offsets) else -1
        shapes = [self.log_probs.shape, self.entropies.shape, self.top_log_probs.shape]
        fit = tokens >= 0 and self.offsets[0] == 0 and bool(np.all(np.diff(self.offsets) > 0))
        fit = fit and shapes == [(tokens,)] * 3
        fit = fit and (self.features is None or len(self.features) == len(self))
        fit = fit and (self.distributions is None or self.distributions.shape == (tokens, self.vocabulary))
        if not fit:
            raise RLCircuitsError(
                f"log-probabilities of {self.model!r}: arrays of shapes {', '.join(map(str, shapes))} and offsets of "
                f"shape {self.offsets.shape} do not fit; one number a token and at least one token a sequence is wanted"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        size = [format_count(len(self), "sequence"), format_count(len(self.log_probs), "token")]
        return short_repr(self, elided_repr(self.model), *size, f"temperature {self.temperature:g}")

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of answer tokens of each sequence, int64 [sequences]."""
        return np.diff(self.offsets)

    def sums(self, values: npt.NDArray[Any]) -> Float64Array:
        """Return the sum over each sequence's tokens, float64 [sequences], of one number a token [tokens]."""
        if not len(self):
            return np.zeros(0)
        return np.add.reduceat(values.astype(np.float64), self.offsets[:-1])

    def means(self, values: npt.NDArray[Any]) -> Float64Array:
        """Return the mean over each sequence's tokens, float64 [sequences], of one number a token [tokens]."""
        return np.asarray(self.sums(values) / self.lengths)

    @validate_arguments
    def save(self, path: str | Path) -> None:
        """Write one safetensors file, which is replaced atomically.

        Raises:
            RLCircuitsError: the file cannot be written.
        """
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, *_OPTIONAL) if getattr(self, name) is not None}
        about = {name: getattr(self, name) for name in ("model", "key", "temperature", "vocabulary")}
        metadata = {_METADATA: json.dumps({"format": _FORMAT, **about})}
        try:
            write_atomically(Path(path), lambda part: safetensors.numpy.save_file(arrays, str(part), metadata=metadata))
        except (OSError, safetensors.SafetensorError) as error:
            raise RLCircuitsError(f"{path} cannot be written: {error}") from error

    @classmethod
    @validate_arguments
    def load(cls, path: str | Path) -> AnswerLogProbs:
        """Read a file that :meth:`save` wrote.

        Raises:
            RLCircuitsError: the file is missing or damaged, or holds something else.
        """
        check_readable(Path(path))
        try:
            with safetensors.safe_open(str(path), framework="np") as file:
                about = json.loads((file.metadata() or {})[_METADATA])
                if about.pop("format", None) != _FORMAT:
                    raise KeyError(_FORMAT)
                names = set(file.keys())
                wanted = (*_ARRAYS, *(name for name in _OPTIONAL if name in names))
                # Copies, because the library may map the file into memory.
                arrays: dict[str, Any] = {name: np.array(file.get_tensor(name)) for name in wanted}
            return cls(**about, **arrays)
        except (OSError, safetensors.SafetensorError, json.JSONDecodeError, TypeError, AttributeError) as error:
            raise RLCircuitsError(f"{path} cannot be read as log-probabilities of answers: {error}") from error
        except KeyError as error:
            raise RLCircuitsError(f"{path} holds no log-probabilities of answers: {error} is missing") from error

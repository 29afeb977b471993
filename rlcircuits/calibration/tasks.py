"""What a calibration runs: the pairs of a file with several sampling seeds, nulls, and the sabotage suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from rlcircuits.calibration.run_record import Part
from rlcircuits.checkpoints.sabotage import sabotage_variants
from rlcircuits.checkpoints.source import CheckpointSource, Source
from rlcircuits.common.choices import KL, OPENAI
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import content_hash, file_hash
from rlcircuits.comparison.profiles import ONLINE_RL_PROFILE
from rlcircuits.release.pair import Pair
from rlcircuits.release.settings import Settings

FIRST_SEED = 1000
"""The first sampling seed, far from those that anybody uses by default."""

REPEATABILITY_SEED = 2000
"""The first sampling seed of runs with the file's own number of answers, which may be chosen by runs on other seeds."""

NULL_ANSWERS = 4
"""Most answers to each question in a null. More would cost more, and make a false alarm no likelier: the level of a
test does not depend on them, and a difference that reaches the minimum is rarer with them."""

CLAIMING = ("damaged", "harmless", "along-update")
"""The tags of variants of a trained checkpoint, for which the release claims the undamaged checkpoint's accuracy."""

_VERSION = 2
"""Increased whenever the same task may give another run."""

_NOT_IN_KEY = {"before", "after", "reference", "control", "does_not_hold", "pool", "server_before", "server_after"}
"""Fields of a pair that change no run. Of checkpoints the fingerprints count, not where they lie."""


@dataclass(frozen=True)
class Task:
    """One run to make."""

    part: Part
    name: str
    kind: str
    pair: Pair
    settings: Settings
    tag: str = ""
    before: Source | None = None
    """The checkpoint before, if it is not the pair's own."""
    after: Source | None = None
    """The checkpoint after, if it is not the pair's own."""
    other_seed: int | None = None
    """For a null: the sampling seed of the second side."""

    @property
    def sources(self) -> tuple[Source, Source]:
        """Return the two checkpoints."""
        own = self.pair.sources(*self.settings.loading)
        return self.before or own[0], self.after or own[1]

    @property
    def key(self) -> str:
        """Return a hash of everything that the run depends on; where the checkpoints lie is not part of it."""
        reference = self.pair.reference_source(*self.settings.loading)
        sources = [*self.sources, *([] if reference is None else [reference])]
        return content_hash(
            [
                _VERSION,
                [self.part, self.name, self.kind, self.tag, self.other_seed],
                self._pair_table(),
                replace(self.settings, device=None, recompute=False).key_table(),
                [source.fingerprint() for source in sources],
                *self._files_that_may_change(),
            ]
        )

    def _pair_table(self) -> dict[str, Any]:
        """Return the pair's fields; a question set's fields that earlier versions lack, only if set."""
        table = self.pair.model_dump(mode="json", exclude=_NOT_IN_KEY)
        for field in ("counterfactual", "images"):
            if table["questions"][field] is None:
                del table["questions"][field]
        return table

    def _files_that_may_change(self) -> list[object]:
        """Return the content of what the pair names by a path alone; nothing for a pair that has no such file."""
        pair = self.pair
        control = pair.control_source(*self.settings.loading)
        found: list[object] = [] if control is None else [["control", control.fingerprint()]]
        if pair.profile is not None and pair.profile.endswith(".toml"):
            found.append(["profile", asdict(pair.expectations)])
        for file in (pair.questions.file, pair.recorded_before, pair.recorded_after):
            if file is not None:
                found.append(["file", file_hash(Path(file))])
        return found


def repeated(pairs: Sequence[Pair], settings: Settings, seeds: int, part: Part = "repeatability") -> Iterator[Task]:
    """Yield each pair with each of so many sampling seeds."""
    first = FIRST_SEED if part == "answers" else REPEATABILITY_SEED
    for pair in pairs:
        for seed in range(first, first + seeds):
            yield Task(part, pair.name, pair.algorithm, pair, seeded(settings, seed))


def nulls(pairs: Sequence[Pair], settings: Settings, seeds: int, each: int) -> Iterator[Task]:
    """Yield each checkpoint of the pairs against itself with other sampling seeds, up to so many times.

    Raises:
        RLCircuitsError: the metric is the divergence from another model, which is zero from the checkpoint itself.
    """
    if settings.metric == KL:
        raise RLCircuitsError(
            "metric is 'kl', the divergence from the other model of a pair, and a null compares a checkpoint with "
            "itself, from which it does not diverge; leave the part nulls out, or use another metric"
        )
    sampling = replace(settings.sampling, n=min(settings.sampling.n, NULL_ANSWERS))
    settings = replace(settings, noise_draws=0, noise_groups=False, measure_unchanged=True, sampling=sampling)
    sides = {
        side: pair
        for pair in pairs
        for side in ((pair.before, pair.revision_before), (pair.after, pair.revision_after))
    }
    for (path, revision), pair in sides.items():
        same = {"before": path, "after": path, "revision_before": revision, "revision_after": revision}
        null = pair.model_copy(update={**same, "profile": ONLINE_RL_PROFILE, "does_not_hold": {}})
        for one, other in islice(combinations(range(FIRST_SEED, FIRST_SEED + seeds), 2), each):
            name = short_path(path)
            yield Task("nulls", name, "null", null, seeded(settings, one), other_seed=other)


def sabotage(
    pairs: Sequence[Pair], settings: Settings, runs: int, *, core: bool = False, only: Sequence[str] = ("*",)
) -> Iterator[Task]:
    """Yield the sabotage suite of each base that a pair of online RL starts from, with several sampling seeds.

    Args:
        pairs: the pairs whose checkpoints are damaged. The first pair of online RL of a base is its trained checkpoint;
            its pairs of supervised training are sharpened and extrapolated; the other bases lend their updates.
        settings: how to measure.
        runs: number of sampling seeds.
        core: only the small part that stands for all.
        only: only the bases of pairs whose name matches one of these patterns; the pair is its base's trained one.

    Raises:
        RLCircuitsError: the answers come from servers, or a pair names a revision.
    """
    if settings.engine == OPENAI:  # little damage may pass for the undamaged checkpoint that the server has
        raise RLCircuitsError(
            f"engine is {OPENAI!r}, and no server has the damaged checkpoints of the sabotage suite; use engine "
            "'transformers', or leave the suite out with --parts"
        )
    online = [pair for pair in pairs if pair.expectations.name == ONLINE_RL_PROFILE]
    trained = {pair.before: pair for pair in reversed(online)}
    chosen = {pair.before: pair for pair in reversed(online) if any(fnmatch(pair.name, each) for each in only)}
    for base, pair in reversed(chosen.items()):
        if pair.revision_before is not None or pair.revision_after is not None:
            raise RLCircuitsError(
                f"pair {pair.name!r} names a revision, and the sabotage suite damages checkpoints without one: give "
                f"folders that hold these revisions, choose other pairs with --sabotage-only, or leave the suite out "
                f"with --parts"
            )
        before, after = pair.sources(*settings.loading)
        variants = sabotage_variants(
            before,
            after,
            supervised={
                other.algorithm: other.sources(*settings.loading)[1]
                for other in pairs
                if other.before == base and other.expectations.name in ("not-rl", "rejection")
            },
            others=dict(_other_seeds(before, list(trained.values()), settings)),
        )
        for variant in variants:
            if core and not variant.core:
                continue
            trained_again = variant.tag in CLAIMING
            run = pair.model_copy(update={"reference": pair.after if trained_again else None, "does_not_hold": {}})
            for seed in range(FIRST_SEED, FIRST_SEED + runs):
                yield Task(
                    "sabotage",
                    variant.name,
                    variant.kind,
                    run,
                    replace(seeded(settings, seed), measure_unchanged=True),
                    variant.tag,
                    variant.before,
                    variant.after,
                )


def _other_seeds(
    base: CheckpointSource, trained: Sequence[Pair], settings: Settings
) -> Iterator[tuple[str, tuple[CheckpointSource, CheckpointSource]]]:
    """Yield the other bases of the same architecture, with their trained checkpoints, by name."""
    for pair in trained:
        sources = pair.sources(*settings.loading)
        if sources[0] != base and sources[0].architecture() == base.architecture():
            yield short_path(pair.before), sources


def seeded(settings: Settings, seed: int) -> Settings:
    """Return the settings with another sampling seed, and all noise, whose draws a calibration counts."""
    return replace(settings, sampling=replace(settings.sampling, seed=seed), noise_if_needed=False)


def short_path(path: str) -> str:
    """Return the last three parts of a path, joined by hyphens."""
    return "-".join(Path(path).parts[-3:])

"""``rlcircuits fixtures damage``: write a damaged copy of a checkpoint, so that a team can test its own gate."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.cli.streams import log
from rlcircuits.common.choices import DAMAGE_KINDS
from rlcircuits.common.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.checkpoints.source import CheckpointSource

_EXPLANATION = """\
kinds, with s the strength and u the update, REFERENCE - ORIGIN, tensor by tensor:
  scale      multiply the output of TARGET by s (a tensor is multiplied itself)
  zero       the same with 0; takes no strength
  noise      add Gaussian noise with s times the norm of u (default: 1)
  quantise   round every row of the weight matrices to s bits (2 to 8), to nearest
  sharpen    raise the singular values of the weight matrices to the power s, at the norm that each had
  swap       exchange two layers, TARGET 0,2; takes no strength
  permute    add s times u with its entries in random order (default: 1)
  redirect   add s times u with its output features in random order and with random signs (default: 1)
  delta      add s times u: 2 extrapolates, -1 negates, 0.5 interpolates (default: 1)

targets, several with commas between them:
  mlp.2  attn.2  attn.2.h1    layer 2's MLP, its attention, head 1 of that attention
  mixer.2                     layer 2's mixer, where it mixes tokens without attention (Mamba)
  mlp  attn  mixer            the same in all layers that have them
  embeddings  unembedding  final-norm  norms
  a tensor's name, or a pattern of names such as 'model.layers.*.down_proj.weight'
scale and zero act on the output of these parts; noise, quantise, sharpen, permute, redirect and delta on all
their tensors.

examples:
  rlcircuits fixtures damage runs/grpo --kind quantise --strength 4 --out damaged/int4
  rlcircuits fixtures damage runs/grpo --kind zero --target attn.1.h2 --out damaged/head
  rlcircuits fixtures damage runs/grpo --kind noise --strength 4 --reference runs/sft --out damaged/noise
  rlcircuits fixtures damage runs/sft --kind delta --strength -1 --reference runs/grpo --out damaged/negated

The folder loads like any other checkpoint. Its damage.json says what was done, and has the hashes. To add damage to
damage, give the folder as CHECKPOINT. Damage that changes nothing is refused, and no folder is written.
"""


def add_damage(actions: Any) -> None:
    """Add the action to those of ``rlcircuits fixtures``."""
    damage = add_command(
        actions, "damage", _damage, "write a damaged copy of a checkpoint, to test whether a gate notices"
    )
    damage.formatter_class = argparse.RawDescriptionHelpFormatter
    damage.epilog = _EXPLANATION
    damage.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint to damage: a folder or a hub id")
    damage.add_argument("--kind", required=True, choices=DAMAGE_KINDS, help="kind of damage")
    damage.add_argument("--strength", type=float, metavar="S", help="a factor; for quantise the number of bits")
    damage.add_argument("--target", metavar="T", help="what to damage (default: all tensors, where the kind allows it)")
    damage.add_argument("--reference", metavar="DIR", help="checkpoint whose update is used, such as the trained one")
    damage.add_argument("--origin", metavar="DIR", help="checkpoint that the update starts from (default: CHECKPOINT)")
    damage.add_argument("--seed", type=int, metavar="N", help="seed of noise, permute and redirect (default: 0)")
    damage.add_argument("--out", required=True, metavar="DIR", help="folder to write: a new or an empty one")


def _damage(options: argparse.Namespace) -> int:
    from rlcircuits.checkpoints.damage.folder import save_damaged
    from rlcircuits.checkpoints.damage.kinds import KINDS
    from rlcircuits.checkpoints.damage.source import DamagedSource

    if options.seed is not None and not KINDS[options.kind].random:
        raise RLCircuitsError(f"--seed: nothing in damage {options.kind} is random; leave it out")
    reference, origin = (_source(path) if path else None for path in (options.reference, options.origin))
    source = DamagedSource(
        _source(options.checkpoint),
        options.kind,
        options.strength,
        options.target,
        reference,
        origin,
        options.seed or 0,
    )
    saved = save_damaged(source, options.out, log)
    print(f"{saved.folder}: {source.description}; {len(saved.changed)} of {saved.parameters} tensors changed")
    return HOLDS


def _source(path: str) -> CheckpointSource:
    from rlcircuits.checkpoints.source import CheckpointSource

    return CheckpointSource(path, device="cpu")

"""The definition of an edge's score, in float64, slow and plain, and independent of the library it judges.

Nothing here runs a model's own forward: `oracle_families` takes a model's weights apart, and the forward is
written out below, one sequence at a time, no padding, no hooks, all in float64 (Hugging Face norms, rotary
tables and routers compute in float32 whatever the weights are). Each reader v gets its own input

    x_v = sum over the edges u -> v of m[u, v] * o_u,   o_u what writer u adds to the residual stream,

with m a leaf of ones, and the score is W[u -> v] = -d loss / d m[u, v] by plain autograd (Syed, Rager &
Conmy, arXiv 2310.10348; zero ablation). With a corrupted run, x_v is the sum of
o_u + (m[u, v] - 1) (o_u - o_u(corrupted)).

At head granularity a writer is one head's share of what the attention wrote (under a post-norm its share of
the normed output: the norm is linear once its scale is known, and the scale is the whole output's). The
output projection's bias belongs to no head: it reaches every later reader and no mask touches it. Every
query head has its own q, k and v reader; with grouped queries its k and v come from its own copy of its
group's rows.

With `own_post_norm`, a head behind a post-norm is removed from the norm's input instead: each reader gets the norm
of its own sum of heads, bias included. That is what an ablated forward does, where a score's first order holds the
norm's scale.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from helpers import oracle_rules as rules
from helpers.oracle_falcon import is_parallel
from helpers.oracle_families import Block, Projection, Scale, parts_of
from helpers.oracle_hybrids import layer_sublayers
from helpers.oracle_shared_norm import FORWARDS as SHARED_NORM


class AnyAnswerSequence(Protocol):
    """What the oracle needs of a sequence: ids of the prompt and of the scored answer."""

    @property
    def prompt_ids(self) -> Sequence[int]: ...
    @property
    def answer_ids(self) -> Sequence[int]: ...


OracleMetric = Callable[[Tensor, Tensor], Tensor]
"""From one sequence's logits [answer tokens, vocabulary] and its answer's ids to the number that is differentiated."""


def edge_names(
    model: PreTrainedModel, granularity: str = "sublayer"
) -> tuple[tuple[str, ...], tuple[str, ...], Tensor]:
    """Writers, readers, and the bool mask [writers, readers] that is True where an edge exists.

    At granularity "expert" a mixture is a writer for each expert, and one for what it writes beside them.

    Raises ValueError for a granularity other than "sublayer", "head" and "expert".
    """
    parallel = getattr(model.config, "use_parallel_residual", False) or model.config.model_type in SHARED_NORM
    parallel = parallel or (model.config.model_type == "falcon" and is_parallel(model.config))
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    sublayers = layer_sublayers(model.config) or [("attn", "mlp")] * layers
    if granularity not in ("sublayer", "head", "expert"):
        raise ValueError(f"granularity: found {granularity!r}, wanted 'sublayer', 'head' or 'expert'")
    routed = [block.routed for block in parts_of(model).blocks] if granularity == "expert" else [None] * layers
    # A clock: when each writer has written and when each reader reads. An edge needs the first <= the second.
    writers: dict[str, int] = {"embed": 0}
    readers: dict[str, int] = {}
    for i, present in enumerate(sublayers):
        if "attn" in present:
            parts = [f"attn.{i}.h{h}" for h in range(heads)] if granularity == "head" else [f"attn.{i}"]
            writers |= dict.fromkeys(parts, 2 * i + (2 if parallel else 1))
            readers |= {f"{part}.{kind}": 2 * i for kind in "qkv" for part in parts}
        if "mixer" in present:
            writers |= {f"mixer.{i}": 2 * i + 1}
            readers |= {f"mixer.{i}": 2 * i}
        if "mlp" in present:
            split = routed[i]
            wrote = [f"mlp.{i}"] if split is None else [f"mlp.{i}.e{e}" for e in range(split.count)]
            wrote += [f"mlp.{i}.shared"] if split is not None and split.shared else []
            writers |= dict.fromkeys(wrote, 2 * i + 2)
            readers |= {f"mlp.{i}": 2 * i + (0 if parallel else 1)}
    readers["logits"] = 2 * layers
    mask = torch.tensor([[wrote <= reads for reads in readers.values()] for wrote in writers.values()])
    return tuple(writers), tuple(readers), mask


def edge_scores(
    model: PreTrainedModel,
    sequences: Sequence[AnyAnswerSequence],
    granularity: str = "sublayer",
    corrupted: Sequence[AnyAnswerSequence] | None = None,
    own_post_norm: bool = False,
    metric: OracleMetric = F.cross_entropy,
) -> tuple[Tensor, Tensor]:
    """Scores [S, writers, readers] and mean answer cross-entropies (or metrics) [S], both float64.

    Raises ValueError when a corrupted sequence is not as long as its clean one or an id list is empty,
    NotImplementedError for a family not written out here and for heads under a norm shared by grouped keys.
    """
    _, _, edges = edge_names(model, granularity)
    exact = float64_copy(model)
    if granularity == "head" and layer_sublayers(model.config) is not None:
        raise NotImplementedError("a model with layers that are not attention has no heads")
    if granularity == "head" and any(_shared_norm(block) for block in parts_of(exact).blocks):
        raise NotImplementedError("heads whose grouped keys share one norm have no agreed copies of it")
    values, losses = [], []
    for i, sequence in enumerate(sequences):
        mask = torch.ones(edges.shape, dtype=torch.float64, requires_grad=True)
        other = corrupted[i] if corrupted is not None else None
        loss = _loss(exact, sequence, mask, granularity, other, own_post_norm, metric)
        values.append(-torch.autograd.grad(loss, mask)[0])
        losses.append(loss.detach())
    return torch.stack(values), torch.stack(losses)


def path_scores(
    model: PreTrainedModel,
    sequence: AnyAnswerSequence,
    corrupted: AnyAnswerSequence,
    alphas: Sequence[float],
    granularity: str = "sublayer",
    metric: OracleMetric = F.cross_entropy,
) -> tuple[Tensor, list[float]]:
    """Integrated gradients (Hanna et al., arXiv 2403.17806): scores [writers, readers] and the metric at each point.

    A point's run starts from (1 − alpha) · corrupted + alpha · clean embeddings, and its edges are masked as for
    patching. The score is the mean over the points of −d metric / d mask.
    """
    exact, answer = float64_copy(model), torch.tensor(sequence.answer_ids)
    edges = edge_names(model, granularity)[2]
    ones = torch.ones(edges.shape, dtype=torch.float64)
    with torch.no_grad():
        clean, other = (_forward(exact, _input_ids(each), ones, granularity)[1] for each in (sequence, corrupted))
    removed = [ours - theirs for ours, theirs in zip(clean, other, strict=True)]
    scores, values = torch.zeros_like(ones), []
    for alpha in alphas:
        mask = ones.clone().requires_grad_()
        embedding = other[0] + alpha * removed[0]
        predicted = _forward(exact, _input_ids(sequence), mask, granularity, embedding=embedding, removed=removed)[0]
        value = metric(predicted[-len(answer) :], answer)
        scores -= torch.autograd.grad(value, mask)[0] / len(alphas)
        values.append(value.item())
    return scores * edges, values


@torch.no_grad()
def loss_only(
    model: PreTrainedModel,
    sequence: AnyAnswerSequence,
    mask: Tensor | None = None,
    granularity: str = "sublayer",
    corrupted: AnyAnswerSequence | None = None,
    own_post_norm: bool = False,
) -> float:
    """The loss with every edge scaled by `mask` [writers, readers] (None: ones); 0 ablates an edge."""
    mask = _ones(model, granularity) if mask is None else mask.double()
    return _loss(float64_copy(model), sequence, mask, granularity, corrupted, own_post_norm).item()


@torch.no_grad()
def logits(model: PreTrainedModel, sequence: AnyAnswerSequence, granularity: str = "sublayer") -> Tensor:
    """Float64 logits [len(prompt) + len(answer) - 1, vocabulary] at every position but the last."""
    return _forward(float64_copy(model), _input_ids(sequence), _ones(model, granularity), granularity)[0]


def _ones(model: PreTrainedModel, granularity: str) -> Tensor:
    return torch.ones(edge_names(model, granularity)[2].shape, dtype=torch.float64)


def float64_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The model as the oracle computes with it; a model that is float64 on the CPU already is returned itself."""
    if all(p.dtype == torch.float64 and p.device.type == "cpu" for p in model.parameters()):
        return model  # nothing below writes to it
    exact = copy.deepcopy(model).cpu().requires_grad_(False)
    embedding: Any = exact.get_input_embeddings()
    if hasattr(embedding, "embed_scale"):  # the model rounds it to its weights' dtype before it is used
        embedding.embed_scale = embedding.embed_scale.to(embedding.weight.dtype)
    return exact.double()


def _input_ids(sequence: AnyAnswerSequence) -> Tensor:
    if not len(sequence.prompt_ids) or not len(sequence.answer_ids):
        raise ValueError("sequence: found no prompt or no answer ids, wanted at least one of each")
    return torch.tensor([*sequence.prompt_ids, *sequence.answer_ids])[:-1]


def _loss(
    model: PreTrainedModel,
    sequence: AnyAnswerSequence,
    mask: Tensor,
    granularity: str,
    corrupted: AnyAnswerSequence | None,
    own_post_norm: bool = False,
    metric: OracleMetric = F.cross_entropy,
) -> Tensor:
    ids, replacement = _input_ids(sequence), None
    if corrupted is not None:
        other = _input_ids(corrupted)
        if len(other) != len(ids):
            raise ValueError(f"corrupted: found {len(other) + 1} ids, wanted {len(ids) + 1} as in the clean sequence")
        with torch.no_grad():
            replacement = _forward(model, other, torch.ones_like(mask), granularity, None, own_post_norm)[1]
    predicted, _ = _forward(model, ids, mask, granularity, replacement, own_post_norm)
    answer = torch.tensor(sequence.answer_ids)
    return metric(predicted[-len(answer) :], answer)


def _forward(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    granularity: str,
    corrupted: list[Tensor] | None = None,
    own_post_norm: bool = False,
    embedding: Tensor | None = None,
    removed: list[Tensor] | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Logits [T, V] and what each writer wrote, [T, D] each, in the graph's order.

    With `own_post_norm`, what heads behind a post-norm wrote is what they gave to the norm. `embedding` [T, D] takes
    the place of the ids' own, and `removed[u]` that of what u wrote less what it wrote on the corrupted run.
    """
    writers, readers, edges = edge_names(model, granularity)
    parts = parts_of(model)
    wrote: list[Tensor] = [parts.embed(ids) if embedding is None else embedding]
    unowned: list[tuple[int, Tensor]] = []  # (layer, output bias [T, D] or [D]) at head granularity
    by_head = granularity == "head"
    normed: list[tuple[int, range, Tensor, Any]] = []  # (layer, writers, bias, the norm's factors) if own_post_norm

    def carried(name: str, v: int) -> float:
        """What the layers multiply the stream by from a writer's own layer up to a reader's."""
        first = 0 if name == "embed" else int(name.split(".")[1])
        last = len(parts.blocks) if readers[v] == "logits" else int(readers[v].split(".")[1])
        return math.prod(block.carries for block in parts.blocks[first:last])

    def masked(u: int, v: int) -> Tensor:
        if removed is not None:
            return wrote[u] + (mask[u, v] - 1) * removed[u]
        if corrupted is None:
            return mask[u, v] * wrote[u]
        return wrote[u] + (mask[u, v] - 1) * (wrote[u] - corrupted[u])

    def read(name: str, layer: int) -> Tensor:
        v = readers.index(name)
        x = sum((bias * carried(f"attn.{i}", v) for i, bias in unowned if i < layer), torch.zeros_like(wrote[0]))
        for written, heads, bias, factors in normed:
            if written < layer:
                whole = bias + sum(masked(u, v) for u in heads)
                x = x + whole * factors(whole) * carried(f"attn.{written}", v)
        apart = {u for _, heads, *_ in normed for u in heads}
        for u in edges[:, v].nonzero().flatten().tolist():
            if u not in apart:
                x = x + masked(u, v) * carried(writers[u], v)
        return x

    def attend(i: int, block: Block) -> None:
        assert block.output is not None
        heads = block.output[0].shape[0]
        names = [f"attn.{i}.h{h}" for h in range(heads)] if by_head else [f"attn.{i}"]
        # q, k and v streams, [H or 1, T, D] each.
        streams = [torch.stack([read(f"{name}.{kind}", i) for name in names]) for kind in "qkv"]
        shares = _attention(block, *(x.expand(heads, -1, -1) for x in streams))  # [H, T, D]
        bias = shares.new_zeros(()) if block.output[1] is None else block.output[1]
        whole = shares.sum(0) + bias
        scale = block.attn_post(whole) if block.attn_post else torch.ones_like(whole)
        apart = own_post_norm and by_head and block.attn_post is not None
        if apart:
            normed.append((i, range(len(wrote), len(wrote) + heads), bias, block.attn_post))
            wrote.extend(shares)
        else:
            wrote.extend(shares * scale if by_head else [whole * scale])
        if by_head and not apart:
            unowned.append((i, bias * scale))

    def join(x: Tensor, post: Any) -> None:
        wrote.append(x * post(x) if post else x)

    for i, block in enumerate(parts.blocks):
        if block.query is not None:
            attend(i, block)
        if block.mixer is not None:
            join(block.mixer(block.attn_norm(read(f"mixer.{i}", i))), block.attn_post)
        if block.mlp is not None:
            # The attention's bias has been written when the MLP of a sequential layer reads.
            x = read(f"mlp.{i}", i if parts.parallel else i + 1)
            read_by_mlp = block.mlp_norm(x)
            whole = block.mlp(read_by_mlp)
            if block.routed is None or granularity != "expert":
                join(whole, block.mlp_post)
                continue
            scale = block.mlp_post(whole) if block.mlp_post else torch.ones_like(whole)
            shares = block.routed.shares(read_by_mlp)
            wrote.extend(shares * scale)
            if block.routed.shared:
                wrote.append((whole - shares.sum(0)) * scale)

    assert len(wrote) == len(writers)
    return parts.unembed(parts.final_norm(read("logits", len(parts.blocks)))), wrote


def _attention(block: Block, *streams: Tensor) -> Tensor:
    """Each head's share [H, T, D] of the attention's output, less bias, from q, k, v streams [H, T, D]."""
    length = streams[0].shape[1]
    q, k, v = (
        _project(rules.head_input(block.attn_norm(x), kind), projection)
        for kind, x, projection in zip("qkv", streams, (block.query, block.key, block.value), strict=True)
    )
    q, k = _placed(q, block.query_norm, block), _placed(k, block.key_norm, block)
    if block.temperature is not None:
        q = q * block.temperature[:length, None]
    scores = q @ k.transpose(1, 2) * block.scaling
    if block.softcap is not None:
        scores = torch.tanh(scores / block.softcap) * block.softcap
    position = torch.arange(length)
    behind = position[:, None] - position  # how far the key lies behind the query
    hidden = behind < 0
    if block.window is not None:
        hidden = hidden | (behind >= block.window)
    if block.chunk is not None:
        hidden = hidden | (position[:, None] // block.chunk != position // block.chunk)
    scores = scores.masked_fill(hidden, float("-inf"))
    if block.sinks is not None:
        scores = torch.cat([scores, block.sinks[:, None, None].expand(-1, length, 1)], -1)
    mixed = rules.attention_weights(scores)[..., :length] @ v
    if block.gate is not None:
        mixed = mixed * _project(block.attn_norm(streams[0]), block.gate).sigmoid()
    return mixed @ block.output[0].transpose(1, 2)


def _project(x: Tensor, projection: Projection) -> Tensor:
    """[H, T, d] from x [H, T, D] by weight [H or G, d, D]; a group's rows are copied to each of its heads."""
    if not isinstance(projection, tuple):
        return projection(x)
    weight, bias = projection
    copies = x.shape[0] // weight.shape[0]
    projected = x @ weight.repeat_interleave(copies, 0).transpose(1, 2)
    return projected if bias is None else projected + bias.repeat_interleave(copies, 0)[:, None]


def _placed(x: Tensor, norm: Scale | None, block: Block) -> Tensor:
    """Queries or keys [H, T, d], normed and rotated."""
    if block.norm_after_rotary:
        return _headed_norm(_rotate(x, block), norm)
    return _rotate(_headed_norm(x, norm), block)


def _headed_norm(x: Tensor, norm: Scale | None) -> Tensor:
    """The q or k norm on x [H, T, d], whether it spans one head or all of them."""
    heads, length, width = x.shape
    if norm is None:
        return x
    if norm.weight.numel() == width:
        return x * norm(x)
    # Over all heads. The mean square over equal copies of each group is the mean square over the groups.
    weight = norm.weight.view(-1, width).repeat_interleave(heads * width // norm.weight.numel(), 0)
    joined = x.transpose(0, 1).reshape(length, heads * width)
    normed = joined * Scale(weight.flatten(), norm.eps)(joined)
    return normed.view(length, heads, width).transpose(0, 1)


def _shared_norm(block: Block) -> bool:
    if block.key_norm is None or not isinstance(block.key, tuple):
        return False
    heads, groups, width = block.output[0].shape[0], *block.key[0].shape[:2]
    return block.key_norm.weight.numel() > width and groups < heads


def _rotate(x: Tensor, block: Block) -> Tensor:
    """Rotary positions on the first 2 * len(inv_freq) of the d dimensions of x [H, T, d]."""
    if block.inv_freq is None:
        return x
    half = len(block.inv_freq)
    angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * block.inv_freq
    cos, sin = angle.cos() * block.rotary_gain, angle.sin() * block.rotary_gain
    turned, rest = x[..., : 2 * half], x[..., 2 * half :]
    if block.rotate_pairs:
        a, b = turned[..., ::2], turned[..., 1::2]
        return torch.cat([torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2), rest], -1)
    a, b = turned.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)

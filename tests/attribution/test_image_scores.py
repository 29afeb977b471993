"""Scores of prompts with images: against finite differences of the plain model, and a text model with the features."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import oracle
from helpers.core_inputs import relative_error
from helpers.tiny_images import (
    IMAGE_FAMILIES,
    IMAGE_TOKEN,
    image_tokenizer,
    picture,
    question_file,
    save_with_processor,
)
from helpers.tiny_models import has_experts
from helpers.tiny_vision import vision_and_text
from torch import Tensor

from rlcircuits import AnswerSequence, Checkpoint, RLCircuitsError, ablated, attribute
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.question_prompts import prompt_questions
from rlcircuits.attribution.edge_attribution import graph_of
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.graph.image_inputs import ImageInputs
from rlcircuits.questions import load_questions

ANSWER = (5, 6, 7)
STEP = 0.02
"""Of the finite differences, whose error falls with its fourth power; norms are computed in float32."""
SMALL_STEP = 0.005
"""Of models with mixers. A delta net bends more in what it reads: with 0.02, 0.01 and 0.005 the edge embed → mixer.0 is
off by 2.6%, 0.28% and less than 0.1%."""


@pytest.fixture(scope="module", params=IMAGE_FAMILIES)
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = save_with_processor(tmp_path_factory.mktemp(request.param) / "model", request.param)
    return Checkpoint.load(folder, device="cpu")


@pytest.fixture(scope="module")
def sequences(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> list[AnswerSequence]:
    """Prompts with no image, one and two, of different sizes."""
    questions = load_questions(question_file(tmp_path_factory.mktemp("questions"), 6))
    prompts = prompt_questions(checkpoint, Prompting(), questions)
    return [AnswerSequence(ids, ANSWER, images) for ids, images in zip(prompts.ids, prompts.images, strict=True)]


def _plain_loss(model: Any, sequence: AnswerSequence) -> Tensor:
    """The loss by the model's own forward on what its processor made, without positions or masks of ours."""
    ids = torch.tensor([[*sequence.prompt_ids, *sequence.answer_ids[:-1]]])
    inputs = {} if sequence.images is None else sequence.images.tensors()
    for name, tensor in inputs.items():
        inputs[name] = tensor.to(model.dtype) if tensor.is_floating_point() else tensor
        if name.endswith("token_type_ids"):
            inputs[name] = torch.nn.functional.pad(tensor, (0, ids.shape[1] - tensor.shape[1]))
    logits = model(input_ids=ids, use_cache=False, **inputs).logits[0, -len(ANSWER) :]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ANSWER))


def _body(model: Any) -> Any:
    return model.language_model.model if hasattr(model, "language_model") else model.model.language_model


_FIRST: dict[str, Callable[[Any], Any]] = {
    "mixer": lambda layer: layer.linear_attn,
    "attn": lambda layer: layer.self_attn,
}


def _first_of(layer: Any) -> str:
    """What a layer has before its MLP."""
    return "mixer" if hasattr(layer, "linear_attn") else "attn"


def _readers(model: Any) -> Iterator[tuple[str, Any]]:
    """Each sublayer's norm, whose input is what it reads; q, k and v read the attention's together."""
    body = _body(model)
    for number, layer in enumerate(body.layers):
        yield f"{_first_of(layer)}.{number}", layer.input_layernorm
        yield f"mlp.{number}", getattr(layer, "pre_feedforward_layernorm", layer.post_attention_layernorm)
    yield "logits", body.norm


def _writers(model: Any) -> Iterator[tuple[str, Any]]:
    """Each module whose output is added to the stream; the last norm where there is one behind the sublayer."""
    for number, layer in enumerate(_body(model).layers):
        post = hasattr(layer, "post_feedforward_layernorm")
        first = _first_of(layer)
        yield f"{first}.{number}", layer.post_attention_layernorm if post else _FIRST[first](layer)
        yield (
            f"mlp.{number}",
            layer.post_feedforward_layernorm if post else getattr(layer, "mlp", None) or layer.feed_forward,
        )


def _kept(name: str, found: dict[str, Tensor]) -> Callable[..., None]:
    def keep(module: Any, args: tuple[Tensor, ...], output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        found[name] = tensor.view(1, -1, tensor.shape[-1])

    return keep


def _subtract(removed: Tensor, module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
    return (args[0] - removed,)


def _written(model: Any, sequence: AnswerSequence) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    handles = [module.register_forward_hook(_kept(name, found)) for name, module in _writers(model)]
    first = _body(model).layers[0]
    handles.append(first.register_forward_pre_hook(lambda module, args: found.update(embed=args[0])))
    _plain_loss(model, sequence)
    for handle in handles:
        handle.remove()
    return found


@torch.no_grad()
def test_each_edge_is_the_slope_of_the_loss_when_its_writer_is_taken_from_its_reader(
    checkpoint: Checkpoint, sequences: list[AnswerSequence]
) -> None:
    sequence = sequences[2]
    step_size = SMALL_STEP if checkpoint.parts.no_heads else STEP
    scores = attribute(checkpoint, [sequence])
    values = dict(zip(scores.graph.writers, scores.values[0].tolist(), strict=True))
    model = checkpoint.model.double()
    if has_experts(model):
        model.set_experts_implementation("eager")  # the default supports no float64
    try:
        written = _written(model, sequence)
        norms = dict(_readers(model))
        found, wanted = [], []
        for reader, norm in norms.items():
            columns = [i for i, name in enumerate(scores.graph.readers) if name == reader or name[:-2] == reader]
            for writer, row in values.items():
                if not scores.graph.mask[scores.graph.writers.index(writer), columns[0]]:
                    continue
                losses = {}
                for step in (-2, -1, 1, 2):
                    removed = step * step_size * written[writer]
                    handle = norm.register_forward_pre_hook(partial(_subtract, removed))
                    losses[step] = _plain_loss(model, sequence).item()
                    handle.remove()
                wanted.append((8 * (losses[-1] - losses[1]) - (losses[-2] - losses[2])) / (-12 * step_size))
                found.append(sum(row[column] for column in columns))
        assert len(found) == {2: 15, 3: 28}[len(_body(model).layers)]
        torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=1e-3, atol=1e-4)
        assert scores.loss.item() == pytest.approx(_plain_loss(model, sequence).item(), rel=1e-5)
    finally:
        checkpoint.model.float()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_scores_do_not_depend_on_the_batch(
    checkpoint: Checkpoint, sequences: list[AnswerSequence], side: Any, granularity: str
) -> None:
    if side == "left" and checkpoint.parts.counts_columns:
        pytest.skip("left padding is refused")
    if granularity == "head" and checkpoint.parts.no_heads:
        pytest.skip("a model with mixers has no heads")
    together = attribute(checkpoint, sequences, granularity, padding_side=side).values
    apart = torch.cat([attribute(checkpoint, [sequence], granularity).values for sequence in sequences])
    assert relative_error(together, apart) < 1e-5


def test_removing_no_edge_leaves_the_loss(checkpoint: Checkpoint, sequences: list[AnswerSequence]) -> None:
    graph = graph_of(checkpoint, "sublayer")
    with torch.no_grad():
        wanted = torch.stack([_plain_loss(checkpoint.model, sequence) for sequence in sequences])
    torch.testing.assert_close(ablated(checkpoint, sequences, graph.mask).loss, wanted, rtol=1e-5, atol=1e-5)
    # The sum of all writers reaches each reader, so that removing half of the edges of a copied mask is another loss.
    half = graph.mask & (torch.rand(graph.mask.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    assert not torch.allclose(ablated(checkpoint, sequences, half).loss, wanted)


def test_another_picture_gives_other_scores_and_leaves_nothing_behind(
    checkpoint: Checkpoint, sequences: list[AnswerSequence]
) -> None:
    text = [sequence for sequence in sequences if sequence.images is None]
    before = attribute(checkpoint, text).values
    one = sequences[1]
    assert one.images is not None
    inputs = one.images.tensors()
    other = AnswerSequence(
        one.prompt_ids,
        one.answer_ids,
        ImageInputs("other", lambda: {**inputs, "pixel_values": -inputs["pixel_values"]}),
    )
    first, second = (attribute(checkpoint, [sequence]).values for sequence in (one, other))
    assert relative_error(first, second) > 0.01
    assert torch.equal(attribute(checkpoint, text).values, before)


def test_an_image_of_one_token_is_scored_as_a_text_model_with_its_features_as_a_token(tmp_path: Path) -> None:
    """The float64 oracle of the text model, in which a token's embedding is what the vision tower writes."""
    family = "qwen2_5_vl"
    checkpoint = Checkpoint.load(save_with_processor(tmp_path, family), device="cpu")
    processor = checkpoint.processor()
    ids, inputs = processor.prepare("<bos>1<start><|image_pad|><end>2?>", [picture(3, 8, 8)])
    assert ids.count(IMAGE_TOKEN) == 1
    _, text = vision_and_text(family)
    with torch.no_grad():
        found = checkpoint.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
        text.model.embed_tokens.weight[IMAGE_TOKEN] = found.pooler_output[0][0]
    wanted, _ = oracle.edge_scores(oracle.float64_copy(text), [AnswerSequence(ids, ANSWER)])
    sequence = AnswerSequence(ids, ANSWER, ImageInputs("one", lambda: inputs))
    assert relative_error(attribute(checkpoint, [sequence]).values, wanted) < 1e-5


@pytest.mark.parametrize("family", ["qwen3_vl", "gemma4"])
def test_a_family_whose_images_cannot_be_scored_is_refused(family: str) -> None:
    whole, _ = vision_and_text(family)
    sequence = AnswerSequence((1, 50), ANSWER, ImageInputs("k", lambda: {}))
    with pytest.raises(RLCircuitsError, match=f"'{family}'.* cannot be asked questions with images: "):
        attribute(whole, [sequence])


def test_images_of_which_only_the_key_is_known_are_not_scored(
    checkpoint: Checkpoint, sequences: list[AnswerSequence]
) -> None:
    with pytest.raises(RLCircuitsError, match="hold the images' sha256 only; measure the pair with its question file"):
        attribute(checkpoint, [AnswerSequence(sequences[1].prompt_ids, ANSWER, ImageInputs("k"))])


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is there")
@pytest.mark.parametrize("family", ["mistral3", "llama4"])
def test_a_processor_that_needs_torchvision_says_so(family: str, tmp_path: Path) -> None:
    whole, _ = vision_and_text(family)
    whole.save_pretrained(tmp_path)
    image_tokenizer(family).save_pretrained(tmp_path)
    with pytest.raises(RLCircuitsError, match=r"needs torchvision, which is not installed; pip install torchvision"):
        CheckpointSource(str(tmp_path)).processor()


def test_a_model_without_vision_has_no_processor(tmp_path: Path) -> None:
    from helpers.tiny_checkpoints import save_checkpoint

    source = CheckpointSource(str(save_checkpoint(tmp_path / "text")), device="cpu")
    with pytest.raises(RLCircuitsError, match=r"\(model_type 'llama'\) has no vision tower .*leave images out"):
        source.processor()

"""The gradient of a candidate's loss at the embeddings of its template's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.readout.classes import cross_entropy
from promptgraft.searches.phrases import Phrases
from promptgraft.searches.scorer import LabelColumns, answer_scores
from promptgraft.template.parts import Blank, Soft, TemplatePart, Wording
from promptgraft.template.template import Template


@dataclass(frozen=True)
class SlottedWords:
    """A template whose words are slots for vectors, which start as the embeddings of the words.

    Attributes:
        tokens: that the vectors start from.
        units: of every word that is a single token: its place among the units of the phrases, and its vector.
    """

    template: str
    tokens: tuple[int, ...]
    units: tuple[tuple[int, int], ...]


def slotted(phrases: Phrases, backbone: Backbone, *, left_to_right: bool) -> SlottedWords:
    """A template with its words as slots.

    Args:
        left_to_right: nothing looks behind the answer, so that words there stay words.
    Raises:
        RunError: no word of it is a single token.
    """
    parts: list[TemplatePart] = []
    units: list[tuple[int, int]] = []
    count, is_behind = 0, False
    for place, unit in enumerate(phrases.units):
        is_behind |= isinstance(unit, Blank)
        if not isinstance(unit, str) or not unit.strip() or (is_behind and left_to_right):
            parts.append(Wording(unit) if isinstance(unit, str) else unit)
            continue
        parts += [Wording(unit[: len(unit) - len(unit.lstrip())]), Soft(words=unit.strip())]
        before, count = count, len(backbone.slots(str(Template(tuple(parts)))))
        if count == before + 1:
            units.append((place, before))
    if not units:
        raise RunError("no word of the template is a single token")
    template = str(Template(tuple(parts)))
    tokens = tuple(token for token in backbone.slots(template) if token is not None)
    return SlottedWords(template, tokens, tuple(units))


def word_gradients(
    backbone: Backbone, words: SlottedWords, tokens: Tokens, columns: LabelColumns | None, gold: Sequence[int]
) -> Float[Tensor, "P E"]:
    """The gradient of the mean loss of rows at the embedding of each word of their template.

    The loss is the cross entropy of the right answer among those that a row may have; of its only one, the text that is
    to be written, the mean over its tokens.

    Args:
        tokens: the rows in the template with slots.
        columns: of the labels' words; None where whole answers are read.
    """
    values = backbone.embed(torch.tensor(words.tokens)).requires_grad_()
    prompts = stack([Prompt(values, "template")])
    batch = Batch(tokens, torch.zeros(tokens.sequences, dtype=torch.long))
    if columns is None:
        scores = answer_scores(backbone.forward(batch, prompts, "answer").float().cpu(), tokens)
    else:
        states = backbone.forward(batch, prompts, "mark").float().cpu()
        scores = states @ columns[0].mT + columns[1]
    loss = -scores.mean() if scores.shape[1] == 1 else cross_entropy(scores, torch.tensor(gold)).mean()
    [gradient] = torch.autograd.grad(loss, [values])
    return gradient.detach()


def first_order(
    gradient: Float[Tensor, "E"], present: Float[Tensor, "E"], words: Float[Tensor, "V E"]
) -> Float[Tensor, "V"]:
    """By how much the loss changes, to first order, where each word stands in the place of the present one."""
    return (words - present) @ gradient


def steepest(
    gradients: Float[Tensor, "P E"], present: Float[Tensor, "P E"], words: Float[Tensor, "V E"], most: int
) -> tuple[list[list[int]], list[list[float]]]:
    """Of each place the words that lower the loss most, to first order, with by how much."""
    changes = torch.stack([first_order(*pair, words) for pair in zip(gradients, present, strict=True)])
    best = changes.topk(min(most, len(words)), largest=False)
    return best.indices.tolist(), best.values.tolist()

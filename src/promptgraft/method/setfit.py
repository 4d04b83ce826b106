"""SetFit tunes all weights on pairs, then fits a logistic head (Tunstall et al. 2022): a few-shot baseline."""

from __future__ import annotations

import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from promptgraft.errors import MissingExtraError, RunError
from promptgraft.kernels.dropout import Dropout
from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, Work, register
from promptgraft.method.setup import generator
from promptgraft.model.backbone import Batch
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.reading import Reading
from promptgraft.readout import classes
from promptgraft.readout.linear import Linear
from promptgraft.task.task import Example
from promptgraft.train.run import Fit, Tuned
from promptgraft.train.weights import Weights

PAIRS = 20
"""Positive and negative pairs a row (R in section 4 of the paper)."""
BATCH = 16
ROWS_A_ROW = 4 * PAIRS
"""Rows that pass for each training row: two of every positive and every negative pair."""
DROPOUT = 0.1
"""Of the encoders that SetFit was published with; the one place, beside PANDA as released, where a model drops out."""

NEVER = -1e4


def installed() -> bool:
    """Whether the extra `setfit` is installed."""
    return importlib.util.find_spec("setfit") is not None


@register
class SetFit(Method):
    """SetFit by its library, which makes the pairs, the contrastive loss and the head, over our own encoder."""

    name: ClassVar[str] = "setfit"
    summary: ClassVar[str] = "contrastive tuning of all weights, then a logistic head (extra setfit)"
    needs: ClassVar[frozenset[Need]] = frozenset({"labels", "gradients"})

    def work(self, job: Job) -> Work:
        return Work("weights", epochs=ROWS_A_ROW)

    def setup(self, job: Job, view: View) -> Fit:
        if not installed():
            raise MissingExtraError("the method setfit", "setfit")
        if view.task.kind != "classification" or view.backbone.family == "any":
            raise RunError("setfit reads single texts, with a backbone of the BERT family", where=view.task.name)
        if view.backbone.device.type == "cpu" and torch.cuda.is_available():
            message = f"setfit's library trains on the GPU, and {view.backbone.name} was loaded on the processor"
            raise RunError(message, where=view.task.name, do="load it with --device cuda, or hide the GPU")
        if len({row.label for row in view.task.train}) < 2:
            what = "setfit needs rows of two classes, of which it makes its pairs"
            raise RunError(what, where=view.task.name, do="label rows of another class")
        passes = -(-ROWS_A_ROW * len(view.task.train) // BATCH)  # of a batch of pairs there are two, a side each
        tokens = view.tokens("train", Reading(view.pooling))
        weights = Weights.of(view.backbone, tokens)
        body = _body(job, view, weights, lambda done: view.tell(min(done, passes), passes))
        coefficients, bias = _fitted(job, view, body)
        readout = Linear(view.task.classes, classes.leaf(coefficients), classes.leaf(bias))
        leaves = dict(zip(weights.leaves, body.parameters(), strict=True))
        tuned = {name: value.cpu() for name, value in replace(weights, leaves=leaves).whole().items()}
        count = sum(value.numel() for value in (*tuned.values(), *readout.parameters().values()))
        return Fit(job.id, Tuned(None, readout, Reading(view.pooling), tuned), count)


def _fitted(job: Job, view: View, body: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Train the body in place, and return coefficients `[C, H]` and intercepts `[C]` of the head."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    labels = classes.class_indices((example.label for example in view.task.train), view.task)
    rows = Dataset.from_dict({"text": [example.text for example in view.task.train], "label": labels})
    head = LogisticRegression(max_iter=1000)
    model = SetFitModel(SentenceTransformer(modules=[body], device=str(view.backbone.device)), head)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            batch_size=BATCH,
            num_iterations=PAIRS,
            seed=job.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        with _quiet():
            Trainer(model=model, args=arguments, train_dataset=rows).train()
    return _head(head, len(view.task.classes))


def _head(head: Any, count: int) -> tuple[Tensor, Tensor]:
    """Coefficients and intercepts of all classes; a class without a row is never chosen."""
    coefficients, bias = torch.tensor(head.coef_), torch.tensor(head.intercept_)
    if len(coefficients) == 1:  # two classes: one row that says the second against the first
        coefficients, bias = (torch.cat([torch.zeros_like(value), value]) for value in (coefficients, bias))
    weight, offset = torch.zeros(count, coefficients.shape[1]), torch.full((count,), NEVER)
    weight[head.classes_], offset[head.classes_] = coefficients.float(), bias.float()
    return weight, offset


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars, tables and warnings of three libraries."""
    logger = logging.getLogger("setfit")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _body(job: Job, view: View, weights: Weights, on_pass: Callable[[int], None]) -> torch.nn.Module:
    """Make a module of the form that sentence-transformers wants: `tokenize` training texts, `forward` to embeddings.

    Its parameters are the leaves of `weights`, in their order.

    Args:
        on_pass: called with the number of passes it has been trained on so far.
    """
    backbone, pooling, stream = view.backbone, view.pooling, generator(job, 7)

    class Body(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.passes = 0
            self.held = torch.nn.ParameterList(value.detach() for value in weights.leaves.values())

        def tokenize(self, texts: Sequence[str], **_: Any) -> dict[str, Tensor]:
            examples = [Example(text=text) for text in texts]
            tokens = weights.numbered(
                backbone.tokenize(examples, "classification", Reading(pooling), max_length=job.recipe.max_length)
            )
            return {"input_ids": tokens.ids, "types": tokens.types, "starts": tokens.starts, "rows": tokens.rows}

        def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
            ids, types, starts, rows = (features[name].cpu() for name in ("input_ids", "types", "starts", "rows"))
            tokens = Tokens(ids, types, starts, rows)
            model = backbone.with_weights(dict(zip(weights.leaves, self.held, strict=True)))
            dropout = Dropout.draw(DROPOUT, tokens.sequences, stream) if self.training else None
            states = model.forward(Batch(tokens), None, pooling, dropout=dropout)
            if self.training:
                self.passes += 1
                on_pass(self.passes)
            return features | {"sentence_embedding": states.to(features["input_ids"].device)}

    return Body()

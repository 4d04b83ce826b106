"""The kinds of task: one row of facts a kind, asked by everything that treats kinds differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["classification", "multilabel", "pair", "regression", "choice", "tagging", "span", "text"]
LabelForm = Literal["class", "classes", "number", "option", "tags", "answers", "references"]
"""What the label of a row is: one class, any number of them, a number, an option, a tag a word, answers, texts."""
ScoredUnit = Literal["row", "option", "word", "position"]
"""What gets a score: the row, each of its options, each word, or each position."""
Role = Literal["text", "pair", "choices"]


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What holds for every task of a kind.

    Attributes:
        row: what a row without its label is, as messages say it.
        needs: the roles without which a row cannot be read.
        label: what a row's label is.
        scored: what gets a score.
        reads: whether a readout sees one state a sequence or every token's.
        metrics: what can judge it, the usual metric first.
        readout: the default readout, which knows nothing of the labels but their indices.
        in_words: the readout that reads labels by their descriptions; None where labels have none.
        carried: the default readout of transfers.
        probe: whether a linear probe can be fitted without training.
        pairs_apart: whether two texts of a row can be encoded as two sequences.
        windows: whether long single texts can be read in parts, whose scores are averaged.
        hub_task: what Hugging Face's hub calls the kind.
        rows_a_shot: rows that a shot stands for, of each class where there are classes.
        max_length: tokens of a sequence that are read unless the recipe says otherwise.
    """

    row: str
    label: LabelForm
    scored: ScoredUnit
    metrics: tuple[str, ...]
    readout: str
    carried: str
    in_words: str | None = None
    needs: tuple[Role, ...] = ("text",)
    reads: Literal["pooled", "tokens"] = "pooled"
    probe: bool = True
    pairs_apart: bool = False
    windows: bool = False
    hub_task: str = "text-classification"
    rows_a_shot: int = 8
    max_length: int = 128

    @property
    def one_class(self) -> bool:
        """Whether a row gets exactly one class."""
        return self.label == "class"

    @property
    def several(self) -> bool:
        """Whether a row gets any number of labels."""
        return self.label == "classes"

    @property
    def has_classes(self) -> bool:
        """Whether an answer has a probability of each class."""
        return self.one_class or self.several

    @property
    def named_labels(self) -> bool:
        """Whether a task of the kind has a list of labels: classes or tags."""
        return self.has_classes or self.label == "tags"

    @property
    def written(self) -> bool:
        """Whether the answer is a text that a model writes."""
        return self.label == "references"

    @property
    def single(self) -> bool:
        """Whether a row may be a text alone."""
        return self.needs == ("text",) and self.label != "tags"


KINDS: Mapping[Kind, KindFacts] = {
    "classification": KindFacts(
        row="a text",
        label="class",
        scored="row",
        metrics=("accuracy", "f1", "macro_recall", "matthews"),
        readout="linear",
        in_words="label-text",
        carried="label-text",
        windows=True,
        rows_a_shot=1,
    ),
    "multilabel": KindFacts(
        row="a text, or a pair of texts",
        label="classes",
        scored="row",
        metrics=("micro_f1", "macro_f1", "accuracy"),
        readout="multilabel",
        in_words="multilabel-text",
        carried="label-text",
        windows=True,
        rows_a_shot=1,
    ),
    "pair": KindFacts(
        row="a pair of texts",
        needs=("text", "pair"),
        label="class",
        scored="row",
        metrics=("accuracy", "f1", "macro_recall", "matthews"),
        readout="linear",
        in_words="label-text",
        carried="linear",
        pairs_apart=True,
        rows_a_shot=1,
    ),
    "regression": KindFacts(
        row="a text, or a pair of texts",
        label="number",
        scored="row",
        metrics=("pearson_spearman",),
        readout="regression",
        carried="regression",
        pairs_apart=True,
        windows=True,
    ),
    "choice": KindFacts(
        row="a text and its choices",
        needs=("text", "choices"),
        label="option",
        scored="option",
        metrics=("accuracy",),
        readout="choice",
        carried="choice",
        hub_task="multiple-choice",
    ),
    "tagging": KindFacts(
        row="a list of words",
        label="tags",
        scored="word",
        reads="tokens",
        metrics=("span_f1", "accuracy"),
        readout="tagging",
        carried="tagging",
        hub_task="token-classification",
    ),
    "span": KindFacts(
        row="a question and its context",
        needs=("text", "pair"),
        label="answers",
        scored="position",
        reads="tokens",
        metrics=("em_f1",),
        readout="span",
        carried="span",
        probe=False,
        max_length=384,
        hub_task="question-answering",
    ),
    "text": KindFacts(
        row="a text, or a pair of texts",
        label="references",
        scored="position",
        reads="tokens",
        metrics=("rougeL", "rouge1", "rouge2", "bleu", "chrf", "em_f1"),
        readout="written",
        carried="written",
        probe=False,
        rows_a_shot=1,
        max_length=384,
        hub_task="text2text-generation",
    ),
}
OF_ONE_CLASS: tuple[Kind, ...] = tuple(kind for kind, facts in KINDS.items() if facts.one_class)
"""Kinds that give a row one class, for messages that list them."""

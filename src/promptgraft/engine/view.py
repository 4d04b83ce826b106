"""A job's view gives its method the drawn task, tokens, frozen states and finished models."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.engine.choose import choose_encoding, choose_pooling
from promptgraft.engine.near import make_pool, pool_note
from promptgraft.engine.others import other_backbone
from promptgraft.engine.share import Shared
from promptgraft.engine.unread import unknown_words_note
from promptgraft.engine.worded import AUTO, Worded, in_plain_words, in_words
from promptgraft.engine.writer import decoding_of, longest_read, write
from promptgraft.errors import RunError, listed
from promptgraft.measure.measure import PLAIN, Target
from promptgraft.measure.task_embedding import cosine, embed_task
from promptgraft.method.job import Job, Source
from promptgraft.method.method import Split
from promptgraft.model.backbone import Backbone, Read, Speaks
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.pool import LabelledPool
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Encoding, Pooling, Reading
from promptgraft.readout.classes import class_indices
from promptgraft.readout.features import says_words, speechless
from promptgraft.readout.found import found_words, shown
from promptgraft.task.task import Example, Task
from promptgraft.train.predict import add_scores, score
from promptgraft.train.run import Tuned

GIVE_WORDS = 'write them: --verbalizer "label=word|word,label=word"'


class JobView:
    """Implements `method.View` and the measures' own `View` for one job.

    Args:
        report_step: called with steps done, and of how many, in a set-up that takes long.
    """

    def __init__(
        self,
        job: Job,
        task: Task,
        shared: Shared,
        finished: Callable[[Job], Tuned],
        report_step: Callable[[int, int], None] | None = None,
    ) -> None:
        self.job = job
        self.task = task
        self.backbone: Backbone = shared.backbone
        self.notes: list[str] = []
        self.shared = shared
        self._finished = finished
        self._parts: dict[Hashable, Tokens] = {}
        self._report_step = report_step

    def tokens(self, split: Split, reading: Reading, rows: tuple[int, ...] | None = None) -> Tokens:
        examples = self.task.splits.get(split, ())
        tokens = self.shared.tokens(examples, self.task.kind, reading, self.job.recipe.max_length, self.task.name)
        if rows is None or len(rows) == tokens.count:
            return tokens
        key = (split, reading.shown, rows)
        if key not in self._parts:
            self._parts[key] = tokens.select(torch.tensor(rows))
        return self._parts[key]

    def tokens_of(self, examples: tuple[Example, ...], reading: Reading) -> Tokens:
        return self.shared.tokens(examples, self.task.kind, reading, self.job.recipe.max_length, self.task.name)

    def at_answer(self, template: str, examples: tuple[Example, ...]) -> Float[Tensor, "N H"]:
        return self.shared.states(self.in_full(template, examples), None, "mark")

    def in_full(self, template: str, examples: tuple[Example, ...]) -> Tokens:
        """Rows in another template than the job's, as long as the model reads.

        Raises:
            RunError: it is no template without vectors that fits the task.
        """
        recipe = self.job.recipe
        found = self.words_read if recipe.verbalizer == AUTO else None
        worded = in_words(template, recipe.verbalizer, self.task, self.job.seed, found)
        if self.backbone.slots(worded.template):
            raise RunError("a template with vectors has no words to be distilled", do="leave {soft} out")
        self.notes += [note for note in worded.notes if note not in self.notes]
        limit = self.backbone.max_length
        reading = Reading("mark", template=worded.template, pool=self._pool(worded, self.backbone, limit))
        return self.shared.tokens(examples, self.task.kind, reading, limit, self.task.name)

    @cached_property
    def worded(self) -> Worded:
        """The job's template, or that of its source, and the words of its labels."""
        source, recipe = self.job.source, self.job.recipe
        card = None if source is None or recipe.template else source.artefact.card
        template, carried = ("", None) if card is None else (card.template or "", card.words)
        worded = in_words(recipe.template or template, recipe.verbalizer, self.task, self.job.seed, carried)
        worded = self._found(worded) if recipe.verbalizer == AUTO else worded
        self.notes += [*worded.notes, *unknown_words_note(self._words_backbone, worded.words)]
        return worded

    @property
    def _words_backbone(self) -> Backbone:
        """What reads the words of labels: the backbone, unless the job names another."""
        name = self.job.options.get("words-model", "")
        return self.other(name) if name else self.backbone

    def _found(self, worded: Worded) -> Worded:
        """The same with words of labels that are found from the labelled rows.

        Raises:
            RunError: there are none, or the model has no head over words.
        """
        backbone, limit = self._words_backbone, self.job.recipe.max_length
        if not isinstance(backbone, Speaks) or not says_words(backbone):
            what = speechless(backbone, "words of labels cannot be found with it").what
            raise RunError(what, where=self.task.name, do=GIVE_WORDS)
        if not self.task.classes:
            raise RunError("a task without classes has no words of labels", where=self.task.name, do="leave them out")
        shared = self.shared if backbone is self.backbone else self.shared.beside(backbone)
        reading = Reading("mark", template=in_plain_words(worded), pool=self._pool(worded, backbone, limit))
        rows = tuple(row for row in self.task.train if isinstance(row.label, str))
        if not rows:
            raise RunError(
                "words are found from labelled rows, and there are none", where=self.task.name, do=GIVE_WORDS
            )
        states = shared.states(shared.tokens(rows, self.task.kind, reading, limit, self.task.name), None, "mark")
        gold = torch.tensor(class_indices((row.label for row in rows), self.task))
        words = found_words(backbone, states, gold, self.task.classes, len(backbone.weights[backbone.words]))
        note = f"words of labels, found from {len(rows)} labelled rows: {'; '.join(shown(words))}"
        note += f"; demonstrations show {listed(worded.answers)}" if worded.lines else ""
        return replace(worded, words=words, notes=(*worded.notes, note))

    @property
    def words_read(self) -> Mapping[str, tuple[str, ...]]:
        """Of each label the words that stand for it, where the job reads any."""
        source = self.job.source
        is_worded = self.job.recipe.template or (source is not None and source.artefact.card.template)
        return self.worded.words if is_worded and self.task.classes else {}

    @property
    def words(self) -> Mapping[str, tuple[str, ...]]:
        return self.worded.words

    def in_words(self, pooling: Literal["mark", "answer", "original"], model: str = "") -> Reading:
        words = self.worded.words.values()
        every = tuple(word for own in words for word in own)
        answers = {"answer": self.worded.answers, "original": every}.get(pooling, ())
        pool = self.pool if not model else self._pool(self.worded, self.other(model), self.job.recipe.max_length)
        return Reading(pooling, template=self.worded.template, answers=answers, pool=pool)

    def premise(self, reading: Reading) -> Reading:
        if not self.worded.premise:
            what = "the template has no words of its own that an answer could be read behind without the row"
            raise RunError(what, where=self.task.name, do="write some: '{text} The topic is {mask}'")
        return replace(reading, template=self.worded.premise, pool=None)

    @cached_property
    def pool(self) -> LabelledPool | None:
        """The rows that demonstrations are chosen from for each row, where the job's template says so."""
        return self._pool(self.worded, self.backbone, self.job.recipe.max_length)

    def _pool(self, worded: Worded, backbone: Backbone, limit: int) -> LabelledPool | None:
        """The rows that demonstrations are chosen from by a backbone."""
        if not worded.pool:
            return None
        pooling = self.pooling if backbone is self.backbone else backbone.pooling or "mean"
        pool = make_pool(worded, backbone, self.task, pooling, limit)
        note = pool_note(pool, backbone, worded, limit)
        self.notes += [note] if note not in self.notes else []
        return pool

    def other(self, name: str) -> Backbone:
        return other_backbone(name)

    def describe(self, texts: Sequence[str], pooling: Pooling) -> Float[Tensor, "C H"]:
        return self.shared.describe(texts, pooling)

    def states(self, split: Split, prompt: Prompt | None, reading: Reading) -> Float[Tensor, "N H"]:
        return self.shared.states(self.tokens(split, reading), prompt, self._read(reading))

    def _read(self, reading: Reading) -> Read:
        """What the task's kind reads: its tokens, or what the reading says."""
        return "tokens" if self.task.facts.reads == "tokens" else reading.pooling

    def states_each(
        self,
        split: Split,
        prompts: Iterable[Prompt | None],
        reading: Reading,
        rows: tuple[int, ...] | None = None,
    ) -> Iterator[Float[Tensor, "N H"]]:
        read, tokens = self._read(reading), self.tokens(split, reading, rows)
        for is_prompt, group in groupby(prompts, lambda prompt: prompt is not None):
            if is_prompt:
                yield from self.shared.states_each(tokens, (prompt for prompt in group if prompt is not None), read)
            else:
                yield from (self.shared.states(tokens, None, read) for _ in group)

    def finished(self, job: Job) -> Tuned:
        return self._finished(job)

    def tell(self, step: int, steps: int) -> None:
        if self._report_step is not None:
            self._report_step(step, steps)

    def answers(self, tuned: Tuned, split: Split) -> Tensor:
        if tuned.weights is not None:
            raise RunError("a model with its own weights cannot be a teacher", where=self.task.name)
        return self.scores(tuned, self.task.splits.get(split, ()))

    def scores(self, tuned: Tuned, examples: tuple[Example, ...]) -> Tensor:
        scores = []
        for model in tuned.members:
            shared = self.shared if model.model is None else self.shared.beside(model.model)
            length = self.job.recipe.max_length
            tokens = shared.tokens(examples, self.task.kind, model.reading, length, self.task.name)
            with torch.no_grad():
                scores.append(score(model, shared.states(tokens, model.prompt, model.read), tokens))
        return add_scores(scores)

    def texts(self, tuned: Tuned, examples: tuple[Example, ...]) -> list[str]:
        """What a model whose answers are texts writes for rows."""
        recipe = self.job.recipe
        length = longest_read(self.backbone, tuned.prompt, recipe.max_length, recipe.most)
        tokens = self.shared.tokens(examples, self.task.kind, tuned.reading.unanswered, length, self.task.name)
        with self.shared.part(f"writing {len(examples):,} texts"):
            return write(self.backbone, tuned, tokens, decoding_of(tuned, recipe.most))

    def similarity(self, source: Source, target: Tuned, pooling: str, data: str) -> float:
        """Cosine of the two tasks' embeddings.

        `data=own`: each task's own examples under its own prompt (the source's embedding lies in its artefact);
        `common`: both prompts are shown the target's examples.
        """
        read: Pooling = "cls" if pooling == "cls" else "mean"
        if target.prompt is None or source.artefact.prompt is None:
            raise RunError("a task embedding needs a prompt on both sides", where=source.name)
        target_embedding = self.embedding(target.prompt, read, target.reading)
        stored = source.artefact.embeddings.get(read) if data == "own" else None
        source_embedding = (
            self.embedding(source.artefact.prompt, read, source.artefact.reading) if stored is None else stored
        )
        return cosine(source_embedding, target_embedding)

    def embedding(self, prompt: Prompt, pooling: Pooling, reading: Reading = PLAIN) -> Float[Tensor, "H"]:
        """The task embedding under a prompt: mean state of up to 100 training examples, in the words of a reading."""
        return embed_task(prompt, Target(self.task, reading), self, pooling)

    def hidden(
        self, prompt: Prompt | None, examples: Sequence[Example], target: Target, read: Read
    ) -> tuple[Float[Tensor, "N H"], Tokens]:
        """States of any examples of the target, for the measures."""
        tokens = self._tokens_of(examples, target)
        return self.shared.states(tokens, prompt, read), tokens

    def hidden_each(
        self, prompts: Iterable[Prompt], examples: Sequence[Example], target: Target, read: Read
    ) -> Iterator[tuple[Float[Tensor, "N H"], Tokens]]:
        """States of the same examples under each of several prompts in turn."""
        tokens = self._tokens_of(examples, target)
        return ((states, tokens) for states in self.shared.states_each(tokens, prompts, read))

    def _tokens_of(self, examples: Sequence[Example], target: Target) -> Tokens:
        length = self.job.recipe.max_length
        return self.shared.tokens(tuple(examples), target.task.kind, target.reading, length, target.task.name)

    @cached_property
    def pooling(self) -> Pooling:
        """The pooling that the job reads texts with."""
        return choose_pooling(self)

    @cached_property
    def _encoding(self) -> Encoding:
        return choose_encoding(self)

    def encoding(self) -> Encoding:
        return self._encoding

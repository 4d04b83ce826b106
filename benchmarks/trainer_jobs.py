"""What the jobs of a comparison are when they are done with PEFT and transformers' Trainer; for compare and PANDA.

Every job is done as those who know the two libraries do it: same rows, steps, batch and prompt length as ours, the same
number of looks at validation, a prediction of the test split at the end. Nothing is saved in between and the best state
is not put back, which favours PEFT. The model is loaded once, outside the clock, and copied for each job.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import common
import numpy as np
import torch
from common import DEFAULT
from peft import PrefixTuningConfig, TaskType, get_peft_model
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from torch.nn.functional import mse_loss
from transformers import AutoTokenizer, DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

from promptgraft.task.task import Example, Task
from promptgraft.train.recipe import Recipe

EVALUATION_ROWS = 32
KNOWLEDGE = 0.1 * 0.1  # what PANDA's released code multiplies its second loss with


@dataclass(frozen=True)
class Jobs:
    """The kinds of jobs on one task, on one path.

    Attributes:
        task: with its rows drawn.
        to_maximum: pad to the longest that is allowed, not to the longest of the batch.
        live: PANDA's teacher in training mode and differentiated at every step, as released.
    """

    folder: str
    path: str
    task: Task
    recipe: Recipe
    to_maximum: bool = False
    live: bool = False

    def tune(self) -> Any:
        """Prompt tuning from a random start."""
        return self._train(self._prompted())

    def carry(self) -> Any:
        """The same from a source's prompt."""
        model, source = self._prompted(), self.source
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "prompt_encoder" in name:
                    value.copy_(source.get_parameter(name))
        return self._train(model)

    def distil(self, teacher: Any) -> Any:
        """Prompt tuning with a teacher that is run at every step."""
        return self._train(self._prompted(), teacher)

    def tune_model(self) -> Any:
        """All weights trained."""
        return self._train(copy.deepcopy(self._base))

    def probe(self, model: Any) -> None:
        """Frozen features and a logistic regression."""
        split = {name: self._features(model, self.task.splits[name]) for name in ("train", "validation", "test")}
        head = LogisticRegression(max_iter=1000).fit(split["train"], labels(self.task.train))
        head.predict(split["validation"])
        head.predict(split["test"])

    def rank(self, model: Any) -> None:
        """What one source's prompt is worth: a probe on all labelled rows, cross-validated as ours is."""
        rows = [*self.task.train, *self.task.validation]
        folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=0)
        cross_val_score(LogisticRegression(max_iter=1000), self._features(model, rows), labels(rows), cv=folds)

    def forward(self, model: Any) -> None:
        """The test split and the labels' descriptions, read without training."""
        self._features(model, [*(Example(text=words) for words in self.task.labels.values()), *self.task.test])

    @property
    def base(self) -> Any:
        """The frozen model without a prompt."""
        return self._base

    @cached_property
    def source(self) -> Any:
        """A model with the source's prompt; its values do not change how fast it is."""
        return self._prompted()

    @cached_property
    def _tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def _base(self) -> Any:
        model = common.classifier(self.folder, self.path, len(self.task.classes))
        return model.to(torch.bfloat16) if "bf16" in self.path else model

    def _prompted(self) -> Any:
        kind = PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=self.recipe.length)
        model = get_peft_model(copy.deepcopy(self._base), kind)
        return model.to(torch.bfloat16) if "bf16" in self.path else model

    def _collator(self) -> DataCollatorWithPadding:
        padding = "max_length" if self.to_maximum else "longest"
        return DataCollatorWithPadding(self._tokenizer, padding=padding, max_length=self.recipe.max_length)

    def _encoded(self, examples: Sequence[Example], *, sort: bool) -> list[dict[str, Any]]:
        pairs = [example.pair for example in examples] if examples[0].pair is not None else None
        texts = [example.text for example in examples]
        found = self._tokenizer(texts, pairs, truncation=True, max_length=self.recipe.max_length)
        gold = [self.task.classes.index(str(one.label)) if one.label is not None else 0 for one in examples]
        rows = [{**{name: found[name][row] for name in found}, "labels": gold[row]} for row in range(len(examples))]
        return sorted(rows, key=lambda row: len(row["input_ids"])) if sort else rows

    def _train(self, model: Any, teacher: Any = None) -> Any:
        """Train, look at validation as often as the recipe says, predict the test split."""
        recipe, tuned = self.recipe, self.path != DEFAULT
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                max_steps=recipe.steps,
                per_device_train_batch_size=recipe.batch,
                per_device_eval_batch_size=EVALUATION_ROWS,
                learning_rate=recipe.rate,
                eval_strategy="steps",
                eval_steps=max(1, recipe.steps // recipe.evaluations),
                train_sampling_strategy="group_by_length" if tuned and not self.to_maximum else "random",
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                dataloader_pin_memory=False,
                label_names=["labels"],
            )
            trainer = Distiller(
                model=model,
                args=arguments,
                data_collator=self._collator(),
                train_dataset=self._encoded(self.task.train, sort=False),
                eval_dataset=self._encoded(self.task.validation, sort=tuned),
                compute_metrics=accuracy,
            )
            trainer.teacher, trainer.live = teacher, self.live
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            trainer.predict(self._encoded(self.task.test, sort=tuned))
        return model

    @torch.inference_mode()
    def _features(self, model: Any, examples: Sequence[Example]) -> np.ndarray:
        """The first token's last hidden state."""
        model.eval()
        rows, collate, found = self._encoded(examples, sort=self.path != DEFAULT), self._collator(), []
        for start in range(0, len(rows), EVALUATION_ROWS):
            batch = collate(rows[start : start + EVALUATION_ROWS])
            found.append(model(**batch, output_hidden_states=True).hidden_states[-1][:, 0].float())
        return torch.cat(found).numpy()


class Distiller(Trainer):  # type: ignore[misc]
    """The Trainer, and where there is a teacher PANDA's second loss as released (mean squares of the scores)."""

    teacher: Any = None
    live = False

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
        if self.teacher is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs, **more)
        outputs = model(**inputs)
        self.teacher.train(self.live)
        self.teacher.zero_grad()
        with torch.set_grad_enabled(self.live):
            known = self.teacher(**inputs).logits
        loss = outputs.loss + KNOWLEDGE * mse_loss(outputs.logits, known) / len(known)
        return (loss, outputs) if return_outputs else loss


def accuracy(answers: Any) -> dict[str, float]:
    return {"accuracy": float((answers.predictions.argmax(-1) == answers.label_ids).mean())}


def labels(examples: Sequence[Example]) -> list[str]:
    return [str(example.label) for example in examples]


warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")

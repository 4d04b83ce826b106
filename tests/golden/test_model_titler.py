"""flan-t5-small-titler, a real model, against transformers on the same folder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers

from promptgraft.model.backbone import Batch
from promptgraft.model.catalog import entries, resolve
from promptgraft.model.load import load_backbone
from promptgraft.model.seq2seq import SequenceBackbone
from promptgraft.model.tokens import concatenate
from promptgraft.prompt.prompt import Prompt, stack

NAME = "flan-t5-small-titler"
TEXTS = (
    "User asked to add dark mode. Opened theme.css, edited App.tsx, ran npm test.",
    "Is the sentiment of this review positive or negative? The film was wonderful.",
    "The council voted on Tuesday to build a new public library beside the old market.",
)


@pytest.mark.slow
def test_the_titler_answers_as_transformers_does() -> None:
    if not entries()[NAME].pulled:
        pytest.skip(f"promptgraft models pull {NAME}")
    ours = load_backbone(NAME)
    assert isinstance(ours, SequenceBackbone)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(resolve(NAME).path, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(resolve(NAME).path)
    texts, answers = ours.tokenize_texts(TEXTS), ours.tokenize_texts(["Add dark mode", "positive", "Library"])
    ids = [tokenizer(text, return_tensors="pt").input_ids for text in TEXTS]
    assert torch.equal(texts.ids, torch.cat([each[0] for each in ids]))
    written = [theirs.generate(each, max_new_tokens=16, do_sample=False, num_beams=1)[0] for each in ids]
    assert ours.generate(Batch(texts), None, most=16) == tokenizer.batch_decode(written, skip_special_tokens=True)
    rows = [concatenate([texts.part(row, row + 1), answers.part(row, row + 1)]).ids for row in range(3)]
    flags = [torch.arange(len(row)) >= len(each[0]) for row, each in zip(rows, ids, strict=True)]
    starts = torch.tensor([0, *map(len, rows)]).cumsum(0)
    whole = torch.cat(rows)
    both = replace(texts, ids=whole, types=whole * 0, starts=starts, answers=torch.cat(flags))
    scores = ours.forward(Batch(both), None, "answer")
    wanted = []
    for row, source in enumerate(ids):
        labels = rows[row][flags[row]]
        logits = theirs(input_ids=source, labels=labels[None]).logits[0]
        wanted.append(logits.log_softmax(1).gather(1, labels[:, None]))
    torch.testing.assert_close(scores, torch.cat(wanted).detach(), atol=1e-4, rtol=0)
    prompt = stack([Prompt(ours.keys_values(texts.ids[:4]).requires_grad_())])
    (gradient,) = torch.autograd.grad(
        ours.forward(Batch(both, torch.zeros(3, dtype=torch.long)), prompt, "answer").sum(), prompt.table
    )
    assert (gradient.abs().amax(-1) > 0).all()

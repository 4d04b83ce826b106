"""Toy tasks of every kind over a small vocabulary, and tiny encoders of every packed family with random weights."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from promptgraft.task.task import Answers, Example, Kind, References, Task

GOOD, BAD = ("good", "great", "fine"), ("bad", "awful", "poor")
FILLER = ("the", "film", "was", "a", "plot", "actor", "scene", "with", "and", "music")
WORDS = (*GOOD, *BAD, *FILLER, "positive", "negative", "##s")
SPLITS = {"train": 24, "validation": 12, "test": 12}


def classification(random_: random.Random) -> Example:
    label = random_.choice(["positive", "negative"])
    words = [*random_.sample(FILLER, 3), random_.choice(GOOD if label == "positive" else BAD)]
    random_.shuffle(words)
    return Example(text=" ".join(words), label=label)


def multilabel(random_: random.Random) -> Example:
    names = sorted(random_.sample(["positive", "negative"], random_.choice([0, 1, 1, 2])))
    words = random_.sample(FILLER, 3) + [random_.choice(GOOD if name == "positive" else BAD) for name in names]
    random_.shuffle(words)
    return Example(text=" ".join(words), label=tuple(names))


def pair(random_: random.Random) -> Example:
    one, two = random_.choice(GOOD), random_.choice(BAD)
    same = random_.random() < 0.5
    return Example(text=f"the film was {one}", pair=f"a {one if same else two} plot", label="yes" if same else "no")


def regression(random_: random.Random) -> Example:
    count = random_.randint(0, 4)
    return Example(text=" ".join(["the", *["good"] * count, *["bad"] * (4 - count)]), label=float(count))


def choice(random_: random.Random) -> Example:
    right, wrong = random_.choice(GOOD), random_.sample(BAD, random_.randint(1, 2))
    choices = [right, *wrong]
    random_.shuffle(choices)
    return Example(text=f"the {random_.choice(FILLER)} was", choices=tuple(choices), label=right)


def tagging(random_: random.Random) -> Example:
    words = tuple(random_.choice([*GOOD, *FILLER]) for _ in range(random_.randint(2, 6)))
    return Example(tokens=words, label=tuple("B-PRAISE" if word in GOOD else "O" for word in words))


def span(random_: random.Random) -> Example:
    words = random_.sample(FILLER, 4)
    answer = random_.choice(GOOD)
    words.insert(random_.randint(0, 4), answer)
    context = " ".join(words)
    return Example(text="was a film", pair=context, label=Answers((answer,), (context.index(answer),)))


def text(random_: random.Random) -> Example:
    words = random_.sample(FILLER, 4)
    return Example(text=" ".join(words), label=References((" ".join(words[:2]), " ".join(words[:3]))))


MAKE: dict[Kind, Callable[[random.Random], Example]] = {
    "classification": classification,
    "multilabel": multilabel,
    "pair": pair,
    "regression": regression,
    "choice": choice,
    "tagging": tagging,
    "span": span,
    "text": text,
}
METRIC: dict[Kind, str] = {
    "classification": "accuracy",
    "multilabel": "micro_f1",
    "pair": "accuracy",
    "regression": "pearson_spearman",
    "choice": "accuracy",
    "tagging": "span_f1",
    "span": "em_f1",
    "text": "rougeL",
}
LABELS: dict[Kind, dict[str, str]] = {
    "classification": {"negative": "a bad film", "positive": "a good film"},
    "multilabel": {"negative": "a bad film", "positive": "a good film"},
    "pair": {"no": "no", "yes": "yes"},
    "tagging": {"O": "O", "B-PRAISE": "praise"},
}


def toy_task(kind: Kind = "classification", seed: int = 0, **sizes: int) -> Task:
    """A task that its words decide; `sizes` are rows a split."""
    random_ = random.Random(seed)
    splits = {name: tuple(MAKE[kind](random_) for _ in range(rows)) for name, rows in (SPLITS | sizes).items()}
    return Task(f"toy-{kind}", kind, METRIC[kind], LABELS.get(kind, {}), splits)


SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    # Wider than a trained encoder's start: with 0.02 the states of two texts are all but equal.
    "initializer_range": 0.3,
}


SPECIAL = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
OWN = {
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "distilbert": {"hidden_dim": 48},
    "modernbert": {**SPECIAL, "local_attention": 6},
    "deberta-v2": {"relative_attention": True, "pos_att_type": "c2p|p2c", "position_buckets": 8, "share_att_key": True},
}
"""What only some families have in their config.json."""


def tiny_model(folder: Path, family: str) -> Path:
    """A folder with an encoder of the family: random weights, its own tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModel

    special = ("<s>", "<pad>", "</s>", "<unk>") if family == "roberta" else ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    config = AutoConfig.for_model(family, vocab_size=len(special) + len(WORDS), **SIZE, **OWN.get(family, {}))
    torch.manual_seed(7)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer(special, family).save(str(folder / "tokenizer.json"))
    pooling = {"pooling_mode_mean_tokens": True}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def masked_model(folder: Path) -> Path:
    """A folder with a BERT of random weights that has a head over words, and a mask."""
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    config = AutoConfig.for_model("bert", vocab_size=len(special) + len(WORDS), **SIZE)
    torch.manual_seed(7)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer(special, "bert").save(str(folder / "tokenizer.json"))
    return folder


def tokenizer(special: tuple[str, ...], family: str):  # type: ignore[no-untyped-def]
    """WordPiece over the toy words, framed as the family frames its texts."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    vocabulary = {word: number for number, word in enumerate((*special, *WORDS))}
    roberta = family == "roberta"
    first, last, unknown = ("<s>", "</s>", "<unk>") if roberta else ("[CLS]", "[SEP]", "[UNK]")
    made = Tokenizer(WordPiece(vocabulary, unk_token=unknown))
    made.add_special_tokens(list(special))
    made.pre_tokenizer = Whitespace()
    double = f"{first} $A {last} {last} $B {last}" if roberta else f"{first} $A {last} $B:1 {last}:1"
    made.post_processor = TemplateProcessing(
        single=f"{first} $A {last}",
        pair=double,
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    return made

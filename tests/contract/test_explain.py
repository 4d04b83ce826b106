"""What is said of a prompt holds: words, attention, the loss without a vector, and texts whose answer it changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers

import promptgraft as pg
from causal_models import FAMILIES, cache_of, causal_folder, causal_pair, masks_of
from contract.test_report_page import read, seen
from promptgraft.engine.explain import explain
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.left_out import without_slots
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.near_words import near_words
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import PromptgraftError
from promptgraft.method.job import Job
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.model.watch import watched_pass
from promptgraft.prompt.artefact import Artefact, Member
from promptgraft.prompt.card import Origin, PromptCard, SearchCard, SplitScore
from promptgraft.prompt.prompt import Depth, Prompt
from promptgraft.prompt.reading import Reading
from promptgraft.report.explain import data, facts, page
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Example, Kind, Task
from promptgraft.train.recipe import Recipe
from seq2seq import write_small
from toys import WORDS, masked_model, tiny_model, toy_task

RECIPE = Recipe(steps=4, batch=4, length=3, evaluations=1)
SPOKEN: dict[str, Any] = {"steps": 2, "batch": 4, "evaluations": 1, "length": 2, "max_length": 60}
ENCODERS = ("bert", "roberta", "albert", "electra", "distilbert", "modernbert", "deberta-v2", "mpnet")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def backbone(bert: Path) -> Backbone:
    return load_backbone(bert)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("masked")
    masked_model(folder)
    return load_backbone(folder)


def predictor_of(backbone: Backbone, task: Task, depth: Depth = "deep", method: str = "prompt-tuning") -> Predictor:
    engine = LocalEngine(backbone)
    job = Job(task, backbone.fingerprint, method, 0, RECIPE.changed(depth=depth))
    [finished] = engine.run([job])
    return Predictor(make_artefact(finished, engine.view(job)), backbone)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("kind", "depth"),
    [*((kind, "deep") for kind in KINDS if kind != "text"), ("classification", "shallow"), ("tagging", "shallow")],
)
def test_every_kind_is_explained(kind: Kind, depth: Depth, backbone: Backbone) -> None:
    task = toy_task(kind)
    explained = explain(predictor_of(backbone, task, depth), task.test)
    [member] = explained.members
    assert member.words is not None
    assert member.attention is not None
    assert member.left_out is not None
    assert len(member.words.nearest) == len(member.left_out.vectors) == len(member.attention.vectors) == 3
    assert all(0 < total < 1 for total in member.attention.totals)
    assert explained.changes is not None
    assert explained.changes.rows == explained.labelled == len(task.test)
    assert explained.changes.scores is not None
    assert not explained.notes
    assert kind in seen(page(explained))


@pytest.mark.parametrize("family", ENCODERS)
def test_attention_is_read_off_every_family(family: str, tmp_path: Path) -> None:
    encoder = load_backbone(tiny_model(tmp_path / family, family))
    tokens = encoder.tokenize_texts(["the film was good"])
    for values in (drawn(encoder.layers, 2, 20, encoder.key_width), drawn(20, encoder.embedding_width)):
        watch = watched_pass(encoder, tokens, Prompt(values), "tokens")
        assert [len(share) for share in watch.shares] == [20] * encoder.layers  # more than a head is wide
        assert all(0 < float(share.sum()) < 1 for share in watch.shares)


def test_attention_of_a_shallow_prompt_is_that_of_transformers(bert: Path, backbone: Backbone) -> None:
    theirs = transformers.BertModel.from_pretrained(bert, attn_implementation="eager").eval()
    tokens, values = backbone.tokenize_texts(["the film was good and the plot"]), drawn(3, backbone.embedding_width)
    watch = watched_pass(backbone, tokens, Prompt(values), "tokens")
    words = theirs.embeddings.word_embeddings(tokens.ids)
    rows = torch.cat([words[:1], values, words[1:]])[None]
    given = theirs(inputs_embeds=rows, output_attentions=True).attentions
    text = [0, *range(4, rows.shape[1])]
    for ours, layer in zip(watch.shares, given, strict=True):
        torch.testing.assert_close(ours, layer[0].mean(0)[text, 1:4].mean(0), atol=1e-6, rtol=0)


def test_attention_of_a_prefix_is_that_of_transformers(bert: Path, backbone: Backbone) -> None:
    theirs = transformers.BertModel.from_pretrained(bert, attn_implementation="eager", is_decoder=True).eval()
    tokens = backbone.tokenize_texts(["the film was good"])
    values = drawn(backbone.layers, 2, 3, backbone.key_width)
    watch = watched_pass(backbone, tokens, Prompt(values), "tokens")
    count = len(tokens.ids)
    layers = [tuple(part.unflatten(1, (2, -1)).transpose(0, 1)[None] for part in layer) for layer in values]
    given = theirs(
        input_ids=tokens.ids[None],
        attention_mask=torch.zeros(1, 1, count, count + 3),
        position_ids=torch.arange(count)[None],
        past_key_values=transformers.EncoderDecoderCache(
            transformers.DynamicCache(layers), transformers.DynamicCache()
        ),
        output_attentions=True,
    ).attentions
    for ours, layer in zip(watch.shares, given, strict=True):
        torch.testing.assert_close(ours, layer[0].mean(0)[:, :3].mean(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_of_causal_models_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    pair = causal_pair(tmp_path, name)
    tokens = pair.ours.tokenize_texts(["good bad the"])
    values = drawn(pair.ours.prompt_layers, 2, 3, pair.ours.key_width)
    watch = watched_pass(pair.ours, tokens, Prompt(values), "tokens")
    assert watch.sides == ["decoder"] * pair.ours.layers
    count = len(tokens.ids)
    given = pair.theirs.base_model(
        input_ids=tokens.ids[None],
        attention_mask=masks_of(pair.theirs, count, 3),
        position_ids=torch.arange(count)[None],
        past_key_values=cache_of(pair.theirs, values),
        output_attentions=True,
    ).attentions
    for ours, layer in zip(watch.shares, given, strict=True):
        torch.testing.assert_close(ours, layer[0].mean(0)[:, :3].mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_a_vector_left_out_is_the_artefact_without_it(depth: Depth, backbone: Backbone) -> None:
    task = toy_task()
    predictor = predictor_of(backbone, task, depth)
    [member] = explain(predictor, task.test).members
    assert member.left_out is not None
    gold = torch.tensor([task.classes.index(str(row.label)) for row in task.test])

    def loss(artefact: Artefact) -> float:
        shares = Predictor(artefact, backbone).predict_proba([replace(row, label=None) for row in task.test])
        return float(F.nll_loss(torch.from_numpy(shares).log(), gold))

    artefact = predictor.artefact
    assert artefact.prompt is not None
    whole = loss(artefact)
    assert member.left_out.loss == pytest.approx(whole, abs=1e-5)
    for vector, left in enumerate(member.left_out.vectors):
        kept = [place for place in range(3) if place != vector]
        shorter = Prompt(artefact.prompt.values[..., kept, :], artefact.prompt.placement)
        card = artefact.card.replace(prompt=PromptCard.of(shorter))
        assert left.change == pytest.approx(loss(artefact.replace(prompt=shorter, card=card)) - whole, abs=1e-5)
    bare = artefact.replace(prompt=None, card=artefact.card.replace(prompt=None))
    assert member.left_out.prompt.change == pytest.approx(loss(bare) - whole, abs=1e-5)


def test_a_place_that_is_left_out_is_that_of_a_shorter_template(masked: Backbone) -> None:
    rows = [Example(text="the film was good"), Example(text="a plot")]

    def tokens(template: str) -> Any:
        return masked.tokenize(rows, "classification", Reading("mark", template=template))

    long = tokens("{soft:3} {text} was {soft:2} {mask} .")
    for number, template in (
        (0, "{soft:2} {text} was {soft:2} {mask} ."),
        (4, "{soft:3} {text} was {soft:1} {mask} ."),
    ):
        shorter, wanted = without_slots(long, number), tokens(template)
        for field in ("ids", "types", "starts", "rows", "marks"):
            assert torch.equal(getattr(shorter, field), getattr(wanted, field)), field
    assert torch.equal(without_slots(long).marks, tokens("{text} was {mask} .").marks)


def test_vectors_in_a_template_are_explained(masked: Backbone) -> None:
    outcome = pg.tune(
        toy_task(), masked, shots=4, template='{text} {soft:"was a"}{mask} .', verbalizer="negative=bad,positive=good",
        **SPOKEN,
    )  # fmt: skip
    [member] = explain(Predictor(outcome.artefact, masked), toy_task().test).members
    assert member.prompt is not None
    assert member.prompt.placement == "template"
    assert member.left_out is not None
    assert len(member.left_out.vectors) == 2


@pytest.mark.parametrize(
    ("family", "kind", "depth"),
    [
        ("llama", "classification", "deep"),
        ("llama", "text", "shallow"),
        ("t5", "classification", "shallow"),
        ("t5", "text", "deep"),
        ("bart", "classification", "deep"),
    ],
)
def test_models_that_write_are_explained(family: str, kind: Kind, depth: Depth, tmp_path: Path) -> None:
    write_small(family, tmp_path) if family != "llama" else causal_folder(tmp_path, family)
    speaker, task = load_backbone(tmp_path), toy_task(kind, train=8, validation=2, test=4)
    template, options = ("{text} so {mask}", {}) if kind == "text" else ("{text} is {mask}", {"readout": "completion"})
    kept = pg.tune(task, speaker, shots=1, options=options, template=template, depth=depth, most=4, **SPOKEN)
    explained = explain(Predictor(kept.artefact, speaker), task.test)
    [member] = explained.members
    assert member.attention is not None
    assert member.left_out is not None
    assert len(member.left_out.vectors) == len(member.attention.vectors) == 2
    sides = {name.rpartition(" ")[0] for name in member.attention.names}
    assert sides == ({"layer"} if family == "llama" else {"encoder", "decoder", "decoder to encoder"})
    assert explained.changes is not None
    page(explained)


def test_every_member_of_a_graft_is_explained(masked: Backbone, tmp_path: Path) -> None:
    task, bank = toy_task(), pg.open_bank(tmp_path / "bank", create=True)
    for name, seed in (("first", 1), ("second", 2)):
        bank.add(predictor_of(masked, toy_task(seed=seed)).artefact, name)
    kept = pg.transfer(
        task, masked, bank, method="graft", template="{text} {mask} .", verbalizer="negative=bad,positive=good"
    )
    words = next(member for member in kept.artefact.others if member.reading.template is not None)
    first, second = bank.load("first"), bank.load("second")
    joined = first.replace(others=(Member(second.prompt, second.readout, second.reading), words))
    joined = joined.replace(card=kept.artefact.card.replace(
        readout=first.card.readout, pooling=first.card.pooling, prompt=first.card.prompt,
        others=tuple(member.card for member in joined.others), lineage=(Origin(role="source", name="first", hash="0"),),
    ))  # fmt: skip
    explained = pg.explain(joined, task, model=masked)
    shares = [member.share for member in explained.members if member.share is not None]
    assert len(shares) == len(explained.members) == 3
    assert sum(shares) == pytest.approx(1)
    assert [member.template for member in explained.members] == [None, None, "{text} {mask} ."]
    for member in explained.members:
        assert (member.prompt is None) == (member.words is None) == (member.left_out is None)
    assert explained.card.lineage
    assert "member" in repr(explained)
    read(page(explained))


def test_an_artefact_without_a_prompt_says_so(backbone: Backbone) -> None:
    task = toy_task()
    explained = explain(predictor_of(backbone, task, method="linear-probe"), task.test)
    assert not explained.has_prompt
    do = f"`promptgraft tune TASK --model {backbone.name}` makes some"
    assert explained.notes == (f"linear-probe has no prompt, so there are no vectors to explain; {do}",)
    assert "no prompt" in seen(page(explained))


def test_words_without_vectors_are_told_with_what_they_are_worth(masked: Backbone) -> None:
    """Words that were given, then ones that a search found: its cost and scores stand in the card."""
    template = "{text} it was {mask} ."
    given = {"template": template, "verbalizer": "negative=bad|film,positive=good"}
    outcome = pg.tune(toy_task(), masked, method="zero-shot", shots=0, **given)
    explained = explain(outcome.predictor)
    test = outcome.artefact.card.scores["test"]
    assert facts(explained) == [
        f"It reads rows in {template!r}.",
        "Labels are read by negative = bad, film; positive = good.",
        f"accuracy: {test.value:.1f} ({test.low:.1f} to {test.high:.1f}) on {test.rows} test rows.",
    ]
    tune = f"`promptgraft tune TASK --model {masked.name} --template ...` starts some from its words"
    assert tune in explained.notes[0]
    assert "promptgraft templates try TASK" in explained.notes[0]
    found = SearchCard(
        algorithm="grips",
        model="m",
        passes=1200,
        choosing=SplitScore(value=70, low=50, high=85, rows=16),
        report=SplitScore(value=61, rows=1200),
    )
    card = outcome.artefact.card.replace(search=found)
    searched = explain(Predictor(outcome.artefact.replace(card=card), masked))
    line = (
        "Its words were found by grips with m in 1,200 passes: accuracy 70.0 (50.0 to 85.0) on 16 rows that chose "
        "them, 61.0 on 1,200 that nothing had seen."
    )
    assert facts(searched) == [*facts(explained)[:2], line]
    assert data(searched)["search"]["report"]["value"] == 61
    assert data(searched)["label_words"] == {"negative": ["bad", "film"], "positive": ["good"]}
    shown = seen(page(searched))
    for told in (line, "it was {mask}", "no prompt"):
        assert told in shown
    assert "found by grips" in repr(pg.explain(outcome.artefact.replace(card=card), model=masked))


def test_vectors_of_words_are_nearest_to_these(backbone: Backbone) -> None:
    ids = torch.tensor([backbone.lone_words()[word] for word in ("good", "plot", "music")])
    near = near_words(backbone, Prompt(2 * backbone.embed(ids)))
    assert near is not None
    assert [words[0].word for words in near.nearest] == ["good", "plot", "music"]
    assert [words[0].cosine for words in near.nearest] == pytest.approx([1, 1, 1], abs=1e-5)
    assert near.norms[0].vectors == pytest.approx((2 * backbone.embed(ids)).norm(dim=1).tolist())
    assert 0 < near.random < 1
    assert near.words == len([word for word in WORDS if not word.startswith("##") and len(word) > 1])


def test_keys_and_values_of_words_read_alike_are_nearest_to_these(backbone: Backbone) -> None:
    words = dict(backbone.lone_words())
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(0)).tolist()
    names = [list(words)[place] for place in order]
    deep = backbone.keys_values(torch.tensor([words[name] for name in names]))
    near = near_words(backbone, Prompt(deep[:, :, 2:5]))
    assert near is not None
    assert [found[0].word for found in near.nearest] == names[2:5]
    assert all(key.word == value.word for layers in near.by_layer for key, value in layers)


@pytest.mark.parametrize("form", ["memory", "file", "task"])
def test_labels_that_are_truth_values_are_read_however_they_are_written(
    form: str, backbone: Backbone, tmp_path: Path
) -> None:
    task = toy_task()
    names = dict(zip(task.classes, ("False", "True"), strict=True))
    splits = {
        split: tuple(replace(row, label=names[str(row.label)]) for row in rows) for split, rows in task.splits.items()
    }
    true_or_false = task.replace(labels={names[label]: text for label, text in task.labels.items()}, splits=splits)
    predictor = predictor_of(backbone, true_or_false)
    records = [{"text": row.text, "label": row.label == "True"} for row in true_or_false.test]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    loaded = pg.load_task({"train": records, "test": records})
    rows: Any = {"memory": records, "file": tmp_path / "rows.jsonl", "task": loaded}[form]
    assert pg.explain(predictor, rows).changes == pg.explain(predictor, true_or_false).changes


def test_rows_without_labels_and_no_rows(backbone: Backbone) -> None:
    task = toy_task()
    predictor = predictor_of(backbone, task)
    bare = pg.explain(predictor)
    assert bare.rows == 0
    assert bare.members[0].words is not None
    assert bare.members[0].attention is None
    assert "--file" in bare.notes[-1]
    texts = pg.explain(predictor, [row.text for row in task.test])
    assert texts.members[0].attention is not None
    assert texts.members[0].left_out is None
    assert texts.changes is not None
    assert texts.changes.scores is None
    mixed = pg.explain(predictor, [*task.test[:4], Example(text="a film")])
    assert mixed.rows == 4
    assert "1 row without a label is left out" in mixed.notes


def test_wrong_rows_are_one_line(backbone: Backbone, tmp_path: Path) -> None:
    predictor = predictor_of(backbone, toy_task())
    odd = tmp_path / "odd.csv"
    odd.write_text("text,label\na film,positiv\n", encoding="utf-8")
    with pytest.raises(PromptgraftError, match="did you mean 'positive'"):
        pg.explain(predictor, odd)
    odd.write_text("", encoding="utf-8")
    with pytest.raises(PromptgraftError):
        pg.explain(predictor, odd)
    with pytest.raises(PromptgraftError, match="is regression"):
        pg.explain(predictor, toy_task("regression"))
    with pytest.raises(PromptgraftError, match="1 or more"):
        pg.explain(predictor, toy_task(), most=0)


def test_the_page_and_figures_show_chinese(backbone: Backbone, tmp_path: Path) -> None:
    task = toy_task()
    rows = [Example(text="这部电影很好看 <b>", label="positive"), Example(text="good " * 2000, label="negative")]
    explanation = pg.explain(predictor_of(backbone, task), rows)
    files = explanation.save(tmp_path / "out", "promptgraft explain run")
    text = files["report.html"].read_text(encoding="utf-8")
    assert "这部电影很好看" in seen(text)
    assert "<script" not in text
    assert "src=" not in text
    assert text.count("<svg") == 3
    figures = json.loads(files["explain.json"].read_text(encoding="utf-8"))
    assert figures["members"][0]["prompt"]["length"] == 3
    assert figures["changes"]["texts"]

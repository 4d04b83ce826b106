"""PEFT itself writes and reads what we read and write."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from promptgraft.errors import ArtefactError
from promptgraft.prompt.artefact import Artefact, load, save
from promptgraft.prompt.card import BackboneCard, Card, PromptCard, TaskCard
from promptgraft.prompt.peft import export_peft, import_peft
from promptgraft.prompt.prompt import Prompt

SPLADE = BackboneCard(name="splade-tiny", fingerprint="f" * 64, family="bert")
TASK = TaskCard(
    name="mood", kind="classification", metric="accuracy", labels={"bad": "it is bad", "good": "it is good"}
)
TEXTS = ["a fine film", "the blade broke on day two, and again on day three", "no"]
TYPES = ("PROMPT_TUNING", "PREFIX_TUNING")


def base_model(folder: Path, labels: int = 2) -> torch.nn.Module:
    from transformers import BertForSequenceClassification

    torch.manual_seed(3)
    return BertForSequenceClassification.from_pretrained(folder, num_labels=labels, attn_implementation="eager").eval()


def peft_folder(base: Path, folder: Path, kind: str, labels: int = 2) -> torch.nn.Module:
    """A PEFT model with a random prompt and head, saved to `folder`."""
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    config = {"PROMPT_TUNING": PromptTuningConfig, "PREFIX_TUNING": PrefixTuningConfig}[kind]
    model = get_peft_model(base_model(base, labels), config(task_type="SEQ_CLS", num_virtual_tokens=5)).eval()
    model.save_pretrained(folder)
    return model


def logits(model: torch.nn.Module, base: Path, text: str) -> Tensor:
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(base)(text, return_tensors="pt")
    with torch.no_grad():
        return model(**tokens).logits[0]


@pytest.mark.parametrize("kind", TYPES)
def test_peft_to_us_to_disk_and_back_gives_equal_logits(kind: str, splade_tiny: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    theirs = peft_folder(splade_tiny, tmp_path / "theirs", kind)
    save(import_peft(tmp_path / "theirs", SPLADE, TASK), tmp_path / "ours")
    notes = export_peft(load(tmp_path / "ours"), tmp_path / "back", base_model=str(splade_tiny), layers=2, heads=2)
    assert notes == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT knows every key
        again = PeftModel.from_pretrained(base_model(splade_tiny), tmp_path / "back").eval()
    for text in TEXTS:
        assert torch.equal(logits(theirs, splade_tiny, text), logits(again, splade_tiny, text))


@pytest.mark.parametrize("kind", TYPES)
def test_our_own_forward_gives_the_logits_of_peft(kind: str, splade_tiny: Path, tmp_path: Path) -> None:
    from promptgraft.model.backbone import Batch
    from promptgraft.model.load import load_backbone
    from promptgraft.prompt.prompt import stack
    from promptgraft.readout.linear import Linear

    theirs = peft_folder(splade_tiny, tmp_path / "theirs", kind)
    backbone = load_backbone(splade_tiny)
    if "pooler.dense.weight" not in backbone.weights:  # splade-tiny is a masked LM; give both the same pooler
        dense = base_model(splade_tiny).bert.pooler.dense
        backbone = with_pooler(splade_tiny, tmp_path / "pooled")
        theirs.base_model.bert.pooler.dense.load_state_dict(dense.state_dict())
    artefact = import_peft(tmp_path / "theirs", BackboneCard.of(backbone), TASK)
    assert artefact.prompt is not None
    tokens = backbone.tokenize_texts(TEXTS)
    batch = Batch(tokens, torch.zeros(len(TEXTS), dtype=torch.long))
    with torch.no_grad():
        hidden = backbone.forward(batch, stack([artefact.prompt]), "pooler")
        ours = Linear.load(artefact.readout).scores(hidden, tokens)
    expected = torch.stack([logits(theirs, splade_tiny, text) for text in TEXTS])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def with_pooler(base: Path, folder: Path):  # type: ignore[no-untyped-def]
    """The backbone of `base_model`, whose pooler is drawn with a fixed seed."""
    from transformers import AutoTokenizer

    from promptgraft.model.load import load_backbone

    base_model(base).bert.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return load_backbone(folder)


@pytest.mark.parametrize("kind", TYPES)
def test_an_import_holds_the_tensors_of_peft(kind: str, splade_tiny: Path, tmp_path: Path) -> None:
    theirs = peft_folder(splade_tiny, tmp_path / "theirs", kind)
    artefact = import_peft(tmp_path / "theirs", SPLADE, TASK)
    embedding = theirs.prompt_encoder["default"].embedding.weight
    assert artefact.prompt is not None
    if kind == "PREFIX_TUNING":
        assert artefact.prompt.values.shape == (2, 2, 5, 128)
        # What PEFT hands to layer 1 as values: [heads, P, head width], after splitting its flat table.
        past = theirs.get_prompt(batch_size=1)
        values = past.layers[1].values[0].transpose(0, 1).reshape(5, 128)
        assert torch.equal(artefact.prompt.values[1, 1], values)
    else:
        assert torch.equal(artefact.prompt.values, embedding)
    assert artefact.prompt.placement == "peft"
    head = theirs.base_model.classifier.modules_to_save["default"]
    assert torch.equal(artefact.readout["weight"], head.weight)
    assert torch.equal(artefact.readout["bias"], head.bias)


def ours(kind: str = "PROMPT_TUNING", **changes: object) -> Artefact:
    generator = torch.Generator().manual_seed(1)
    shape = (5, 128) if kind == "PROMPT_TUNING" else (2, 2, 5, 128)
    prompt = Prompt(torch.randn(shape, generator=generator), "peft")
    card = Card(
        task=TASK, backbone=SPLADE, prompt=PromptCard.of(prompt), pooling="pooler", readout="linear", method="x"
    )
    names = torch.tensor(list(json.dumps(["bad", "good"]).encode()), dtype=torch.uint8)
    readout = {"labels": names, "weight": torch.randn(2, 128, generator=generator), "bias": torch.zeros(2)}
    return Artefact(prompt, readout, card.replace(**changes))


@pytest.mark.parametrize("kind", TYPES)
def test_our_own_export_comes_back_whole(kind: str, tmp_path: Path) -> None:
    artefact = ours(kind, seed=7)
    export_peft(artefact, tmp_path / "out", base_model="x", layers=2, heads=2)
    again = import_peft(tmp_path / "out", SPLADE)
    assert again.hash == artefact.hash
    with pytest.raises(
        ArtefactError, match=r"was tuned on splade-tiny \(ffffffffffff\), not on minilm \(000000000000\)"
    ):
        import_peft(tmp_path / "out", BackboneCard(name="minilm", fingerprint="0" * 64, family="bert"))


def test_regression_predicts_in_units_of_the_labels(splade_tiny: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    task = TaskCard(name="stars", kind="regression", metric="pearson_spearman")
    generator = torch.Generator().manual_seed(2)
    state = {
        "weight": torch.randn(128, generator=generator),
        "bias": torch.tensor(0.5),
        "moments": torch.tensor([3.0, 2.0]),
    }
    artefact = ours(task=task, readout="regression").replace(readout=state)
    export_peft(artefact, tmp_path / "out", base_model=str(splade_tiny), layers=2, heads=2)
    model = PeftModel.from_pretrained(base_model(splade_tiny, 1), tmp_path / "out").eval()
    again = import_peft(tmp_path / "out", SPLADE)
    pooled = torch.randn(128, generator=generator)
    expected = (pooled @ state["weight"] + 0.5) * 2 + 3
    head = model.base_model.classifier.modules_to_save["default"]
    torch.testing.assert_close(head(pooled)[0], expected)
    mean, sd = again.readout["moments"]
    torch.testing.assert_close((pooled @ again.readout["weight"] + again.readout["bias"]) * sd + mean, expected)


def test_several_labels_are_transformers_sigmoids(splade_tiny: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    task = TASK.model_copy(update={"kind": "multilabel", "metric": "micro_f1"})
    linear = ours(task=task, readout="multilabel")
    rule = {"threshold": torch.tensor(0.0), "least": torch.tensor(0.0)}
    artefact = linear.replace(readout={**linear.readout, **rule})
    assert export_peft(artefact, tmp_path / "out", base_model=str(splade_tiny), layers=2, heads=2) == ()
    again = import_peft(tmp_path / "out", SPLADE)
    assert again.hash == artefact.hash
    base = base_model(splade_tiny)
    base.config.problem_type = "multi_label_classification"
    model = PeftModel.from_pretrained(base, tmp_path / "out").eval()
    pooled = torch.randn(128, generator=torch.Generator().manual_seed(3))
    head = model.base_model.classifier.modules_to_save["default"]
    torch.testing.assert_close(head(pooled), artefact.readout["weight"] @ pooled + artefact.readout["bias"])
    settled = artefact.replace(
        readout={**artefact.readout, "threshold": torch.tensor(-1.0), "least": torch.tensor(1.0)}
    )
    with pytest.raises(ArtefactError, match=r"labels are given from a probability of 0\.27, .* its likeliest label"):
        export_peft(settled, tmp_path / "exact", base_model="x", layers=2, heads=2)
    differences = export_peft(settled, tmp_path / "told", base_model="x", layers=2, heads=2, exact=False)
    assert len(differences) == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pooling": "mean"}, "pooling is mean"),
        ({"readout": "label-text"}, "the readout label-text has no counterpart"),
        ({"encoding": "separate"}, "pairs are encoded separate"),
        ({"backbone": BackboneCard(name="r", fingerprint="f" * 64, family="roberta")}, "the head of roberta is not"),
    ],
)
def test_what_peft_computes_otherwise_is_refused_with_the_reason(
    changes: dict[str, object], why: str, tmp_path: Path
) -> None:
    artefact = ours(**changes)
    with pytest.raises(ArtefactError, match=why):
        export_peft(artefact, tmp_path / "out", base_model="x", layers=2, heads=2)
    assert not (tmp_path / "out").exists()
    [note] = export_peft(artefact, tmp_path / "out", base_model="x", layers=2, heads=2, exact=False)
    assert why in note


def test_a_prompt_after_cls_is_not_exact(tmp_path: Path) -> None:
    artefact = ours()
    assert artefact.prompt is not None
    moved = artefact.replace(prompt=Prompt(artefact.prompt.values, "after_cls"))
    with pytest.raises(ArtefactError, match="placement is after_cls"):
        export_peft(moved, tmp_path / "out", base_model="x", layers=2, heads=2)


def test_a_card_whose_tensors_were_trained_on_is_not_believed(splade_tiny: Path, tmp_path: Path) -> None:
    peft_folder(splade_tiny, tmp_path / "out", "PROMPT_TUNING")
    page = {"adapter": "0" * 64, "card": json.loads(ours().card.to_json())}
    (tmp_path / "out" / "promptgraft.json").write_text(json.dumps(page))
    with pytest.warns(UserWarning, match="changed since"):
        artefact = import_peft(tmp_path / "out", SPLADE)
    assert artefact.card.method == "peft"
    assert list(artefact.card.task.labels) == ["0", "1"]


def test_a_head_that_is_not_linear_is_left_out_with_a_warning(splade_tiny: Path, tmp_path: Path) -> None:
    peft_folder(splade_tiny, tmp_path / "out", "PROMPT_TUNING")
    with pytest.warns(UserWarning, match="left out"):
        artefact = import_peft(tmp_path / "out", BackboneCard(name="e", fingerprint="f" * 64, family="electra"))
    assert (artefact.card.readout, artefact.readout) == ("none", {})


def test_other_adapters_and_broken_folders_are_one_line(splade_tiny: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    get_peft_model(base_model(splade_tiny), LoraConfig(task_type="SEQ_CLS")).save_pretrained(tmp_path / "lora")
    with pytest.raises(ArtefactError, match="is a LORA adapter; only PROMPT_TUNING, PREFIX_TUNING, CARTRIDGE can"):
        import_peft(tmp_path / "lora", SPLADE)
    with pytest.raises(ArtefactError, match=r"adapter_config.json: is missing"):
        import_peft(tmp_path / "nothing", SPLADE)
    peft_folder(splade_tiny, tmp_path / "cut", "PREFIX_TUNING")
    file = tmp_path / "cut" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ArtefactError, match="damaged or cut short"):
        import_peft(tmp_path / "cut", SPLADE)
    peft_folder(splade_tiny, tmp_path / "three", "PREFIX_TUNING", labels=3)
    with pytest.raises(ArtefactError, match="head has 3 rows, the task mood has 2 labels"):
        import_peft(tmp_path / "three", SPLADE, TASK)

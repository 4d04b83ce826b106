"""Prompts of language models go to PEFT and come back; PEFT's own logits are the reference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

from promptgraft.errors import ArtefactError
from promptgraft.model.backbone import Batch
from promptgraft.model.load import load_backbone
from promptgraft.model.seq2seq import SequenceBackbone
from promptgraft.prompt.artefact import Artefact, load, save
from promptgraft.prompt.card import NO_READOUT, BackboneCard, Card, PromptCard, TaskCard
from promptgraft.prompt.peft import export_peft, import_peft
from promptgraft.prompt.prompt import Prompt, stack
from seq2seq import VOCABULARY, rows_of, write_small

TASK = TaskCard(name="mood", kind="classification", metric="accuracy", labels={"bad": "bad", "good": "good"})
TYPES = ("PROMPT_TUNING", "PREFIX_TUNING", "CARTRIDGE")
LENGTH = 3
FAMILIES = ("t5", "bart")
"""T5 has three decoder layers here, BART two: with an even number PEFT hands two layers the same rows."""


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SequenceBackbone:
    folder = tmp_path_factory.mktemp(request.param)
    write_small(request.param, folder)
    backbone = load_backbone(folder)
    assert isinstance(backbone, SequenceBackbone)
    return replace_name(backbone, folder)


def replace_name(backbone: SequenceBackbone, folder: Path) -> SequenceBackbone:
    backbone.name = str(folder)
    return backbone


def decoder_layers(backbone: SequenceBackbone) -> int:
    return backbone.prompt_layers - backbone.layers


def base_model(backbone: SequenceBackbone) -> Any:
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(backbone.name).eval()


def config_of(kind: str, backbone: SequenceBackbone, **more: Any) -> Any:
    both = {"task_type": "SEQ_2_SEQ_LM", "num_virtual_tokens": LENGTH, **more}
    if kind == "PROMPT_TUNING":
        return peft.PromptTuningConfig(**both)
    sizes = {"num_layers": decoder_layers(backbone), "num_attention_heads": backbone.heads}
    config = peft.PrefixTuningConfig if kind == "PREFIX_TUNING" else peft.CartridgeConfig
    return config(**both, **sizes, token_dim=backbone.key_width)


def their_logits(model: Any) -> Tensor:
    tokens = rows_of([5], [3])
    assert tokens.answers is not None
    start = torch.tensor([model.config.decoder_start_token_id])
    with torch.no_grad():
        source, answer = tokens.ids[~tokens.answers], tokens.ids[tokens.answers]
        target = torch.cat([start, answer[:-1]])
        return model(input_ids=source[None], decoder_input_ids=target[None]).logits[0]


def our_logits(backbone: SequenceBackbone, prompt: Prompt) -> Tensor:
    tokens, columns = rows_of([5], [3]), backbone.columns(torch.arange(VOCABULARY))
    rows = []
    for mark in (4, 5, 6):  # the last token of the text, then two of the answer
        batch = Batch(replace(tokens, marks=torch.tensor([mark])), torch.zeros(1, dtype=torch.long))
        rows.append(backbone.forward(batch, stack([prompt]), "mark"))
    return torch.cat(rows) @ columns[0].T + columns[1]


@pytest.mark.parametrize("kind", TYPES)
def test_what_peft_tuned_gives_its_logits_here_and_there_again(
    kind: str, pair: SequenceBackbone, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    theirs = peft.get_peft_model(base_model(pair), config_of(kind, pair)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    artefact = import_peft(tmp_path / "theirs", BackboneCard.of(pair), TASK)
    assert artefact.prompt is not None
    assert (artefact.card.readout, artefact.card.prompt) == (NO_READOUT, PromptCard.of(artefact.prompt))
    wanted = their_logits(theirs)
    torch.testing.assert_close(our_logits(pair, artefact.prompt), wanted, atol=1e-5, rtol=0)
    save(artefact, tmp_path / "ours")
    sizes = {"base_model": pair.name, "layers": decoder_layers(pair), "heads": pair.heads}
    assert export_peft(load(tmp_path / "ours"), tmp_path / "back", **sizes) == ()
    assert json.loads((tmp_path / "back" / "adapter_config.json").read_text())["peft_type"] == kind
    again = peft.PeftModel.from_pretrained(base_model(pair), tmp_path / "back").eval()
    assert torch.equal(their_logits(again), wanted)


@pytest.mark.parametrize("placement", ["peft", "after_cls"])
def test_what_peft_has_no_place_for_is_said(placement: Any, pair: SequenceBackbone, tmp_path: Path) -> None:
    """Refused, or given as far as PEFT can hold it: what it holds gives PEFT's logits here."""
    layers = decoder_layers(pair)
    values = torch.randn(pair.prompt_layers, 2, LENGTH, pair.key_width, generator=torch.Generator().manual_seed(1))
    artefact = tuned(pair, Prompt(values, placement))
    sizes: dict[str, Any] = {"base_model": pair.name, "layers": layers, "heads": pair.heads}
    with pytest.raises(ArtefactError, match="no prefix for the encoder and the cross attentions") as refusal:
        export_peft(artefact, tmp_path / "peft", **sizes)
    assert "\n" not in str(refusal.value)
    reasons = export_peft(artefact, tmp_path / "peft", exact=False, **sizes)
    assert any("encoder" in reason for reason in reasons)
    assert any("one prefix" in reason for reason in reasons) == (layers % 2 == 0)
    assert any("placement" in reason for reason in reasons) == (placement == "after_cls")
    theirs = peft.PeftModel.from_pretrained(base_model(pair), tmp_path / "peft").eval()
    back = import_peft(tmp_path / "peft", BackboneCard.of(pair))
    assert back.prompt is not None
    assert back.prompt.values.shape[0] == layers
    own = values[-2 * layers : -layers]
    torch.testing.assert_close(back.prompt.values[: layers // 2], own[: layers // 2])
    torch.testing.assert_close(our_logits(pair, back.prompt), their_logits(theirs), atol=1e-5, rtol=0)


def tuned(backbone: SequenceBackbone, prompt: Prompt, readout: str = NO_READOUT) -> Artefact:
    card = Card(
        task=TASK,
        backbone=BackboneCard.of(backbone),
        prompt=PromptCard.of(prompt),
        pooling="mean",
        readout=readout,
        method="prompt_tuning",
        trainable=prompt.values.numel(),
    )
    return Artefact(prompt, {}, card)


def test_shallow_prompts_of_ours_give_our_logits_there(pair: SequenceBackbone, tmp_path: Path) -> None:
    prompt = Prompt(torch.randn(LENGTH, pair.embedding_width, generator=torch.Generator().manual_seed(2)), "peft")
    sizes: dict[str, Any] = {"base_model": pair.name, "layers": decoder_layers(pair), "heads": pair.heads}
    assert export_peft(tuned(pair, prompt), tmp_path / "peft", **sizes) == ()
    theirs = peft.PeftModel.from_pretrained(base_model(pair), tmp_path / "peft").eval()
    torch.testing.assert_close(our_logits(pair, prompt), their_logits(theirs), atol=1e-5, rtol=0)


def test_a_cartridge_is_a_deep_prompt_by_another_name(pair: SequenceBackbone, tmp_path: Path) -> None:
    layers = decoder_layers(pair)
    half = torch.randn(layers, 2, LENGTH, pair.key_width, generator=torch.Generator().manual_seed(3))
    values = half if layers % 2 else half[: layers // 2].repeat(2, 1, 1, 1)
    sizes: dict[str, Any] = {"base_model": pair.name, "layers": layers, "heads": pair.heads}
    artefact = tuned(pair, Prompt(values, "peft"))
    assert export_peft(artefact, tmp_path / "cartridge", peft_type="CARTRIDGE", **sizes) == ()
    theirs = peft.PeftModel.from_pretrained(base_model(pair), tmp_path / "cartridge").eval()
    assert type(theirs.peft_config["default"]) is peft.CartridgeConfig
    torch.testing.assert_close(our_logits(pair, Prompt(values, "peft")), their_logits(theirs), atol=1e-5, rtol=0)
    with pytest.raises(ArtefactError, match="a deep prompt is no PROMPT_TUNING adapter"):
        export_peft(artefact, tmp_path / "no", peft_type="PROMPT_TUNING", **sizes)
    with pytest.raises(ArtefactError, match="is no OTHER adapter"):
        export_peft(artefact, tmp_path / "no", peft_type="OTHER", **sizes)


def test_a_readout_of_words_is_left_behind(pair: SequenceBackbone, tmp_path: Path) -> None:
    prompt = Prompt(torch.zeros(LENGTH, pair.embedding_width), "peft")
    sizes: dict[str, Any] = {"base_model": pair.name, "layers": decoder_layers(pair), "heads": pair.heads}
    with pytest.raises(ArtefactError, match="the readout verbalizer has no counterpart"):
        export_peft(tuned(pair, prompt, "verbalizer"), tmp_path / "peft", **sizes)


def test_an_adapter_of_another_kind_of_model_is_refused(pair: SequenceBackbone, tmp_path: Path) -> None:
    theirs = peft.get_peft_model(base_model(pair), config_of("PROMPT_TUNING", pair))
    theirs.save_pretrained(tmp_path)
    encoder = BackboneCard(name="splade-tiny", fingerprint="f" * 64, family="bert")
    with pytest.raises(ArtefactError, match="task type SEQ_2_SEQ_LM, and splade-tiny is none"):
        import_peft(tmp_path, encoder)

"""Prompts of causal models go to PEFT and come back; PEFT's own logits are the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

from causal_models import batch_of, causal_folder, drawn, rows_of
from promptgraft.model.causal import CausalBackbone
from promptgraft.model.load import load_folder
from promptgraft.model.resolved import Resolved
from promptgraft.prompt.artefact import Artefact, load, save
from promptgraft.prompt.card import NO_READOUT, BackboneCard, Card, PromptCard, TaskCard
from promptgraft.prompt.peft import export_peft, import_peft
from promptgraft.prompt.prompt import Prompt, stack

TASK = TaskCard(name="mood", kind="classification", metric="accuracy", labels={"bad": "bad", "good": "good"})
CONFIGS = {
    "PROMPT_TUNING": peft.PromptTuningConfig,
    "PREFIX_TUNING": peft.PrefixTuningConfig,
    "CARTRIDGE": peft.CartridgeConfig,
}
LENGTH = 3
TEXT = drawn([3])
"""Short enough that no window of a small model leaves the prompt behind."""


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3", "gemma3", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CausalBackbone]:
    """Grouped heads, heads of a width of their own, windows, and a table of positions."""
    folder = tmp_path_factory.mktemp(request.param)
    causal_folder(folder, request.param)
    ours = load_folder(Resolved(request.param, folder, "", None, False))
    assert isinstance(ours, CausalBackbone)
    return folder, ours


def base_model(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def their_logits(wrapped: Any) -> Tensor:
    """The logits behind every token of the text."""
    with torch.no_grad():
        return wrapped(input_ids=torch.tensor(TEXT)).logits[0, -len(TEXT[0]) :]


def our_logits(ours: CausalBackbone, prompt: Prompt) -> Tensor:
    columns, _ = ours.columns(torch.arange(300))
    states = ours.forward(batch_of(rows_of(TEXT), [0]), stack([prompt]), "tokens")
    return states @ columns.T


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_peft_tuned_gives_its_logits_here_and_there_again(
    kind: str, model: tuple[Path, CausalBackbone], tmp_path: Path
) -> None:
    folder, ours = model
    torch.manual_seed(0)
    config = CONFIGS[kind](task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)
    theirs = peft.get_peft_model(base_model(folder), config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    artefact = import_peft(tmp_path / "theirs", BackboneCard.of(ours), TASK)
    assert artefact.prompt is not None
    wanted = their_logits(theirs)
    torch.testing.assert_close(our_logits(ours, artefact.prompt), wanted, atol=1e-5, rtol=0)
    save(artefact, tmp_path / "ours")
    sizes = {"base_model": str(folder), "layers": ours.layers, "heads": ours.key_heads}
    assert export_peft(load(tmp_path / "ours"), tmp_path / "back", **sizes) == ()
    written = json.loads((tmp_path / "back" / "adapter_config.json").read_text())
    assert (written["peft_type"], written["task_type"]) == (kind, "CAUSAL_LM")
    again = peft.PeftModel.from_pretrained(base_model(folder), tmp_path / "back").eval()
    assert torch.equal(their_logits(again), wanted)


@pytest.mark.parametrize("depth", ["shallow", "deep"])
def test_what_we_tuned_gives_our_logits_there(depth: str, model: tuple[Path, CausalBackbone], tmp_path: Path) -> None:
    folder, ours = model
    generator = torch.Generator().manual_seed(4)
    deep = (ours.prompt_layers, 2, LENGTH, ours.key_width)
    size = (LENGTH, ours.embedding_width) if depth == "shallow" else deep
    prompt = Prompt(torch.randn(size, generator=generator), "peft")
    card = Card(
        task=TASK,
        backbone=BackboneCard.of(ours),
        prompt=PromptCard.of(prompt),
        pooling="mean",
        readout=NO_READOUT,
        method="prompt_tuning",
        trainable=prompt.values.numel(),
    )
    sizes = {"base_model": str(folder), "layers": ours.layers, "heads": ours.key_heads}
    assert export_peft(Artefact(prompt, {}, card), tmp_path / "peft", **sizes) == ()
    theirs = peft.PeftModel.from_pretrained(base_model(folder), tmp_path / "peft").eval()
    torch.testing.assert_close(our_logits(ours, prompt), their_logits(theirs), atol=1e-5, rtol=0)

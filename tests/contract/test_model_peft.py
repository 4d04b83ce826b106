"""Placement `peft` gives the logits that PEFT itself gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from promptgraft.model.backbone import Batch
from promptgraft.model.load import load_backbone
from promptgraft.prompt.prompt import Prompt, stack

TEXTS = ["a great movie", "", "Terrible; I hated every single minute of it!", "fine"]


def tuned(folder: Path, config: Any) -> Any:
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    wrapped = peft.get_peft_model(model, config).eval()
    wrapped.prompt_encoder["default"].embedding.weight.data.mul_(0.3)
    return wrapped


@pytest.fixture
def folder(splade_tiny: Path, tmp_path: Path) -> Path:
    """splade-tiny with a pooler, which PEFT's classifier reads."""
    torch.manual_seed(1)
    transformers.AutoModel.from_pretrained(splade_tiny).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(splade_tiny).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", [peft.PrefixTuningConfig, peft.PromptTuningConfig])
def test_logits_are_those_of_peft(folder: Path, kind: Any) -> None:
    wrapped = tuned(folder, kind(task_type="SEQ_CLS", num_virtual_tokens=5, num_layers=2, token_dim=128))
    backbone = load_backbone(folder)
    table = wrapped.prompt_encoder["default"].embedding.weight.detach()
    values = table.view(5, 2, 2, 128).permute(1, 2, 0, 3) if kind is peft.PrefixTuningConfig else table
    tokens = backbone.tokenize_texts(TEXTS)
    prompts = stack([Prompt(values, "peft")])
    pooled = backbone.forward(Batch(tokens, torch.zeros(len(TEXTS), dtype=torch.long)), prompts, "pooler")
    head = wrapped.base_model.classifier.modules_to_save["default"]
    encoded = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(head(pooled), wrapped(**encoded).logits, atol=1e-6, rtol=0)

"""Encoders without a forward of our own: the same contract through transformers, shallow prompts only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from promptgraft.errors import ModelError, RunError
from promptgraft.kernels.dropout import Dropout
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.load import load_backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack

SMALL = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
FAMILIES: dict[str, Callable[[], Any]] = {
    "camembert": lambda: transformers.CamembertModel(transformers.CamembertConfig(**SMALL, max_position_embeddings=40)),
    "ernie": lambda: transformers.ErnieModel(transformers.ErnieConfig(**SMALL, max_position_embeddings=40)),
}


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Backbone, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    model = write_model(request.param, folder)
    return load_backbone(folder), model.base_model


def write_model(family: str, folder: Path) -> Any:
    """A folder with a small model of the family, and the model."""
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    model.save_pretrained(folder)
    engine = Tokenizer(models.WordPiece({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    engine.save(str(folder / "tokenizer.json"))
    return model


def rows_of(*lengths: int) -> Tokens:
    starts = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.randint(4, 60, (int(starts[-1]),), generator=torch.Generator().manual_seed(1))
    return Tokens(ids, torch.zeros_like(ids), starts, torch.arange(len(lengths) + 1))


def test_values_and_prompt_gradient(both: tuple[Backbone, Any]) -> None:
    ours, theirs = both
    tokens, which = rows_of(5, 1, 8), torch.tensor([1, 0, 1])
    values = [torch.randn(length, 24, generator=torch.Generator().manual_seed(length)) for length in (2, 3)]
    prompts = [value.requires_grad_() for value in values]
    for placement, ahead in (("after_cls", 1), ("peft", 0)):
        out = ours.forward(Batch(tokens, which), stack([Prompt(one, placement) for one in prompts]), "mean")  # type: ignore[arg-type]
        wanted = []
        for row in range(3):
            words = theirs.get_input_embeddings()(tokens.select(torch.tensor([row])).ids)
            prompt = prompts[which[row]]
            whole = theirs(inputs_embeds=torch.cat([words[:ahead], prompt, words[ahead:]])[None]).last_hidden_state[0]
            wanted.append(torch.cat([whole[:ahead], whole[ahead + len(prompt) :]]).mean(0))
        torch.testing.assert_close(out, torch.stack(wanted), atol=1e-5, rtol=0)
        got = torch.autograd.grad(out.square().sum(), prompts)
        expected = torch.autograd.grad(torch.stack(wanted).square().sum(), prompts)
        for one, reference in zip(got, expected, strict=True):
            assert (one - reference).abs().max() <= 1e-5 * max(1.0, float(reference.abs().max()))


def test_first_and_all_rows(both: tuple[Backbone, Any]) -> None:
    ours, theirs = both
    tokens = rows_of(6, 3)
    whole = ours.forward(Batch(tokens), None, "tokens")
    torch.testing.assert_close(ours.forward(Batch(tokens), None, "cls"), whole[tokens.starts[:-1]])
    torch.testing.assert_close(whole[:6], theirs(tokens.ids[None, :6]).last_hidden_state[0].detach(), atol=1e-5, rtol=0)


def test_deep_prompts_and_dropout_are_refused(both: tuple[Backbone, Any]) -> None:
    ours, _ = both
    tokens = rows_of(4)
    assert not ours.deep
    deep = stack([Prompt(torch.zeros(2, 2, 3, 24))])
    with pytest.raises(ModelError, match="shallow prompts only"):
        ours.forward(Batch(tokens, torch.zeros(1, dtype=torch.long)), deep, "cls")
    with pytest.raises(RunError, match="dropout"):
        ours.forward(Batch(tokens), None, "cls", dropout=Dropout(0.1, torch.zeros(tokens.sequences, dtype=torch.long)))


def test_weights_that_learn_get_gradients(both: tuple[Backbone, Any]) -> None:
    ours, _ = both
    learning = {name: weight.clone().requires_grad_() for name, weight in ours.weights.items()}
    ours.with_weights(learning).forward(Batch(rows_of(4, 2)), None, "mean").square().sum().backward()
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in learning.values())
    assert not any(weight.requires_grad for weight in ours.weights.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_its_identity_is_the_same_in_every_arithmetic(family: str, tmp_path: Path) -> None:
    """So what was tuned in bf16 is used in fp32 and the other way round; and the rounded weights are transformers'."""
    write_model(family, tmp_path)
    exact, rounded = (load_backbone(tmp_path, dtype=dtype) for dtype in ("fp32", "bf16"))
    assert (exact.arithmetic, rounded.arithmetic) == ("fp32", "bf16")
    assert exact.fingerprint == rounded.fingerprint
    theirs = dict(transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16).named_parameters())
    for name, weight in rounded.weights.items():
        assert torch.equal(weight, theirs[name]), name
        assert weight.dtype == theirs[name].dtype, name


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda weight: weight.to(torch.complex64), "is of type C64"),
        (lambda weight: weight * torch.nan, "holds values that are not finite"),
    ],
)
def test_numbers_that_no_model_computes_with(change: Callable[[Tensor], Tensor], word: str, tmp_path: Path) -> None:
    write_model("camembert", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "encoder.layer.1.intermediate.dense.weight"
    save_file(weights | {name: change(weights[name])}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=f"encoder.layer.1.intermediate.dense.weight {word}"):
        load_backbone(tmp_path)

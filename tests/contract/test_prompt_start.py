"""Every initialisation and parameterisation, on a real backbone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from promptgraft.errors import PromptgraftError, RunError, UsageError
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt.init import INITS, Init, initial, token_ids
from promptgraft.prompt.prompt import Depth, Prompt
from promptgraft.prompt.reparam import PARAMETERISATIONS, parameterise
from promptgraft.task.task import Task

TASK = Task("mood", "classification", "accuracy", {"bad": "a bad film", "good": "good"}, {})
DEPTHS: tuple[Depth, ...] = ("shallow", "deep")


@pytest.fixture(scope="module")
def backbone(splade_tiny: Path) -> Backbone:
    return load_backbone(splade_tiny)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shape(depth: Depth, length: int) -> tuple[int, ...]:
    return (length, 128) if depth == "shallow" else (2, 2, length, 128)


def sources(depth: Depth, length: int = 4) -> list[Prompt]:
    return [Prompt(torch.randn(shape(depth, length), generator=seeded(seed))) for seed in (1, 2)]


def made(name: str, backbone: Backbone, depth: Depth, length: int = 4, seed: int = 0) -> Tensor:
    given = sources(depth, length)[: 1 if name == "prompt" else 2] if name in ("prompt", "mean") else []
    init = Init(name, text="it was great")
    return initial(init, backbone, length, depth, "after_cls", seeded(seed), task=TASK, sources=given).values


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", sorted(INITS))
def test_every_start_has_its_shape_a_sane_scale_and_one_seed(name: str, depth: Depth, backbone: Backbone) -> None:
    one, again, other = (made(name, backbone, depth, seed=seed) for seed in (5, 5, 6))
    assert one.shape == shape(depth, 4)
    assert one.dtype == torch.float32
    assert not one.requires_grad
    assert torch.equal(one, again)
    assert torch.equal(one, other) != (name in ("normal", "vocabulary"))


def test_the_default_is_small_noise(backbone: Backbone) -> None:
    values = initial(Init(), backbone, 100, "shallow", "peft", seeded()).values
    assert float(values.std()) == pytest.approx(0.02, rel=0.05)


def test_vocabulary_takes_rows_of_the_word_table(backbone: Backbone) -> None:
    table = backbone.weights["embeddings.word_embeddings.weight"]
    values = made("vocabulary", backbone, "shallow")
    assert all((table == row).all(-1).any() for row in values)


@pytest.mark.parametrize("depth", DEPTHS)
def test_words_are_repeated_to_the_length_and_cut_at_it(depth: Depth, backbone: Backbone) -> None:
    [ids] = token_ids(backbone, ["it was great"])
    assert len(ids) == 3  # neither [CLS] nor [SEP]
    repeated = torch.tensor([*ids, *ids, ids[0]])
    read = backbone.embed if depth == "shallow" else backbone.keys_values
    assert torch.equal(made("text", backbone, depth, 7), read(repeated))
    assert torch.equal(made("text", backbone, depth, 2), read(torch.tensor(ids[:2])))


def test_every_label_has_its_share_of_a_short_prompt(backbone: Backbone) -> None:
    [bad, good] = token_ids(backbone, ["a bad film", "good"])
    assert torch.equal(made("labels", backbone, "shallow"), backbone.embed(torch.tensor([bad[0], good[0], *bad[1:]])))


@pytest.mark.slow
def test_an_encoders_own_prefix_is_no_part_of_the_words(e5_small: Path) -> None:
    backbone = load_backbone("e5-small")
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(e5_small)
    for text in ("hello world", "这家店不错", "query"):
        assert token_ids(backbone, [text]) == [plain(text, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_source_is_copied_bit_for_bit_and_shares_no_memory(depth: Depth, backbone: Backbone) -> None:
    source = sources(depth)[0]
    copy = initial(Init("prompt"), backbone, 4, depth, "after_cls", seeded(), sources=[source]).values
    assert torch.equal(copy, source.values)
    assert copy.data_ptr() != source.values.data_ptr()
    one, two = sources(depth)
    torch.testing.assert_close(made("mean", backbone, depth), (one.values + two.values) / 2)


@pytest.mark.parametrize(
    ("init", "options", "message"),
    [
        (Init("nromal"), {}, "unknown prompt initialisation 'nromal'; did you mean 'normal'?"),
        (Init("text"), {}, "the initialisation 'text' got no words; give the text to start from"),
        (Init("labels"), {}, "no task: the initialisation 'labels' needs a task with labels; use 'normal' or 'text'"),
        (Init("prompt"), {}, "the initialisation 'prompt' copies one source prompt, got 0"),
        (Init("mean"), {}, "the initialisation 'mean' needs source prompts, got none"),
        (
            Init("prompt"),
            {"sources": sources("shallow", 5)[:1]},
            "a source prompt (shallow at after_cls, 5 x 128) does not fit the prompt to be tuned "
            "(shallow at after_cls, 4 x 128); tune with the source's depth, placement and length, "
            "or choose another source",
        ),
    ],
)
def test_what_cannot_start_is_one_line(
    init: Init, options: dict[str, object], message: str, backbone: Backbone
) -> None:
    with pytest.raises(PromptgraftError) as caught:
        initial(init, backbone, 4, "shallow", "after_cls", seeded(), **options)  # type: ignore[arg-type]
    assert str(caught.value) == message
    with pytest.raises(RunError, match="at least one vector"):
        initial(Init(), backbone, 0, "shallow", "after_cls", seeded())


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", sorted(PARAMETERISATIONS))
class TestParameterisation:
    def test_step_0_is_the_start(self, name: str, depth: Depth) -> None:
        start = sources(depth)[0]
        kept = start.values.clone()
        made = parameterise(name, start, seeded())
        assert torch.equal(made.values(), start.values)
        with torch.no_grad():
            for leaf in made.parameters().values():
                leaf += 1
        assert torch.equal(start.values, kept), "the start itself is not trained"

    def test_all_parameters_are_leaves_that_learn(self, name: str, depth: Depth) -> None:
        target = sources(depth)[1].values
        made = parameterise(name, sources(depth)[0], seeded())
        leaves = made.parameters()
        before = {key: leaf.detach().clone() for key, leaf in leaves.items()}
        assert all(leaf.is_leaf and leaf.requires_grad for leaf in leaves.values())
        optimiser = torch.optim.AdamW(list(leaves.values()), lr=0.01, weight_decay=0.0)
        losses = []
        for _ in range(60):
            loss = torch.nn.functional.mse_loss(made.values(), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]
        assert all(not torch.equal(leaf, before[key]) for key, leaf in leaves.items())

    def test_one_seed_gives_one_network_and_parameters_are_the_whole_state(self, name: str, depth: Depth) -> None:
        start = sources(depth)[0]
        one, other = parameterise(name, start, seeded(1)), parameterise(name, start, seeded(2))
        again = parameterise(name, start, seeded(1))
        pairs = zip(one.parameters().values(), again.parameters().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        with torch.no_grad():
            for key, leaf in one.parameters().items():
                leaf += 0.1
                other.parameters()[key].copy_(leaf)
        assert torch.equal(one.values(), other.values())


def test_an_unknown_parameterisation_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown parameterisation 'mpl'; did you mean 'mlp'\?"):
        parameterise("mpl", sources("deep")[0], seeded())

"""What `transfer` says at its end: from how many labels on another method is the better choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptgraft import api
from promptgraft.api import advice as advising
from promptgraft.api.advice import Gap, Gaps, advice
from promptgraft.model.load import load_backbone
from toys import tiny_model, toy_task

FEW, MANY = Gap("8", 9.0, 5.0, 13.0), Gap("64", 4.0, 2.0, 6.0)


def said(monkeypatch: pytest.MonkeyPatch, *gaps: Gap, rival: str = "model-tuning", model: str = "minilm") -> str:
    monkeypatch.setattr(advising, "measured", lambda: {model: Gaps("English", {rival: gaps})})
    (note,) = advice(model)
    return note.partition(": ")[2]


def test_where_graft_is_ahead_everywhere_it_says_how_far_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, FEW, MANY)
    at = "full fine-tuning was behind graft at 8 and 64 (at 64 by 4.0 points, 2.0 to 6.0), not measured beyond 64"
    assert text == at


def test_it_says_from_where_on_another_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, FEW, Gap("64", -2.0, -3.0, -1.0), Gap("all", -9.0, -12.0, -6.0))
    assert text == (
        "full fine-tuning was behind graft at 8 (by 9.0 points, 5.0 to 13.0) and is the better choice from 64 on"
        " (there by 2.0 points, 1.0 to 3.0)"
    )
    text = said(monkeypatch, Gap("8", -0.5, -3.0, 2.0), rival="linear-probe")
    assert (
        text
        == "a linear probe is as good or better from 8 on (there by 0.5 points, -2.0 to 3.0), not measured beyond 8"
    )


def test_one_draw_where_another_is_ahead_does_not_count_where_graft_is_ahead_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = said(monkeypatch, FEW, Gap("16", -0.1, -3.0, 2.8), MANY)
    assert "at 8 and 64" in text
    assert "better" not in text


def test_of_a_model_that_was_not_measured_nothing_is_said() -> None:
    assert list(advice("splade-tiny")) == []


def test_what_ships_names_rivals_and_says_one_line() -> None:
    for model, found in advising.measured().items():
        assert found.by_rival.keys() <= advising.RIVALS.keys()
        (note,) = advice(model)
        assert "\n" not in note


def test_transfer_says_it_last_once_and_of_graft_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    said(monkeypatch, FEW, model=backbone.name)
    bank = api.as_bank(tmp_path / "bank", create=True)
    api.tune(toy_task(seed=9).replace(name="donor", licence="CC0-1.0"), backbone, bank=bank, steps=2)

    def notes(**options: object) -> list[str]:
        given = {"shots": 4, "baselines": False, **options}
        outcome = api.transfer(toy_task(), backbone, bank, **given)  # type: ignore[arg-type]
        return [note.partition(",")[0] for note in outcome.notes]

    first = "graft or another method"
    assert notes(seeds=2).count(first) == 1
    assert notes()[-1] == first
    assert first not in notes(method="pot", steps=2)
    assert first not in notes(shots=0)

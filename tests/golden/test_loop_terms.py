"""Loss terms, schedule and placebos against numbers worked out by hand or by torch's own functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from promptgraft.train.optimiser import schedule
from promptgraft.train.teacher import Recorded, shuffled
from promptgraft.train.terms import Distill, Gated, Match, Step, divergence, gradient_ratio, trust

INF = math.inf


def step(*runs: tuple[Tensor, Tensor]) -> Step:
    """One step of runs with these scores and labels."""
    units = [torch.arange(len(gold)) for _, gold in runs]
    scores = torch.stack([scores for scores, _ in runs])
    loss = torch.stack([
        functional.cross_entropy(own.flatten(0, -2), gold.flatten())
        for own, (_, gold) in zip(scores, runs, strict=True)
    ])  # fmt: skip
    return Step(units, units, scores, torch.stack([gold for _, gold in runs]), loss)


def alone(term: Match | Distill | Gated, here: Step) -> tuple[Tensor, dict[str, Tensor]]:
    """A term of the only run."""
    loss, figures = type(term).together([term], here)  # type: ignore[list-item]
    return loss[0], {name: value[0] for name, value in figures.items()}


def random_scores(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_panda_as_released_by_hand() -> None:
    """Two rows, two classes, every logit off by 1 or 3: MSE = (1 + 1 + 9 + 9) / 4 = 5; 0.1 * 0.1 * 5 / 2 = 0.025."""
    scores = torch.tensor([[0.0, 0.0], [0.0, 0.0]], requires_grad=True)
    teacher = Recorded(torch.tensor([[1.0, -1.0], [3.0, -3.0]]))
    here = step((scores, torch.tensor([0, 1])))
    loss, figures = alone(Match(teacher, beta=0.1), here)
    assert here.loss.item() == pytest.approx(math.log(2))
    assert (here.loss + loss).item() == pytest.approx(math.log(2) + 0.025)
    # Gradients on the logits: 0.2 * beta * dz / (B^2 C) = 0.0025 * dz; cross-entropy's are +-0.5 / B = +-0.25.
    (gradient,) = torch.autograd.grad(loss, scores, retain_graph=True)
    assert gradient.tolist() == [pytest.approx([-0.0025, 0.0025]), pytest.approx([-0.0075, 0.0075])]
    assert float(figures["ratio"]) == pytest.approx(math.sqrt(2 * (0.0025**2 + 0.0075**2)) / 0.5)


def test_panda_as_released_on_any_batch() -> None:
    """The authors' line, written out: CE + 0.1 * beta * mse_loss(student, teacher) / batch size."""
    scores, teacher = random_scores(5, 3).requires_grad_(), random_scores(5, 3, seed=1)
    here = step((scores, torch.tensor([0, 1, 2, 0, 1])))
    loss, _ = alone(Match(Recorded(teacher), beta=0.7), here)
    torch.testing.assert_close(loss, 0.1 * 0.7 * functional.mse_loss(scores, teacher) / 5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_divergence_is_torchs_kl(temperature: float) -> None:
    scores, teacher = random_scores(4, 3), random_scores(4, 3, seed=1)
    log, target = (functional.log_softmax(one / temperature, -1) for one in (scores, teacher))
    reference = functional.kl_div(log, target, log_target=True, reduction="batchmean") * temperature**2
    torch.testing.assert_close(divergence(teacher[None], scores[None], temperature).mean(), reference)


def test_divergence_passes_over_what_is_not_there() -> None:
    """A choice that is missing scores -inf in both models; a row cut to nothing scores -inf throughout."""
    scores = torch.tensor([[1.0, 2.0, -INF], [0.0, 1.0, 2.0], [-INF, -INF, -INF]], requires_grad=True)
    teacher = torch.tensor([[2.0, 1.0, -INF], [1.0, 1.0, 1.0], [-INF, -INF, -INF]])
    found = divergence(teacher[None], scores[None], 2.0)[0]
    torch.testing.assert_close(found[:1], divergence(teacher[None, :1, :2], scores[None, :1, :2], 2.0)[0])
    assert found[2] == 0
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    assert gradient.isfinite().all()
    assert gradient[2].tolist() == [0, 0, 0]
    assert divergence(teacher[None], teacher[None], 1.0).abs().max() < 1e-6


def test_divergence_of_numbers_is_the_squared_difference() -> None:
    assert divergence(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]]), 4.0).tolist() == [[4.0, 0.0]]


def test_distill_is_weighted() -> None:
    scores, teacher = random_scores(4, 3).requires_grad_(), random_scores(4, 3, seed=1)
    loss, figures = alone(Distill(Recorded(teacher), 0.25, 2.0), step((scores, torch.zeros(4, dtype=torch.long))))
    torch.testing.assert_close(loss, 0.25 * divergence(teacher[None], scores[None], 2.0).mean())
    assert float(figures["distill"]) == pytest.approx(loss.item())


@pytest.mark.parametrize("share", [0.1, 0.5, 2.0])
def test_the_gated_terms_gradient_is_the_share_that_was_asked_for(share: float) -> None:
    scores, teacher = random_scores(6, 3).requires_grad_(), random_scores(6, 3, seed=1)
    here = step((scores, torch.tensor([0, 1, 2, 0, 1, 2])))
    loss, figures = alone(Gated(Recorded(teacher), share, 2.0), here)
    (ours,) = torch.autograd.grad(loss, scores, retain_graph=True)
    (labels,) = torch.autograd.grad(here.loss.sum(), scores, retain_graph=True)
    assert float(ours.norm() / labels.norm()) == pytest.approx(share, rel=1e-4)
    assert float(gradient_ratio(loss[None], here)) == pytest.approx(float(figures["ratio"]), rel=1e-4)


def test_gated_lives_with_a_row_that_was_cut_to_nothing() -> None:
    scores = torch.tensor([[[1.0, 2.0], [2.0, 1.0]], [[-INF, -INF], [-INF, -INF]]], requires_grad=True)
    teacher = scores.detach() * 2
    gold = torch.tensor([[1, 0], [-100, -100]])
    own, units = scores[None], [torch.arange(2)]
    loss = functional.cross_entropy(own[0, 0], gold[0])[None]
    term, figures = alone(Gated(Recorded(teacher), 0.5, 1.0), Step(units, units, own, gold[None], loss))
    assert math.isfinite(float(term.detach()))
    assert float(figures["ratio"]) == pytest.approx(0.5, rel=1e-4)


def test_trust_is_the_teachers_probability_of_the_truth() -> None:
    teacher = torch.log(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]))
    assert trust(teacher[None], torch.tensor([[0, 0, -100]]))[0].tolist() == pytest.approx([0.9, 0.2, 0.7])


def test_schedule_by_hand() -> None:
    """Ten steps, two of them warm-up: up to the peak at step 2, then evenly down to one ninth at the last."""
    values = [schedule(number, 10, 0.2) for number in range(1, 11)]
    assert values == pytest.approx([1 / 2, 1, *[(10 - number + 1) / 9 for number in range(3, 11)]])
    assert schedule(1, 1, 0.1) == 1
    assert schedule(1, 10, 0.0) == 1
    assert all(schedule(number, 5, 1.0) == pytest.approx(number / 5) for number in range(1, 6))


def test_placebos_shuffle_within_classes() -> None:
    groups = torch.tensor([0, 1, 0, 1, 1, 0, 2, -100, -100] * 4)
    order = shuffled(torch.arange(36), groups, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(36))
    assert torch.equal(groups[order], groups)
    assert not torch.equal(order, torch.arange(36))


def test_plain_placebos_shuffle_across_classes() -> None:
    groups = torch.tensor([0, 1] * 20)
    order = shuffled(torch.arange(40), torch.zeros(40, dtype=torch.long), torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(40))
    assert not torch.equal(groups[order], groups)


TERMS = [lambda t, x: Match(t, x), lambda t, x: Distill(t, x, 2.0), lambda t, x: Gated(t, x, 2.0)]


@pytest.mark.parametrize("term", TERMS)
def test_terms_together_are_those_of_each_alone(term: Callable[[Recorded, float], Match | Distill | Gated]) -> None:
    gold = [torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 1, 0]), torch.tensor([1, 0, 2, -100])]
    scores = [random_scores(4, 3, seed=seed).requires_grad_() for seed in range(3)]
    terms = [term(Recorded(random_scores(4, 3, seed=9 + run)), 0.5 + run) for run in range(3)]
    assert len({one.kind for one in terms}) == 1
    losses, figures = type(terms[0]).together(terms, step(*zip(scores, gold, strict=True)))  # type: ignore[arg-type]
    slopes = torch.autograd.grad(losses.sum(), scores)
    for run, one in enumerate(terms):
        own, said = alone(one, step((scores[run], gold[run])))
        torch.testing.assert_close(losses[run], own)
        torch.testing.assert_close(slopes[run], torch.autograd.grad(own, scores[run])[0])
        for name, value in said.items():
            torch.testing.assert_close(figures[name][run], value)


@pytest.mark.parametrize("term", TERMS)
def test_no_term_pushes_its_teacher(term: Callable[[Recorded, float], Match | Distill | Gated]) -> None:
    scores, teacher = random_scores(4, 3).requires_grad_(), random_scores(4, 3, seed=1)
    here = step((scores, torch.tensor([0, 1, 2, 0])))
    before = teacher.clone()
    loss, _ = alone(term(Recorded(teacher), 0.5), here)
    loss.backward()
    assert teacher.grad is None
    assert torch.equal(teacher, before)
    assert scores.grad is not None

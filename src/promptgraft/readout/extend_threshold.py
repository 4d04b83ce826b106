"""Rows that extend readouts of labels also choose the threshold of log odds anew, by the rule of `threshold`.

The rule looks at rows by fits that have not seen them. Of remembered rows these odds are kept, and move as the readouts
do; of given rows they are those of readouts that were moved by other given rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from promptgraft.errors import listed
from promptgraft.prompt.memory import UNKNOWN, LabelMemory
from promptgraft.readout.extend_labels import SeveralRows, label_odds, refit_labels
from promptgraft.readout.multilabel import Multilabel
from promptgraft.readout.probe import deal_labels, rarest_label
from promptgraft.readout.threshold import UNJUDGED, best_threshold, f1
from promptgraft.task.draws import Array


@dataclass(frozen=True)
class Unseen:
    """Remembered rows, if their odds are known, and then given ones, by fits that had not seen them.

    Attributes:
        answers: which of the old labels the readouts gave each row before the given ones moved them.
        odds: log odds of all labels by the moved readouts.
        gold: 1 where a row has a label, 0 where it has not, UNKNOWN where that is not known.
        kept: how many of the rows are remembered ones.
    """

    answers: Bool[Array, "U _"]
    odds: Float[Array, "U C"]
    gold: Int[Array, "U C"]
    kept: int


def unseen_labels(
    before: Sequence[Multilabel], after: Sequence[Multilabel], memory: LabelMemory, rows: SeveralRows, old: int
) -> Unseen:
    """The rows by the readouts before and after the given ones moved them.

    Args:
        old: how many labels were there before.
    """
    if memory.odds is None:
        memory = LabelMemory.empty(rows.features.shape[1], rows.y.shape[1])
    assert memory.odds is not None, "a memory of no rows knows their odds"
    sample, known = memory.sample.double().numpy(), memory.odds.double().numpy()
    earlier = np.concatenate([known, label_odds(before, rows.features)])[:, :old]
    moved = known + label_odds(after, sample) - label_odds(before, sample)
    return Unseen(
        _given(before[0], earlier),
        np.concatenate([moved, _left_out(before, memory, rows)]),
        np.concatenate([memory.labels.numpy(), rows.y]),
        len(known),
    )


def _left_out(readouts: Sequence[Multilabel], memory: LabelMemory, rows: SeveralRows) -> Float[Array, "U C"]:
    """The log odds of each given row by readouts that rows of the other parts moved; one alone has them unmoved."""
    fold = deal_labels(rarest_label(rows.y), 0)
    odds = label_odds(readouts, rows.features)
    for number in range(fold.max() + 1 if len(fold) > 1 else 0):
        part = fold == number
        moved = refit_labels(readouts, memory, SeveralRows(rows.features[~part], rows.y[~part]))
        odds[part] = label_odds(moved, rows.features[part])
    return odds


def settled_anew(readouts: Sequence[Multilabel], unseen: Unseen, *, macro: bool) -> tuple[list[Multilabel], str]:
    """The moved readouts with a threshold by rows they have not seen, and a line that says what became of it.

    It stays where the rows that it was set by are not known and the others do not tell of every old label what has it
    and what lacks it: rows of a new label would set it for that one alone. A new label that no row lacks has no say.

    Args:
        macro: whether the mean F1 of the labels is to be high, not that of all decisions.
    """
    first, *others = readouts
    has, lacks = (unseen.gold > 0).any(0), (unseen.gold == 0).any(0)
    is_guess = float(first.threshold) == float(first.threshold.new_tensor(UNJUDGED))
    untold = [first.labels[place] for place in np.flatnonzero(~(has & lacks)[: unseen.answers.shape[1]])]
    if untold and (is_guess or not unseen.kept):
        reason = "as before, since no rows are remembered that it was set by: rows with and rows without each of"
        reason += f" {listed(untold)} would set it"
    else:
        gold = np.where(lacks | (unseen.gold != UNKNOWN).all(0), unseen.gold, UNKNOWN)
        threshold = best_threshold(unseen.odds, gold, macro=macro, least=float(first.least) > 0)
        reason = f"(before: {_share(first)}), set by {unseen.kept} remembered and {len(gold) - unseen.kept} given rows"
        first = replace(first, threshold=first.threshold.new_tensor(threshold))
    compared = _compared(first, unseen, macro=macro)
    return [first, *others], f"labels are given from a probability of {_share(first)} on {reason}{compared}"


def _compared(readout: Multilabel, unseen: Unseen, *, macro: bool) -> str:
    """What became of the old labels; nothing where no row has one."""
    old = unseen.answers.shape[1]
    true, known = unseen.gold[:, :old] > 0, unseen.gold[:, :old] != UNKNOWN
    if not true.any():
        return ""
    answers = (unseen.answers, _given(readout, unseen.odds)[:, :old])
    before, after = (100 * f1(true, given & known, macro=macro) for given in answers)
    name = "macro F1" if macro else "micro F1"
    return f"; {name} of the old labels on rows left out: {before:.1f} before, {after:.1f} after"


def _given(readout: Multilabel, odds: Float[Array, "U C"]) -> Bool[Array, "U C"]:
    """Which labels rows get by the readout's rule."""
    least = odds.max(1, keepdims=True) if float(readout.least) > 0 else np.inf
    return np.asarray((odds > float(readout.threshold)) | (odds >= least))


def _share(readout: Multilabel) -> str:
    """The threshold as a probability."""
    return f"{float(readout.threshold.sigmoid()):.2f}"

"""Which method is the better choice from how many labels on, as measured on tasks that nothing was chosen on.

`advice.json` holds the figures; the page over label counts (docs/results/labels.md) is made of the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptgraft.report.words import listed

RIVALS = {"model-tuning": "full fine-tuning", "linear-probe": "a linear probe", "setfit": "SetFit"}
"""The methods that graft is held against: those that win once there are labels enough."""


@dataclass(frozen=True)
class Gap:
    """How far graft was ahead of a rival at one number of labels a class, in points, with the 95 % interval."""

    labels: str
    ahead: float
    low: float
    high: float

    def __str__(self) -> str:
        points = abs(self.ahead)
        low, high = (self.low, self.high) if self.ahead > 0 else (-self.high, -self.low)
        return f"{points:.1f} points, {low:.1f} to {high:.1f}"


@dataclass(frozen=True)
class Gaps:
    """What was measured with one model: the language of the tasks, and for each rival the gaps, fewest labels first."""

    language: str
    by_rival: Mapping[str, Sequence[Gap]]


def measured() -> dict[str, Gaps]:
    """Model -> what was measured with it."""
    models = json.loads(Path(__file__).with_name("advice.json").read_text(encoding="utf-8"))
    return {
        model: Gaps(found["language"], {rival: [Gap(**gap) for gap in gaps] for rival, gaps in found["gaps"].items()})
        for model, found in models.items()
    }


def advice(model: str) -> Iterator[str]:
    """One note: where graft is the better choice, and from how many labels on another is; none of a model not measured.

    Args:
        model: its name.
    """
    found = measured().get(model)
    if found is not None and found.by_rival:
        verdicts = "; ".join(_verdict(RIVALS[rival], gaps) for rival, gaps in found.by_rival.items())
        yield f"graft or another method, by labels a class ({found.language} tasks, {model}): {verdicts}"


def _verdict(rival: str, gaps: Sequence[Gap]) -> str:
    """Where a rival was behind graft, and from where on it is not."""
    ahead = [place for place, gap in enumerate(gaps) if gap.ahead > 0]
    later = gaps[ahead[-1] + 1 :] if ahead else gaps
    parts = []
    if ahead:
        last = gaps[ahead[-1]]
        there = "" if len(ahead) == 1 else f"at {last.labels} "
        where = listed([gaps[place].labels for place in ahead])
        parts.append(f"{rival} was behind graft at {where} ({there}by {last})")
    if later:
        first = later[0]
        sure = "the better choice" if first.high < 0 else "as good or better"
        parts.append(f"{'and' if ahead else rival} is {sure} from {first.labels} on (there by {first})")
    more = "" if gaps[-1].labels == "all" else f", not measured beyond {gaps[-1].labels}"
    return " ".join(parts) + more

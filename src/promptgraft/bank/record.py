"""The record of a bank: how well each of its prompts has served tasks other than its own, read without a label."""

from __future__ import annotations

from collections.abc import Mapping
from math import copysign
from pathlib import Path
from statistics import fmean, stdev

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptgraft.errors import ArtefactError
from promptgraft.untrusted import read_bytes, read_json

FILE = "record.json"
LIMIT = 16_000_000
DIGITS = 4
"""Of the numbers of a centre."""
REMEDY = "delete it, and make it anew with `promptgraft bank record`"


class Service(BaseModel):
    """How a prompt has served other tasks.

    Attributes:
        gains: family of tasks -> task -> points of mean recall that texts read under the prompt are ahead of texts read
            without one, each text being given the label whose description is nearest.
        centre: mean direction of those tasks' texts under the prompt, `[H]`; what all texts have in common says nothing
            of their labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gains: dict[str, dict[str, float]]
    centre: tuple[float, ...] = Field(min_length=1)

    def gain(self, leave_out: str = "") -> float | None:
        """What it surely gains: the mean over families of tasks, nearer to 0 by its standard error.

        Args:
            leave_out: a task that does not count. None where no task is left.
        """
        families = [[gain for task, gain in tasks.items() if task != leave_out] for tasks in self.gains.values()]
        means = [fmean(gains) for gains in families if gains]
        if not means:
            return None
        mean, error = fmean(means), stdev(means) / len(means) ** 0.5 if len(means) > 1 else 0.0
        return copysign(max(0.0, abs(mean) - error), mean)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of all families."""
        return tuple(task for tasks in self.gains.values() for task in tasks)

    def joined(self, later: Service) -> Service:
        """What both know; of a task that both looked at, the later one."""
        kept = {
            family: {task: gain for task, gain in tasks.items() if task not in later.tasks}
            for family, tasks in self.gains.items()
        }
        count, more = sum(map(len, kept.values())), len(later.tasks)
        if len(self.centre) != len(later.centre) or not count:
            return later
        gains = {family: {**kept.get(family, {}), **later.gains.get(family, {})} for family in {**kept, **later.gains}}
        centre = [(count * a + more * b) / (count + more) for a, b in zip(self.centre, later.centre, strict=True)]
        known = {family: tasks for family, tasks in gains.items() if tasks}
        return Service(gains=known, centre=tuple(round(value, DIGITS) for value in centre))


class Record(BaseModel):
    """What is known of a bank's prompts, by the hashes of their artefacts, so that it never speaks of another one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: Mapping[str, Service]

    def joined(self, later: Record) -> Record:
        """What both know of each prompt."""
        both = {
            name: self.prompts[name].joined(service) if name in self.prompts else service
            for name, service in later.prompts.items()
        }
        return Record(prompts={**self.prompts, **both})


def read_record(folder: Path) -> Record:
    """The record in a bank's folder; an empty one where there is none.

    Raises:
        ArtefactError: it is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return Record(prompts={})
    try:
        values = read_json(read_bytes(path, LIMIT, ArtefactError), None, ArtefactError)
    except ArtefactError as error:
        raise ArtefactError(error.what, where=path, do=REMEDY) from None
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        what = f"{place}: {problem['msg']}" if place else problem["msg"]
        raise ArtefactError(what, where=path, do=REMEDY) from None

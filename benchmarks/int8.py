"""Passes without gradient in int8: how fast they are, and what the answers give up, beside fp32 and bf16.

    python benchmarks/int8.py [--models minilm] [--tasks FOLDER,...] [--shots 32] [--test-rows 1000] [--rounds 5]

`forward`: rows of SST-2's token counts with one prompt (P = 20), predicted by us and by PEFT, as mixed_batch does it.
Tasks: a prompt is tuned from scratch by the default recipe, in the arithmetic that is the default here, and predicts
the test rows in every one; `same_as_fp32` is the share of rows with the answer of fp32. A linear probe is fitted and
used in each arithmetic. Scores are the task's metric in percent, over the same rows. bf16 is left out where it is
slower than fp32.

Prints JSON and writes benchmarks/results/int8.json.
"""

from __future__ import annotations

from collections.abc import Iterator

import common
import mixed_batch
from common import ARITHMETICS, DEFAULT, SST2, TARGET, Row, fast_bf16

from promptgraft import api
from promptgraft.engine.agreement import agreement
from promptgraft.engine.predictor import Predictor
from promptgraft.model.backbone import Arithmetic, Backbone
from promptgraft.task.task import Task


def arithmetics() -> list[Arithmetic]:
    """Those that are worth running here."""
    return [name for name in ARITHMETICS if name != "bf16" or fast_bf16()]


def forward(model: str, folder: str, rows: int, rounds: int, seconds: float) -> Iterator[Row]:
    """Seconds of one pass over the rows."""
    turns = {path: mixed_batch.our_turn(folder, 1, rows, path) for path in map("promptgraft {}".format, arithmetics())}
    turns |= {path: mixed_batch.peft_turn(folder, path, 1, rows) for path in (DEFAULT, *common.tuned())}
    times = common.interleaved(turns, rounds, seconds=seconds)
    for row in common.compared(times):
        for name in arithmetics()[:-1]:
            values = zip(times[f"promptgraft {name}"], times[row["path"]], strict=True)
            row |= common.spread(f"ratio_to_{name}", [other / own for other, own in values], 2)
        yield {"model": model, "lengths": str(SST2), "job": "forward", "rows": rows, **row}


def answers(
    model: str, backbones: dict[str, Backbone], task: Task, shots: int, changes: dict[str, object]
) -> list[Row]:
    """What one tuned prompt, and a probe a time, score in every arithmetic."""
    tuned = api.tune(task, backbones["bf16" if fast_bf16() else "fp32"], shots=shots, **changes)
    found: list[Row] = []
    exact = Predictor(tuned.artefact, backbones["fp32"])
    for name, backbone in backbones.items():
        predictor, path = Predictor(tuned.artefact, backbone), f"promptgraft {name}"
        alike = agreement(exact, predictor, task.test, most=len(task.test))
        probe = api.tune(task, backbone, method="linear-probe", shots=shots, arithmetic=name, **changes).best
        known = {"model": model, "task": task.name, "rows": len(task.test), "path": path}
        scored = round(predictor.evaluate(task.test)[task.metric], 2)
        found.append({**known, "job": "prompt", "score": scored, "same_as_fp32": round(alike.same / alike.rows, 4)})
        found.append({**known, "job": "linear probe", "score": round(probe.result.scores["test"]["score"], 2)})
    return found


def main() -> None:
    parser = common.parser(__doc__, models="minilm", rounds=5)
    parser.add_argument("--tasks", default=str(TARGET), help="folders of tasks, with commas between them")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--shots", type=int, default=32)
    parser.add_argument("--test-rows", type=int, default=1000)
    options = parser.parse_args()
    changes: dict[str, object] = {"steps": 2} if options.quick else {}
    rows, rounds, seconds = (16, 1, 0.02) if options.quick else (options.rows, options.rounds, 0.5)
    for model in options.models.split(","):
        folder = common.model_folder(model)
        common.write(__file__, list(forward(model, folder, rows, rounds, seconds)), options.out)
        backbones = {name: api.open_model(folder, name) for name in arithmetics()}
        for place in () if common.is_random(model) else options.tasks.split(","):
            task = api.open_task(place, test_rows=options.test_rows)
            common.write(__file__, answers(model, backbones, task, options.shots, changes), options.out)


if __name__ == "__main__":
    main()

"""A name that does not exist is said before any data or model is opened, in every verb and from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import Command

# words of a verb, MODEL standing for one that is here and none.csv for a task that is not -> the line
NAMES = {
    "tune none.csv -m splad-tiny": "unknown model 'splad-tiny'; did you mean 'splade-tiny'?",
    "tune none.csv -m MODEL --method promt-tuning": "unknown method 'promt-tuning'; did you mean 'prompt-tuning'?",
    "tune none.csv -m MODEL --readout lable-text": "option readout='lable-text' of prompt-tuning: unknown readout",
    "tune none.csv -m MODEL --template topic-clze-en": "unknown template 'topic-clze-en'; did you mean",
    "tune none.csv -m MODEL --verbalizer good": "the verbalizer gives 'good' no word; write label=word|word",
    "tune none.csv -m MODEL --parameterisation residul": "unknown parameterisation 'residul'; did you mean 'residual'?",
    "tune none.csv -m MODEL --seeds many": "--seeds 'many' is no number; write --seeds 5 or --seeds 1,5,9",
    "transfer none.csv -m MODEL --method grft": "unknown method 'grft'; did you mean 'graft'?",
    "transfer none.csv -m MODEL --words-model minilmm": "unknown model 'minilmm'; did you mean 'minilm'?",
    "transfer none.csv -m MODEL --readout lable-text": "option readout='lable-text' of pot: unknown readout",
    "transfer none.csv -m MODEL --bank no-bank": "no-bank: there is no bank; name the folder of a bank",
    "compare none.csv -m MODEL --methods linear-prob": "unknown method 'linear-prob'; did you mean 'linear-probe'?",
    "compare none.csv -m MODEL --template topic-clze-en": "unknown template 'topic-clze-en'; did you mean",
    "rank none.csv -m MODEL --measures prob": "unknown measure 'prob'; did you mean 'probe'?",
    "estimate tun none.csv -m MODEL": "unknown verb to estimate 'tun'; did you mean 'tune'?",
    "estimate tune none.csv -m MODEL --method promt-tuning": "unknown method 'promt-tuning'; did you mean",
    "estimate compare none.csv -m MODEL --methods linear-prob": "unknown method 'linear-prob'; did you mean",
    "search none.csv -m MODEL -a gripps": "unknown algorithm 'gripps'; did you mean 'grips'?",
    "search none.csv -m splad-tiny": "unknown model 'splad-tiny'; did you mean 'splade-tiny'?",
    "search none.csv -m MODEL --proposer minilmm": "unknown model 'minilmm'; did you mean 'minilm'?",
    "search none.csv -m MODEL --template topic-clze-en": "unknown template 'topic-clze-en'; did you mean",
    "search none.csv -m MODEL --verbalizer good": "the verbalizer gives 'good' no word; write label=word|word",
    "distil topic-clze-en -m MODEL --file none.csv": "unknown template 'topic-clze-en'; did you mean",
    "distil topic-cloze-en -m MODEL --file none.csv --to topic-clze-en": "unknown template 'topic-clze-en'; did you",
    "templates try none.csv -t topic-clze-en": "unknown template 'topic-clze-en'; did you mean",
    "templates try none.csv -t topic-cloze-en -m splad-tiny": "unknown model 'splad-tiny'; did you mean",
    "predict no-run --file none.csv -m splad-tiny": "unknown model 'splad-tiny'; did you mean 'splade-tiny'?",
    "explain no-run --file none.csv -m splad-tiny": "unknown model 'splad-tiny'; did you mean 'splade-tiny'?",
    "extend no-run --rows none.csv -m splad-tiny": "unknown model 'splad-tiny'; did you mean 'splade-tiny'?",
    "suggest no-run --file none.csv -m splad-tiny": "unknown model 'splad-tiny'; did you mean 'splade-tiny'?",
    "generate MODEL --file none.txt -t topic-clze-en": "unknown template 'topic-clze-en'; did you mean",
}


@pytest.mark.parametrize("words", NAMES)
def test_a_name_is_refused_before_the_task_is_read(words: str, pg: Command, splade_tiny: Path) -> None:
    said = pg(*(str(splade_tiny) if word == "MODEL" else word for word in words.split()), "--quiet")
    assert said.err.startswith(f"promptgraft: {NAMES[words]}")
    assert said.err.count("\n") == 1
    assert said.status == (1 if "unknown model" in said.err or "no bank" in said.err else 2)


CALLS: dict[str, tuple[str, tuple[object, ...], dict[str, object]]] = {
    "template of tune": ("tune", ("none.csv", "MODEL"), {"template": "topic-clze-en"}),
    "template of compare": ("compare", ("none.csv", "MODEL"), {"template": "topic-clze-en"}),
    "template of search": ("search", ("none.csv", "MODEL"), {"template": "topic-clze-en"}),
    "template of distil": ("distil", ("topic-clze-en", "MODEL", "none.csv"), {}),
    "template of generate": ("generate", ("MODEL", ["a text"]), {"template": "topic-clze-en"}),
    "method of tune": ("tune", ("none.csv", "MODEL"), {"method": "promt-tuning"}),
    "method of transfer": ("transfer", ("none.csv", "MODEL", "starter"), {"method": "grft"}),
    "method of compare": ("compare", ("none.csv", "MODEL"), {"rows": [("grft", {})]}),
    "method of estimate": ("estimate", ("tune", "none.csv", "MODEL"), {"method": "promt-tuning"}),
    "measure of rank": ("rank", ("none.csv", "MODEL", "starter"), {"measures": ["prob"]}),
    "algorithm of search": ("search", ("none.csv", "MODEL", ["gripps"]), {}),
    "argument of tune": ("tune", ("none.csv", "MODEL"), {"stepps": 3}),
    "model of load": ("load", ("no-run", "splad-tiny"), {}),
    "model of explain": ("explain", ("no-run",), {"model": "splad-tiny"}),
    "model of extend": ("extend", ("no-run",), {"model": "splad-tiny", "out": "."}),
    "model of suggest": ("suggest", ("no-run", "none.csv"), {"model": "splad-tiny"}),
    "device of load": ("load", ("no-run",), {"device": "gpu"}),
    "arithmetic of load": ("load", ("no-run",), {"arithmetic": "fp8"}),
    "device of generate": ("generate", ("no-run", ["a text"]), {"device": "gpu"}),
    "role of explain": ("explain", ("no-run", "none.csv"), {"columns": {"txt": "body"}}),
    "role of extend": ("extend", ("no-run",), {"rows": "none.csv", "columns": {"txt": "body"}}),
    "role of suggest": ("suggest", ("no-run", "none.csv"), {"columns": {"txt": "body"}}),
    "role of distil": ("distil", ("{text}:{mask}", "MODEL", "none.csv"), {"columns": {"txt": "body"}}),
    "device of search": ("search", ("none.csv", "MODEL"), {"device": "gpu"}),
    "device of rank": ("rank", ("none.csv", "MODEL", "starter"), {"device": "gpu"}),
    "device of distil": ("distil", ("{text}:{mask}", "MODEL", "none.csv"), {"device": "gpu"}),
    "arithmetic of tune": ("tune", ("none.csv", "MODEL"), {"arithmetic": "fp8"}),
    "place for validation rows of tune": ("tune", ("none.csv", "MODEL"), {"validation_from": "else"}),
    "model of export": ("export_to_peft", ("starter", "none", "folder"), {"model": "splad-tiny"}),
    "model of import": ("import_from_peft", ("none", "folder", "splad-tiny"), {}),
    "value of transfer": ("transfer", ("none.csv", "MODEL", "starter"), {"method": "panda", "options": {"mode": "g"}}),
}
"""What does not exist -> the verb of Python, and its arguments."""


@pytest.mark.parametrize("case", CALLS)
def test_python_refuses_a_name_before_a_model_is_loaded(
    case: str, splade_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptgraft import api
    from promptgraft.api import opening
    from promptgraft.errors import ModelError, UsageError

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(opening, "load_model", load)
    verb, arguments, named = CALLS[case]
    with pytest.raises((ModelError, UsageError), match=f"unknown {case.rpartition(' of ')[0]}"):
        getattr(api, verb)(*(splade_tiny if argument == "MODEL" else argument for argument in arguments), **named)


OUT = "the name of the folder for results (out) is empty; name one, or give none"
SEED = "seed -1; give whole numbers from 0 to 2,147,483,647"
VALUES: dict[str, tuple[str, tuple[object, ...], dict[str, object], str]] = {
    "tune, seeds": ("tune", ("none.csv", "MODEL"), {"seeds": (0, -1)}, SEED),
    "tune, no seed": ("tune", ("none.csv", "MODEL"), {"seeds": 0}, "no seed was given"),
    "tune, a seed in words": ("tune", ("none.csv", "MODEL"), {"seeds": ("one",)}, "seeds holds 'one'; give a list of"),
    "tune, shots": ("tune", ("none.csv", "MODEL"), {"shots": -1}, "-1 shots; give 0 or more"),
    "tune, test rows": ("tune", ("none.csv", "MODEL"), {"test_rows": 0}, "a cap of 0 rows; give 1 or more"),
    "tune, memory": ("tune", ("none.csv", "MODEL"), {"memory": "much"}, "memory 'much' is no size"),
    "tune, name": ("tune", ("none.csv", "MODEL"), {"bank": "b", "name": "a/b"}, "'a/b' cannot be a name in a bank"),
    "tune, source": ("tune", ("none.csv", "MODEL"), {"method": "pot"}, "pot needs a source prompt"),
    "tune, labels": ("tune", ("none.csv", "MODEL"), {"method": "linear-probe", "shots": 0}, "needs labelled rows"),
    "tune, model": ("tune", ("none.csv", ""), {}, "the name of the model is empty"),
    "tune, out": ("tune", ("none.csv", "MODEL"), {"out": ""}, OUT),
    "transfer, out": ("transfer", ("none.csv", "MODEL", "starter"), {"out": ""}, OUT),
    "compare, out": ("compare", ("none.csv", "MODEL"), {"out": ""}, OUT),
    "rank, out": ("rank", ("none.csv", "MODEL", "starter"), {"out": ""}, OUT),
    "estimate, out": ("estimate", ("tune", "none.csv", "MODEL"), {"out": ""}, OUT),
    "search, out": ("search", ("none.csv", "MODEL"), {"out": ""}, OUT),
    "distil, out": ("distil", ("{text}:{mask}", "MODEL", "none.csv"), {"out": ""}, OUT),
    "extend, out": ("extend", ("no-run", ["a"]), {"out": ""}, OUT),
    "suggest, column": (
        "suggest",
        ("no-run", "none.csv"),
        {"columns": {"text": ""}},
        "name of the text column is empty",
    ),
    "transfer": ("transfer", ("none.csv", "MODEL", "starter"), {"seeds": (-1,)}, SEED),
    "transfer, name": ("transfer", ("none.csv", "MODEL", "starter"), {"name": "a/b"}, "'a/b' cannot be a name"),
    "compare": ("compare", ("none.csv", "MODEL"), {"seeds": (-1,)}, SEED),
    "compare, shots": ("compare", ("none.csv", "MODEL"), {"shots": -2}, "-2 shots"),
    "rank": ("rank", ("none.csv", "MODEL", "starter"), {"seed": -1}, SEED),
    "estimate": ("estimate", ("tune", "none.csv", "MODEL"), {"seeds": (-1,)}, SEED),
    "estimate memory": ("estimate_memory", ("MODEL",), {"runs": 0}, "0 runs; give 1 or more"),
    "search": ("search", ("none.csv", "MODEL", ["grips"]), {"seed": -1}, SEED),
    "search, passes": ("search", ("none.csv", "MODEL"), {"passes": 0}, "passes 0; give 1 or more"),
    "search, length": ("search", ("none.csv", "MODEL"), {"max_length": 2}, "max_length 2: Input should be greater"),
    "search, start": ("search", ("none.csv", "MODEL"), {"start": "films"}, "no bank was given; name a bank"),
    "distil": ("distil", ("{text}:{mask}", "MODEL", "none.csv"), {"seed": -1}, SEED),
    "distil, length": ("distil", ("{text}:{mask}", "MODEL", "none.csv"), {"length": 0}, "length 0: Input should be"),
    "suggest": ("suggest", ("no-run", "none.csv"), {"count": 0}, "count 0; ask for one row or more"),
    "explain": ("explain", ("no-run", "none.csv"), {"most": 0}, "0 rows; give 1 or more"),
    "extend": ("extend", ("no-run", ["a", "a"]), {}, "'a' is given twice"),
    "generate": ("generate", ("no-run", ["a text"]), {"seed": -1}, SEED),
    "generate, most": ("generate", ("no-run", ["a text"]), {"most": 0}, "most 0; give 1 or more"),
    "generate, heat": ("generate", ("no-run", ["a text"]), {"temperature": -1.0}, "temperature -1.0; give 0 or more"),
    "generate, among": ("generate", ("no-run", ["a text"]), {"among": [""]}, "a text to choose from"),
    "load, memory": ("load", ("no-run",), {"memory": "much"}, "memory 'much' is no size"),
    "record": ("record", ("starter", "MODEL", ["none.csv"]), {"max_length": 2}, "max_length 2: Input should be"),
    "record, no task": ("record", ("starter", "MODEL", []), {}, "no task was given"),
    "import": ("import_from_peft", ("none", "folder", "MODEL"), {"name": "a/b"}, "'a/b' cannot be a name in a bank"),
}
"""A value that cannot be used -> the verb of Python, its arguments, and a part of the line."""


@pytest.mark.parametrize("case", VALUES)
def test_python_refuses_a_value_before_anything_is_opened(
    case: str, splade_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptgraft import api
    from promptgraft.api import opening
    from promptgraft.errors import PromptgraftError

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a task or a model is opened")

    monkeypatch.setattr(opening, "load_model", load)
    monkeypatch.setattr(opening, "load_task", load)
    verb, arguments, named, line = VALUES[case]
    with pytest.raises(PromptgraftError) as caught:
        getattr(api, verb)(*(splade_tiny if argument == "MODEL" else argument for argument in arguments), **named)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("tune none.csv -m MODEL --seeds 1,-1", SEED),
        ("tune none.csv -m MODEL --seed -1", SEED),
        ("tune none.csv -m MODEL --bank b --name a/b", "'a/b' cannot be a name in a bank"),
        ("transfer none.csv -m MODEL --seeds 1,-1", SEED),
        ("compare none.csv -m MODEL --seeds 1,-1", SEED),
        ("estimate tune none.csv -m MODEL --seeds 1,-1", SEED),
        ("tune none.csv -m MODEL --memory much", "memory 'much' is no size"),
    ],
)
def test_a_value_is_refused_before_the_task_is_read(words: str, line: str, pg: Command, splade_tiny: Path) -> None:
    said = pg(*(str(splade_tiny) if word == "MODEL" else word for word in words.split()), "--quiet")
    assert said.err.startswith(f"promptgraft: {line}")
    assert said.err.count("\n") == 1


def test_an_estimator_refuses_a_name_before_a_model_is_loaded(
    splade_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptgraft.api import opening
    from promptgraft.errors import BankError
    from promptgraft.sklearn import PromptClassifier

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(opening, "load_model", load)
    with pytest.raises(BankError, match="no-bank: there is no bank"):
        PromptClassifier(splade_tiny, bank="no-bank").fit(["good", "bad"] * 4, ["a", "b"] * 4)


def test_a_seed_that_no_generator_takes_is_one_line_where_a_template_is_tried(reviews: Path) -> None:
    from promptgraft import api
    from promptgraft.errors import UsageError

    with pytest.raises(UsageError, match=SEED):
        api.try_template(api.open_task(reviews), "{demos:2}{text} {mask}", seed=-1)

"""Small files of every format that is recognised by its content, with the tasks that they are."""

from __future__ import annotations

import json
from typing import Any

from promptgraft.task.task import Answers, Example


def studio(text: str, *annotations: dict[str, Any], **data: str) -> dict[str, Any]:
    return {"id": len(text), "data": {"text": text, **data}, "annotations": list(annotations), "project": 1}


def choices(*names: str, cancelled: bool = False, question: str = "sentiment") -> dict[str, Any]:
    result = {"from_name": question, "to_name": "text", "type": "choices", "value": {"choices": list(names)}}
    return {"was_cancelled": cancelled, "result": [result] if names else []}


def region(start: int, end: int, *labels: str) -> dict[str, Any]:
    return {"start": start, "end": end, "labels": list(labels)}


def marked(*regions: dict[str, Any]) -> dict[str, Any]:
    results = [{"from_name": "ner", "to_name": "text", "type": "labels", "value": value} for value in regions]
    return {"was_cancelled": False, "result": results}


def minimal(number: int, text: str, answer: Any, question: str = "sentiment") -> dict[str, Any]:
    about = {"annotator": 1, "annotation_id": number, "created_at": "2026", "updated_at": "2026", "lead_time": 1.5}
    return {"text": text, "id": number, question: answer, **about}


def argilla(text: str, *votes: str | list[str] | tuple[str, str]) -> dict[str, Any]:
    pairs = [vote if isinstance(vote, tuple) else (vote, "submitted") for vote in votes]
    given = [{"value": value, "user_id": str(n), "status": status} for n, (value, status) in enumerate(pairs)]
    return {"id": text, "fields": {"text": text}, "metadata": {}, "suggestions": {}, "responses": {"mood": given}}


def prodigy(text: str, answer: str = "accept", **more: Any) -> dict[str, Any]:
    return {"text": text, "answer": answer, "_input_hash": hash(text), "_task_hash": 1, **more}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


MOODS = [("fine", "good"), ("poor", "bad"), ("nice", "good"), ("dull", "bad")]
MOOD_ROWS = [Example(text, label=label) for text, label in MOODS]
LABEL_SETS = [*(Example(text, label=(label,)) for text, label in MOODS), Example("both", label=("bad", "good"))]
EU = Example(tokens=("EU", "rejects", "a", "German", "call"), label=("B-ORG", "O", "O", "B-MISC", "O"))
EU_TEXT = "EU rejects a German call"
NER = [(0, 2, "ORG"), (13, 19, "MISC")]

# format -> file, content, kind, rows in any order, notes among the task's
CASES: dict[str, tuple[str, str, str, list[Example], list[str]]] = {
    "Label Studio JSON": (
        "a.json",
        json.dumps(
            [
                *(studio(text, choices(label)) for text, label in MOODS),
                studio("odd", choices("good"), choices("good"), choices("bad")),
                studio("tie", choices("good"), choices("bad")),
                studio("skipped", choices(cancelled=True)),
                studio("new"),
            ]
        ),
        "classification",
        [*MOOD_ROWS, Example("odd", label="good")],
        [
            "rows whose annotators disagree, labelled by the majority: 1",
            "rows whose annotators disagree without a majority, read as unlabelled: 1",
            "rows whose annotations were all cancelled, left out: 1",
            "train: 2 rows without a label, left out",
        ],
    ),
    "Label Studio JSON of old versions, with numbers": (
        "a.json",
        json.dumps(
            [
                {
                    "id": n,
                    "data": {"review": f"text {n}"},
                    "completions": [
                        {
                            "skipped": n == 9,
                            "result": [{"from_name": "r", "type": "rating", "value": {"rating": n / 2}}],
                        }
                    ],
                }
                for n in range(10)
            ]
        ),
        "regression",
        [Example(f"text {n}", label=n / 2) for n in range(9)],
        ["rows whose annotations were all cancelled, left out: 1"],
    ),
    "Label Studio JSON with marks": (
        "a.json",
        json.dumps([studio(EU_TEXT, marked(region(0, 2, "ORG"), region(13, 19, "MISC"))), studio("x", marked())]),
        "tagging",
        [EU, Example(tokens=("x",), label=("O",))],
        [],
    ),
    "Label Studio JSON-MIN": (
        "a.json",
        json.dumps(
            [minimal(n, text, label) for n, (text, label) in enumerate(MOODS)]
            + [minimal(0, "fine", "good"), minimal(0, "fine", "bad")]
        ),
        "classification",
        MOOD_ROWS,
        [
            "rows of further annotators, joined with the first: 2",
            "rows whose annotators disagree, labelled by the majority: 1",
        ],
    ),
    "Label Studio CSV": (
        "a.csv",
        "annotation_id,annotator,created_at,id,lead_time,sentiment,text,updated_at\n"
        + "".join(f"{n},1,2026,{n},1.5,{label},{text},2026\n" for n, (text, label) in enumerate(MOODS)),
        "classification",
        MOOD_ROWS,
        [],
    ),
    "Label Studio CSV with marks": (
        "a.csv",
        "text,id,ner,annotator,annotation_id,lead_time\n"
        f'{EU_TEXT},1,"[{{""start"":0,""end"":2,""labels"":[""ORG""]}},'
        '{""start"":13,""end"":19,""labels"":[""MISC""]}]",1,1,2\n',
        "tagging",
        [EU],
        [],
    ),
    "doccano JSONL": (
        "a.jsonl",
        lines(
            [{"id": 1, "text": text, "label": [label]} for text, label in MOODS]
            + [{"id": 6, "text": "none", "label": []}]
        ),
        "classification",
        MOOD_ROWS,
        ["train: 1 row without a label, left out"],
    ),
    "doccano JSONL with marks": (
        "a.jsonl",
        lines([{"text": EU_TEXT, "labels": [list(mark) for mark in NER]}]),
        "tagging",
        [EU],
        [],
    ),
    "doccano JSONL with entities": (
        "a.jsonl",
        lines(
            [
                {
                    "text": EU_TEXT,
                    "relations": [{"id": 1, "from_id": 1, "to_id": 2, "type": "of"}],
                    "entities": [
                        {"id": n, "label": k, "start_offset": a, "end_offset": b} for n, (a, b, k) in enumerate(NER)
                    ],
                }
            ]
        ),
        "tagging",
        [EU],
        ["relations, not used: 1"],
    ),
    "Label Studio JSON with several labels": (
        "a.json",
        json.dumps(
            [
                *(studio(text, choices(label)) for text, label in MOODS),
                studio("both", choices("good", "bad")),
                studio("nothing", choices()),
                studio("new"),
                studio("odd", choices("good", "bad"), choices("good"), choices("bad", "good")),
            ]
        ),
        "multilabel",
        [*LABEL_SETS, Example("nothing", label=()), Example("odd", label=("bad", "good"))],
        [
            "rows with several labels (--kind classification leaves them out): 2",
            "rows whose annotators disagree, each label by the majority: 1",
            "train: 1 row without a label, left out",
        ],
    ),
    "Label Studio JSON-MIN with several labels": (
        "a.json",
        json.dumps(
            [minimal(n, text, label) for n, (text, label) in enumerate(MOODS)]
            + [minimal(9, "both", {"choices": ["bad", "good"]})]
        ),
        "multilabel",
        LABEL_SETS,
        ["rows with several labels (--kind classification leaves them out): 1"],
    ),
    "doccano JSONL with several labels": (
        "a.jsonl",
        lines(
            [{"id": 1, "text": text, "label": [label]} for text, label in MOODS]
            + [{"id": 5, "text": "both", "label": ["good", "bad"]}, {"id": 6, "text": "none", "label": []}]
        ),
        "multilabel",
        LABEL_SETS,
        ["train: 1 row without a label, left out"],
    ),
    "Prodigy JSONL with several options": (
        "a.jsonl",
        lines(
            [prodigy(text, accept=[label]) for text, label in MOODS]
            + [
                prodigy("both", accept=["bad", "good"]),
                prodigy("nothing", accept=[]),
                prodigy("no", "ignore", accept=[]),
            ]
        ),
        "multilabel",
        [*LABEL_SETS, Example("nothing", label=())],
        ["rows that were ignored, left out: 1", "train: 1 of 6 rows has no label"],
    ),
    "Argilla records with several labels": (
        "a.jsonl",
        lines([argilla(text, [label]) for text, label in MOODS] + [argilla("both", ["good", "bad"]), argilla("new")]),
        "multilabel",
        LABEL_SETS,
        ["train: 1 row without a label, left out"],
    ),
    "fastText lines with several labels": (
        "a.txt",
        "".join(f"__label__{label} {text}\n" for text, label in MOODS) + "__label__bad __label__good both\n",
        "multilabel",
        LABEL_SETS,
        [],
    ),
    "doccano CSV": (
        "a.csv",
        "id,text,label\n"
        + "".join(f"{n},{text},{label}\n" for n, (text, label) in enumerate(MOODS))
        + "9,both,good#bad\n10,new,\n",
        "multilabel",
        LABEL_SETS,
        ["train: 1 row without a label, left out"],
    ),
    "fastText lines": (
        "a.txt",
        "".join(f"__label__{label} {text}\n" for text, label in MOODS) + "__label__good rare__comment__x\n",
        "classification",
        [*MOOD_ROWS, Example("rare", label="good")],
        ["comments, not used: 1"],
    ),
    "Prodigy JSONL": (
        "a.jsonl",
        lines(
            [
                *(prodigy(text, label=label) for text, label in MOODS),
                prodigy("no", "reject", label="good"),
                prodigy("never mind", "ignore", label="good"),
                prodigy("fine", label="good"),
            ]
        ),
        "classification",
        MOOD_ROWS,
        [
            "rows that were rejected, left out: 1",
            "rows that were ignored, left out: 1",
            "rows of further annotators, joined with the first: 1",
        ],
    ),
    "Prodigy JSONL of one label": (
        "a.jsonl",
        lines(
            [prodigy("goal", label="SPORT"), prodigy("match", label="SPORT"), prodigy("vote", "reject", label="SPORT")]
        ),
        "classification",
        [Example("goal", label="SPORT"), Example("match", label="SPORT"), Example("vote", label="not SPORT")],
        ["rows that were rejected, read as 'not SPORT': 1"],
    ),
    "Prodigy JSONL of options": (
        "a.jsonl",
        lines(
            [
                *(prodigy(text, options=[{"id": "good", "text": "Good"}], accept=[label]) for text, label in MOODS),
                prodigy("no", "reject", options=[], accept=[]),
            ]
        ),
        "classification",
        MOOD_ROWS,
        ["rows that were rejected, left out: 1"],
    ),
    "Prodigy JSONL with marks": (
        "a.jsonl",
        lines([prodigy(EU_TEXT, spans=[{"start": a, "end": b, "label": k, "token_start": 0} for a, b, k in NER])]),
        "tagging",
        [EU],
        [],
    ),
    "Argilla records": (
        "records.json",
        json.dumps(
            [
                *(argilla(text, label) for text, label in MOODS),
                argilla("odd", "good", "good", "bad"),
                argilla("left", ("good", "discarded")),
                argilla("new"),
            ]
        ),
        "classification",
        [*MOOD_ROWS, Example("odd", label="good")],
        [
            "rows whose responses were all discarded or drafts, left out: 1",
            "rows whose annotators disagree, labelled by the majority: 1",
            "train: 1 row without a label, left out",
        ],
    ),
    "Argilla records of version 1, with marks": (
        "a.jsonl",
        lines(
            [
                {
                    "fields": {"text": EU_TEXT},
                    "responses": [{"values": {"ner": {"value": spans}}, "status": status}],
                }
                for status, spans in (
                    ("submitted", [{"start": a, "end": b, "label": label} for a, b, label in NER]),
                    ("discarded", []),
                )
            ]
        ),
        "tagging",
        [EU],
        ["rows whose responses were all discarded or drafts, left out: 1"],
    ),
    "Argilla records, flat": (
        "a.jsonl",
        lines(
            [
                {
                    "id": n,
                    "text": text,
                    "mood.responses": [label],
                    "mood.responses.users": ["u"],
                    "mood.responses.status": ["submitted"],
                    "mood.suggestion": "bad",
                }
                for n, (text, label) in enumerate(MOODS)
            ]
        ),
        "classification",
        MOOD_ROWS,
        [],
    ),
    "CoNLL (IOB1)": (
        "a.txt",
        "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nrejects VBZ I-VP O\na DT I-NP O\n"
        "German JJ I-NP I-MISC\ncall NN I-NP O\n\n"
        "New NNP I-NP I-LOC\nYork NNP I-NP I-LOC\nRome NNP B-NP B-LOC\n",
        "tagging",
        [EU, Example(tokens=("New", "York", "Rome"), label=("B-LOC", "I-LOC", "B-LOC"))],
        ["tags converted from IOB1 to BIO"],
    ),
    "CoNLL (BIOES)": (
        "a.tsv",
        "# id 1\nEU\tS-ORG\nrejects\tO\na\tO\nGerman\tS-MISC\ncall\tO\n\n"
        "New\tB-LOC\nYork\tI-LOC\nCity\tE-LOC\n#tag\tO\n",
        "tagging",
        [EU, Example(tokens=("New", "York", "City", "#tag"), label=("B-LOC", "I-LOC", "I-LOC", "O"))],
        ["tags converted from BIOES to BIO", "comment lines, not used: 1"],
    ),
    "CoNLL (IOB2)": (
        "a.bio",
        "EU B-ORG\nrejects O\na O\nGerman B-MISC\ncall O\n",
        "tagging",
        [EU],
        [],
    ),
    "GLUE: MRPC": (
        "a.tsv",
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n" + '1\t1\t2\t"He said\tthat"\r\n0\t3\t4\tit"s\tno\r\n',
        "pair",
        [Example('"He said', pair='that"', label="1"), Example('it"s', pair="no", label="0")],
        [],
    ),
    "GLUE: CoLA": (
        "a.tsv",
        "gj04\t1\t\tThe book fell.\ngj04\t0\t*\tBook the fell.\n",
        "classification",
        [Example("The book fell.", label="1"), Example("Book the fell.", label="0")],
        [],
    ),
    "GLUE: QNLI": (
        "a.tsv",
        'index\tquestion\tsentence\tlabel\n0\tWhen?\t"Then it was\tentailment\n1\tWho?\tNo" one\tnot_entailment\n',
        "pair",
        [
            Example("When?", pair='"Then it was', label="entailment"),
            Example("Who?", pair='No" one', label="not_entailment"),
        ],
        [],
    ),
    "GLUE: STS-B": (
        "a.tsv",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tm\tf\t2012\t1\tn\tn\ta plane\tan air plane\t5.0\n1\tm\tf\t2012\t1\tn\tn\ta flute\ta dog\t0.25\n",
        "regression",
        [Example("a plane", pair="an air plane", label=5.0), Example("a flute", pair="a dog", label=0.25)],
        [],
    ),
    "SNLI or MNLI": (
        "a.jsonl",
        lines([{"gold_label": g, "sentence1": f"p {g}", "sentence2": "h"} for g in ("entailment", "neutral", "-")]),
        "pair",
        [Example("p entailment", pair="h", label="entailment"), Example("p neutral", pair="h", label="neutral")],
        ["rows without a gold label (-), left out: 1"],
    ),
    "COPA": (
        "a.jsonl",
        lines(
            [{"premise": "It rained.", "choice1": "wet", "choice2": "dry", "question": "effect", "label": 0, "idx": 1}]
        ),
        "choice",
        [Example("It rained.\neffect", choices=("wet", "dry"), label="wet")],
        [],
    ),
    "WiC": (
        "a.jsonl",
        lines(
            [
                {"word": "bank", "sentence1": "a river bank", "sentence2": "a bank loan", "label": label}
                for label in (False, True)
            ]
        ),
        "pair",
        [Example("bank: a river bank", pair="a bank loan", label=label) for label in ("false", "true")],
        [],
    ),
    "WSC": (
        "a.jsonl",
        lines(
            [
                {
                    "text": f"Mark told Pete {n}",
                    "label": bool(n),
                    "target": {"span1_text": "Mark", "span2_text": "he", "span1_index": 0},
                }
                for n in range(2)
            ]
        ),
        "pair",
        [Example(f"Mark told Pete {n}", pair="he: Mark", label=label) for n, label in enumerate(("false", "true"))],
        [],
    ),
    "MultiRC": (
        "a.jsonl",
        lines(
            [
                {
                    "idx": 0,
                    "passage": {
                        "text": "Once.",
                        "questions": [
                            {
                                "question": "When?",
                                "answers": [{"text": "once", "label": 1}, {"text": "never", "label": 0}],
                            }
                        ],
                    },
                }
            ]
        ),
        "pair",
        [Example("When? once", pair="Once.", label="1"), Example("When? never", pair="Once.", label="0")],
        [],
    ),
    "TNEWS": (
        "a.json",
        lines(
            [{"label": n, "label_desc": f"news_{n}", "sentence": f"标题{n}", "keywords": ""} for n in ("102", "110")]
        ),
        "classification",
        [Example("标题102", label="news_102"), Example("标题110", label="news_110")],
        ["a.json: one JSON object a line", "a.json: labels by their names ('label_desc')"],
    ),
    "OCNLI": (
        "a.jsonl",
        lines(
            [
                {
                    "sentence1": "甲",
                    "sentence2": f"乙{label}",
                    "label": label,
                    "label0": "neutral",
                    "label1": "neutral",
                    "label2": "",
                    "label3": "",
                    "label4": "",
                }
                for label in ("neutral", "entailment", "-")
            ]
        ),
        "pair",
        [Example("甲", pair=f"乙{label}", label=label) for label in ("neutral", "entailment")],
        ["rows without a gold label (-), left out: 1"],
    ),
    "CSL": (
        "a.jsonl",
        lines([{"id": n, "abst": "摘要", "keyword": ["甲", "乙"], "label": str(n)} for n in range(2)]),
        "pair",
        [Example("摘要", pair="甲；乙", label=label) for label in "01"],
        [],
    ),
    "CLUENER": (
        "a.jsonl",
        lines([{"text": "叶老桂在EU", "label": {"name": {"叶老桂": [[0, 2]]}, "organization": {"EU": [[4, 5]]}}}]),
        "tagging",
        [Example(tokens=("叶", "老", "桂", "在", "EU"), label=("B-name", "I-name", "I-name", "O", "B-organization"))],
        [],
    ),
    "SQuAD": (
        "a.json",
        json.dumps(
            {
                "version": "2",
                "data": [
                    {
                        "title": "t",
                        "paragraphs": [
                            {
                                "context": "EU is in Rome.",
                                "qas": [
                                    {"id": "1", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 9}]},
                                    {"id": "2", "question": "Why?", "is_impossible": True, "answers": []},
                                ],
                            }
                        ],
                    }
                ],
            }
        ),
        "span",
        [Example("Where?", pair="EU is in Rome.", label=Answers(("Rome",), (9,)))],
        ["train: 1 row without an answer, left out"],
    ),
}

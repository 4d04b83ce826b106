"""The source tasks of the starter banks, read from a folder of data sets or derived from one of them."""

from __future__ import annotations

import gzip
import json
import random
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from promptgraft.task.load import load_task
from promptgraft.task.task import SPLITS, Answers, Example, Kind, Task

SEED = 13
NEAREST = 5
"""A wrong partner of a derived pair is drawn from so many that share the most words with the right one."""
Rows = dict[str, tuple[Example, ...]]
Derivation = Callable[[Path], Task]
DERIVED: dict[str, Derivation] = {}

VALENCE = {"joy": "positive", "anger": "negative", "disgust": "negative", "fear": "negative", "sadness": "negative"}
# The ten domains of Larson et al. 2019, fifteen intents each.
DOMAINS = {
    "banking": "freeze_account routing pin_change bill_due pay_bill account_blocked interest_rate min_payment "
    "bill_balance transfer order_checks balance spending_history transactions report_fraud",
    "credit cards": "replacement_card_duration expiration_date damaged_card improve_credit_score report_lost_card "
    "card_declined credit_limit_change apr redeem_rewards credit_limit rewards_balance application_status "
    "credit_score new_card international_fees",
    "kitchen and dining": "food_last confirm_reservation how_busy ingredients_list calories nutrition_info recipe "
    "restaurant_reviews restaurant_reservation meal_suggestion restaurant_suggestion cancel_reservation "
    "ingredient_substitution cook_time accept_reservations",
    "home": "what_song play_music todo_list_update reminder reminder_update calendar_update order_status "
    "update_playlist shopping_list calendar next_song order todo_list shopping_list_update smart_home",
    "car and commute": "current_location oil_change_when oil_change_how uber traffic tire_pressure "
    "schedule_maintenance gas mpg distance directions last_maintenance gas_type tire_change jump_start",
    "travel": "plug_type travel_notification translate flight_status international_visa timezone exchange_rate "
    "travel_suggestion travel_alert vaccines lost_luggage book_flight book_hotel carry_on car_rental",
    "utility": "weather alarm date find_phone share_location timer make_call calculator definition "
    "measurement_conversion flip_coin spelling time roll_dice text",
    "work": "pto_request_status next_holiday insurance_change insurance meeting_schedule payday taxes income "
    "rollover_401k pto_balance pto_request w2 schedule_meeting direct_deposit pto_used",
    "small talk": "who_made_you meaning_of_life who_do_you_work_for do_you_have_pets what_are_your_hobbies fun_fact "
    "what_is_your_name where_are_you_from goodbye thank_you greeting tell_joke are_you_a_bot how_old_are_you "
    "what_can_i_ask_you",
    "meta": "change_speed user_name whisper_mode yes change_volume no change_language repeat change_accent cancel "
    "sync_device change_user_name change_ai_name reset_settings maybe",
}
DOMAIN_LABELS = {
    "banking": "a question or order about a bank account, payments and bills",
    "credit cards": "a question or order about a credit card",
    "kitchen and dining": "a question or order about food, cooking and restaurants",
    "home": "a question or order about lists, reminders, music and things at home",
    "car and commute": "a question or order about the car, the road and the traffic",
    "travel": "a question or order about flights, hotels and journeys",
    "utility": "a question or order about time, weather, calls and small calculations",
    "work": "a question or order about work, pay, leave and meetings",
    "small talk": "small talk with an assistant",
    "meta": "an order about the assistant itself, or a mere yes or no",
}
# The first pattern that is found in a question decides.
QUESTIONS = {
    "reason": r"\bwhy\b|\bfor (what|which) reason|\bwhat (is|was|were|are) the (reason|cause)",
    "number": r"\bhow (many|much|long|old|far|high|large|big|tall|wide|deep|fast|often|few|heavy)\b"
    r"|\b(what|which) (percent\w*|number|amount|proportion|share|price|age)\b",
    "time": r"\bwhen\b|\b(what|which) (\w+ )?(year|date|day|month|century|decade|period|era|time|season|week)s?\b",
    "place": r"\bwhere\b|\b(what|which) (\w+ )?(city|country|state|place|region|continent|town|location|river"
    r"|island|province|street|county|area|nation|village)s?\b",
    "person": r"\b(who|whom|whose)\b",
    "manner": r"\bhow (do|does|did|is|are|was|were|can|could|would|has|have|had|should|might|may)\b",
    "thing": r"\b(what|which)\b",
}
QUESTION_LABELS = {
    "person": "a question that asks who: for a person or a group of people",
    "place": "a question that asks where: for a place",
    "time": "a question that asks when: for a date or a time",
    "number": "a question that asks how many or how much: for a number",
    "reason": "a question that asks why: for a reason",
    "manner": "a question that asks how: for a way in which something is done",
    "thing": "a question that asks what: for a thing or a word",
}
QUESTIONS_ZH = {
    "原因": r"为什么|为何|为甚么|為什麼|為何|為甚麼|原因|缘故|緣故",
    "人物": r"谁|誰|何人|(哪|什么|什麼|甚麼)(一)?(位|个人|個人|名人|人)",
    "时间": r"何时|何時|何年|(哪|几|幾|什么|什麼|甚麼|何)(一)?(個|个)?(年|月|日|天|时|時|世纪|世紀|朝代|年代)",
    "地点": r"哪里|哪裡|哪裏|哪儿|何处|何處|何地|(哪|什么|什麼|甚麼|何)(一)?(个|個|座|处|處|条|條|些)?"
    r"(地方|地点|地點|地区|地區|国|國|城|省|市|县|縣|州|洲|岛|島|河|湖|海|山|区|區|镇|鎮|位置)",
    "数量": r"多少|几|幾|多(长|長|大|高|远|遠|久|重|宽|寬|深)",
    "方式": r"如何|怎么|怎麼|怎样|怎樣|怎",
    "事物": r"什么|什麼|甚麼|何|哪",
}
QUESTION_LABELS_ZH = {
    "人物": "问题问的是谁，答案是人物",
    "地点": "问题问的是哪里，答案是地点",
    "时间": "问题问的是什么时候，答案是时间",
    "数量": "问题问的是多少，答案是数量",
    "原因": "问题问的是为什么，答案是原因",
    "方式": "问题问的是怎样，答案是方式",
    "事物": "问题问的是什么，答案是事物或名称",
}
FIELDS_ZH = {"理学": "理工", "工学": "理工", "农学": "农医", "医学": "农医"} | dict.fromkeys(
    ("文学", "历史学", "哲学", "艺术学"), "人文"
)
ANSWERABLE_ZH = {"有": "这句话里有问题的答案", "没有": "这句话里没有问题的答案"}
RARE_IN_DRCD = frozenset({"方式"})
THINGS = {
    thing: kind
    for kind, things in {
        "organisation": "company school",
        "person": "artist athlete politician",
        "place": "building nature village",
        "nature": "animal plant",
        "work": "transport album film book",
    }.items()
    for thing in things.split()
}
RATINGS = {"1 out of 5": "low", "low": "low", "3 out of 5": "average", "average": "average"} | {
    "5 out of 5": "high",
    "high": "high",
}


def open_source(data: Path, name: str) -> Task:
    """A source task by its name: derived where it is one of DERIVED, else as its folder says."""
    return DERIVED[name](data) if name in DERIVED else load_task(data / name)


def derived(derivation: Derivation) -> Derivation:
    """Decorator that registers a derivation under its function's name."""
    DERIVED[derivation.__name__] = derivation
    return derivation


@derived
def goemotions_valence(data: Path) -> Task:
    """GoEmotions' comments as positive or negative; neutral and surprised ones are left out."""
    labels = {"negative": "a comment with a negative feeling", "positive": "a comment with a positive feeling"}
    return _relabelled(data / "goemotions", "goemotions_valence", labels, VALENCE, family="sentiment")


@derived
def goemotions_feeling(data: Path) -> Task:
    """GoEmotions' comments as neutral or not."""
    labels = {"neutral": "a comment without any feeling", "feeling": "a comment that shows a feeling"}
    shown = dict.fromkeys((*VALENCE, "surprise"), "feeling")
    return _relabelled(data / "goemotions", "goemotions_feeling", labels, shown | {"neutral": "neutral"})


@derived
def goemotions_hostile(data: Path) -> Task:
    """GoEmotions' comments as hostile (angry or disgusted) or not."""
    labels = {"hostile": "an angry or disgusted, hostile comment", "other": "a comment that is not hostile"}
    calm = dict.fromkeys(("joy", "fear", "sadness", "surprise", "neutral"), "other")
    hostile = {"anger": "hostile", "disgust": "hostile"}
    return _relabelled(data / "goemotions", "goemotions_hostile", labels, calm | hostile, family="toxicity")


@derived
def clinc150_domain(data: Path) -> Task:
    """CLINC150's intents by their ten domains."""
    domains = {intent: domain for domain, intents in DOMAINS.items() for intent in intents.split()}
    return _relabelled(data / "clinc150", "clinc150_domain", DOMAIN_LABELS, domains)


@derived
def csl_field(data: Path) -> Task:
    """CSL's titles by four fields of study."""
    labels = {
        "理工": "理学或工学论文的标题",
        "农医": "农学或医学论文的标题",
        "人文": "文学、历史、哲学或艺术论文的标题",
        "社科": "法学、经济、管理、教育等社会科学论文的标题",
    }
    names = load_task(data / "csl_category").classes
    fields = {name: FIELDS_ZH.get(name, "社科") for name in names}
    return _relabelled(data / "csl_category", "csl_field", labels, fields)


@derived
def dbpedia_kind(data: Path) -> Task:
    """DBpedia's descriptions by five kinds of thing."""
    labels = {
        "organisation": "a text about a company, a school or another organisation",
        "person": "a text about a person",
        "place": "a text about a building, a village or a place in nature",
        "nature": "a text about an animal or a plant",
        "work": "a text about an album, a film, a book or a vehicle",
    }
    return _relabelled(data / "dbpedia14", "dbpedia_kind", labels, THINGS)


@derived
def comve_sense(data: Path) -> Task:
    """ComVE's statements one by one: does it make sense?"""
    task = load_task(data / "comve")
    labels = {"sense": "a statement that makes sense", "nonsense": "a statement that makes no sense"}
    rows = {
        split: tuple(
            Example(choice, label="sense" if choice == row.label else "nonsense")
            for row in rows
            for choice in row.choices
        )
        for split, rows in task.splits.items()
    }
    return task.replace(name="comve_sense", kind="classification", labels=labels, splits=rows, columns={})


@derived
def squad_question(data: Path) -> Task:
    """SQuAD's questions by the kind of answer that their question word asks for."""
    task = load_task(data / "squad")
    asked = {
        split: [*(row.text for row in task.splits.get(split, ())), *(row["target"] for row in rows)]
        for split, rows in _raw(data / "question_generation").items()
    }
    return _questions(task, "squad_question", asked, QUESTIONS, QUESTION_LABELS)


@derived
def squad_answerable(data: Path) -> Task:
    """SQuAD's questions beside a sentence that holds the answer or one that does not."""
    labels = {"yes": "the sentence holds the answer", "no": "the sentence does not hold the answer"}
    return _answerable(data, "squad", "squad_answerable", labels, "word")


@derived
def cmrc_question(data: Path) -> Task:
    """CMRC 2018's questions by the kind of answer that their question word asks for."""
    return _questions_zh(data, "cmrc2018", "cmrc_question")


@derived
def drcd_question(data: Path) -> Task:
    """DRCD's questions by the kind of answer that their question word asks for."""
    return _questions_zh(data, "drcd", "drcd_question", RARE_IN_DRCD)


@derived
def cmrc_answerable(data: Path) -> Task:
    """CMRC 2018's questions beside a sentence that holds the answer or one that does not."""
    return _answerable(data, "cmrc2018", "cmrc_answerable", ANSWERABLE_ZH, "char")


@derived
def drcd_answerable(data: Path) -> Task:
    """DRCD's questions beside a sentence that holds the answer or one that does not."""
    return _answerable(data, "drcd", "drcd_answerable", ANSWERABLE_ZH, "char")


@derived
def scitldr_match(data: Path) -> Task:
    """SciTLDR's summaries beside their own abstract or another one."""
    labels = {
        "same": "the sentence sums up this abstract",
        "other": "the sentence sums up another abstract",
    }
    rows = {
        split: _matched([(row["target"], row["source"]) for row in rows], "same", "other", "word")
        for split, rows in _raw(data / "scitldr").items()
    }
    return _described(data / "scitldr", "scitldr_match", "pair", labels, rows, family="summary", language="en")


@derived
def classical_match(data: Path) -> Task:
    """Sentences of modern Chinese beside the classical one they translate or another one."""
    labels = {"译文": "现代汉语句子是这句文言文的译文", "无关": "现代汉语句子不是这句文言文的译文"}
    rows = {
        split: _matched([(row["target"], row["source"]) for row in rows[:2500]], "译文", "无关", "char")
        for split, rows in _raw(data / "classical_modern").items()
    }
    family = "paraphrase"
    return _described(data / "classical_modern", "classical_match", "pair", labels, rows, family=family, language="zh")


@derived
def classical_style(data: Path) -> Task:
    """Sentences of classical and of modern Chinese; no sentence stands beside its own translation."""
    labels = {"文言文": "用文言文写的句子", "白话文": "用现代白话文写的句子"}
    rows = {
        split: tuple(
            Example(row["source"], label="文言文") if place % 2 else Example(row["target"], label="白话文")
            for place, row in enumerate(rows)
        )
        for split, rows in _raw(data / "classical_modern").items()
    }
    folder = data / "classical_modern"
    return _described(folder, "classical_style", "classification", labels, rows, family="style", language="zh")


@derived
def e2e_rating(data: Path) -> Task:
    """E2E's descriptions of restaurants by how customers rate them."""
    labels = {
        "low": "a place that customers rate low, a bad one",
        "average": "a place that customers rate as average",
        "high": "a place that customers rate high, a good one",
    }
    rows = {}
    for split, raw in _raw(data / "e2e_nlg").items():
        ratings = [(re.search(r"customer rating\[([^\]]*)\]", row["source"]), row["target"]) for row in raw]
        texts = {text: RATINGS[rating.group(1)] for rating, text in ratings if rating}
        rows[split] = tuple(Example(text, label=label) for text, label in texts.items())
    folder = data / "e2e_nlg"
    return _described(folder, "e2e_rating", "classification", labels, rows, family="sentiment", language="en")


@derived
def btc_names(data: Path) -> Task:
    """Tweets of the Broad Twitter Corpus by the one kind of name in them."""
    labels = {
        "PER": "a text that names a person",
        "LOC": "a text that names a place",
        "ORG": "a text that names an organisation",
        "none": "a text without any name",
    }
    return _names(data / "btc", "btc_names", labels)


def _relabelled(
    folder: Path, name: str, labels: Mapping[str, str], names: Mapping[str, str], *, family: str | None = None
) -> Task:
    """A classification task with each label replaced; rows with a label that is not in `names` are left out."""
    task = load_task(folder)
    rows = {
        split: tuple(Example(row.text, label=names[str(row.label)]) for row in rows if row.label in names)
        for split, rows in task.splits.items()
    }
    return task.replace(name=name, family=family or task.family, labels=dict(labels), splits=rows, columns={})


def _questions_zh(data: Path, source: str, name: str, rare: frozenset[str] = frozenset()) -> Task:
    task = load_task(data / source)
    labels = {label: text for label, text in QUESTION_LABELS_ZH.items() if label not in rare}
    asked = {split: [row.text for row in rows] for split, rows in task.splits.items()}
    return _questions(task, name, asked, QUESTIONS_ZH, labels)


def _questions(
    task: Task, name: str, asked: Mapping[str, Iterable[str]], patterns: Mapping[str, str], labels: Mapping[str, str]
) -> Task:
    """Questions by the first pattern found in them; questions after a thing are cut to the next largest class."""
    rows = {}
    for split, questions in asked.items():
        kinds = {question: _kind_of(question, patterns) for question in questions}
        found = [Example(question, label=kind) for question, kind in kinds.items() if kind in labels]
        rows[split] = _evened(found)
    changes = {"kind": "classification", "metric": "f1", "family": "question", "labels": dict(labels), "columns": {}}
    return task.replace(name=name, splits=rows, **changes)


def _kind_of(question: str, patterns: Mapping[str, str]) -> str | None:
    return next((kind for kind, pattern in patterns.items() if re.search(pattern, question.lower())), None)


def _evened(rows: list[Example]) -> tuple[Example, ...]:
    """Rows of which the largest class has been cut, by lot, to the size of the next one."""
    sizes = sorted((sum(row.label == label for row in rows), str(label)) for label in {row.label for row in rows})
    (limit, _), (_, largest) = sizes[-2:]
    shuffled = random.Random(SEED).sample(rows, len(rows))
    kept = {id(row) for row in [row for row in shuffled if row.label == largest][:limit]}
    return tuple(row for row in shuffled if row.label != largest or id(row) in kept)


def _answerable(data: Path, source: str, name: str, labels: Mapping[str, str], unit: str) -> Task:
    """Pairs of a question and a sentence; a wrong one is of another passage and shares words with the question.

    Args:
        labels: the label of a sentence with the answer, then that of one without.
    """
    task = load_task(data / source)
    right, wrong = labels
    rows = {
        split: _matched(
            [(row.text, _sentence(row)) for row in rows], right, wrong, unit, groups=[row.pair for row in rows]
        )
        for split, rows in task.splits.items()
    }
    changes = {"kind": "pair", "metric": "accuracy", "family": "reading", "labels": dict(labels), "columns": {}}
    return task.replace(name=name, splits=rows, **changes)


def _sentence(row: Example) -> str:
    """The sentence of a passage in which the first answer begins."""
    assert isinstance(row.label, Answers)
    assert row.pair is not None
    start = 0
    for sentence in re.split(r"(?<=[。！？；])|(?<=[.!?] )", row.pair):
        if start <= row.label.starts[0] < start + len(sentence):
            return sentence.strip()
        start += len(sentence)
    return row.pair


def _matched(
    pairs: list[tuple[str, str]], right: str, wrong: str, unit: str, groups: list[str | None] | None = None
) -> tuple[Example, ...]:
    """Pairs of texts, every second one with a wrong partner: one of another group that shares words with the first."""
    firsts, seconds = zip(*pairs, strict=True)
    owners = list(groups or seconds)
    vectors = TfidfVectorizer(analyzer=unit, ngram_range=(1, 2 if unit == "char" else 1)).fit([*firsts, *seconds])
    nearness = (vectors.transform(firsts) @ vectors.transform(seconds).T).toarray()
    lot = random.Random(SEED)
    rows = []
    for place, (first, second) in enumerate(pairs):
        if place % 2:
            rows.append(Example(first, second, label=right))
            continue
        ordered = np.argsort(-nearness[place], kind="stable")
        strangers = [other for other in ordered if owners[other] != owners[place]]
        rows.append(Example(first, seconds[lot.choice(strangers[:NEAREST])], label=wrong))
    return tuple(rows)


def _names(folder: Path, name: str, labels: Mapping[str, str]) -> Task:
    """Tagged texts by the one kind of name in them; as many without a name as of the largest kind."""
    task = load_task(folder)
    rows = {}
    for split, tagged in task.splits.items():
        kinds = [(row, {str(tag)[2:] for tag in row.label} - {""}) for row in tagged if isinstance(row.label, tuple)]
        found = [Example(" ".join(row.tokens), label=next(iter(kind), "none")) for row, kind in kinds if len(kind) <= 1]
        rows[split] = _evened(found)
    changes = {"kind": "classification", "metric": "f1", "family": "names", "labels": dict(labels), "columns": {}}
    return task.replace(name=name, splits=rows, **changes)


def _raw(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of a task that maps text to text, by split."""
    paths = {split: folder / f"{split}.jsonl.gz" for split in SPLITS}
    return {
        split: [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()]
        for split, path in paths.items()
        if path.exists()
    }


def _described(
    folder: Path, name: str, kind: Kind, labels: Mapping[str, str], rows: Rows, *, family: str, language: str
) -> Task:
    """A task made of rows, with the licence and the source that its folder states."""
    source = tomllib.loads((folder / "task.toml").read_text(encoding="utf-8"))["source"]
    metric = "accuracy" if kind == "pair" else "f1"
    about = {"family": family, "language": language, "licence": source["licence"], "source": source["repo"]}
    return Task(name=name, kind=kind, metric=metric, labels=dict(labels), splits=rows, **about)

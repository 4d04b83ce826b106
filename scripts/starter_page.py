"""Prints docs/starter.md, the page on the starter banks, from their cards.

python scripts/starter_page.py > docs/starter.md
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from promptgraft.bank.bank import Summary, open_bank
from promptgraft.prompt.card import Card

GOEMOTIONS = "GoEmotions (Demszky et al. 2020)"
CLINC = "CLINC150 (Larson et al. 2019)"
COMVE = "ComVE, SemEval-2020 task 4 A (Wang et al. 2020)"
DBPEDIA = "DBpedia-14 (Zhang et al. 2015)"
SQUAD = "SQuAD 1.1 (Rajpurkar et al. 2016)"
BTC = "Broad Twitter Corpus (Derczynski et al. 2016)"
CSL = "CSL (Li et al. 2022), titles of papers"
CMRC = "CMRC 2018 (Cui et al. 2019)"
DRCD = "DRCD (Shao et al. 2018), traditional characters"
CLASSICAL = "NiuTrans Classical-Modern, a parallel corpus"
ANSWERABLE = "a question with the sentence that holds its answer, or with a sentence of another passage"
PUBLISHED = {
    "arc_easy": "ARC, the easy questions (Clark et al. 2018)",
    "banking77": "Banking77 (Casanueva et al. 2020)",
    "bc5cdr": "BC5CDR, chemicals and diseases (Li et al. 2016)",
    "boolq": "BoolQ (Clark et al. 2019)",
    "btc": BTC,
    "btc_names": f"derived from the {BTC}: tweets by the one kind of name in them, or none",
    "classical_match": f"derived from {CLASSICAL}: a modern sentence with the classical one it translates, or another",
    "classical_style": f"derived from {CLASSICAL}: whether a sentence is classical or modern",
    "clinc150": f"{CLINC}, its 150 intents",
    "clinc150_domain": f"derived from {CLINC}: its ten domains",
    "cmrc2018": CMRC,
    "cmrc_answerable": f"derived from {CMRC}: {ANSWERABLE}",
    "cmrc_question": f"derived from {CMRC}: questions by the kind of answer that their question word asks for",
    "comve": COMVE,
    "comve_sense": f"derived from {COMVE}: single statements that make sense or not",
    "csl_category": CSL,
    "csl_field": f"derived from {CSL}: four fields",
    "dbpedia14": DBPEDIA,
    "dbpedia_kind": f"derived from {DBPEDIA}: five kinds of thing",
    "drcd_answerable": f"derived from {DRCD}: {ANSWERABLE}",
    "drcd_question": f"derived from {DRCD}: questions by the kind of answer that their question word asks for",
    "e2e_rating": "derived from E2E (Novikova et al. 2017): descriptions of restaurants by their rating",
    "goemotions": f"{GOEMOTIONS}, grouped as Ekman does",
    "goemotions_feeling": f"derived from {GOEMOTIONS}: with an emotion or neutral",
    "goemotions_hostile": f"derived from {GOEMOTIONS}: anger and disgust, or not",
    "goemotions_valence": f"derived from {GOEMOTIONS}: positive or negative",
    "mnli": "MultiNLI (Williams et al. 2018)",
    "qnli": "QNLI of GLUE (Wang et al. 2018), made from SQuAD",
    "scicite": "SciCite (Cohan et al. 2019)",
    "scitldr_match": "derived from SciTLDR (Cachola et al. 2020): a summary with its own abstract, or with another",
    "sms_spam": "SMS Spam Collection (Almeida et al. 2011)",
    "snli": "SNLI (Bowman et al. 2015)",
    "squad": SQUAD,
    "squad_answerable": f"derived from {SQUAD}: {ANSWERABLE}",
    "squad_question": f"derived from {SQUAD}: questions by the kind of answer that their question word asks for",
    "ud_ewt_pos": "Universal Dependencies, English Web Treebank (Silveira et al. 2014)",
    "wnut17": "WNUT-17 emerging entities (Derczynski et al. 2017)",
}

HEAD = """# The starter banks

<!-- Made from the cards by `python scripts/starter_page.py > docs/starter.md`. -->

{count} prompts ship with promptgraft: {models}.

`--bank starter` selects them: every command uses those of the model it is given, and says in one line if there are none
for that model. `promptgraft bank list starter` lists all of them as MODEL/NAME,
`promptgraft bank show starter MODEL/NAME` shows one, and `promptgraft bank verify starter` checks every file against
its card. Their numbers are stored in 16 bits and read as fp32.
"""

SECTION = """
## {model}

{count} prompts of {families} families{languages}.

| prompt | what | data | licence of the data | test | 95 % interval | rows | readout |
| --- | --- | --- | --- | --- | --- | ---: | --- |
"""

TAIL = """
Scores are percentages of the metric named. They are of the prompt as it is stored, on test rows that played no part in
any choice, and the interval is over those rows. Each comes from one seed with one recipe; weak prompts are included.
With two options or two classes a guess is right half of the time: if the score is near that, the frozen model can read
little of the task. Do not compare them with published figures: most data sets are cut to at most 10,000 training and
1,000 test rows, some are split again, texts are cut at the number of tokens on the card, and the backbones have [seen
some of these data sets](models.md#what-to-know-before-you-quote-a-figure) in their own training.

## Which data, and which not

A prompt is included only if the published licence of its data allows passing on what is made from them. The column says
which licence: "not stated in the repository" means that the copy we read does not contain the licence that the data set
was published under; "the repository" means that the authors put the data under the licence of their repository.
Share-alike licences require that you name the authors and keep the licence if you pass on the data; the prompts contain
no text of them.

Most data sets for sentiment are therefore missing: for many of them no licence of the texts is stated anywhere, and
others forbid commercial use or are under the terms of the site they come from. This is true of nearly all Chinese ones.
`goemotions_valence` takes their place, on `e5-small` for Chinese too, since that model reads both languages. It is not
a published data set: it is GoEmotions with joy as `positive`, with anger, disgust, fear and sadness as `negative`, and
without the comments that are neutral or surprised. The other derived sets are not published either; the column says
what they are made of, and [the code](../scripts/starter_sources.py) how. If you have labelled reviews of your own, tune
a prompt on them: `promptgraft tune my-reviews.csv --model minilm --bank my-bank`.

## How to rebuild them

```
python scripts/build_starter.py --data DATA --model minilm --bank rebuilt
python scripts/build_starter.py --data DATA --model e5-small --bank rebuilt-e5 --only csl_category,cmrc_question
python scripts/starter_page.py > docs/starter.md
```

`DATA` has one folder for each task, with a `task.toml` and its rows; derived sets are made from the folder of their
data. The recipe of each prompt is on its card. The same seed gives the same bits on the same kind of processor; on
another kind the last digits may differ.
"""


def page() -> str:
    """The whole page."""
    banks = {
        model: list(entries) for model, entries in groupby(open_bank("starter").list(), lambda entry: model_of(entry))
    }
    order = sorted(banks, key=lambda model: -len(banks[model]))
    counts = [f"{len(banks[model])} for `{model}`" for model in order]
    models = f"{', '.join(counts[:-1])} and {counts[-1]}" if counts[1:] else counts[0]
    head = HEAD.format(count=sum(map(len, banks.values())), models=models)
    return head + "".join(section(model, banks[model]) for model in order) + TAIL


def section(model: str, entries: Sequence[Summary]) -> str:
    """A model's table."""
    ordered = sorted(entries, key=lambda entry: (entry.card.task.family or "", entry.name))
    families = len({entry.card.task.family for entry in entries})
    chinese = sum(entry.card.task.language == "zh" for entry in entries)
    languages = f", {chinese} of them tuned on Chinese data" if chinese else ""
    head = SECTION.format(model=model, count=len(entries), families=families, languages=languages)
    return head + "".join(map(line, ordered))


def model_of(entry: Summary) -> str:
    """The model in MODEL/NAME."""
    return entry.name.partition("/")[0]


def line(entry: Summary) -> str:
    """A prompt's line of the table."""
    card, test = entry.card, entry.card.scores["test"]
    name = entry.name.partition("/")[2]
    cells = [
        f"`{name}`",
        what(card),
        PUBLISHED[name],
        card.task.licence,
        f"{card.task.metric} {test.value:.1f}",
        f"{test.low:.1f} to {test.high:.1f}",
        test.rows,
        f"`{card.readout}`",
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


def what(card: Card) -> str:
    """Family, kind and number of labels."""
    labels = f", {len(card.task.labels)} labels" if card.task.labels else ""
    return f"{card.task.family}: {card.task.kind}{labels}"


if __name__ == "__main__":
    print(page(), end="")

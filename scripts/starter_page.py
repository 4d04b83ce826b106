"""Prints docs/starter.md, the page on the starter bank, from the bank's cards.

python scripts/starter_page.py > docs/starter.md
"""

from __future__ import annotations

from promptgraft.bank.bank import Summary, open_bank
from promptgraft.prompt.card import Card

PUBLISHED = {
    "arc_easy": "ARC, the easy questions (Clark et al. 2018)",
    "banking77": "Banking77 (Casanueva et al. 2020)",
    "boolq": "BoolQ (Clark et al. 2019)",
    "btc": "Broad Twitter Corpus (Derczynski et al. 2016)",
    "clinc150": "CLINC150, its 150 intents (Larson et al. 2019)",
    "comve": "ComVE, SemEval-2020 task 4 A (Wang et al. 2020)",
    "copa": "COPA (Roemmele et al. 2011)",
    "dbpedia14": "DBpedia-14 (Zhang et al. 2015)",
    "goemotions": "GoEmotions, grouped as Ekman does (Demszky et al. 2020)",
    "goemotions_valence": "derived from GoEmotions (Demszky et al. 2020)",
    "mnli": "MultiNLI (Williams et al. 2018)",
    "qnli": "QNLI of GLUE (Wang et al. 2018), made from SQuAD",
    "sms_spam": "SMS Spam Collection (Almeida et al. 2011)",
    "snli": "SNLI (Bowman et al. 2015)",
    "squad": "SQuAD 1.1 (Rajpurkar et al. 2016)",
    "ud_ewt_pos": "Universal Dependencies, English Web Treebank (Silveira et al. 2014)",
    "wnut17": "WNUT-17 emerging entities (Derczynski et al. 2017)",
}

HEAD = """# The starter bank

<!-- Made from the cards by `python scripts/starter_page.py > docs/starter.md`. -->

{count} prompts for `{model}` that ship with promptgraft, of {families} families. `--bank starter` names the bank;
`promptgraft bank list starter` and `promptgraft bank show starter NAME` show it, `promptgraft bank verify starter`
checks every file against its card.

| prompt | what | data | licence of the data | test | 95 % interval | rows | readout |
| --- | --- | --- | --- | --- | --- | ---: | --- |
"""

TAIL = """
Scores are in percent of the metric named, on test rows that chose nothing; the interval is over those rows. They are
as they came out of one seed with one recipe, weak ones too: of two choices or two classes a guess gets half right, and
where the score is near that, the frozen model reads little of the task. Do not hold them against published figures:
most sets are cut to at most 10,000 training and 1,000 test rows, some are split anew, texts are cut at the tokens
on the card, and the backbone has [seen some of these sets](models.md#what-to-know-before-you-quote-a-figure) in its own
training.

## Which data, and which not

A prompt is in here only where the licence of its data, as published, allows to hand on what is made from them. The
column says which; "not stated in the repository" means that the copy we read came without the licence that the set
was published under. Share-alike licences ask that you name the authors and keep the licence if you hand on the data;
the prompts hold no text of them.

Most sets of sentiment are therefore missing: for many no licence of the texts is stated anywhere, and others allow
no commercial use or are under the terms of the site they were taken from. `goemotions_valence` stands in for them. It
is no published set: it is GoEmotions with joy as `positive`, with anger, disgust, fear and sadness as `negative`, and
without the comments that are neutral or surprised. Where you have labelled reviews of your own, tune a source on them:
`promptgraft tune my-reviews.csv --model minilm --bank my-bank`.

## How to rebuild it

```
python scripts/build_starter.py --data DATA --bank rebuilt
python scripts/build_starter.py --data DATA --bank rebuilt --only snli,mnli
python scripts/starter_page.py > docs/starter.md
```

`DATA` has a folder a task with a `task.toml` and its rows; `goemotions_valence` is made from `DATA/goemotions`. The
recipe of each prompt is on its card. The same seed gives the same bits on the same kind of processor; on another kind
the last digits may differ.
"""


def page() -> str:
    """The whole page."""
    entries = sorted(open_bank("starter").list(), key=lambda entry: (entry.card.task.family or "", entry.name))
    cards = [entry.card for entry in entries]
    said = {
        "count": len(cards),
        "model": " and ".join(sorted({card.backbone.name for card in cards})),
        "families": len({card.task.family for card in cards}),
    }
    return HEAD.format(**said) + "".join(map(line, entries)) + TAIL


def line(entry: Summary) -> str:
    """A prompt's line of the table."""
    card, test = entry.card, entry.card.scores["test"]
    cells = [
        f"`{entry.name}`",
        what(card),
        PUBLISHED[entry.name],
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

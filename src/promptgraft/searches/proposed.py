"""A model writes instructions, from rows or from earlier ones; a bandit chooses how it is asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from promptgraft.errors import UsageError
from promptgraft.searches.algorithm import Algorithm, Skill, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.phrases import cleaned
from promptgraft.searches.race import Raced, worse_by
from promptgraft.searches.space import Space
from promptgraft.task.task import Example
from promptgraft.template.parts import Wording
from promptgraft.template.template import Template

AT_ONCE = 4
"""Instructions that are asked for at once."""
MOST_TOKENS = 24
MOST_INSTRUCTION = 30
"""Words of an instruction that are kept."""
SHOWN = 150
"""Characters of a row in a question."""
PAIRS, HISTORY = 5, 6
"""Rows that a question shows, and earlier instructions with their scores."""
TEMPERATURE = 0.8

ASKED = {
    "en": {
        "induce": "I gave a friend an instruction and some inputs. The friend read the instruction and wrote an output "
        "for every one of the inputs. Here are the input-output pairs:\n{pairs}\nThe instruction was to",
        "vary": "Generate a variation of the following instruction while keeping the semantic meaning.\nInput: {best}\n"
        "Output:",
        "improve": "Your task is to write an instruction. Below are some earlier instructions with their scores. The "
        "score ranges from 0 to 100.\n{history}\nWrite a new instruction with a higher score.\nText:",
        "pair": "Input: {text}\nOutput: {label}",
        "scored": "Text: {text}\nScore: {score}",
        "class": "Classify the text.",
        "option": "Choose the right answer.",
        "references": "Write the output for the input.",
    },
    "zh": {
        "induce": "我给了朋友一条说明和一些输入，朋友按照说明为每个输入写出了输出。\n{pairs}\n这条说明是：",
        "vary": "换一种说法写出下面的说明，意思不变。\n输入：{best}\n输出：",
        "improve": "下面是以前的说明和它们的得分，得分从0到100。\n{history}\n写一条得分更高的新说明。\n说明：",
        "pair": "输入：{text}\n输出：{label}",
        "scored": "说明：{text}\n得分：{score}",
        "class": "给文本分类。",
        "option": "选出正确的答案。",
        "references": "根据输入写出输出。",
    },
}
"""What a model is asked, in the words of APE's and OPRO's own questions."""
ARMS = ("induce", "vary", "improve")


@register
class Proposed(Algorithm):
    """Instructions by a local model that goes on with a text, put before the template that edits begin with.

    Three ways to ask: from labelled rows (`induce`: forward generation of APE, Zhou et al. 2023, section 3.1), as a
    variation of the best one (`vary`: its resampling, section 3.2), and from earlier ones with their scores, the best
    last (`improve`: OPRO, Yang et al. 2024, section 4.2). Which is asked is drawn by Thompson's rule (1933): a beta
    distribution over each one's share of rounds that gave an instruction better than the template alone.
    """

    name: ClassVar[str] = "proposals"
    summary: ClassVar[str] = "instructions that a model writes, from rows or from earlier ones"
    needs: ClassVar[frozenset[Skill]] = frozenset({"text"})

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self.words = ASKED["zh" if space.is_chinese else "en"]
        self.history: dict[str, Raced] = {}
        self.instructions: dict[str, str] = {}
        self.won = dict.fromkeys(ARMS, 1)
        self.lost = dict.fromkeys(ARMS, 1)
        self.start: Raced | None = None
        self._arm = ""

    def propose(self) -> Sequence[Candidate]:
        if self.start is None:
            self._arm = ""
            return [self.space.start, *self._candidates([self.words[self.space.task.facts.label]])]
        self._arm = max(ARMS, key=lambda arm: self.random.betavariate(self.won[arm], self.lost[arm]))
        questions = [self._question(self._arm) for _ in range(AT_ONCE)]
        seed = self.random.getrandbits(31)
        written = self.asker.texts(questions, most=MOST_TOKENS, temperature=TEMPERATURE, seed=seed)
        return self._candidates([cleaned(text, MOST_INSTRUCTION) for text in written]) or [self.space.start]

    def observe(self, scored: Sequence[Raced]) -> None:
        for entry in scored:
            if entry.candidate.key in self.instructions and entry.scores:
                self.history[entry.candidate.key] = entry
            if entry.candidate.key == self.space.start.key:
                self.start = entry
        if self._arm and self.start is not None:
            start = self.start.scores
            better = any(entry.is_whole and worse_by(entry.scores, start)[0] < 0 for entry in scored)
            counts = self.won if better else self.lost
            counts[self._arm] += 1

    def _candidates(self, instructions: Sequence[str]) -> list[Candidate]:
        """The template with an instruction before it, for each that says something."""
        end = "" if self.space.is_chinese else "\n"
        result = []
        for instruction in dict.fromkeys(filter(None, instructions)):
            base = Template.parse(self.space.start.template)
            try:
                template = str(Template((Wording(instruction + end), *base.parts)))
            except UsageError:
                continue
            candidate = replace(self.space.start, template=template, origin=f"proposal: {self._arm or 'begin'}")
            self.instructions[candidate.key] = instruction
            result.append(candidate)
        return result

    def _question(self, arm: str) -> str:
        """What the model is to go on with."""
        known = sorted(self.history.values(), key=lambda entry: entry.rank)[:HISTORY]
        if arm == "induce" or not known:
            rows = self.random.sample(self.space.rows, min(PAIRS, len(self.space.rows)))
            return self._filled("induce", pairs="\n".join(map(self._pair, rows)))
        if arm == "vary":
            return self._filled("vary", best=self.instructions[known[0].candidate.key])
        lines = [
            self._filled(
                "scored",
                text=self.instructions[entry.candidate.key],
                score=f"{100 * (1 - entry.cost):.0f}",
            )
            for entry in reversed(known)
        ]
        return self._filled("improve", history="\n".join(lines))

    def _pair(self, row: Example) -> str:
        label = self.space.start.answer_of(row, self.space.task)[:SHOWN]
        text = row.text if row.pair is None else f"{row.text[:SHOWN]} / {row.pair}"
        return self._filled("pair", text=" ".join(text[: 2 * SHOWN].split())[:SHOWN], label=label)

    def _filled(self, name: str, **values: str) -> str:
        text = self.words[name]
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", value)
        return text

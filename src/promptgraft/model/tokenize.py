"""The tokeniser turns the texts of each kind of task into packed tokens, cut to the backbone's length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import chain, compress
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Encoding as Encoded
from tokenizers import Tokenizer as Engine
from tokenizers.normalizers import Lowercase, Normalizer
from tokenizers.normalizers import Sequence as Chain

from promptgraft.errors import MissingExtraError, ModelError, PromptgraftError
from promptgraft.model.config import read_optional
from promptgraft.model.frames import FrameRow, Frames, Piece, longest_first, pack
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.reading import Encoding, Reading
from promptgraft.task.task import Example, Kind, content_hash
from promptgraft.untrusted import visible

# Without one of these, transformers makes up an empty tokenizer.
VOCABULARIES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model")
UNKNOWN = ("[UNK]", "<unk>")
MASKS = ("[MASK]", "<mask>")
METASPACE = "\u2581"
UNSPACED = (("\u3040", "\u30ff"), ("\u3400", "\u9fff"), ("\uf900", "\ufaff"), ("\U00020000", "\U0003ffff"))
"""Kana and Chinese characters."""
# A token of ordinary text has 1 to 6 characters; what holds more than this many a token is looked at twice.
CHARACTERS_A_TOKEN = 8
# Characters of a text that are read at most: a word of megabytes, which is one unknown token, takes minutes.
MOST_CHARACTERS = 1_000_000
# Tokens read beyond those that are kept: the cut through the text can change only the last few.
MARGIN = 32


@dataclass(frozen=True)
class Tokenizer:
    """A model's own tokenizer, with the changes to texts that its makers prescribe.

    Attributes:
        engine: the tokenizer proper; its own cutting and padding are off.
        frames: the special tokens around one text and around two.
        prefix: put before every text ("query: ").
        convert: changes characters one for one (simplified to traditional); None for most models.
        joint: whether words are told apart by the space before them (byte-level BPE).
    """

    engine: Engine
    frames: Frames
    unknown: int
    prefix: str = ""
    convert: Callable[[str], str] | None = None
    joint: bool = False

    @cached_property
    def highest(self) -> int:
        """The highest token that a text may become."""
        special = {token for frame in (self.frames.single, self.frames.double) for gap in frame.gaps for token in gap}
        return max([*self.engine.get_vocab(with_added_tokens=False).values(), *special, self.unknown])

    def checked(self, vocabulary: int, segments: int, where: Path) -> Tokenizer:
        """The tokenizer for a model with so many tokens and segments; where it has one, all tokens are of the first.

        Args:
            segments: 0 where the model asks for none.
        Raises:
            ModelError: it gives tokens or segments that the model does not have.
        """
        do = "is the tokenizer of the same model?"
        if self.highest >= vocabulary:
            what = f"its tokenizer gives token {self.highest}, its weights have {vocabulary}"
            raise ModelError(what, where=where, do=do)
        if self.frames.begin >= vocabulary:
            return replace(self, frames=replace(self.frames, begin=self.unknown)).checked(vocabulary, segments, where)
        if segments == 1 < self.frames.segments:
            return replace(self, frames=self.frames.undivided)
        if 0 < segments < self.frames.segments:
            what = f"its tokenizer tells {self.frames.segments} segments apart, its weights {segments}"
            raise ModelError(what, where=where, do=do)
        return self

    @cached_property
    def mask(self) -> int | None:
        """The token in whose place a word is to be put; None where it knows none."""
        return next((number for name in MASKS if (number := self.engine.token_to_id(name)) is not None), None)

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """The tokens of each word as it stands inside a sentence."""
        spaced = [f" {word}" if self.joint and not _is_unspaced(word) else word for word in map(self._changed, words)]
        done = self.engine.encode_batch(spaced, add_special_tokens=False)
        return [_without_space(encoded, word) for encoded, word in zip(done, words, strict=True)]

    @cached_property
    def plain_engine(self) -> Engine:
        """The tokenizer proper, blind to the spellings of special tokens.

        A copy: the setting is one of the whole object, and others read with it at the same time. Made once, since a
        large vocabulary takes tens of milliseconds.
        """
        engine = Engine.from_str(self.engine.to_str())
        engine.no_truncation()
        engine.no_padding()
        engine.encode_special_tokens = True
        return engine

    @cached_property
    def lone_words(self) -> dict[str, int]:
        """The words that are a single token inside a sentence, with it: letters alone, two or more of an alphabet."""
        ids = sorted(self.engine.get_vocab(with_added_tokens=False).values())
        texts = [text.strip() for text in self.engine.decode_batch([[number] for number in ids])]
        found = {
            text: number
            for text, number in zip(texts, ids, strict=True)
            if text.isalpha() and (len(text) > 1 or _is_unspaced(text))
        }
        read = self.word_ids(list(found))
        return {word: number for (word, number), own in zip(found.items(), read, strict=True) if own == [number]}

    @cached_property
    def identity(self) -> str:
        """A hash over all that decides which tokens a text becomes."""
        plain = (self.frames, self.unknown, self.prefix, self.convert is not None, self.joint, tokenizers.__version__)
        return content_hash([self.engine.to_str(), repr(plain)])

    @cached_property
    def unknown_token(self) -> int | None:
        """The token that stands for what the vocabulary lacks; None where it lacks nothing."""
        return next((number for name in UNKNOWN if (number := self.engine.token_to_id(name)) is not None), None)

    def little_known(self, texts: Sequence[str], limit: int) -> list[bool]:
        """Of each text, whether more than half of its letters and digits are in unknown tokens.

        Of 400 rows each, that is so of 89 to 98 % of three Chinese tasks read by minilm, of 98 to 100 % by T5, and of
        none of seven English tasks. Of a text without letters, such as emojis, it is whether every token is unknown.
        """
        return list(map(self._is_little_known, self._encode(texts, limit, spans=True), texts))

    def _is_little_known(self, piece: Piece, text: str) -> bool:
        unknown = [number == self.unknown_token for number in piece.ids]
        sizes = [sum(map(str.isalnum, text[first:last])) for first, last in piece.chars or ()]
        if not any(sizes):
            return bool(unknown) and all(unknown)
        return 2 * sum(compress(sizes, unknown)) > sum(sizes)

    def texts(self, texts: Sequence[str], limit: int) -> Tokens:
        """Tokenise each text as a row of one sequence."""
        return pack([[row] for row in self._single(texts, limit)], self.frames)

    def examples(self, examples: Sequence[Example], kind: Kind, reading: Reading, limit: int) -> Tokens:
        """Tokenise each example as a row; see `Tokens` for what a row is of each kind."""
        if kind == "tagging":
            return pack([[row] for row in self._tagged([example.tokens for example in examples], limit)], self.frames)
        if kind == "span":
            return pack([[row] for row in self._spans(examples, limit)], self.frames)
        return pack(self._rows(examples, kind, reading.encoding, limit), self.frames)

    def _rows(self, examples: Sequence[Example], kind: Kind, encoding: Encoding, limit: int) -> list[list[FrameRow]]:
        """Encode examples in one go: one sequence each, two for separate pairs, one for each choice."""
        flat: list[tuple[str, str | None]] = []
        counts = []
        for example in examples:
            parts = _parts(example, kind, encoding)
            flat += parts
            counts.append(len(parts))
        done = iter(self._paired(flat, limit))
        return [[next(done) for _ in range(count)] for count in counts]

    def _single(self, texts: Sequence[str], limit: int) -> list[FrameRow]:
        return self._paired([(text, None) for text in texts], limit)

    def _paired(self, texts: Sequence[tuple[str, str | None]], limit: int) -> list[FrameRow]:
        """Encode sequences of one or two texts; of two the longer one is cut first."""
        first = self._encode([self.prefix + text for text, _ in texts], limit)
        second = iter(self._encode([pair for _, pair in texts if pair is not None], limit))
        return [
            longest_first(piece, next(second) if pair is not None else None, limit, self.frames)
            for piece, (_, pair) in zip(first, texts, strict=True)
        ]

    def _spans(self, examples: Sequence[Example], limit: int) -> list[FrameRow]:
        """Encode questions with contexts; only the context is cut, unless the question alone is too long."""
        questions = self._encode([self.prefix + example.text for example in examples], limit)
        contexts = self._encode([example.pair or "" for example in examples], limit, spans=True)
        room = limit - self.frames.double.special
        rows = []
        for question, context in zip(questions, contexts, strict=True):
            head = question.first(room)
            is_cut = len(question.ids) + len(context.ids) > room or question.unread or context.unread
            rows.append(FrameRow(head, context.first(room - len(head.ids)), is_cut))
        return rows

    def _tagged(self, rows: Sequence[tuple[str, ...]], limit: int) -> list[FrameRow]:
        """Encode rows of words; a word without a token becomes the unknown one, so that it keeps its tag."""
        room = limit - self.frames.single.special
        words = [[self._changed(f" {word}" if self.joint else word) for word in row[:room]] for row in rows]
        encoded = self.engine.encode_batch(words, is_pretokenized=True, add_special_tokens=False)
        pieces = [self._worded(encoding, len(row)) for encoding, row in zip(encoded, words, strict=True)]
        cut = [len(piece.ids) > room or len(row) > room for piece, row in zip(pieces, rows, strict=True)]
        return [FrameRow(piece.first(room), None, too_long) for piece, too_long in zip(pieces, cut, strict=True)]

    def _worded(self, encoded: Encoded, count: int) -> Piece:
        """The tokens of one row of words, with each word's index at its first token."""
        by_word: list[list[int]] = [[] for _ in range(count)]
        for token, word in zip(encoded.ids, encoded.word_ids, strict=True):
            assert word is not None, "no special tokens were asked for"
            by_word[word].append(token)
        ids: list[int] = []
        firsts: list[int] = []
        for number, tokens in enumerate(by_word):
            word_tokens = tokens or [self.unknown]
            ids += word_tokens
            firsts += [number, *([-1] * (len(word_tokens) - 1))]
        return Piece(ids, words=firsts)

    def _encode(self, texts: Sequence[str], limit: int, *, spans: bool = False) -> list[Piece]:
        """Encode each text without special tokens, to at least as many tokens as can be kept.

        Only the beginning of a very long text is read: tokenisers take their time over a megabyte of it.
        """
        if not texts:
            return []
        size = CHARACTERS_A_TOKEN * (limit + MARGIN)
        changed = [self._changed(text[:size]) for text in texts]
        batch = self.engine.encode_batch if spans else self.engine.encode_batch_fast
        done = batch(changed, add_special_tokens=False)
        short = [
            index for index, text in enumerate(texts) if len(text) > size and len(done[index].ids) < limit + MARGIN
        ]
        for index in short:
            done[index] = self._read_on(texts[index], size, limit)
        return [
            Piece(
                encoded.ids,
                chars=_spans_of(encoded, text) if spans else None,
                unread=len(text) > MOST_CHARACTERS and len(encoded.ids) < limit + MARGIN,
            )
            for encoded, text in zip(done, texts, strict=True)
        ]

    def _read_on(self, text: str, size: int, limit: int) -> Encoded:
        """Encode ever more characters of a text, until there are tokens enough, it ends, or enough was read."""
        end = min(len(text), MOST_CHARACTERS)
        while True:
            size = min(4 * size, end)
            done = self.engine.encode(self._changed(text[:size]), add_special_tokens=False)
            if size >= end or len(done.ids) >= limit + MARGIN:
                return done

    def _changed(self, text: str) -> str:
        return text if self.convert is None else self.convert(text)


def _is_unspaced(word: str) -> bool:
    """Whether a word begins with a letter of a script that puts no spaces between words."""
    return bool(word) and any(first <= word[0] <= last for first, last in UNSPACED)


def _without_space(encoded: Encoded, word: str) -> list[int]:
    """The tokens of a word, without the space that a tokenizer puts before a word of a script without spaces."""
    ids: list[int] = encoded.ids
    return ids[1:] if _is_unspaced(word) and len(ids) > 1 and encoded.tokens[0] == METASPACE else ids


def _parts(example: Example, kind: Kind, encoding: Encoding) -> list[tuple[str, str | None]]:
    """The sequences of one example, as one or two texts each."""
    if kind == "choice":
        return [(example.text, choice) for choice in example.choices]
    if example.pair is None or encoding == "cross":
        return [(example.text, example.pair)]
    return [(example.text, None), (example.pair, None)]


def _spans_of(encoded: Encoded, text: str) -> list[tuple[int, int]]:
    """The first and one-past-last character of every token, without the space that some tokenisers count in."""
    spans = []
    for first, last in encoded.offsets:
        inside = text[first:last]
        spans.append((first + len(inside) - len(inside.lstrip()), last) if inside.strip() else (first, last))
    return spans


def load_tokenizer(folder: Path, *, prefix: str = "", to_traditional: bool = False) -> Tokenizer:
    """Load the tokenizer of a model folder.

    Raises:
        ModelError: there is none, one that cannot be used, or only one that transformers cannot make fast.
        MissingExtraError: traditional characters are needed and OpenCC is not installed.
    """
    try:
        return _tokenizer(_engine(folder), read_optional(folder / "config.json"), prefix, to_traditional)
    except PromptgraftError:
        raise
    except BaseException as error:  # the library raises bare Exception, and PanicException, which is none
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        reason = visible((str(error) or type(error).__name__).splitlines()[0])
        raise ModelError(f"no usable tokenizer ({reason})", where=folder, do="put its tokenizer.json there") from error


def _tokenizer(engine: Engine, config: Mapping[str, Any], prefix: str, to_traditional: bool) -> Tokenizer:
    """Make a `Tokenizer` of the library's tokenizer.

    Args:
        config: of the model.
    """
    engine.no_truncation()
    engine.no_padding()
    if not _ordinary(engine):
        raise ValueError("it has no vocabulary")
    _lower_where_needed(engine, _lower_only(engine))
    unknown = next((number for name in UNKNOWN if (number := engine.token_to_id(name)) is not None), 0)
    joint = "ByteLevel" in repr(engine.pre_tokenizer)
    convert = to_traditional_characters() if to_traditional else None
    frames = Frames.learn(engine, _begin(config, unknown))
    return Tokenizer(engine, frames, unknown, prefix, convert, joint)


def _begin(config: Mapping[str, Any], unknown: int) -> int:
    """The token that texts begin with where nothing is given, as transformers' `generate` has it, else their end."""
    named = (config.get("bos_token_id"), config.get("eos_token_id"))
    tokens = chain.from_iterable(value if isinstance(value, list) else [value] for value in named)
    return next((token for token in tokens if type(token) is int and token >= 0), unknown)


def _engine(folder: Path) -> Engine:
    file = folder / "tokenizer.json"
    if file.is_file():
        return Engine.from_file(str(file))
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise ModelError("no tokenizer in this folder", where=folder, do="put the model's tokenizer.json there")
    from transformers import AutoTokenizer

    engine = AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
    assert isinstance(engine, Engine)
    return engine


def _ordinary(engine: Engine) -> list[str]:
    """The vocabulary without special tokens."""
    special = {token.content for token in engine.get_added_tokens_decoder().values()}
    return [word for word in engine.get_vocab(with_added_tokens=False) if word not in special]


def _lower_only(engine: Engine) -> bool:
    """Whether a vocabulary has lower-case Latin words but not one upper-case letter in an ordinary token."""
    words = [word for word in _ordinary(engine) if word.isascii()]
    ordinary = [word for word in words if not (word.startswith("[") and word.endswith("]"))]
    return any(word.islower() for word in ordinary) and not any(word != word.lower() for word in ordinary)


def _lower_where_needed(engine: Engine, lower_only: bool) -> None:
    """Lower-case texts first if the vocabulary has no upper case: some models' files forget to say so."""
    if lower_only and not _lowers(engine.normalizer):
        before: list[Normalizer] = [] if engine.normalizer is None else [engine.normalizer]
        engine.normalizer = Chain([Lowercase(), *before])


def _lowers(normalizer: Normalizer | None) -> bool:
    return normalizer is not None and normalizer.normalize_str("A") == "a"


@cache
def to_traditional_characters() -> Callable[[str], str]:
    """A function from simplified to traditional Chinese (OpenCC's s2t) that keeps the number of characters."""
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise MissingExtraError("a model of traditional characters", "zh") from error
    convert: Callable[[str], str] = OpenCC("s2t").convert

    def changed(text: str) -> str:
        done = convert(text)
        return (
            done
            if len(done) == len(text)
            else "".join(_same_length(convert(character), character) for character in text)
        )

    return changed


def _same_length(changed: str, original: str) -> str:
    return changed if len(changed) == len(original) else original

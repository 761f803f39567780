r"""Summarization by an encoder-decoder transformer, from the data to the score (hw10 3).

The module follows the way of a text. :func:`generate_reports` writes reports with their summaries
and :func:`load_examples` reads real ones; :class:`Vocabulary` turns text into tokens.
:class:`EncoderDecoder` is the transformer of :class:`torch.nn.Transformer`, made of the book's
:class:`~dlchecked.multi_head.MultiHeadAttention`; :class:`Summarizer` adds embeddings,
:func:`sinusoidal_positions` and logits. :func:`train_summarizer` trains it and logs for
TensorBoard, :func:`greedy_search` and :func:`beam_search` let it write, with the caches of
:mod:`dlchecked.decoding`, and :func:`rouge_scores` says how well.

A mask says True where a key takes part, as everywhere in the package. PyTorch's padding masks say
the opposite.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlchecked.arguments import (
    flag,
    floating,
    floating_dtype,
    integer,
    positive,
    random_generator,
    same_kind,
    shape_of,
    value_checks,
    values_are_checked,
)
from dlchecked.decoding import KeyValueCache, grouped_query_attention
from dlchecked.multi_head import MultiHeadAttention, merge_heads, split_heads
from dlchecked.scaled_dot_product import scaled_dot_product_attention
from dlchecked.training import History, minibatches, train

__all__ = [
    "END",
    "PADDING",
    "START",
    "UNKNOWN",
    "CachedDecoding",
    "Decoding",
    "EncoderDecoder",
    "Example",
    "Hypothesis",
    "Pairs",
    "PrefixDecoding",
    "Summarizer",
    "Vocabulary",
    "beam_search",
    "encode_examples",
    "generate_reports",
    "greedy_search",
    "inverse_square_root_schedule",
    "lead_sentence",
    "length_penalty",
    "load_examples",
    "position_shift",
    "read_scalars",
    "rouge_one",
    "rouge_scores",
    "sinusoidal_positions",
    "smoothed_minimum",
    "summarize",
    "text_of",
    "token_loss",
    "tokens_of",
    "train_summarizer",
]

PADDING, START, END, UNKNOWN = 0, 1, 2, 3
"""The tokens that are no words, and their numbers."""
_SPECIAL = ("<padding>", "<start>", "<end>", "<unknown>")
_Rows = Iterator[tuple[int, Mapping[str, Any]]]


# Documents and their summaries


@dataclass(frozen=True)
class Example:
    """A document and its summary.

    Attributes
    ----------
    document, summary
        The texts.
    facts
        Of a generated report, what its summary must say (``place``, ``event``, ``site``, ``days``)
        and what it must not be taken in by (``other place``, ``other site``, ``other number``,
        where the report has them). Empty for texts from a file.
    """

    document: str
    summary: str
    facts: Mapping[str, str] = field(default_factory=dict)


# fmt: off
_SYLLABLES = (
    "ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "ru",
    "sa", "te", "vi", "wo", "zu", "pe", "da", "lo", "ni", "ku",
)
_EVENTS = ("flood", "fire", "storm", "frost", "landslide", "blackout")
_SITES = ("bridge", "school", "harbour", "station", "market", "road")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# fmt: on

# The last wording of each of the first two lists is held out; all its words occur elsewhere.
_WHAT_HAPPENED = (
    "a {event} struck {place} on {weekday}.",
    "{place} was hit by a {event} on {weekday}.",
    "people in {place} woke to a {event}.",
    "on {weekday} {place} was struck by a {event}.",
)
_WHAT_FOLLOWED = (
    "the {site} will stay shut for {days} days.",
    "it will take {days} days to mend the {site}.",
    "nobody can use the {site} for {days} days.",
    "for {days} days nobody can use the {site}.",
)
_DETAILS = (
    (
        "visitors from {other_place} had left by then.",
        "a team from {other_place} came to help.",
        "in {other_place} all was quiet.",
    ),
    (
        "the last {other_event} was {other_number} years ago.",
        "{other_number} cars were lost.",
        "about {other_number} people came to look.",
    ),
    (
        "the {other_site} was not touched.",
        "nobody was hurt at the {other_site}.",
        "the {other_site} is open again.",
    ),
    (
        "the night was cold and clear.",
        "the mayor thanked all who came.",
        "nobody knew why.",
    ),
)
_SUMMARY = "{event} in {place} closes {site} for {days} days."


def generate_reports(
    count: int,
    *,
    generator: torch.Generator,
    held_out_names: bool = False,
    held_out_wordings: bool = False,
) -> list[Example]:
    """Write short reports and their summaries, with facts to keep and details to drop.

    A report has four or five sentences in random order: what happened where, what is closed for
    how long, and two or three details, each of another kind. Details bring in another place,
    another site, another number and another event, so that a word's kind does not tell whether it
    belongs into the summary. In half of the reports the first sentence is the one that says what
    happened.

    A place's name is two of twenty syllables, and one name in five is held out; each syllable
    occurs in each place of a name that is not. Of what happened and of what followed there
    are three wordings, and a fourth that is held out; all words of those occur in the others.

    Parameters
    ----------
    count
        How many.
    generator
        Draws them, on the CPU.
    held_out_names
        Whether the names come from those held out; otherwise none of them does.
    held_out_wordings
        The same for the wordings of the two sentences with the facts.

    Returns
    -------
    list of Example

    Raises
    ------
    TypeError, ValueError
        For a count that is no integer of at least 1, no generator, or a flag that is no bool.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.summarization import generate_reports
    >>> report, = generate_reports(1, generator=torch.Generator().manual_seed(4))
    >>> report.summary
    'frost in Rude closes road for eight days.'
    """
    count = integer("count", count, at_least=1)
    random_generator("generator", generator)
    names = _names(flag("held_out_names", held_out_names))
    wordings = slice(3, 4) if flag("held_out_wordings", held_out_wordings) else slice(0, 3)

    def drawn(choices: Sequence[Any], times: int = 1) -> list[Any]:
        """Draw so many of the choices, all different."""
        order = torch.randperm(len(choices), generator=generator)[:times]
        return [choices[int(i)] for i in order]

    def report() -> Example:
        (place, other_place), (event, other_event) = drawn(names, 2), drawn(_EVENTS, 2)
        (site, other_site), (days, other_number) = drawn(_SITES, 2), drawn(_NUMBERS, 2)
        words = {"place": place, "event": event, "site": site, "days": days}
        words |= {"other_place": other_place, "other_event": other_event}
        words |= {"other_site": other_site, "other_number": other_number}
        words["weekday"] = drawn(_WEEKDAYS)[0]
        first = drawn(_WHAT_HAPPENED[wordings])[0]
        kinds = drawn(_DETAILS, drawn((2, 3))[0])
        rest = [drawn(_WHAT_FOLLOWED[wordings])[0], *(drawn(kind)[0] for kind in kinds)]
        rest = drawn(rest, len(rest))
        sentences = [first, *rest] if drawn((True, False))[0] else drawn([first, *rest], 5)
        text = " ".join(sentences)
        facts = {
            name.replace("_", " "): word
            for name, word in words.items()
            if name != "weekday" and f"{{{name}}}" in text
        }
        return Example(text.format(**words), _SUMMARY.format(**words), facts)

    return [report() for _ in range(count)]


def _names(held_out: bool) -> list[str]:
    """Names of two different syllables; one in five is held out, each syllable in each place."""
    numbered = list(enumerate(_SYLLABLES))
    return [
        (first + second).capitalize()
        for i, first in numbered
        for j, second in numbered
        if i != j and ((i + 2 * j) % 5 == 0) == held_out
    ]


def load_examples(
    path: str | os.PathLike[str],
    *,
    document: str = "document",
    summary: str = "summary",
    limit: int | None = None,
) -> list[Example]:
    r"""Read a real summarization set from a local file, a row for each document.

    Parameters
    ----------
    path
        A ``.jsonl`` file with an object on each line (empty lines are skipped), or a ``.csv`` file
        with a header. UTF-8, with or without a byte order mark.
    document, summary
        What the two fields are called: ``article`` and ``highlights``, say.
    limit
        Read no more than so many.

    Returns
    -------
    list of Example

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError, ValueError
        For another kind of file, one without rows, and for a bad row; the message names the file,
        the line, and what is wrong with it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from dlchecked.summarization import load_examples
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "news.csv"
    ...     size = path.write_text("document,summary\nIt rained all day.,Rain.\n")
    ...     load_examples(path)[0].summary
    'Rain.'
    """
    path = Path(path)
    for name, key in (("document", document), ("summary", summary)):
        if not isinstance(key, str) or not key:
            raise TypeError(f"{name} must be the name of a field, got {key!r}")
    limit = None if limit is None else integer("limit", limit, at_least=1)
    readers = {".jsonl": _json_rows, ".csv": _csv_rows}
    if path.suffix not in readers:
        raise ValueError(f"path must end in .jsonl or .csv, got {str(path)!r}")
    if not path.is_file():
        raise FileNotFoundError(f"path must be an existing file, got {str(path)!r}")
    examples: list[Example] = []
    # Opened here and not where it is read, so that an error anywhere closes it at once.
    with path.open("rb") as file:
        for line, row in readers[path.suffix](path, _lines(path, file), (document, summary)):
            if len(examples) == limit:
                break
            long, short = (_text_field(path, line, row, key) for key in (document, summary))
            examples.append(Example(long, short))
    if not examples:
        raise ValueError(f"{path} must hold at least one row, got none")
    return examples


def _text_field(path: Path, line: int, row: Mapping[str, Any], key: str) -> str:
    if key not in row:
        there = ", ".join(map(repr, row)) or "none"
        raise ValueError(f"{path}, line {line}: no field {key!r}; there are {there}")
    if not isinstance(row[key], str):
        raise ValueError(
            f"{path}, line {line}: {key!r} must be a text, got {type(row[key]).__name__}"
        )
    if not row[key].strip():
        raise ValueError(f"{path}, line {line}: {key!r} is empty")
    return str(row[key])


def _lines(path: Path, file: IO[bytes]) -> Iterator[str]:
    """The lines of a UTF-8 file, with their ends; a bad byte is an error that names its line."""
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as problem:
            raise ValueError(f"{path}, line {number}: not UTF-8 ({problem.reason})") from None


def _json_rows(path: Path, lines: Iterator[str], keys: tuple[str, str]) -> _Rows:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as problem:
            raise ValueError(
                f"{path}, line {number}: not JSON ({problem.msg}, column {problem.colno})"
            ) from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}, line {number}: must hold an object, got {type(row).__name__}"
            )
        yield number, row


def _csv_rows(path: Path, lines: Iterator[str], keys: tuple[str, str]) -> _Rows:
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as problem:
            raise ValueError(f"{path}, line {first}: not CSV ({problem})") from None
        if row is None:
            return
        if not row:
            continue
        if header is None:
            header = row
            missing = [key for key in keys if header.count(key) != 1]
            if missing:
                raise ValueError(
                    f"{path}, line {first}: the header must name {missing[0]!r} once, got "
                    f"{', '.join(map(repr, header))}"
                )
            continue
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {first}: must hold {len(header)} fields, as the header does, "
                f"got {len(row)}"
            )
        yield first, dict(zip(header, row, strict=True))


# Text and tokens


_CONTINUES = "~"
_PIECES = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")


def tokens_of(text: str) -> list[str]:
    """Cut a text into tokens: words, signs, and pieces of names and numbers.

    A word that begins with a capital is taken for a name and spelled in pieces of two letters, a
    number digit by digit; a piece that goes on with the one before it is marked by ``~``. So a name
    that no training text holds is still spelled in known pieces.

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    list of str

    Raises
    ------
    TypeError
        If it is no text.

    Examples
    --------
    >>> from dlchecked.summarization import tokens_of
    >>> tokens_of("rain in Tevika for 12 days.")
    ['rain', 'in', 'Te', '~vi', '~ka', 'for', '1', '~2', 'days', '.']
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    tokens: list[str] = []
    for word in _PIECES.findall(text):
        size = 2 if word[0].isupper() else 1 if word[0].isdigit() else len(word)
        pieces = [word[i : i + size] for i in range(0, len(word), size)]
        tokens += [pieces[0], *(_CONTINUES + piece for piece in pieces[1:])]
    return tokens


def text_of(tokens: Iterable[str]) -> str:
    """Join tokens to a text: the inverse of `tokens_of`, up to the spaces around signs.

    Parameters
    ----------
    tokens
        As from :func:`tokens_of`.

    Returns
    -------
    str

    Examples
    --------
    >>> from dlchecked.summarization import text_of
    >>> text_of(["rain", "in", "Te", "~vi", "."])
    'rain in Tevi.'
    """
    text = ""
    for token in tokens:
        goes_on = len(token) > 1 and token.startswith(_CONTINUES)
        close = goes_on or not text or token in {".", ",", ";", ":", "!", "?"}
        text += ("" if close else " ") + (token[1:] if goes_on else token)
    return text


class Vocabulary:
    """The tokens that a model knows, and their numbers.

    Parameters
    ----------
    texts
        What the tokens are collected from; the training set's, and nothing else's.
    at_least
        How often a token must occur to be taken in.

    Attributes
    ----------
    tokens
        All of them, the four that are no words first, then sorted.

    Raises
    ------
    TypeError, ValueError
        For something else than texts, for none, or `at_least` below 1 or above what occurs.

    Examples
    --------
    >>> from dlchecked.summarization import Vocabulary
    >>> vocabulary = Vocabulary(["rain in Tevi.", "snow in Kavi."])
    >>> len(vocabulary), vocabulary.text(vocabulary.numbers("rain in Kavi."))
    (11, 'rain in Kavi.')
    """

    def __init__(self, texts: Iterable[str], *, at_least: int = 1) -> None:
        at_least = integer("at_least", at_least, at_least=1)
        if isinstance(texts, str):
            raise TypeError("texts must be several texts, got a single str")
        counts = Counter(token for text in texts for token in tokens_of(text))
        if not counts:
            raise ValueError("texts must hold at least one word")
        kept = sorted(token for token, times in counts.items() if times >= at_least)
        if not kept:
            raise ValueError(f"at_least must leave a token; none occurs {at_least} times")
        self.tokens = (*_SPECIAL, *kept)
        self._numbers = {token: number for number, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def numbers(self, text: str) -> list[int]:
        """The numbers of a text's tokens; that of ``UNKNOWN`` for one that is not known."""
        return [self._numbers.get(token, UNKNOWN) for token in tokens_of(text)]

    def text(self, numbers: Iterable[int]) -> str:
        """The text of some numbers; padding, start and end are left out."""
        found = [int(number) for number in numbers]
        for number in found:
            if not 0 <= number < len(self):
                raise ValueError(f"numbers must lie from 0 to {len(self) - 1}, got {number}")
        return text_of(self.tokens[n] for n in found if n not in (PADDING, START, END))


class Pairs(NamedTuple):
    """Documents ``(n, S)`` and summaries ``(n, T)`` as numbers, padded at the end.

    A summary begins with ``START`` and ends with ``END``; a document has neither.
    """

    documents: Tensor
    summaries: Tensor


def encode_examples(
    examples: Sequence[Example],
    vocabulary: Vocabulary,
    *,
    max_document: int = 512,
    max_summary: int = 128,
) -> Pairs:
    """Turn examples into two tensors of token numbers.

    Parameters
    ----------
    examples
        At least one.
    vocabulary
        Knows the tokens.
    max_document, max_summary
        The longest that is kept, in tokens; longer ones are cut off at the end (then a summary has
        no ``END``).

    Returns
    -------
    Pairs

    Raises
    ------
    TypeError, ValueError
        For no examples, or lengths below 1 (of a summary, 2).

    Examples
    --------
    >>> from dlchecked.summarization import Example, Vocabulary, encode_examples
    >>> examples = [Example("it rained.", "rain."), Example("it snowed again.", "snow.")]
    >>> vocabulary = Vocabulary(e.document + " " + e.summary for e in examples)
    >>> encode_examples(examples, vocabulary).documents
    tensor([[ 6,  8,  4,  0],
            [ 6, 10,  5,  4]])
    """
    examples = list(examples)
    if not examples:
        raise ValueError("examples must hold at least one example")
    for example in examples:
        if not isinstance(example, Example):
            raise TypeError(f"examples must hold Examples, got {type(example).__name__}")
    max_document = integer("max_document", max_document, at_least=1)
    max_summary = integer("max_summary", max_summary, at_least=2)
    documents = [vocabulary.numbers(example.document)[:max_document] for example in examples]
    summaries = [
        [START, *vocabulary.numbers(example.summary), END][:max_summary] for example in examples
    ]
    return Pairs(_padded(documents), _padded(summaries))


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *([PADDING] * (longest - len(row)))] for row in rows])


# Positions


def sinusoidal_positions(
    length: int,
    d_model: int,
    *,
    first: int = 0,
    base: float = 10_000.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Sines and cosines of the position, a pair for each frequency (Vaswani et al., 2017).

    Pair i of position p is :math:`(\sin \omega_i p, \cos \omega_i p)` with the frequency
    :math:`\omega_i = b^{-2i/d}`, where b is `base`. They are computed in float64 whatever the
    dtype: float32 is too coarse for the angle of a late position.

    Parameters
    ----------
    length
        How many positions, N.
    d_model
        Width of the model; even.
    first
        The first position.
    base
        Above 1; the longest wave has just under ``2 pi base`` positions.
    dtype, device
        Of the result.

    Returns
    -------
    Tensor
        ``(N, d_model)``, the sine of pair i in column 2i, its cosine in column 2i + 1.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, an odd width, or no floating-point dtype.

    Examples
    --------
    >>> from dlchecked.summarization import sinusoidal_positions
    >>> sinusoidal_positions(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    length = integer("length", length, at_least=1)
    first = integer("first", first, at_least=0)
    floating_dtype("dtype", dtype)
    places = torch.arange(first, first + length, dtype=torch.float64)
    angles = places[:, None] * _frequencies(d_model, base)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2).to(device, dtype)


def position_shift(distance: int, d_model: int, *, base: float = 10_000.0) -> Tensor:
    r"""The matrix that moves every sinusoidal position on by the same distance.

    It is a rotation of each pair by its own angle, and does not depend on the position: with
    positions as rows, ``sinusoidal_positions(…) @ position_shift(k, d).T`` are the positions k
    further on.

    Parameters
    ----------
    distance
        How far, k; may be negative.
    d_model, base
        As in :func:`sinusoidal_positions`.

    Returns
    -------
    Tensor
        ``(d_model, d_model)``, float64, orthogonal, with blocks of two by two on its diagonal.

    Raises
    ------
    TypeError, ValueError
        As :func:`sinusoidal_positions`.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.summarization import position_shift, sinusoidal_positions
    >>> p = sinusoidal_positions(9, 6, dtype=torch.float64)
    >>> torch.allclose(p[:5] @ position_shift(4, 6).T, p[4:])
    True
    """
    if isinstance(distance, bool) or not isinstance(distance, int):
        raise TypeError(f"distance must be an integer, got {type(distance).__name__}")
    angles = distance * _frequencies(d_model, base)
    sine, cosine = angles.sin(), angles.cos()
    blocks = torch.stack([torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)], -2)
    return torch.block_diag(*blocks)  # type: ignore[no-untyped-call, no-any-return]


def _frequencies(d_model: int, base: float) -> Tensor:
    d_model = integer("d_model", d_model, at_least=2)
    if d_model % 2:
        raise ValueError(f"d_model must be even, a sine and a cosine for each pair, got {d_model}")
    if positive("base", base) <= 1:
        raise ValueError(f"base must be above 1, got {base}")
    return float(base) ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)


# The loss's floor, and the learning rate


def smoothed_minimum(classes: int, smoothing: float) -> float:
    r"""The least cross-entropy that label smoothing leaves, in nats: its target's entropy.

    The target has :math:`1 - \varepsilon + \varepsilon / V` at the right class and
    :math:`\varepsilon / V` at each other one, as in
    :func:`torch.nn.functional.cross_entropy`.

    Parameters
    ----------
    classes
        How many, V; at least 2.
    smoothing
        The weight ε of the uniform distribution, from 0 to 1.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        For numbers out of range.

    Examples
    --------
    >>> from dlchecked.summarization import smoothed_minimum
    >>> round(smoothed_minimum(100, 0.1), 4)
    0.7778
    """
    classes = integer("classes", classes, at_least=2)
    rest = _share("smoothing", smoothing) / classes
    right = 1 - smoothing + rest
    others = 0.0 if rest == 0 else (classes - 1) * rest * math.log(rest)
    return max(0.0, -(right * math.log(right)) - others)  # no rounding below 0, and no -0


def _share(name: str, value: object, *, below: bool = False) -> float:
    """Demand a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not 0 <= value <= 1 or (below and value == 1):
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")
    return float(value)


def inverse_square_root_schedule(d_model: int, *, warmup: int) -> Callable[[int], float]:
    r"""The learning rate of the transformer's paper: up in a line, down like a square root.

    Update t, counted from 1, has the rate :math:`d^{-1/2} \min(t^{-1/2}, t\, w^{-3/2})` with the
    width d and `warmup` w. Its peak is :math:`(d w)^{-1/2}`, at t = w.

    Parameters
    ----------
    d_model
        Width d.
    warmup
        Updates w until the peak.

    Returns
    -------
    callable
        Step, from 0 on, to rate: for the `schedule` of :func:`dlchecked.training.train`, with an
        optimiser whose own rate is 1 (or a factor).

    Raises
    ------
    TypeError, ValueError
        For numbers that are no integers of at least 1.

    Examples
    --------
    >>> from dlchecked.summarization import inverse_square_root_schedule
    >>> rate = inverse_square_root_schedule(512, warmup=4000)
    >>> f"{rate(3999):.2e}"
    '6.99e-04'
    """
    d_model = integer("d_model", d_model, at_least=1)
    warmup = integer("warmup", warmup, at_least=1)

    def rate(step: int) -> float:
        update = integer("step", step, at_least=0) + 1
        return float(d_model**-0.5 * min(update**-0.5, update * warmup**-1.5))

    return rate


# The encoder and the decoder


def _linear(inputs: int, outputs: int, dtype: torch.dtype | None) -> nn.Linear:
    """Return nn.Linear with a zero bias; the weights are drawn later, with all others."""
    linear: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, inputs, outputs, dtype=dtype
    )
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class _LayerCache(NamedTuple):
    """What one decoder layer keeps: its own keys and values, and those of the encoder's output."""

    own: KeyValueCache
    memory: KeyValueCache


class _Layer(nn.Module):
    """What encoder and decoder layers share: the two forms of a sub-layer, and feed-forward."""

    def __init__(self, sizes: _Sizes, dropout: float, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.linear1 = _linear(sizes.d_model, sizes.feedforward, sizes.dtype)
        self.linear2 = _linear(sizes.feedforward, sizes.d_model, sizes.dtype)
        self.dropout = nn.Dropout(dropout)

    def residual(self, x: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Add a branch to x: normalised in front of it, or after the sum."""
        if self.norm_first:
            return x + self.dropout(branch(norm(x)))  # type: ignore[no-any-return]
        return norm(x + self.dropout(branch(x)))  # type: ignore[no-any-return]

    def feed_forward(self, x: Tensor) -> Tensor:
        """Two linear maps with a rectifier between them, at each position by itself."""
        return self.linear2(self.dropout(self.linear1(x).relu()))  # type: ignore[no-any-return]


class _Sizes(NamedTuple):
    d_model: int
    num_heads: int
    feedforward: int
    dtype: torch.dtype | None
    generator: torch.Generator | None

    def attention(self) -> MultiHeadAttention:
        return MultiHeadAttention(
            self.d_model, self.num_heads, dtype=self.dtype, generator=self.generator
        )

    def norm(self) -> nn.LayerNorm:
        return nn.LayerNorm(self.d_model, dtype=self.dtype)


class _EncoderLayer(_Layer):
    """Self-attention over the document, and feed-forward."""

    def __init__(self, sizes: _Sizes, dropout: float, norm_first: bool) -> None:
        super().__init__(sizes, dropout, norm_first)
        self.self_attn = sizes.attention()
        self.norm1, self.norm2 = sizes.norm(), sizes.norm()

    def forward(self, x: Tensor, kept: Tensor | None) -> Tensor:
        def attend(y: Tensor) -> Tensor:
            return self.self_attn(y, y, y, key_padding_mask=kept)  # type: ignore[no-any-return]

        x = self.residual(x, self.norm1, attend)
        return self.residual(x, self.norm2, self.feed_forward)


class _DecoderLayer(_Layer):
    """Causal self-attention over the summary, attention to the document, and feed-forward."""

    def __init__(self, sizes: _Sizes, dropout: float, norm_first: bool) -> None:
        super().__init__(sizes, dropout, norm_first)
        self.self_attn, self.cross_attn = sizes.attention(), sizes.attention()
        self.norm1, self.norm2, self.norm3 = sizes.norm(), sizes.norm(), sizes.norm()

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        memory_kept: Tensor | None,
        kept: Tensor | None,
        seen: list[Tensor] | None,
    ) -> Tensor:
        def attend(y: Tensor) -> Tensor:
            attended: Tensor = self.self_attn(y, y, y, is_causal=True, key_padding_mask=kept)
            return attended

        def look(y: Tensor) -> Tensor:
            if seen is None:
                looked: Tensor = self.cross_attn(y, memory, memory, key_padding_mask=memory_kept)
                return looked
            looked, weights = self.cross_attn(
                y, memory, memory, key_padding_mask=memory_kept, need_weights=True
            )
            seen.append(weights)
            return looked

        x = self.residual(x, self.norm1, attend)
        x = self.residual(x, self.norm2, look)
        return self.residual(x, self.norm3, self.feed_forward)

    def new_cache(self, memory: Tensor) -> _LayerCache:
        """An empty cache for the summary, and one that holds the document's keys and values."""
        attention = self.cross_attn
        keys = split_heads(attention.k_proj(memory), attention.num_heads)
        values = split_heads(attention.v_proj(memory), attention.num_heads)
        # Under autocast the maps' dtype is not the memory's.
        own, of_memory = (_empty_cache(part, keys) for part in (self.self_attn, attention))
        of_memory.append(keys, values)
        return _LayerCache(own, of_memory)

    def step(self, x: Tensor, cache: _LayerCache, memory_kept: Tensor) -> Tensor:
        """One further position of each summary, ``(B, 1, d_model)``."""

        def attend(y: Tensor) -> Tensor:
            q, k, v = (
                split_heads(project(y), self.self_attn.num_heads)
                for project in (
                    self.self_attn.q_proj,
                    self.self_attn.k_proj,
                    self.self_attn.v_proj,
                )
            )
            heads = grouped_query_attention(q, *cache.own.append(k, v), is_causal=True)
            return self.self_attn.out_proj(merge_heads(heads))  # type: ignore[no-any-return]

        def look(y: Tensor) -> Tensor:
            q = split_heads(self.cross_attn.q_proj(y), self.cross_attn.num_heads)
            heads = scaled_dot_product_attention(
                q, cache.memory.keys, cache.memory.values, attn_mask=memory_kept[:, None, None, :]
            )
            return self.cross_attn.out_proj(merge_heads(heads))  # type: ignore[no-any-return]

        x = self.residual(x, self.norm1, attend)
        x = self.residual(x, self.norm2, look)
        return self.residual(x, self.norm3, self.feed_forward)


def _empty_cache(attention: MultiHeadAttention, like: Tensor) -> KeyValueCache:
    return KeyValueCache(
        like.shape[0],
        attention.num_heads,
        attention.key_size,
        attention.value_size,
        dtype=like.dtype,
        device=like.device,
    )


class EncoderDecoder(nn.Module):
    r"""The encoder-decoder transformer, as :class:`torch.nn.Transformer`, of the book's blocks.

    Every sub-layer is added to its input. With `norm_first` its input is normalised (pre-norm);
    otherwise the sum is (post-norm, as in the paper). Each stack ends in one more normalisation, as
    in PyTorch; the paper's does not. Dropout acts on the embeddings' side of each sum and inside
    the feed-forward network; unlike PyTorch's there is none on the attention weights.

    Parameters
    ----------
    d_model, num_heads
        As in :class:`~dlchecked.multi_head.MultiHeadAttention`.
    encoder_layers, decoder_layers
        How many of each.
    feedforward
        Width of the feed-forward networks.
    dropout
        Share of the numbers that are left out in training, from 0 to below 1.
    norm_first
        Pre-norm (True) or post-norm.
    dtype
        Of the parameters.
    generator
        Draws the parameters, on the CPU: the matrices from Xavier's uniform law, as in
        :class:`torch.nn.Transformer`, with variance :math:`2/(\text{inputs} + \text{outputs})`.

    Raises
    ------
    TypeError, ValueError
        For sizes out of range or that do not divide, a flag that is no bool, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.summarization import EncoderDecoder
    >>> model = EncoderDecoder(8, 2, generator=torch.Generator())
    >>> model(torch.zeros(3, 7, 8), torch.zeros(3, 4, 8)).shape
    torch.Size([3, 4, 8])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        encoder_layers: int = 1,
        decoder_layers: int = 1,
        feedforward: int = 128,
        dropout: float = 0.0,
        norm_first: bool = True,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if generator is not None:
            random_generator("generator", generator)
        if dtype is not None:
            floating_dtype("dtype", dtype)
        width = integer("feedforward", feedforward, at_least=1)
        self.d_model = integer("d_model", d_model, at_least=1)
        sizes = _Sizes(self.d_model, num_heads, width, dtype, generator)
        self.norm_first = flag("norm_first", norm_first)
        rate = _share("dropout", dropout, below=True)
        counts = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
        n_encoder, n_decoder = (integer(name, n, at_least=1) for name, n in counts.items())
        self.encoder = nn.ModuleList(
            _EncoderLayer(sizes, rate, norm_first) for _ in range(n_encoder)
        )
        self.decoder = nn.ModuleList(
            _DecoderLayer(sizes, rate, norm_first) for _ in range(n_decoder)
        )
        self.encoder_norm, self.decoder_norm = sizes.norm(), sizes.norm()
        self._draw_matrices(generator)

    @torch.no_grad()
    def _draw_matrices(self, generator: torch.Generator | None) -> None:
        """Draw all matrices anew by Xavier's law; attention's own law starts it too weak to copy.

        The variance of a product of two of them is nine times that of the other law.
        """
        for parameter in self.parameters():
            if parameter.dim() > 1:
                bound = (6 / sum(parameter.shape)) ** 0.5
                drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float32)
                parameter.copy_(bound * (2 * drawn - 1))

    @classmethod
    def from_torch(cls, source: nn.Transformer) -> EncoderDecoder:
        """Copy the weights of PyTorch's transformer into the book's blocks.

        Parameters
        ----------
        source
            With ReLU, biases, ``batch_first=True`` and the default ``layer_norm_eps``.

        Returns
        -------
        EncoderDecoder
            In the mode of `source`, with its dropout (but none on the attention weights).

        Raises
        ------
        TypeError, ValueError
            For another kind of module, or one with another activation or layout.
        """
        if not isinstance(source, nn.Transformer):
            raise TypeError(f"source must be a torch.nn.Transformer, got {type(source).__name__}")
        if not source.batch_first:
            raise ValueError("source must have batch_first=True, as everything here has")
        first: Any = source.encoder.layers[0]
        if first.activation is not functional.relu:
            raise ValueError(f"source must have ReLU activations, got {first.activation!r}")
        if first.linear1.bias is None:
            raise ValueError("source must have biases, got bias=False")
        for part in source.modules():
            if isinstance(part, nn.LayerNorm) and part.eps != 1e-5:
                raise ValueError(f"source must have layer_norm_eps=1e-5, got {part.eps}")
        made = cls(
            source.d_model,
            source.nhead,
            encoder_layers=len(source.encoder.layers),
            decoder_layers=len(source.decoder.layers),
            feedforward=first.linear1.out_features,
            dropout=first.dropout.p,
            norm_first=first.norm_first,
            dtype=first.linear1.weight.dtype,
        )
        made.load_state_dict(_translated(source.state_dict()))
        return made.train(source.training)

    def encode(self, x: Tensor, *, kept: Tensor | None = None) -> Tensor:
        """Encode a document.

        Parameters
        ----------
        x
            Embedded tokens, ``(B, S, d_model)``.
        kept
            ``(B, S)``, boolean, False where a position is padding.

        Returns
        -------
        Tensor
            ``(B, S, d_model)``, the *memory*.

        Raises
        ------
        TypeError, ValueError
            As :class:`~dlchecked.multi_head.MultiHeadAttention`.
        """
        self._demand_width("x", x)
        for layer in self.encoder:
            x = layer(x, kept)
        return self.encoder_norm(x)  # type: ignore[no-any-return]

    def decode(
        self,
        x: Tensor,
        memory: Tensor,
        *,
        memory_kept: Tensor | None = None,
        kept: Tensor | None = None,
        seen: list[Tensor] | None = None,
    ) -> Tensor:
        """Decode: each position sees the summary up to itself, and all of the document.

        Parameters
        ----------
        x
            Embedded tokens of the summary, ``(B, T, d_model)``.
        memory
            From :meth:`encode`, ``(B, S, d_model)``.
        memory_kept, kept
            ``(B, S)`` and ``(B, T)``, boolean, False where a position is padding.
        seen
            A list to which the weights of attention to the document are appended, ``(B, H, T, S)``
            for each layer.

        Returns
        -------
        Tensor
            ``(B, T, d_model)``.

        Raises
        ------
        TypeError, ValueError
            As :class:`~dlchecked.multi_head.MultiHeadAttention`.
        """
        self._demand_width("x", x)
        for layer in self.decoder:
            x = layer(x, memory, memory_kept, kept, seen)
        return self.decoder_norm(x)  # type: ignore[no-any-return]

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        *,
        source_kept: Tensor | None = None,
        target_kept: Tensor | None = None,
    ) -> Tensor:
        """Encode and decode; the arguments are those of :meth:`encode` and :meth:`decode`."""
        for name, x in (("source", source), ("target", target)):
            self._demand_width(name, x)
        same_kind(source=source, target=target)
        memory = self.encode(source, kept=source_kept)
        return self.decode(target, memory, memory_kept=source_kept, kept=target_kept)

    def _demand_width(self, name: str, x: object) -> None:
        if floating(name, x, exactly=3).shape[-1] != self.d_model:
            raise ValueError(
                f"{name} must have the width d_model = {self.d_model}, got shape "
                f"{shape_of(cast(Tensor, x))}"
            )


def _translated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of PyTorch's transformer under our names, queries, keys and values apart."""
    translated = {}
    for name, value in state.items():
        name = re.sub(r"(en|de)coder\.layers\.", r"\1coder.", name)
        name = re.sub(r"(en|de)coder\.norm\.", r"\1coder_norm.", name)
        name = name.replace("multihead_attn", "cross_attn")
        if "in_proj_" in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                translated[name.replace("in_proj_", f"{part}_proj.")] = rows
        else:
            translated[name] = value
    return translated


class Summarizer(nn.Module):
    r"""Token numbers in, logits of the next token out: embedding, positions, transformer.

    One table serves as the embedding of documents and of summaries, multiplied by
    :math:`\sqrt{d_\text{model}}`, and, transposed, as the map to the logits, as in the paper.
    Sinusoidal positions are added to the embeddings.

    Parameters
    ----------
    vocabulary_size
        How many tokens, V.
    d_model, num_heads
        As in :class:`EncoderDecoder`.
    generator
        Draws the parameters, on the CPU.
    **options
        Further arguments of :class:`EncoderDecoder`.

    Attributes
    ----------
    table
        ``(V, d_model)``.
    transformer
        An :class:`EncoderDecoder`.

    Raises
    ------
    TypeError, ValueError
        As :class:`EncoderDecoder`, and for a vocabulary of fewer than 5 tokens.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.summarization import Summarizer
    >>> model = Summarizer(20, 8, 2, generator=torch.Generator())
    >>> model(torch.full((1, 6), 7), torch.full((1, 3), 9)).shape
    torch.Size([1, 3, 20])
    """

    def __init__(
        self,
        vocabulary_size: int,
        d_model: int,
        num_heads: int,
        *,
        generator: torch.Generator,
        **options: Any,
    ) -> None:
        super().__init__()
        size = integer("vocabulary_size", vocabulary_size, at_least=len(_SPECIAL) + 1)
        random_generator("generator", generator)
        self.transformer = EncoderDecoder(d_model, num_heads, generator=generator, **options)
        _frequencies(d_model, 2.0)  # refuses an odd width
        drawn = torch.randn(size, d_model, generator=generator) * d_model**-0.5
        self.table = nn.Parameter(drawn.to(self.transformer.encoder_norm.weight.dtype))
        self.dropout = nn.Dropout(options.get("dropout", 0.0))

    def embed(self, numbers: Tensor, *, first: int = 0) -> Tensor:
        """Embed tokens ``(B, N)`` that begin at position `first`; ``(B, N, d_model)``."""
        d_model = self.table.shape[1]
        positions = sinusoidal_positions(
            numbers.shape[1],
            d_model,
            first=first,
            dtype=self.table.dtype,
            device=self.table.device,
        )
        embedded = functional.embedding(numbers, self.table) * d_model**0.5
        return self.dropout(embedded + positions)  # type: ignore[no-any-return]

    def logits(self, decoded: Tensor) -> Tensor:
        """Logits of the next token, from the decoder's output."""
        return decoded @ self.table.mT

    def forward(
        self, documents: Tensor, prefixes: Tensor, *, seen: list[Tensor] | None = None
    ) -> Tensor:
        """Logits of the token after each position of some prefixes.

        Parameters
        ----------
        documents
            Token numbers ``(B, S)``, padded at the end.
        prefixes
            Token numbers ``(B, T)``, the summaries from ``START`` on. (Nothing after a prefix's end
            reaches the positions before it, so its padding needs no mask.)
        seen
            A list to which each layer's weights of attention to the document are appended,
            ``(B, H, T, S)``.

        Returns
        -------
        Tensor
            ``(B, T, V)``.

        Raises
        ------
        TypeError, ValueError
            For numbers that are no int64, of another shape, or not in the vocabulary.
        """
        self._demand_numbers("documents", documents)
        self._demand_numbers("prefixes", prefixes)
        if documents.shape[0] != prefixes.shape[0]:
            raise ValueError(
                f"prefixes must be as many as documents, {documents.shape[0]}, "
                f"got shape {shape_of(prefixes)}"
            )
        kept = documents != PADDING
        memory = self.transformer.encode(self.embed(documents), kept=kept)
        decoded = self.transformer.decode(self.embed(prefixes), memory, memory_kept=kept, seen=seen)
        return self.logits(decoded)

    def _demand_numbers(self, name: str, numbers: object) -> Tensor:
        if not isinstance(numbers, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(numbers).__name__}")
        if numbers.dtype != torch.int64:
            raise TypeError(f"{name} must be of dtype int64, got {numbers.dtype}")
        if numbers.dim() != 2 or 0 in numbers.shape:
            raise ValueError(
                f"{name} must be rows of tokens, (B, N), and not empty, got {shape_of(numbers)}"
            )
        size = self.table.shape[0]
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high >= size:
            raise ValueError(f"{name} must lie from 0 to {size - 1}, got {low} to {high}")
        return numbers


def token_loss(model: Summarizer, pairs: Pairs, *, smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy of the summaries' tokens, in nats; padding does not count.

    Parameters
    ----------
    model
        Predicts each token of a summary from those before it and the document.
    pairs
        Documents and summaries.
    smoothing
        Of the labels, as in :func:`torch.nn.functional.cross_entropy`.

    Returns
    -------
    Tensor
        One number.

    Raises
    ------
    TypeError, ValueError
        As :meth:`Summarizer.forward`, for `smoothing` not from 0 to 1, and (see
        :func:`dlchecked.arguments.value_checks`) for documents that are not padded at their end,
        or no token to predict.
    """
    smoothing = _share("smoothing", smoothing)
    documents, summaries = _demand_pairs("pairs", pairs) if values_are_checked() else pairs
    # No more columns than the longest document of this batch needs.
    width = max(int((documents != PADDING).sum(1).max()), 1)
    logits = model(documents[:, :width], summaries[:, :-1])
    return functional.cross_entropy(
        logits.flatten(0, 1),
        summaries[:, 1:].flatten(),
        ignore_index=PADDING,
        label_smoothing=smoothing,
    )


def _demand_pairs(name: str, pairs: object) -> Pairs:
    """Demand two sets of rows, padded at their ends, with at least one token to predict."""
    if not isinstance(pairs, tuple) or len(pairs) != 2:
        raise TypeError(f"{name} must be Pairs, got {type(pairs).__name__}")
    for part, x in zip(Pairs._fields, pairs, strict=True):
        if not isinstance(x, Tensor) or x.dtype != torch.int64:
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name}.{part} must be a torch.Tensor of int64, got {kind}")
        if x.dim() != 2 or 0 in x.shape or len(x) != len(pairs[0]):
            raise ValueError(
                f"{name}.{part} must be rows of tokens, as many as documents, and not empty, "
                f"got shape {shape_of(x)}"
            )
        kept = x != PADDING
        if bool((kept[:, 1:] & ~kept[:, :-1]).any()):
            raise ValueError(f"{name}.{part} must be padded at the end of each row")
    if not bool((pairs[1][:, 1:] != PADDING).any()):
        raise ValueError(f"{name}.summaries must hold a token after the first")
    return Pairs(*pairs)


# Training, and what TensorBoard shows


def train_summarizer(
    model: Summarizer,
    training: Pairs,
    validation: Pairs,
    *,
    generator: torch.Generator,
    steps: int,
    batch_size: int = 64,
    warmup: int = 100,
    rate: float = 0.5,
    smoothing: float = 0.1,
    every: int = 50,
    snapshot_at: Sequence[int] = (),
    log_dir: str | os.PathLike[str] | None = None,
) -> History:
    """Train a summarizer by Adam with the paper's schedule, and log it for TensorBoard if asked.

    Parameters
    ----------
    model
        Trained in place.
    training, validation
        The two sets.
    generator
        The source of all chance.
    steps, batch_size
        Updates, and examples in each.
    warmup, rate
        The learning rate is `rate` times :func:`inverse_square_root_schedule`.
    smoothing
        Of the labels in training; both recorded losses are without.
    every
        Updates between two evaluations.
    snapshot_at
        After how many steps to copy the model's state.
    log_dir
        A folder for TensorBoard; must not hold a run yet. It gets the scalars ``loss/optimised`` at
        each step, ``loss/training`` and ``loss/validation`` at each evaluation, while the
        training runs.

    Returns
    -------
    History
        The metrics ``training`` (on as many examples of the training set as the validation set has,
        the first) and ``validation``: losses without smoothing or dropout, so that the two can
        be compared.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, no generator, sets that are no :class:`Pairs` with a token to
        predict, or a folder that holds a run.
    ImportError
        If `log_dir` is given and TensorBoard is not installed.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.summarization import *
    >>> source = torch.Generator().manual_seed(0)
    >>> reports = generate_reports(64, generator=source)
    >>> vocabulary = Vocabulary(text for r in reports for text in (r.document, r.summary))
    >>> pairs = encode_examples(reports, vocabulary)
    >>> model = Summarizer(len(vocabulary), 8, 2, generator=source)
    >>> history = train_summarizer(model, pairs, pairs, steps=2, generator=source)
    >>> history.metrics["validation"].shape
    torch.Size([2])
    """
    _demand_model(model, evaluating=False)
    rate, smoothing = positive("rate", rate), _share("smoothing", smoothing)
    training = _demand_pairs("training", training)
    validation = _demand_pairs("validation", validation)
    seen = Pairs(*(x[: len(validation.documents)] for x in training))
    schedule = inverse_square_root_schedule(model.table.shape[1], warmup=warmup)
    made = 0
    with ExitStack() as stack:
        writer = None if log_dir is None else _summary_writer(log_dir)
        if writer is not None:
            stack.callback(writer.close)

        def loss(model: nn.Module, batch: Any) -> Tensor:
            nonlocal made
            assert isinstance(model, Summarizer)
            # train() itself demands a finite loss; the checks inside would look at each layer.
            with value_checks(False):
                value = token_loss(model, Pairs(*batch), smoothing=smoothing)
            if writer is not None:
                writer.add_scalar("loss/optimised", value.item(), made)
            made += 1
            return value

        def evaluate(model: nn.Module) -> Mapping[str, Tensor]:
            assert isinstance(model, Summarizer)
            with value_checks(False):
                losses = {
                    "training": token_loss(model, seen),
                    "validation": token_loss(model, validation),
                }
            if writer is not None:
                for name, value in losses.items():
                    writer.add_scalar(f"loss/{name}", value.item(), made)
            return losses

        return train(
            model,
            torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98), eps=1e-9),
            minibatches(*training, batch_size=batch_size),
            loss,
            steps=steps,
            generator=generator,
            schedule=schedule,
            evaluate=evaluate,
            every=every,
            snapshot_at=snapshot_at,
        )


def _summary_writer(log_dir: str | os.PathLike[str]) -> Any:
    """A writer for an empty folder; two runs in one folder would be drawn as one."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as problem:
        raise ImportError(_needs("TensorBoard")) from problem
    if any(Path(log_dir).glob("events.out.tfevents.*")):
        raise ValueError(f"log_dir must not hold a run yet, but {str(log_dir)!r} does")
    return SummaryWriter(str(log_dir))  # type: ignore[no-untyped-call, unused-ignore]


def _needs(what: str) -> str:
    return f"{what} is not installed: pip install dlchecked[summarization]"


def read_scalars(log_dir: str | os.PathLike[str]) -> dict[str, list[tuple[int, float]]]:
    """Read what TensorBoard would draw from a folder: step and value, by name.

    Parameters
    ----------
    log_dir
        A folder that :func:`train_summarizer` logged to.

    Returns
    -------
    dict
        Name to a list of steps and values. TensorBoard keeps values in float32.

    Raises
    ------
    ImportError
        If TensorBoard is not installed.
    ValueError
        If the folder holds no run.
    """
    try:
        events = import_module("tensorboard.backend.event_processing.event_accumulator")
    except ImportError as problem:
        raise ImportError(_needs("TensorBoard")) from problem
    if not any(Path(log_dir).glob("events.out.tfevents.*")):
        raise ValueError(f"log_dir must hold a run, but {str(log_dir)!r} does not")
    # By default it keeps a sample of long series; 0 keeps all.
    board = events.EventAccumulator(str(log_dir), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(event.step, event.value) for event in board.Scalars(name)]
        for name in board.Tags()["scalars"]
    }


# Writing a summary


class Hypothesis(NamedTuple):
    """A sequence of tokens, from after ``START`` to ``END`` or to where it was cut off.

    ``log_probability`` is the sum over its tokens, ``END`` included.
    """

    tokens: tuple[int, ...]
    log_probability: float

    @property
    def finished(self) -> bool:
        """Whether it ends with ``END``."""
        return bool(self.tokens) and self.tokens[-1] == END

    def score(self, alpha: float) -> float:
        """Its log-probability over its length penalty (:func:`length_penalty`)."""
        return self.log_probability / length_penalty(len(self.tokens), alpha=alpha)


def length_penalty(length: int, *, alpha: float) -> float:
    r"""What a log-probability is divided by, :math:`((5 + n)/6)^\alpha` (Wu et al., 2016).

    Parameters
    ----------
    length
        Tokens n, at least 1.
    alpha
        From 0 on; 0 compares the probabilities themselves, which favours the short.

    Returns
    -------
    float
        1 for a single token.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range.

    Examples
    --------
    >>> from dlchecked.summarization import length_penalty
    >>> length_penalty(7, alpha=1.0)
    2.0
    """
    length = integer("length", length, at_least=1)
    return float(((5 + length) / 6) ** _not_negative("alpha", alpha))


def _not_negative(name: str, value: object) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    try:
        return positive(name, value)
    except ValueError:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}") from None


class Decoding(Protocol):
    """What a search asks for: the next token's log-probabilities, for rows of prefixes."""

    @property
    def rows(self) -> int:
        """How many prefixes there are."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each prefix, ``(rows,)``; log-probabilities of the next, (rows, V)."""
        ...

    def select(self, rows: Tensor) -> None:
        """Go on with these prefixes, by their numbers; one may be named several times."""
        ...


class PrefixDecoding:
    """Decoding without a cache: whole prefixes go through a function at every step.

    Parameters
    ----------
    next_log_probabilities
        Called with prefixes ``(R, t)``, and with the number of the document that each belongs to,
        ``(R,)``; returns ``(R, V)``.
    rows
        How many documents there are.

    Raises
    ------
    TypeError, ValueError
        If the function is none, or `rows` is no integer of at least 1.
    """

    def __init__(
        self, next_log_probabilities: Callable[[Tensor, Tensor], Tensor], *, rows: int
    ) -> None:
        if not callable(next_log_probabilities):
            kind = type(next_log_probabilities).__name__
            raise TypeError(f"next_log_probabilities must be callable, got {kind}")
        self._next = next_log_probabilities
        self._documents = torch.arange(integer("rows", rows, at_least=1))
        self._prefixes = torch.empty(len(self._documents), 0, dtype=torch.int64)

    @classmethod
    def of(cls, model: Summarizer, documents: Tensor) -> PrefixDecoding:
        """The slow way to decode with a model: everything is computed again for each token."""
        _demand_model(model)
        model._demand_numbers("documents", documents)

        def following(prefixes: Tensor, numbers: Tensor) -> Tensor:
            numbers, prefixes = (x.to(documents.device) for x in (numbers, prefixes))
            logits: Tensor = model(documents[numbers], prefixes)
            return logits[:, -1].log_softmax(-1)

        return cls(following, rows=documents.shape[0])

    @property
    def rows(self) -> int:
        """How many prefixes there are."""
        return len(self._documents)

    def step(self, tokens: Tensor) -> Tensor:
        """As :meth:`Decoding.step`."""
        tokens = _demand_tokens(tokens, self.rows).to(self._prefixes.device)
        self._prefixes = torch.cat([self._prefixes, tokens[:, None]], 1)
        return self._next(self._prefixes, self._documents)

    def select(self, rows: Tensor) -> None:
        """As :meth:`Decoding.select`."""
        self._prefixes, self._documents = self._prefixes[rows], self._documents[rows]


class CachedDecoding:
    """Decoding with caches: each step computes one position, and reads the keys of the others.

    The document's keys and values, one set for each decoder layer, are computed once; those of
    the summary are appended token by token, in :class:`~dlchecked.decoding.KeyValueCache`.

    Parameters
    ----------
    model
        In evaluation mode.
    documents
        Token numbers ``(B, S)``, padded at the end.

    Raises
    ------
    TypeError, ValueError
        For documents that the model refuses, or a model in training mode, whose dropout would make
        the two ways to decode differ.
    """

    def __init__(self, model: Summarizer, documents: Tensor) -> None:
        _demand_model(model)
        model._demand_numbers("documents", documents)
        self._model, self._kept, self._length = model, documents != PADDING, 0
        memory = model.transformer.encode(model.embed(documents), kept=self._kept)
        self._caches = [_new_cache(layer, memory) for layer in model.transformer.decoder]

    @property
    def rows(self) -> int:
        """How many prefixes there are."""
        return self._kept.shape[0]

    def step(self, tokens: Tensor) -> Tensor:
        """As :meth:`Decoding.step`."""
        tokens = _demand_tokens(tokens, self.rows).to(self._kept.device)
        transformer = self._model.transformer
        x = self._model.embed(tokens[:, None], first=self._length)
        for layer, cache in zip(transformer.decoder, self._caches, strict=True):
            assert isinstance(layer, _DecoderLayer)
            x = layer.step(x, cache, self._kept)
        self._length += 1
        logits = self._model.logits(transformer.decoder_norm(x))
        return logits[:, -1].log_softmax(-1)

    def select(self, rows: Tensor) -> None:
        """As :meth:`Decoding.select`: the caches follow their prefixes."""
        rows = rows.to(self._kept.device)
        self._kept = self._kept[rows]
        self._caches = [
            _LayerCache(*(_selected(cache, rows) for cache in caches)) for caches in self._caches
        ]


def _demand_model(model: object, *, evaluating: bool = True) -> None:
    if not isinstance(model, Summarizer):
        raise TypeError(f"model must be a Summarizer, got {type(model).__name__}")
    if evaluating and model.training:
        raise ValueError("model must be in evaluation mode: call model.eval() first")


def _new_cache(layer: nn.Module, memory: Tensor) -> _LayerCache:
    assert isinstance(layer, _DecoderLayer)
    return layer.new_cache(memory)


def _selected(cache: KeyValueCache, rows: Tensor) -> KeyValueCache:
    keys, values = cache.keys, cache.values
    chosen = KeyValueCache(
        len(rows), cache.G, cache.D, cache.M, dtype=keys.dtype, device=keys.device
    )
    if len(cache):
        chosen.append(keys[rows], values[rows])
    return chosen


def _demand_tokens(tokens: object, rows: int) -> Tensor:
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64:
        kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise TypeError(f"tokens must be a torch.Tensor of int64, got {kind}")
    if tuple(tokens.shape) != (rows,):
        raise ValueError(f"tokens must have shape ({rows},), got {shape_of(tokens)}")
    return tokens


def _demand_following(following: object, alive: Tensor) -> Tensor:
    """Demand log-probabilities for each prefix; of those still alive, with something to go on."""
    rows = len(alive)
    if not isinstance(following, Tensor) or not following.is_floating_point():
        kind = following.dtype if isinstance(following, Tensor) else type(following).__name__
        raise TypeError(f"log-probabilities must be a floating-point torch.Tensor, got {kind}")
    if following.dim() != 2 or following.shape[0] != rows or following.shape[1] <= END:
        raise ValueError(
            f"log-probabilities must have shape ({rows}, V) with V above END = {END}, "
            f"got {shape_of(following)}"
        )
    following = following.double().cpu()
    if values_are_checked():
        best = following[alive].amax(1)  # NaN where a row holds one
        if not bool((best.isfinite() & (best <= 1e-6)).all()):
            raise ValueError(
                "log-probabilities must be at most 0, without NaN, and above -inf for at least one "
                f"token, got {best.tolist()} as the greatest of each row"
            )
    return following


@torch.no_grad()
def greedy_search(decoding: Decoding, *, max_length: int) -> list[Hypothesis]:
    """Take the most probable token at each step, until ``END``.

    Parameters
    ----------
    decoding
        A fresh :class:`CachedDecoding` or :class:`PrefixDecoding`.
    max_length
        Tokens at most, ``END`` included; what has not ended by then is cut off.

    Returns
    -------
    list of Hypothesis
        One for each row.

    Raises
    ------
    TypeError, ValueError
        If `max_length` is no integer of at least 1, or the decoding returns something else than
        log-probabilities.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.summarization import PrefixDecoding, greedy_search
    >>> always = torch.tensor([[0.0, 0.0, 0.2, 0.0, 0.8]]).log()
    >>> greedy_search(PrefixDecoding(lambda p, d: always, rows=1), max_length=3)[0].tokens
    (4, 4, 4)
    """
    max_length = integer("max_length", max_length, at_least=1)
    tokens = torch.full((decoding.rows,), START)
    written: list[list[int]] = [[] for _ in range(decoding.rows)]
    totals = [0.0] * decoding.rows
    going = set(range(decoding.rows))
    for _ in range(max_length):
        alive = torch.tensor([row in going for row in range(len(tokens))])
        following = _demand_following(decoding.step(tokens), alive)
        best, tokens = following.max(-1)
        for row in sorted(going):
            written[row].append(int(tokens[row]))
            totals[row] += float(best[row])
            if written[row][-1] == END:
                going.remove(row)
        if not going:
            break
    return [Hypothesis(tuple(w), total) for w, total in zip(written, totals, strict=True)]


@torch.no_grad()
def beam_search(
    decoding: Decoding, *, beams: int, max_length: int, alpha: float = 0.0
) -> list[list[Hypothesis]]:
    """Keep the most probable prefixes at each step; a finished one gives up its seat.

    A document begins with so many seats as there are `beams`. At each step the most probable
    continuations of its prefixes take the seats that are left, and one that has come to ``END`` is
    put aside with its seat. So there are never more than `beams` hypotheses in the end, and with
    one beam this is :func:`greedy_search`. All prefixes in the seats have the same length, so the
    length penalty ranks only the hypotheses put aside.

    Parameters
    ----------
    decoding
        A fresh :class:`CachedDecoding` or :class:`PrefixDecoding`.
    beams
        Seats for each document.
    max_length
        As in :func:`greedy_search`.
    alpha
        Exponent of the :func:`length_penalty`.

    Returns
    -------
    list of list of Hypothesis
        For each row, the best first by :meth:`Hypothesis.score`, those that have ended before all
        those that were cut off.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, or a decoding that returns something else than
        log-probabilities.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.summarization import PrefixDecoding, beam_search
    >>> always = torch.tensor([[0.0, 0.0, 0.2, 0.0, 0.8]]).log()
    >>> found, = beam_search(PrefixDecoding(lambda p, d: always.expand(len(p), 5), rows=1),
    ...                      beams=2, max_length=3)
    >>> [hypothesis.tokens for hypothesis in found]
    [(2,), (4, 4, 4)]
    """
    beams = integer("beams", beams, at_least=1)
    max_length = integer("max_length", max_length, at_least=1)
    alpha, documents = _not_negative("alpha", alpha), decoding.rows
    decoding.select(torch.arange(documents).repeat_interleave(beams))
    # At first all seats hold the same prefix: only one of them may count.
    totals = torch.full((documents, beams), -math.inf, dtype=torch.float64)
    totals[:, 0] = 0.0
    prefixes = torch.full((documents, beams, 1), START)
    left = torch.full((documents, 1), beams)
    done: list[list[Hypothesis]] = [[] for _ in range(documents)]
    for _ in range(max_length):
        alive = totals.isfinite().flatten()
        following = _demand_following(decoding.step(prefixes[..., -1].flatten()), alive)
        size = following.shape[-1]
        candidates = (totals[..., None] + following.view(documents, beams, size)).flatten(1)
        # Stable: of equally probable ones the first is taken, as by the greedy search.
        totals, order = (
            x[:, :beams] for x in candidates.sort(stable=True, dim=-1, descending=True)
        )
        totals = totals.masked_fill(torch.arange(beams) >= left, -math.inf)
        parents, tokens = order // size, order % size
        decoding.select((torch.arange(documents)[:, None] * beams + parents).flatten())
        held = prefixes.gather(1, parents[..., None].expand_as(prefixes))
        prefixes = torch.cat([held, tokens[..., None]], -1)
        ended = (tokens == END) & totals.isfinite()
        _put_aside(done, prefixes, totals, ended)
        totals, left = totals.masked_fill(ended, -math.inf), left - ended.sum(1, keepdim=True)
        if not bool(totals.isfinite().any()):
            break
    _put_aside(done, prefixes, totals, totals.isfinite())
    return [sorted(found, key=lambda h: (not h.finished, -h.score(alpha))) for found in done]


def _put_aside(
    done: list[list[Hypothesis]], prefixes: Tensor, totals: Tensor, which: Tensor
) -> None:
    for row, seat in which.nonzero().tolist():
        tokens = tuple(prefixes[row, seat, 1:].tolist())
        done[row].append(Hypothesis(tokens, float(totals[row, seat])))


def summarize(
    model: Summarizer,
    vocabulary: Vocabulary,
    documents: Sequence[str],
    *,
    beams: int = 1,
    alpha: float = 0.0,
    max_length: int = 40,
) -> list[str]:
    """Write a summary of each document.

    Parameters
    ----------
    model, vocabulary
        Trained, and what it was trained with.
    documents
        Texts.
    beams, alpha
        As in :func:`beam_search`; one beam is the greedy search.
    max_length
        Tokens of a summary at most.

    Returns
    -------
    list of str

    Raises
    ------
    TypeError, ValueError
        As :func:`beam_search`, for no documents, one without a word, or a vocabulary that is not
        of the model's size.
    """
    if isinstance(documents, str) or not documents:
        raise ValueError(f"documents must be a list of at least one text, got {documents!r}")
    _demand_model(model, evaluating=False)
    beams = integer("beams", beams, at_least=1)
    rows = [vocabulary.numbers(document) for document in documents]
    if not all(rows):
        raise ValueError(f"documents must hold words, but number {rows.index([])} has none")
    if len(vocabulary) != len(model.table):
        raise ValueError(
            f"vocabulary must hold the model's {len(model.table)} tokens, got {len(vocabulary)}"
        )
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            decoding = CachedDecoding(model, _padded(rows).to(model.table.device))
            if beams == 1:
                best = greedy_search(decoding, max_length=max_length)
            else:
                found = beam_search(decoding, beams=beams, max_length=max_length, alpha=alpha)
                best = [hypotheses[0] for hypotheses in found]
    finally:
        model.train(was_training)
    return [vocabulary.text(hypothesis.tokens) for hypothesis in best]


# How good a summary is


def lead_sentence(document: str) -> str:
    """The first sentence of a document: the baseline that newspapers make hard to beat.

    Parameters
    ----------
    document
        A text.

    Returns
    -------
    str
        Up to the first full stop, question mark or exclamation mark that a space or the end
        follows; all of it without one.

    Examples
    --------
    >>> from dlchecked.summarization import lead_sentence
    >>> lead_sentence("it rained 2.5 days. nobody knew why.")
    'it rained 2.5 days.'
    """
    if not isinstance(document, str):
        raise TypeError(f"document must be a str, got {type(document).__name__}")
    return re.split(r"(?<=[.?!])\s+", document.strip(), maxsplit=1)[0]


def rouge_one(reference: str, candidate: str) -> float:
    r"""ROUGE-1, the F-measure of the words that two texts share, from its definition.

    With :math:`n_w` and :math:`m_w` the numbers of times that word w occurs in the two, it is
    :math:`2 \sum_w \min(n_w, m_w) / \sum_w (n_w + m_w)`. Words are runs of ASCII letters and
    digits in lower case, as in the ``rouge-score`` package, and there is no stemming.

    Parameters
    ----------
    reference, candidate
        Texts.

    Returns
    -------
    float
        From 0 to 1; 0 if one of them has no words.

    Raises
    ------
    TypeError
        If one of them is no text.

    Examples
    --------
    >>> from dlchecked.summarization import rouge_one
    >>> rouge_one("fire in Tevi", "a fire in the town")
    0.5
    """
    for name, text in (("reference", reference), ("candidate", candidate)):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, got {type(text).__name__}")
    a, b = (Counter(re.findall(r"[a-z0-9]+", text.lower())) for text in (reference, candidate))
    return 2 * (a & b).total() / max(a.total() + b.total(), 1)


def rouge_scores(references: Sequence[str], candidates: Sequence[str]) -> dict[str, Tensor]:
    """ROUGE-1, ROUGE-2 and ROUGE-L of each candidate, by the ``rouge-score`` package.

    Parameters
    ----------
    references, candidates
        As many of the one as of the other.

    Returns
    -------
    dict
        ``"rouge1"``, ``"rouge2"`` and ``"rougeL"`` to F-measures ``(n,)``, float64, without
        stemming.

    Raises
    ------
    ImportError
        If the package is not installed.
    TypeError, ValueError
        For a single text in place of several, something that is no text, or numbers of texts
        that differ or are zero.

    Examples
    --------
    >>> from dlchecked.summarization import rouge_scores
    >>> rouge_scores(["fire in Tevi"], ["a fire in Tevi"])["rouge2"]
    tensor([0.8000], dtype=torch.float64)
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as problem:
        raise ImportError(_needs("rouge-score")) from problem
    for name, texts in (("references", references), ("candidates", candidates)):
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{name} must be a list of texts")
    if len(references) != len(candidates) or not references:
        raise ValueError(
            f"candidates must be as many as references, {len(references)}, and at least one, "
            f"got {len(candidates)}"
        )
    names = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(names)
    scored = [scorer.score(r, c) for r, c in zip(references, candidates, strict=True)]
    return {
        name: torch.tensor([one[name].fmeasure for one in scored], dtype=torch.float64)
        for name in names
    }

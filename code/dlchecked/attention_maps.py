r"""Attention maps: what heads look at, by score and not by eye (hw9 5).

Four parts. A small *language* whose structure is known, so that for every word it is known which
other word decides it. Two *models* of the same size, one that predicts the next word and sees only
what came before, one that fills in hidden words and sees both sides. *Scores* that say how much of
a head's weight goes where a role demands it, with controls; and what a score's gradient is. And one
function that takes the maps out of a *pretrained* checkpoint, of the GPT-2 or the BERT family.

A stack of maps is always ``(L, B, H, N, N)``: layers, sequences, heads, queries, keys.
"""

from __future__ import annotations

import copy
import importlib
import math
import os
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlchecked.arguments import (
    finite,
    flag,
    floating,
    integer,
    positive,
    random_generator,
    same_kind,
    shape_of,
    value_checks,
    values_are_checked,
    widened,
)
from dlchecked.multi_head import MultiHeadAttention
from dlchecked.scaled_dot_product import attention_weights
from dlchecked.training import Batches, History, cosine_schedule, train

__all__ = [
    "CLUES",
    "MASK",
    "ROLES",
    "SEPARATOR",
    "WORDS",
    "Hidden",
    "Inspection",
    "Kind",
    "LanguageModel",
    "PretrainedMaps",
    "SensePairs",
    "Text",
    "at_step",
    "decode",
    "encode",
    "head_scores",
    "hide_words",
    "near_uniform_entropy",
    "one_sided",
    "pretrained_attention",
    "role_accuracy",
    "role_targets",
    "sample_text",
    "save_as_gpt2",
    "score_gradient",
    "score_gradients",
    "sense_accuracy",
    "sense_pairs",
    "sense_separation",
    "shared_part",
    "shuffled_maps",
    "train_language_model",
    "uniform_score",
    "untrained_maps",
    "without_head",
]


# A language whose structure is known


class Kind(IntEnum):
    """What a word is in its sentence."""

    SEPARATOR = 0
    FIRST_NAME = 1
    NAME = 2
    NOUN = 3
    ADVERB = 4
    VERB = 5
    REFLEXIVE = 6
    CLUE = 7
    BANK = 8
    OBJECT = 9


_NAMES = ("ann", "bob", "cid", "dan", "eve", "fay", "gus", "hal", "ivy", "jim")
_NOUNS = (
    ("king", "monk", "duke"),
    ("queen", "nun", "girl"),
    ("dog", "cow", "owl"),
    ("kings", "girls", "dogs"),
)
_REFLEXIVES = ("himself", "herself", "itself", "themselves")
_ADVERBS = ("then", "soon", "often")
_VERBS = ("saw", "hurt", "washed")
_CLUES = (("boat", "fish", "swim"), ("coin", "loan", "debt"))
_OBJECTS = (("mud", "reed"), ("safe", "desk"))

SEPARATOR, MASK = 0, 1
"""The tokens that end a sentence and that stand for a hidden word."""

WORDS: tuple[str, ...] = (
    ".",
    "[mask]",
    *_NAMES,
    *(noun for group in _NOUNS for noun in group),
    *_REFLEXIVES,
    *_ADVERBS,
    *_VERBS,
    "bank",
    *(clue for group in _CLUES for clue in group),
    *(thing for group in _OBJECTS for thing in group),
)
"""The vocabulary; a token is a word's place in it."""

_TOKEN = {word: token for token, word in enumerate(WORDS)}
_ROUND = 4
_WIDEST = 6
_SHORTEST = 4
_AT_ONCE = 25


def _tokens(words: object) -> Tensor:
    """Tokens of nested tuples of words, in the same shape."""

    def looked_up(entry: object) -> object:
        if isinstance(entry, tuple):
            return [looked_up(part) for part in entry]
        assert isinstance(entry, str)
        return _TOKEN[entry]

    return torch.tensor(looked_up(words))


CLUES = _tokens(_CLUES)
"""The clues as tokens, ``(2, 3)``: three for each sense of ``bank``."""


def _classes() -> dict[Kind, Tensor]:
    """For each kind that another word decides: the class of every token, -1 where it has none."""
    groups: dict[Kind, tuple[Any, ...]] = {
        Kind.NAME: _NAMES,
        Kind.NOUN: _NOUNS,
        Kind.REFLEXIVE: _REFLEXIVES,
        Kind.CLUE: _CLUES,
        Kind.OBJECT: _OBJECTS,
    }
    found = {}
    for kind, members in groups.items():
        table = torch.full((len(WORDS),), -1)
        for number, words in enumerate(members):
            table[_tokens((words,) if isinstance(words, str) else words)] = number
        found[kind] = table
    return found


_CLASSES = _classes()


class Text(NamedTuple):
    """Sequences of the language, and what decides what in them.

    ``tokens`` and ``kinds`` are ``(B, N)``, and so is ``sentences``, the number of the sentence
    that a word stands in. ``links``, ``(B, N, N)``, is True where the two words decide one another:
    a name and the same name in another sentence, a noun and its reflexive, a clue and the
    object that goes with it.
    """

    tokens: Tensor
    kinds: Tensor
    sentences: Tensor
    links: Tensor


def encode(text: str) -> Tensor:
    """Tokens of words that are set apart by blanks.

    Parameters
    ----------
    text
        Words of :data:`WORDS`; the separator is a word of its own.

    Returns
    -------
    Tensor
        ``(N,)``, int64.

    Raises
    ------
    TypeError
        If `text` is no str.
    ValueError
        If it is empty or holds a word that the language has not.

    Examples
    --------
    >>> from dlchecked.attention_maps import encode
    >>> encode(". ann bob").tolist()
    [0, 2, 3]
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    words = text.split()
    unknown = [word for word in words if word not in _TOKEN]
    if unknown or not words:
        raise ValueError(f"text must be made of the language's words, got {unknown or text!r}")
    return torch.tensor([_TOKEN[word] for word in words])


def decode(tokens: Tensor) -> str:
    """Words of a sequence of tokens; the inverse of :func:`encode`.

    Parameters
    ----------
    tokens
        ``(N,)``, integers.

    Returns
    -------
    str
        The words, set apart by blanks.

    Raises
    ------
    TypeError, ValueError
        For something that is no sequence of tokens.

    Examples
    --------
    >>> from dlchecked.attention_maps import decode, encode
    >>> decode(encode("dog saw itself ."))
    'dog saw itself .'
    """
    if _token_rows("tokens", tokens).dim() != 1:
        raise ValueError(f"tokens must have one dimension, got shape {shape_of(tokens)}")
    return " ".join(WORDS[token] for token in tokens.tolist())


def sample_text(batch: int, *, length: int = 24, generator: torch.Generator) -> Text:
    """Draw sequences of the language.

    A sequence begins with a separator and goes on with sentences, each of a kind drawn on its own,
    until it is full; the last sentence may be cut off. Every sentence ends with a separator.

    - With probability 0.45 it *repeats*: it goes once round four names that are drawn, in their
      order, once for the whole sequence; where it begins is drawn anew (``ann bob cid dan``, later
      ``cid dan ann bob``).
    - With 0.275 it needs *agreement*: a noun, up to two adverbs, a verb, and the reflexive of the
      noun's class (``queen soon washed herself``). There are four classes of three nouns.
    - With 0.275 it has ``bank`` in one of its *two senses*, with a clue and an object of that
      sense, each one of several: ``boat soon bank mud`` or, in the other order,
      ``bank mud soon boat``. The adverb is left out half of the time.

    Parameters
    ----------
    batch
        Sequences B.
    length
        Tokens N of each, at least 2.
    generator
        Where the random numbers come from, on the CPU.

    Returns
    -------
    Text

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import decode, sample_text
    >>> text = sample_text(1, length=10, generator=torch.Generator().manual_seed(54))
    >>> decode(text.tokens[0])
    '. monk washed himself . queen then hurt herself .'
    """
    B, N = integer("batch", batch, at_least=1), integer("length", length, at_least=2)
    random_generator("generator", generator)
    S = math.ceil((N - 1) / _SHORTEST)
    u = torch.rand(B, S, generator=generator)
    which = (u > 0.45).long() + (u > 0.725).long()
    layouts = (_repeats(B, S, generator), _agreements(B, S, generator), _senses(B, S, generator))
    # Words, kinds, groups and presence of the layout that each sentence has.
    tokens, kinds, groups, present = (
        torch.stack([layout[part] for layout in layouts])
        .gather(0, which[None, ..., None].expand(1, B, S, _WIDEST))[0]
        .reshape(B, S * _WIDEST)
        for part in range(4)
    )
    sentences = torch.arange(S).repeat_interleave(_WIDEST).expand(B, -1)
    # A stable sort moves the words that are there to the front and keeps their order.
    order = (present == 0).int().argsort(dim=-1, stable=True)[:, : N - 1]
    start = torch.zeros(B, 1, dtype=torch.long)
    tokens, kinds, groups = (
        torch.cat([start, part.gather(1, order)], dim=1) for part in (tokens, kinds, groups)
    )
    sentences = torch.cat([start - 1, sentences.gather(1, order)], dim=1)
    links = (groups[:, :, None] == groups[:, None]) & (groups[:, :, None] > 0)
    return Text(tokens, kinds, sentences, links & ~torch.eye(N, dtype=torch.bool))


_Layout = tuple[Tensor, Tensor, Tensor, Tensor]


def _choice(options: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return options[torch.randint(len(options), shape, generator=generator)]


def _row(*kinds: Kind) -> Tensor:
    """Kinds of a sentence's places, filled up to the widest."""
    padded = [*kinds, *[Kind.SEPARATOR] * (_WIDEST - len(kinds))]
    return torch.tensor([int(kind) for kind in padded])


def _repeats(B: int, S: int, generator: torch.Generator) -> _Layout:
    """Sentences that go once round the names of their sequence, beginning anywhere."""
    order = torch.rand(B, len(_NAMES), generator=generator).argsort(-1)[:, None, :_ROUND]
    begin = torch.randint(_ROUND, (B, S, 1), generator=generator)
    place = (begin + torch.arange(_ROUND)) % _ROUND
    tokens = torch.zeros(B, S, _WIDEST, dtype=torch.long)
    tokens[..., :_ROUND] = _tokens(_NAMES)[order.expand(B, S, _ROUND).gather(-1, place)]
    kinds = _row(Kind.FIRST_NAME, *[Kind.NAME] * (_ROUND - 1)).expand(B, S, -1)
    groups = torch.zeros(B, S, _WIDEST, dtype=torch.long)
    groups[..., :_ROUND] = 1 + place
    return tokens, kinds, groups, torch.tensor([1, 1, 1, 1, 1, 0]).expand(B, S, -1)


def _agreements(B: int, S: int, generator: torch.Generator) -> _Layout:
    """Sentences with a noun and the reflexive of its class."""
    shape = (B, S)
    classes = torch.randint(len(_NOUNS), shape, generator=generator)
    member = torch.randint(3, shape, generator=generator)
    adverbs = [_choice(_tokens(_ADVERBS), shape, generator) for _ in range(2)]
    verb = _choice(_tokens(_VERBS), shape, generator)
    how_many = torch.randint(3, shape, generator=generator)
    separator = torch.zeros(shape, dtype=torch.long)
    noun, reflexive = _tokens(_NOUNS)[classes, member], _tokens(_REFLEXIVES)[classes]
    tokens = torch.stack([noun, *adverbs, verb, reflexive, separator], dim=-1)
    kinds = _row(Kind.NOUN, Kind.ADVERB, Kind.ADVERB, Kind.VERB, Kind.REFLEXIVE)
    groups = torch.zeros(B, S, _WIDEST, dtype=torch.long)
    groups[..., 0] = groups[..., 4] = 10 + torch.arange(S)
    present = torch.ones(B, S, _WIDEST, dtype=torch.long)
    present[..., 1], present[..., 2] = how_many >= 1, how_many >= 2
    return tokens, kinds.expand(B, S, -1), groups, present


def _senses(B: int, S: int, generator: torch.Generator) -> _Layout:
    """Sentences with ``bank`` in one of its senses, the clue before it or behind it."""
    shape = (B, S)
    sense = torch.randint(2, shape, generator=generator)
    clue = CLUES[sense, torch.randint(3, shape, generator=generator)]
    thing = _tokens(_OBJECTS)[sense, torch.randint(2, shape, generator=generator)]
    adverb = _choice(_tokens(_ADVERBS), shape, generator)
    behind = torch.randint(2, shape, generator=generator).bool()[..., None]
    with_adverb = torch.randint(2, shape, generator=generator)
    bank = torch.full(shape, _TOKEN["bank"])
    separator = torch.zeros(shape, dtype=torch.long)
    tokens = torch.where(
        behind,
        torch.stack([bank, thing, adverb, clue, separator, separator], dim=-1),
        torch.stack([clue, adverb, bank, thing, separator, separator], dim=-1),
    )
    kinds = torch.where(
        behind,
        _row(Kind.BANK, Kind.OBJECT, Kind.ADVERB, Kind.CLUE),
        _row(Kind.CLUE, Kind.ADVERB, Kind.BANK, Kind.OBJECT),
    )
    decided = (kinds == Kind.CLUE) | (kinds == Kind.OBJECT)
    groups = torch.where(decided, 10 + torch.arange(S)[:, None], 0)
    present = torch.tensor([1, 1, 1, 1, 1, 0]).expand(B, S, -1)
    present = torch.where(kinds == Kind.ADVERB, with_adverb[..., None], present)
    return tokens, kinds, groups, present


class Hidden(NamedTuple):
    """What a masked model is shown: ``tokens`` with some hidden, and ``places`` where; (B, N)."""

    tokens: Tensor
    places: Tensor


def hide_words(tokens: Tensor, *, share: float = 0.3, generator: torch.Generator) -> Hidden:
    """Hide each word with some probability behind the mask token; separators are never hidden.

    Parameters
    ----------
    tokens
        ``(B, N)``.
    share
        The probability, between 0 and 1.
    generator
        Where the random numbers come from, on the CPU.

    Returns
    -------
    Hidden

    Raises
    ------
    TypeError, ValueError
        For something that is no batch of tokens, or a `share` not between 0 and 1.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import encode, hide_words
    >>> hidden = hide_words(encode(". ann bob .")[None], share=0.9,
    ...                     generator=torch.Generator().manual_seed(0))
    >>> hidden.tokens.tolist()
    [[0, 1, 1, 0]]
    """
    _token_rows("tokens", tokens)
    random_generator("generator", generator)
    if positive("share", share) >= 1:
        raise ValueError(f"share must be below 1, got {share}")
    drawn = torch.rand(tokens.shape, generator=generator) < share
    places = drawn.to(tokens.device) & (tokens != SEPARATOR)
    return Hidden(tokens.masked_fill(places, MASK), places)


# Two models of one size


class Inspection(NamedTuple):
    """What a model does with a batch.

    ``logits`` are ``(B, N, words)``; ``maps``, ``(L, B, H, N, N)``, the attention weights of each
    layer and head; ``states``, ``(L + 1, B, N, d_model)``, each position's vector before the first
    layer and after each.
    """

    logits: Tensor
    maps: Tensor
    states: Tensor


class _Layer(nn.Module):
    """Attention, then a network of one hidden layer; each is added to its input, normed."""

    def __init__(self, d_model: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm, self.hidden_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.up, self.down = nn.Linear(d_model, hidden), nn.Linear(hidden, d_model)

    def forward(self, x: Tensor, **masks: Any) -> Tensor:
        z = self.attention_norm(x)
        output: Tensor = self.attention(z, z, z, **masks)
        return self.fed(x + output)

    def with_weights(self, x: Tensor, **masks: Any) -> tuple[Tensor, Tensor]:
        z = self.attention_norm(x)
        output, weights = self.attention(z, z, z, need_weights=True, **masks)
        return self.fed(x + output), weights

    def fed(self, x: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.up(self.hidden_norm(x)))
        return x + torch.as_tensor(self.down(hidden))


class LanguageModel(nn.Module):
    """A small transformer over the language, causal or not; everything else is the same.

    Embeddings of word and place are added; then each layer adds
    :class:`~dlchecked.multi_head.MultiHeadAttention` of its normed input, and a network of one
    hidden layer, as GPT-2 does. The embeddings of places start as sines and cosines of wavelengths
    from 6 to about 300 places; all else starts as PyTorch does.

    Parameters
    ----------
    is_causal
        Whether a position sees only itself and what came before.
    generator
        Draws the initial parameters.
    d_model, num_heads, layers, hidden
        Width, heads and layers, and the width of the hidden layers.
    length
        The longest sequence.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, an odd `d_model`, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import LanguageModel, encode
    >>> model = LanguageModel(is_causal=True, generator=torch.Generator().manual_seed(0))
    >>> model.inspect(encode(". dog saw itself .")[None]).maps.shape
    torch.Size([2, 1, 4, 5, 5])
    """

    def __init__(
        self,
        *,
        is_causal: bool,
        generator: torch.Generator,
        d_model: int = 64,
        num_heads: int = 4,
        layers: int = 2,
        hidden: int = 64,
        length: int = 24,
    ) -> None:
        super().__init__()
        self.is_causal = flag("is_causal", is_causal)
        random_generator("generator", generator)
        self.d_model = integer("d_model", d_model, at_least=2)
        if self.d_model % 2:
            raise ValueError(f"d_model must be even, for sines and cosines, got {d_model}")
        self.num_heads = integer("num_heads", num_heads, at_least=1)
        self.hidden = integer("hidden", hidden, at_least=1)
        self.length = integer("length", length, at_least=1)
        depth = integer("layers", layers, at_least=1)
        with torch.random.fork_rng(devices=[]):
            seed = torch.randint(2**62, (), generator=generator, device=generator.device)
            torch.manual_seed(int(seed))
            self.words = nn.Parameter(torch.randn(len(WORDS), d_model) / 2)
            self.places = nn.Parameter(_sinusoids(self.length, d_model))
            self.layers = nn.ModuleList(
                _Layer(d_model, self.num_heads, self.hidden) for _ in range(depth)
            )
            self.norm, self.out = nn.LayerNorm(d_model), nn.Linear(d_model, len(WORDS))

    def forward(self, tokens: Tensor, *, offsets: Tensor | None = None) -> Tensor:
        """Logits of the word at each place: the next one if causal, else the one that is there.

        Parameters
        ----------
        tokens
            ``(B, N)``.
        offsets
            Added to the scores: ``(L, B, H, N, N)``, where B, H and N may be 1, and ``-inf`` hides
            a key.

        Returns
        -------
        Tensor
            ``(B, N, words)``.

        Raises
        ------
        TypeError, ValueError
            For something that is no batch of tokens, sequences that are too long, and offsets that
            do not fit.
        """
        logits: Tensor = self.out(self.norm(self._vectors(tokens, offsets)))
        return logits

    def inspect(self, tokens: Tensor, *, offsets: Tensor | None = None) -> Inspection:
        """Logits, attention maps and every layer's vectors, without gradients.

        Parameters
        ----------
        tokens, offsets
            As in :meth:`forward`.

        Returns
        -------
        Inspection
        """
        with torch.no_grad():
            x = self._embedded(tokens)
            states, maps = [x], []
            for number, layer in enumerate(self._layers(tokens, offsets)):
                masks = self._masks(tokens, offsets, number)
                x, weights = layer.with_weights(x, **masks)
                maps.append(weights)
                states.append(x)
            return Inspection(self.out(self.norm(x)), torch.stack(maps), torch.stack(states))

    def _vectors(self, tokens: Tensor, offsets: Tensor | None = None) -> Tensor:
        """The vectors after the last layer."""
        x = self._embedded(tokens)
        for number, layer in enumerate(self._layers(tokens, offsets)):
            x = layer(x, **self._masks(tokens, offsets, number))
        return x

    def _embedded(self, tokens: Tensor) -> Tensor:
        if isinstance(tokens, Tensor) and tokens.device != self.words.device:
            raise ValueError(
                f"tokens must be on the device of the parameters, {self.words.device}, "
                f"got {tokens.device}"
            )
        _token_rows("tokens", tokens)
        if tokens.dim() != 2 or not 1 <= tokens.shape[1] <= self.length:
            raise ValueError(
                f"tokens must be (B, N) with N from 1 to {self.length}, got {shape_of(tokens)}"
            )
        return nn.functional.embedding(tokens, self.words) + self.places[: tokens.shape[1]]

    def _layers(self, tokens: Tensor, offsets: Tensor | None) -> list[_Layer]:
        found = [layer for layer in self.layers if isinstance(layer, _Layer)]
        if offsets is not None:
            same_kind(**{"the parameters": self.words, "offsets": floating("offsets", offsets)})
            B, N = tokens.shape
            full = (len(found), B, self.num_heads, N, N)
            sizes = zip(offsets.shape[1:], full[1:], strict=False)
            if (
                offsets.dim() != 5
                or offsets.shape[0] != len(found)
                or any(size not in (1, whole) for size, whole in sizes)
            ):
                raise ValueError(
                    f"offsets must be (L, B, H, N, N) with L = {len(found)}, {full} in all or "
                    f"with 1 for other sizes than L, got {shape_of(offsets)}"
                )
        return found

    def _masks(self, tokens: Tensor, offsets: Tensor | None, layer: int) -> dict[str, Any]:
        if offsets is None:
            return {"is_causal": self.is_causal}
        offset, N = offsets[layer], tokens.shape[1]
        if self.is_causal:
            seen = torch.ones(N, N, dtype=torch.bool, device=tokens.device).tril()
            offset = offset.masked_fill(~seen, -math.inf)
        return {"attn_mask": offset}


def _sinusoids(length: int, width: int) -> Tensor:
    """Sines and cosines of a place, ``(length, width)``."""
    frequencies = 50.0 ** -(torch.arange(width // 2) / (width // 2))
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def train_language_model(
    *,
    is_causal: bool,
    generator: torch.Generator,
    steps: int | None = None,
    batch_size: int = 64,
    learning_rate: float | None = None,
    share: float = 0.3,
    snapshot_at: Collection[int] = (),
    **sizes: int,
) -> tuple[LanguageModel, History]:
    """Train a model on fresh sequences by Adam, with warm-up and a cosine schedule.

    A causal model predicts every next word. Another one is shown sequences with words hidden
    (:func:`hide_words`) and predicts these. It learns from fewer words a step, and so takes more
    steps.

    Parameters
    ----------
    is_causal
        Which of the two.
    generator
        Draws initial parameters, then sequences, then what is hidden.
    steps
        Of Adam; 350 for a causal model, 700 for the other, if not given.
    batch_size
        Sequences a step.
    learning_rate
        The highest; 0.01 for a causal model, 0.004 for the other, if not given.
    share
        Of words hidden.
    snapshot_at
        After how many steps to copy the state, for :func:`at_step`; 0 is always among them.
    **sizes
        Those of :class:`LanguageModel`.

    Returns
    -------
    (LanguageModel, History)
        The loss is the cross-entropy, in nats a predicted word.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import train_language_model
    >>> model, history = train_language_model(
    ...     is_causal=True, steps=2, d_model=8, generator=torch.Generator().manual_seed(0))
    >>> history.losses.shape
    torch.Size([2])
    """
    model = LanguageModel(is_causal=is_causal, generator=generator, **sizes)
    steps = integer("steps", (350 if is_causal else 700) if steps is None else steps, at_least=1)
    fitting = 0.01 if is_causal else 0.004
    rate = positive("learning_rate", fitting if learning_rate is None else learning_rate)
    history = train(
        model,
        torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98), fused=True),
        _batches(integer("batch_size", batch_size, at_least=1), model.length, share, is_causal),
        _loss,
        steps=steps,
        generator=generator,
        schedule=cosine_schedule(steps, warmup=min(30, steps - 1)),
        max_norm=1.0,
        snapshot_at={0, *snapshot_at},
        description="causal model" if is_causal else "masked model",
    )
    return model, history


_Batch = tuple[Tensor, Tensor, Tensor | None]


def _batches(batch_size: int, length: int, share: float, is_causal: bool) -> Batches:
    """Inputs, answers, and the places where they count: None is everywhere."""

    def endless(generator: torch.Generator) -> Iterator[_Batch]:
        while True:
            # Many batches are drawn in one go, which is faster.
            text = sample_text(_AT_ONCE * batch_size, length=length, generator=generator)
            if is_causal:
                for tokens in text.tokens.chunk(_AT_ONCE):
                    yield tokens[:, :-1], tokens[:, 1:], None
            else:
                hidden = hide_words(text.tokens, share=share, generator=generator)
                parts = (hidden.tokens, text.tokens, hidden.places)
                yield from zip(*(part.chunk(_AT_ONCE) for part in parts), strict=True)

    return endless


def _loss(model: nn.Module, batch: _Batch) -> Tensor:
    inputs, answers, counted = batch
    assert isinstance(model, LanguageModel)
    # The training loop checks every loss; checking every layer's input as well takes its time.
    with value_checks(False):
        vectors = model._vectors(inputs)
    if counted is None:
        vectors, answers = vectors.flatten(0, 1), answers.flatten()
    else:
        vectors, answers = vectors[counted], answers[counted]
    return nn.functional.cross_entropy(model.out(model.norm(vectors)), answers)


def at_step(model: LanguageModel, history: History, step: int) -> LanguageModel:
    """A copy of the model as it was after some steps of its training.

    Parameters
    ----------
    model, history
        What :func:`train_language_model` returned.
    step
        One of those at which a snapshot was taken; 0 is the untrained model.

    Returns
    -------
    LanguageModel

    Raises
    ------
    TypeError, ValueError
        For another kind of model, or if there is no snapshot of that step.
    """
    _language_model(model)
    if step not in history.snapshots:
        raise ValueError(f"step must be one of {sorted(history.snapshots)}, got {step}")
    earlier = copy.deepcopy(model)
    earlier.load_state_dict(history.snapshots[step])
    return earlier


def without_head(model: LanguageModel, layer: int, head: int) -> LanguageModel:
    """A copy of the model in which one head's output is zero.

    Parameters
    ----------
    model
        The whole one.
    layer, head
        Which head, both counted from 0.

    Returns
    -------
    LanguageModel
        The attention maps of this layer and the layers before are those of `model`.

    Raises
    ------
    TypeError, ValueError
        For a layer or a head that is not there.
    """
    _language_model(model)
    for name, number, count in (
        ("layer", layer, len(model.layers)),
        ("head", head, model.num_heads),
    ):
        if integer(name, number, at_least=0) >= count:
            raise ValueError(f"{name} must be below {count}, got {number}")
    less = copy.deepcopy(model)
    chosen = less.layers[layer]
    assert isinstance(chosen, _Layer)
    size = chosen.attention.value_size
    with torch.no_grad():
        # The map on top reads head h from columns h M to (h + 1) M - 1.
        chosen.attention.out_proj.weight[:, head * size : (head + 1) * size] = 0.0
    return less


def one_sided(model: LanguageModel, length: int, *, hide: str) -> Tensor:
    """Offsets that hide everything on one side of each place, for :meth:`LanguageModel.forward`.

    Parameters
    ----------
    model
        Gives the number of layers, the dtype and the device.
    length
        Tokens N.
    hide
        ``"left"`` or ``"right"``; a place itself is seen.

    Returns
    -------
    Tensor
        ``(L, 1, 1, N, N)``, of zeros and ``-inf``.

    Raises
    ------
    TypeError, ValueError
        For another side, or a number out of range.
    """
    _language_model(model)
    if hide not in ("left", "right"):
        raise ValueError(f"hide must be 'left' or 'right', got {hide!r}")
    N = integer("length", length, at_least=1)
    whole = torch.full((N, N), -math.inf, dtype=model.words.dtype, device=model.words.device)
    side = whole.triu(1) if hide == "right" else whole.tril(-1)
    return side.expand(len(model.layers), 1, 1, N, N)


# What heads look at, by score


_DECIDED = {
    "repeat": Kind.NAME,
    "agreement": Kind.REFLEXIVE,
    "sense": Kind.OBJECT,
    "noun": Kind.NOUN,
    "clue": Kind.CLUE,
}

ROLES = ("previous", "separator", *_DECIDED)
"""The roles that heads are scored for; see :func:`role_targets`."""


def role_targets(text: Text, role: str, *, is_causal: bool, places: Tensor | None = None) -> Tensor:
    """Which keys a role wants each query to look at.

    ``"previous"``: the token before, and ``"separator"``: all separators; for every query but the
    first. The others are about one kind of word that is decided by linked ones, ``"repeat"`` by the
    same name in other sentences, ``"agreement"`` (of a reflexive) by the noun,
    ``"sense"`` (of an object) by the clue, and the other way round ``"noun"`` by its reflexive and
    ``"clue"`` by its object. The query is the place at which the word is predicted, the targets are
    what decides it: for a causal model the place before the word, and the links up to there; for a
    masked one the word's own place if it is hidden, and the links that are not hidden.

    Parameters
    ----------
    text
        From :func:`sample_text`.
    role
        One of :data:`ROLES`.
    is_causal
        The model's.
    places
        ``(B, N)``, what is hidden from a masked model; None for a causal one.

    Returns
    -------
    Tensor
        Boolean, ``(B, N, N)``; a row without targets is no query of this role.

    Raises
    ------
    TypeError, ValueError
        For an unknown role, or `places` with a causal model or none with another.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import role_targets, sample_text
    >>> text = sample_text(1, length=6, generator=torch.Generator().manual_seed(1))
    >>> role_targets(text, "previous", is_causal=True)[0, 3].tolist()
    [False, False, True, False, False, False]
    """
    if role not in ROLES:
        raise ValueError(f"role must be one of {ROLES}, got {role!r}")
    B, N = _sampled(text).tokens.shape
    if flag("is_causal", is_causal) == (places is not None):
        raise ValueError("places must be given for a masked model, and only for such")
    seen = torch.ones(N, N, dtype=torch.bool)
    if is_causal:
        seen = seen.tril()
    if places is not None and (
        not isinstance(places, Tensor)
        or places.dtype != torch.bool
        or places.shape != text.tokens.shape
    ):
        shape = f", {shape_of(places)}" if isinstance(places, Tensor) else ""
        raise ValueError(
            f"places must be boolean and of the shape {shape_of(text.tokens)}, "
            f"got {_described(places)}{shape}"
        )
    if role in ("previous", "separator"):
        wanted = torch.zeros(B, N, N, dtype=torch.bool)
        if role == "previous":
            wanted[:, 1:, :-1] = torch.eye(N - 1, dtype=torch.bool)
        else:
            wanted[:, 1:] = (text.tokens == SEPARATOR)[:, None]
        return wanted & seen
    decided = text.links & (text.kinds == _DECIDED[role])[:, :, None]
    if places is not None:
        return decided & places[:, :, None] & ~places[:, None, :]
    nothing = torch.zeros(B, 1, N, dtype=torch.bool)
    return torch.cat([decided[:, 1:], nothing], dim=1) & seen


def head_scores(maps: Tensor, targets: Tensor) -> Tensor:
    """How much of its weight each head gives to the targets, on average over their queries.

    Parameters
    ----------
    maps
        ``(L, B, H, N, N)``.
    targets
        ``(B, N, N)``, boolean, such as :func:`role_targets` gives.

    Returns
    -------
    Tensor
        ``(L, H)``, between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or devices that do not fit, maps that are not finite, or targets without
        a single query.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import head_scores
    >>> head_scores(torch.full((1, 1, 1, 2, 2), 0.5), torch.eye(2, dtype=torch.bool)[None])
    tensor([[0.5000]])
    """
    floating("maps", maps, exactly=5)
    if isinstance(targets, Tensor) and targets.device != maps.device:
        raise ValueError(f"targets must be on the device of maps, got {targets.device}")
    _maps(maps)
    queries = _queries(targets)
    B, N = queries.shape
    if maps.shape[1] != B or maps.shape[3:] != (N, N):
        raise ValueError(
            f"maps must be (L, B, H, N, N) with B = {B} and N = {N}, as targets are, "
            f"got {shape_of(maps)}"
        )
    caught = (widened(maps) * targets[None, :, None]).sum(dim=(1, 3, 4))
    return (caught / queries.sum()).to(maps.dtype)


def uniform_score(targets: Tensor, *, is_causal: bool) -> float:
    """The score of a head that gives every visible key the same weight.

    Parameters
    ----------
    targets
        As in :func:`head_scores`.
    is_causal
        Whether query i, counted from 1, sees i keys, or all N.

    Returns
    -------
    float
        The mean over the queries of the number of targets over the number of visible keys.

    Raises
    ------
    TypeError, ValueError
        As :func:`head_scores`, and for targets that a causal head cannot see.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import uniform_score
    >>> uniform_score(torch.eye(2, dtype=torch.bool)[None], is_causal=True)
    0.75
    """
    queries = _queries(targets)
    N = queries.shape[1]
    keys = torch.full((N,), N, device=targets.device)
    if flag("is_causal", is_causal):
        if values_are_checked() and bool(targets.triu(1).any()):
            raise ValueError("targets must not lie behind their query where is_causal is True")
        keys = torch.arange(1, N + 1, device=targets.device)
    return float((targets.sum(-1) / keys)[queries].mean())


def _queries(targets: object) -> Tensor:
    if not isinstance(targets, Tensor) or targets.dtype != torch.bool:
        raise TypeError(f"targets must be a boolean tensor, got {type(targets).__name__}")
    if targets.dim() != 3 or targets.shape[1] != targets.shape[2]:
        raise ValueError(f"targets must be (B, N, N), got {shape_of(targets)}")
    queries = targets.any(-1)
    if not bool(queries.any()):
        raise ValueError("targets must hold at least one query with a target, got none")
    return queries


def shuffled_maps(maps: Tensor, *, is_causal: bool, generator: torch.Generator) -> Tensor:
    """The control of a score: each row's weights, dealt out anew among its visible keys.

    A shuffled head is as sharp as the head itself, and looks anywhere.

    Parameters
    ----------
    maps
        ``(L, B, H, N, N)``.
    is_causal
        Whether keys after the query are hidden.
    generator
        Where the random numbers come from, on the CPU.

    Returns
    -------
    Tensor
        The shape and dtype of `maps`.

    Raises
    ------
    TypeError, ValueError
        For something that is no stack of maps, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import shuffled_maps
    >>> maps = torch.tensor([[1.0, 0.0], [0.2, 0.8]]).expand(1, 1, 1, 2, 2)
    >>> shuffled_maps(maps, is_causal=True, generator=torch.Generator().manual_seed(0)).sum(-1)
    tensor([[[[1., 1.]]]])
    """
    _maps(maps)
    random_generator("generator", generator)
    keys = torch.rand(maps.shape, generator=generator)
    if flag("is_causal", is_causal):
        # Hidden keys are sorted behind the visible ones, in their own order.
        N = maps.shape[-1]
        hidden = torch.ones(N, N, dtype=torch.bool).triu(1)
        keys = torch.where(hidden, 1.0 + torch.arange(N), keys)
    return maps.gather(-1, keys.argsort(-1).to(maps.device))


def shared_part(maps: Tensor, *, is_causal: bool) -> Tensor:
    r"""How much of each head's pattern is the same in all sequences.

    With the mean map :math:`\bar w` over the sequences and the uniform one u it is
    :math:`1 - \sum |w - \bar w|^2 / \sum |w - u|^2`: 1 for a head that looks at the same places
    whatever stands there, near 0 for one that follows the words.

    Parameters
    ----------
    maps
        ``(L, B, H, N, N)``, with B at least 2.
    is_causal
        Whether the uniform map gives row i only i keys.

    Returns
    -------
    Tensor
        ``(L, H)``, between 0 and 1; not a number for a head that is exactly uniform everywhere.

    Raises
    ------
    TypeError, ValueError
        For something that is no stack of maps of several sequences, or maps that are not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import shared_part
    >>> shared_part(torch.eye(3).expand(1, 5, 1, 3, 3), is_causal=True)
    tensor([[1.]])
    """
    _maps(maps)
    if maps.shape[1] < 2:
        raise ValueError(f"maps must be of at least two sequences, got {shape_of(maps)}")
    N = maps.shape[-1]
    uniform = torch.ones(N, N, device=maps.device)
    if flag("is_causal", is_causal):
        uniform = uniform.tril()
    uniform = uniform / uniform.sum(-1, keepdim=True)
    wide = widened(maps)
    own = (wide - wide.mean(1, keepdim=True)).square().sum(dim=(1, 3, 4))
    all_of_it = (wide - uniform).square().sum(dim=(1, 3, 4))
    return (1 - own / all_of_it).to(maps.dtype)


def role_accuracy(
    logits: Tensor, text: Text, role: str, *, is_causal: bool, places: Tensor | None = None
) -> float:
    """How often the words of a role are predicted right, where they are decided.

    Words that the language draws freely among several (the nouns of a class, the clues and objects
    of a sense) count as one: right is the class with the most probability.

    Parameters
    ----------
    logits
        ``(B, N, words)``.
    text, role, is_causal, places
        As in :func:`role_targets`; the role is one that decides a word.

    Returns
    -------
    float
        A share; guessing gives one over the number of classes: 1/10 for names, 1/4 for reflexives
        and nouns, 1/2 for clues and objects.

    Raises
    ------
    TypeError, ValueError
        As :func:`role_targets`, and for a role that decides nothing, texts without it, or logits
        that are not finite.
    """
    if role not in _DECIDED:
        raise ValueError(f"role must be one of {tuple(_DECIDED)}, got {role!r}")
    floating("logits", logits, exactly=3)
    if logits.shape != (*_sampled(text).tokens.shape, len(WORDS)):
        raise ValueError(
            f"logits must be {(*text.tokens.shape, len(WORDS))}, got {shape_of(logits)}"
        )
    finite("logits", logits)
    queries = _queries(role_targets(text, role, is_causal=is_causal, places=places))
    answers = text.tokens.roll(-1, dims=1) if is_causal else text.tokens
    classes = _CLASSES[_DECIDED[role]]
    members = nn.functional.one_hot(classes + 1)[:, 1:].to(torch.float64)
    mass = logits.cpu()[queries].double().softmax(-1) @ members
    return float((mass.argmax(-1) == classes[answers[queries]]).double().mean())


# One word, two senses


class SensePairs(NamedTuple):
    """Sentences that differ in one word: ``tokens``, ``(C, 6, N)``, and ``place``, ``(C,)``.

    Each of C contexts comes with all six clues in turn, first the three of one sense; the word
    ``bank`` stands at `place` in all of them.
    """

    tokens: Tensor
    place: Tensor


def sense_pairs(text: Text, *, clue: str) -> SensePairs:
    """Take the sentences with ``bank`` and put each of the six clues into each.

    The object of the sentence, which would give the sense away, is hidden by the mask token.

    Parameters
    ----------
    text
        Where the contexts come from; sequences without such a sentence are left out, of several in
        one sequence the first is taken.
    clue
        ``"left"`` or ``"right"``: on which side of the word the clue stands.

    Returns
    -------
    SensePairs

    Raises
    ------
    TypeError, ValueError
        For another side, something that is no text, or if no sequence has such a sentence.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import decode, sample_text, sense_pairs
    >>> text = sample_text(1, length=6, generator=torch.Generator().manual_seed(5))
    >>> pairs = sense_pairs(text, clue="left")
    >>> [decode(tokens) for tokens in pairs.tokens[0, 2:4]]
    ['. swim often bank [mask] .', '. coin often bank [mask] .']
    """
    if clue not in ("left", "right"):
        raise ValueError(f"clue must be 'left' or 'right', got {clue!r}")
    N = _sampled(text).tokens.shape[1]
    together = text.sentences[:, :, None] == text.sentences[:, None]
    is_clue, is_object = text.kinds == Kind.CLUE, text.kinds == Kind.OBJECT
    before = torch.ones(N, N, dtype=torch.bool).tril(-1)
    fits = together & is_clue[:, None] & (before if clue == "left" else before.mT)
    found = (text.kinds == Kind.BANK) & fits.any(-1)
    kept = found.any(-1)
    if not bool(kept.any()):
        raise ValueError(f"text must hold a sentence with a clue to the {clue} of 'bank'")
    place = found[kept].int().argmax(-1)
    row = torch.arange(len(place))
    sentence = together[kept][row, place]
    tokens = text.tokens[kept].masked_fill(sentence & is_object[kept], MASK)
    clue_at = (sentence & is_clue[kept]).int().argmax(-1)
    variants = tokens[:, None].repeat(1, CLUES.numel(), 1)
    variants[row, :, clue_at] = CLUES.flatten()
    return SensePairs(variants, place)


def sense_separation(vectors: Tensor) -> Tensor:
    """How much farther apart a word's vectors are between senses than within one.

    The mean distance between vectors of different senses, over the mean distance between vectors of
    the same sense that differ in the clue; both in the same context. 1 if the sense does not
    matter, and not a number where all vectors are equal.

    Parameters
    ----------
    vectors
        ``(..., C, 6, d)``, in the order of :class:`SensePairs`.

    Returns
    -------
    Tensor
        ``(...)``, in the dtype of `vectors`.

    Raises
    ------
    TypeError, ValueError
        For another shape or dtype, or vectors that are not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import sense_separation
    >>> corners = torch.eye(6)
    >>> sense_separation(corners[None])
    tensor(1.0000)
    """
    _six(vectors)
    wide = widened(vectors)
    apart = (wide.unsqueeze(-2) - wide.unsqueeze(-3)).norm(dim=-1)
    sense = torch.arange(6) // 3
    same = (sense[:, None] == sense) & ~torch.eye(6, dtype=torch.bool)
    between = apart[..., sense[:, None] != sense].mean(dim=(-2, -1))
    within = apart[..., same].mean(dim=(-2, -1))
    separation: Tensor = (between / within).to(vectors.dtype)
    return separation


def sense_accuracy(vectors: Tensor) -> Tensor:
    """How well a sense is told by vectors with clues that were never shown.

    The vectors of the first half of the contexts, with two of the three clues of each sense, give
    one centre for each sense. Those of the other half, with the third clue, count as right if the
    centre of their own sense is nearer, and as half right if both are as near. Each clue is the
    third one in turn.

    Parameters
    ----------
    vectors
        ``(..., C, 6, d)`` with C at least 2, in the order of :class:`SensePairs`.

    Returns
    -------
    Tensor
        ``(...)``, a share, in float64; guessing gives 1/2.

    Raises
    ------
    TypeError, ValueError
        For another shape or dtype, vectors that are not finite, or a single context.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import sense_accuracy
    >>> sense_accuracy(torch.zeros(2, 6, 3))
    tensor(0.5000, dtype=torch.float64)
    """
    C = _six(vectors).shape[-3]
    if C < 2:
        raise ValueError(f"vectors must be of at least two contexts, got {shape_of(vectors)}")
    by_sense = vectors.double().reshape(*vectors.shape[:-2], 2, 3, vectors.shape[-1])
    known, asked = by_sense[..., : C // 2, :, :, :], by_sense[..., C // 2 :, :, :, :]
    shares = []
    for third in range(3):
        others = [number for number in range(3) if number != third]
        centres = known[..., others, :].mean(dim=(-4, -2))
        gaps = asked[..., third, :].unsqueeze(-2) - centres.unsqueeze(-3).unsqueeze(-4)
        distances = gaps.norm(dim=-1)
        own = distances.diagonal(dim1=-2, dim2=-1)
        other = distances.flip(-1).diagonal(dim1=-2, dim2=-1)
        right = (own < other).double() + (own == other).double() / 2
        shares.append(right.mean(dim=(-2, -1)))
    return torch.stack(shares).mean(0)


def _six(vectors: object) -> Tensor:
    checked = floating("vectors", vectors, at_least=3)
    if checked.shape[-2] != 6 or checked.numel() == 0:
        raise ValueError(f"vectors must be (..., C, 6, d) and not empty, got {shape_of(checked)}")
    finite("vectors", checked)
    return checked


# Attention at the start, and the gradient that changes it


def near_uniform_entropy(deviation: Tensor, *, keys: int) -> Tensor:
    r"""Mean entropy of attention weights whose scores hardly differ.

    For N independent scores of standard deviation :math:`\tau`, to second order, it is
    :math:`\log N - \tau^2 (1 - 1/N) / 2`.

    Parameters
    ----------
    deviation
        The standard deviation of the scores; any shape.
    keys
        Their number N, at least 1.

    Returns
    -------
    Tensor
        In nats, in the shape and dtype of `deviation`.

    Raises
    ------
    TypeError, ValueError
        If `deviation` is no floating-point tensor, negative or not finite, or `keys` is out of
        range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import near_uniform_entropy
    >>> near_uniform_entropy(torch.tensor(0.0), keys=8).exp()
    tensor(8.)
    """
    deviation = floating("deviation", deviation, at_least=0)
    N = integer("keys", keys, at_least=1)
    finite("deviation", deviation)
    if values_are_checked() and bool((deviation < 0).any()):
        raise ValueError("deviation must be at least 0, but some of it is negative")
    return math.log(N) - deviation.square() * (1 - 1 / N) / 2


def untrained_maps(
    words: Tensor,
    *,
    draws: int,
    generator: torch.Generator,
    deviation: float | None = None,
    width: int = 64,
    key_size: int = 16,
    place_size: float = 1.0,
    is_causal: bool = True,
) -> Tensor:
    """Attention maps of many untrained first layers, each with embeddings and maps of its own.

    In each draw every word and every place gets a standard normal vector; their sum is normed to
    mean 0 and variance 1; queries and keys are linear in it, with independent normal coefficients.

    Parameters
    ----------
    words
        ``(N,)``, integers: equal ones stand for the same word.
    draws
        How many layers.
    generator
        Where the random numbers come from, on the CPU.
    deviation
        Standard deviation of the coefficients; one over the root of `width` if not given.
    width, key_size
        Length of the embeddings, and of queries and keys.
    place_size
        What the places' vectors are multiplied by; 0 leaves them out.
    is_causal
        Whether a query sees only itself and what came before.

    Returns
    -------
    Tensor
        ``(draws, N, N)``, float32.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, no generator, or `words` that are no integers.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import untrained_maps
    >>> maps = untrained_maps(torch.arange(3), draws=5, generator=torch.Generator().manual_seed(0))
    >>> maps.shape
    torch.Size([5, 3, 3])
    """
    if not isinstance(words, Tensor) or words.dtype != torch.int64:
        raise TypeError(f"words must be a tensor of int64 words, got {_described(words)}")
    if words.dim() != 1 or words.numel() == 0:
        raise ValueError(f"words must be (N,) and not empty, got {shape_of(words)}")
    draws = integer("draws", draws, at_least=1)
    random_generator("generator", generator)
    d, D = integer("width", width, at_least=2), integer("key_size", key_size, at_least=1)
    size = d**-0.5 if deviation is None else positive("deviation", deviation)
    if place_size != 0:
        positive("place_size", place_size)
    _, which = torch.unique(words.cpu(), return_inverse=True)
    drawn = torch.randn(draws, int(which.max()) + 1, d, generator=generator)[:, which]
    places = torch.randn(draws, len(words), d, generator=generator)
    x = nn.functional.layer_norm(drawn + place_size * places, (d,), eps=0.0)
    q, k = (x @ (size * torch.randn(draws, d, D, generator=generator)) for _ in range(2))
    return attention_weights(q, k, is_causal=is_causal)


def score_gradient(weights: Tensor, upstream: Tensor) -> Tensor:
    r"""Gradient with respect to scores, given that with respect to their softmax.

    :math:`w_j (g_j - \sum_i w_i g_i)`: a score is raised where its key is better than the average
    that attention takes anyway.

    Parameters
    ----------
    weights
        ``(..., N)``, rows that add up to one.
    upstream
        The loss's gradient g with respect to them, of the same shape and dtype.

    Returns
    -------
    Tensor
        The shape and dtype of `weights`; each row adds up to zero.

    Raises
    ------
    TypeError, ValueError
        For shapes, dtypes or devices that differ, or numbers that are not finite.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import score_gradient
    >>> score_gradient(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
    tensor([ 0.2500, -0.2500])
    """
    floating("weights", weights)
    same_kind(weights=weights, upstream=floating("upstream", upstream))
    if upstream.shape != weights.shape:
        raise ValueError(
            f"upstream must have the shape of weights, {shape_of(weights)}, "
            f"got {shape_of(upstream)}"
        )
    finite("weights", weights)
    finite("upstream", upstream)
    w, g = widened(weights), widened(upstream)
    return (w * (g - (w * g).sum(-1, keepdim=True))).to(weights.dtype)


def score_gradients(
    model: LanguageModel, inputs: Tensor, answers: Tensor, *, counted: Tensor
) -> Tensor:
    """The loss's gradient with respect to every score of every head.

    Parameters
    ----------
    model
        Whose scores.
    inputs, answers
        ``(B, N)``: what it is shown, and the word that is right at each place.
    counted
        ``(B, N)``, boolean: where the answer counts. The loss is the sum of the cross-entropies, so
        that each place's gradient does not depend on how many count.

    Returns
    -------
    Tensor
        ``(L, B, H, N, N)``; 0 at keys that are not seen. Where it is negative, a higher score would
        lower the loss.

    Raises
    ------
    TypeError, ValueError
        For shapes that do not fit, or nothing that counts.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.attention_maps import LanguageModel, encode, score_gradients
    >>> model = LanguageModel(is_causal=True, generator=torch.Generator().manual_seed(0))
    >>> tokens = encode(". dog saw itself")[None]
    >>> last = torch.tensor([[False, False, True]])
    >>> score_gradients(model, tokens[:, :-1], tokens[:, 1:], counted=last).shape
    torch.Size([2, 1, 4, 3, 3])
    """
    _language_model(model)
    _token_rows("inputs", inputs)
    _token_rows("answers", answers)
    if answers.shape != inputs.shape:
        raise ValueError(f"answers must be {shape_of(inputs)}, got {shape_of(answers)}")
    if not isinstance(counted, Tensor) or counted.dtype != torch.bool:
        raise TypeError("counted must be a boolean tensor")
    if counted.shape != inputs.shape or not bool(counted.any()):
        raise ValueError(f"counted must be {shape_of(inputs)} and not all False")
    B, N = inputs.shape
    shape = (len(model.layers), B, model.num_heads, N, N)
    offsets = torch.zeros(shape, dtype=model.words.dtype, device=inputs.device, requires_grad=True)
    with torch.enable_grad():
        logits = model(inputs, offsets=offsets)
        loss = nn.functional.cross_entropy(logits[counted], answers[counted], reduction="sum")
        (gradient,) = torch.autograd.grad(loss, offsets)
    return gradient


# The real thing


class PretrainedMaps(NamedTuple):
    """What a checkpoint does with one text.

    ``tokens`` are the N pieces that its tokenizer makes; ``maps``, ``(L, H, N, N)``, the attention
    weights; ``states``, ``(L + 1, N, d_model)``, the vectors before the first layer and after each
    (in GPT-2 the last ones are normed); ``is_causal``, whether a piece sees only what came before.
    """

    tokens: tuple[str, ...]
    maps: Tensor
    states: Tensor
    is_causal: bool


_FAMILIES: Mapping[str, bool] = {"bert": False, "gpt2": True}


def pretrained_attention(
    name_or_path: str | os.PathLike[str],
    text: str,
    *,
    local_files_only: bool = False,
    untrained: torch.Generator | None = None,
) -> PretrainedMaps:
    """Attention maps of a checkpoint of the GPT-2 or the BERT family (hw9 5).

    Needs the extra ``pretrained``, which is the library transformers.

    Parameters
    ----------
    name_or_path
        A name on the Hugging Face hub, such as ``"gpt2"`` or ``"bert-base-uncased"``, or a folder
        with a checkpoint and its tokenizer.
    text
        What the model reads; its tokenizer adds what it always adds, such as ``[CLS]``.
    local_files_only
        Take nothing from the network: a name then means what was fetched before.
    untrained
        Draw new parameters with this generator, from the law that the family starts with, and load
        only the tokenizer and the sizes.

    Returns
    -------
    PretrainedMaps
        In float32, without gradients.

    Raises
    ------
    ImportError
        Without the library.
    FileNotFoundError
        If there is no such checkpoint, or a part of it is missing.
    TypeError, ValueError
        For a checkpoint of another family, or a text that gives no piece or too many.
    """
    if not isinstance(name_or_path, str | os.PathLike) or not str(name_or_path):
        raise TypeError(f"name_or_path must be a name or a folder, got {name_or_path!r}")
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    flag("local_files_only", local_files_only)
    if untrained is not None:
        random_generator("untrained", untrained)
    library = _transformers()
    with _bars_on_terminals_only(library):
        config, tokenizer, model = _checkpoint(
            library, _existing(name_or_path), local_files_only, untrained
        )
    pieces = tokenizer(text, return_tensors="pt")["input_ids"]
    longest = config.max_position_embeddings
    if not 1 <= pieces.shape[1] <= longest:
        raise ValueError(f"text must give 1 to {longest} pieces, got {pieces.shape[1]}")
    with torch.no_grad():
        found = model.eval()(pieces.long(), output_attentions=True, output_hidden_states=True)
    return PretrainedMaps(
        tuple(tokenizer.convert_ids_to_tokens(pieces[0].tolist())),
        torch.stack([layer[0] for layer in found.attentions]),
        torch.stack([layer[0] for layer in found.hidden_states]),
        _FAMILIES[config.model_type],
    )


def save_as_gpt2(model: LanguageModel, folder: str | os.PathLike[str]) -> None:
    """Save a causal model as a checkpoint of the GPT-2 family, with a tokenizer of whole words.

    The model has GPT-2's architecture, so that nothing changes but names. (The map to logits stays
    behind: in GPT-2 it is the table of words once more.) Needs the extra ``pretrained``.

    Parameters
    ----------
    model
        A causal one.
    folder
        Where to; made if it is not there.

    Raises
    ------
    ImportError
        Without the library.
    TypeError, ValueError
        For something that is no causal :class:`LanguageModel`.
    """
    _language_model(model)
    if not model.is_causal:
        raise ValueError("model must be causal, as GPT-2 is")
    library = _transformers()
    config = library.GPT2Config(
        vocab_size=len(WORDS),
        n_positions=model.length,
        n_embd=model.d_model,
        n_layer=len(model.layers),
        n_head=model.num_heads,
        n_inner=model.hidden,
        activation_function="gelu",
        bos_token_id=SEPARATOR,
        eos_token_id=SEPARATOR,
    )
    twin = library.GPT2Model(config)
    twin.load_state_dict(_gpt2_state(model))
    with _bars_on_terminals_only(library):
        twin.save_pretrained(folder)
        _word_tokenizer(library).save_pretrained(folder)


def _gpt2_state(model: LanguageModel) -> dict[str, Tensor]:
    """The parameters under GPT-2's names; its linear maps are stored the other way round."""
    state: dict[str, Tensor] = {"wte.weight": model.words, "wpe.weight": model.places}

    def norm(name: str, part: nn.LayerNorm) -> None:
        state.update({f"{name}.weight": part.weight, f"{name}.bias": part.bias})

    def linear(name: str, *parts: nn.Linear) -> None:
        state[f"{name}.weight"] = torch.cat([part.weight for part in parts]).T
        state[f"{name}.bias"] = torch.cat([part.bias for part in parts])

    for number, layer in enumerate(model.layers):
        assert isinstance(layer, _Layer)
        at, attention = f"h.{number}", layer.attention
        norm(f"{at}.ln_1", layer.attention_norm)
        norm(f"{at}.ln_2", layer.hidden_norm)
        linear(f"{at}.attn.c_attn", attention.q_proj, attention.k_proj, attention.v_proj)
        linear(f"{at}.attn.c_proj", attention.out_proj)
        linear(f"{at}.mlp.c_fc", layer.up)
        linear(f"{at}.mlp.c_proj", layer.down)
    norm("ln_f", model.norm)
    return {name: value.detach().contiguous() for name, value in state.items()}


def _word_tokenizer(library: Any) -> Any:
    """A tokenizer whose pieces are the language's words, set apart by blanks."""
    tokenizers = importlib.import_module("tokenizers")
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(dict(_TOKEN), unk_token="[mask]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return library.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[mask]")


def _transformers() -> Any:
    """The library transformers, or an error that says how to get it."""
    try:
        with warnings.catch_warnings():
            # In a notebook without widgets tqdm warns; its bars are not drawn there anyway.
            warnings.filterwarnings("ignore", message="IProgress not found")
            return importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError(
            "pretrained checkpoints need the library transformers: pip install "
            "'dlchecked[pretrained]'"
        ) from error


def _checkpoint(
    library: Any, where: str, local_files_only: bool, untrained: torch.Generator | None
) -> tuple[Any, Any, Any]:
    """Configuration, tokenizer and model, loaded or with new parameters."""
    options = {"local_files_only": local_files_only}
    config = _loaded(library.AutoConfig, where, options)
    if config.model_type not in _FAMILIES:
        raise ValueError(
            f"name_or_path must be of one of the families {sorted(_FAMILIES)}, "
            f"got {config.model_type!r}"
        )
    tokenizer = _loaded(library.AutoTokenizer, where, options)
    # Faster kinds of attention never hold the weights, and so cannot return them.
    wanted = {"attn_implementation": "eager", "dtype": torch.float32}
    if untrained is None:
        return config, tokenizer, _loaded(library.AutoModel, where, {**options, **wanted})
    with torch.random.fork_rng(devices=[]):
        seed = torch.randint(2**62, (), generator=untrained, device=untrained.device)
        torch.manual_seed(int(seed))
        return config, tokenizer, library.AutoModel.from_config(config, **wanted)


@contextmanager
def _bars_on_terminals_only(library: Any) -> Iterator[None]:
    """Hide the library's progress bars where standard error is no terminal."""
    bars = library.utils.logging
    hide = bars.is_progress_bar_enabled() and not sys.stderr.isatty()
    if hide:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            bars.enable_progress_bar()


def _existing(name_or_path: str | os.PathLike[str]) -> str:
    """A folder that is there, or a name; what can only be a folder must be one."""
    text = os.fspath(name_or_path)
    # A name on the hub is one or two words joined by a slash.
    meant = not isinstance(name_or_path, str) or text.startswith((".", "/", "~"))
    folder = Path(text).expanduser()
    if folder.is_dir():
        return str(folder)
    if meant or text.count("/") > 1:
        raise FileNotFoundError(f"name_or_path: there is no folder {text}")
    return text


def _loaded(kind: Any, where: str, options: dict[str, Any]) -> Any:
    """Load a part of a checkpoint; what is missing becomes one clear error."""
    try:
        return kind.from_pretrained(where, **options)
    except (OSError, ValueError) as error:
        part = kind.__name__.removeprefix("Auto").lower()
        fetched = options["local_files_only"] and not Path(where).is_dir()
        hint = " among the files fetched before" if fetched else ""
        raise FileNotFoundError(
            f"name_or_path: no usable {part} of {where!r} was found{hint}: {error}"
        ) from error


# The door


def _language_model(value: object) -> None:
    if not isinstance(value, LanguageModel):
        raise TypeError(f"model must be a LanguageModel, got {type(value).__name__}")


def _sampled(value: object) -> Text:
    if not isinstance(value, Text):
        raise TypeError(f"text must come from sample_text, got {type(value).__name__}")
    return value


def _maps(value: object) -> Tensor:
    """Finite maps ``(L, B, H, N, N)``."""
    maps = floating("maps", value, exactly=5)
    if maps.shape[-1] != maps.shape[-2] or maps.numel() == 0:
        raise ValueError(f"maps must be square and not empty, got {shape_of(maps)}")
    finite("maps", maps)
    return maps


def _token_rows(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype != torch.int64:
        raise TypeError(f"{name} must be a tensor of int64 tokens, got {_described(value)}")
    if value.dim() not in (1, 2) or value.numel() == 0:
        raise ValueError(f"{name} must be (N,) or (B, N) and not empty, got {shape_of(value)}")
    if values_are_checked() and not bool(((value >= 0) & (value < len(WORDS))).all()):
        raise ValueError(f"{name} must be tokens from 0 to {len(WORDS) - 1}")
    return value


def _described(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__

"""The ledger: checks that judge a claim and wrong versions of it with one and the same callable.

A check that has never been seen to fail proves nothing. So every check here takes, beside the right
version of a claim, at least one wrong version: the forgotten factor, the inverted variance, the
misprint. It raises :class:`ClaimError` unless the right version passes *and* every wrong one is
rejected, and returns a :class:`Verdict` that shows itself when it is the last expression of a cell.

=========  ============================================  ======================================
check      what it judges                                by what
=========  ============================================  ======================================
`prove`    identities, order relations, limits           algebra and numbers, both
`count`    exact integers                                equality
`agree`    two computations                              a stated tolerance
`observe`  a behaviour                                   your own callable
`measure`  an estimate                                   its interval at a stated level
`refute`   a printed statement and what corrects it      your own callable at a counterexample
`quote`    a figure from elsewhere                       nothing, and it says so
`record`   a figure of ours from a committed file        nothing, and it says so
=========  ============================================  ======================================

The arguments that most checks share:

``wrong``
    Label -> wrong version, at least one. Each takes the place of one argument that its check names
    and must be rejected; one that cannot be judged at all (it raises, its shape differs) is not.
``sizes``
    Name -> a number or several. Versions may be functions of them and are called at every
    combination with those that their signature names; where nothing is a function they are only
    recorded. The right version must pass at all of them, a wrong one must fail at one. Zeros and
    ones are refused: wrong versions often hold there.
``also_at``
    Further, degenerate sizes, at which only the right version is judged: ``[{"D": 1}]``.

Two environment variables matter. ``DLCHECKED_SEED`` (an integer, 0 if unset) is the base seed of
every random number drawn here. ``DLCHECKED_ON_FAILURE=report`` lets a failing check return its
failing verdict instead of raising it; that is for counting how often a measured claim fails over
many seeds, and for nothing else.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import html
import inspect
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import sympy as sp
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from dlchecked import proving

__all__ = [
    "ClaimError",
    "Estimate",
    "Rejection",
    "Verdict",
    "agree",
    "base_seed",
    "count",
    "equal",
    "generator",
    "mean_of",
    "measure",
    "observe",
    "prove",
    "quote",
    "raises",
    "record",
    "refute",
    "share_of",
    "slope_of",
    "variance_of",
]

MIME_TYPE = "application/vnd.dlchecked.verdict+json"

_PAST_TENSE = {
    "prove": "proved",
    "count": "counted",
    "agree": "agreed",
    "observe": "observed",
    "measure": "measured",
    "refute": "refuted",
    "quote": "quoted",
    "record": "recorded",
}

Size = int | float | Fraction
Sizes = Mapping[str, Size | Sequence[Size]]
_NO_SIZES: Sizes = MappingProxyType({})


# Verdicts


@dataclass(frozen=True)
class Rejection:
    """What became of one wrong version: its label, whether it was rejected, and what was found."""

    label: str
    rejected: bool
    finding: str


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check. Shown by being the last expression of a cell.

    Attributes
    ----------
    id, kind
        The claim's id and the check's name, such as ``"prove"``.
    holds
        Whether the right version passed and every wrong one was rejected. A verdict that a check
        *returned* holds, unless ``DLCHECKED_ON_FAILURE=report`` is set.
    summary
        One plain line on the right version.
    wrong
        The wrong versions, in the order they were given.
    sizes, also_at
        The sizes the check ran with, and the degenerate ones at which only the right version was
        judged.
    seed
        The base seed, if random numbers were drawn for the check.
    detail
        What the kind of check adds, such as the number of samples; plain JSON values only.
    """

    id: str
    kind: str
    holds: bool
    summary: str
    wrong: tuple[Rejection, ...] = ()
    sizes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    also_at: tuple[dict[str, int | str], ...] = ()
    seed: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.holds

    @property
    def value(self) -> Any:
        """The value that `quote` or `record` entered."""
        if "value" not in self.detail:
            raise AttributeError(f"a verdict of {self.kind} has no value")
        return self.detail["value"]

    @property
    def word(self) -> str:
        """The kind in the past tense, as it is shown (``proved``, ``counted`` and so on)."""
        return _PAST_TENSE[self.kind] if self.holds else f"not {_PAST_TENSE[self.kind]}"

    def payload(self) -> dict[str, Any]:
        """Everything as plain JSON values; numbers that are not finite become strings."""
        content = {
            "id": self.id,
            "kind": self.kind,
            "word": self.word,
            "holds": self.holds,
            "summary": self.summary,
            "wrong": [
                {"label": r.label, "rejected": r.rejected, "finding": r.finding} for r in self.wrong
            ],
            "sizes": self.sizes,
            "also_at": self.also_at,
            "seed": self.seed,
            "detail": self.detail,
        }
        plain = _plain(content)
        assert isinstance(plain, dict)
        return plain

    def __str__(self) -> str:
        mark = "✓" if self.holds else "✗"
        head = f"{mark} {self.word} {self.id}{self._sizes_text()}"
        lines = [head, *(f"  {line}" for line in self.summary.splitlines())]
        lines += [f"  {_rejection_text(rejection)}" for rejection in self.wrong]
        return "\n".join(lines)

    __repr__ = __str__

    def _sizes_text(self) -> str:
        if not self.sizes:
            return ""
        shown = [f"{name} = {', '.join(map(str, at))}" for name, at in self.sizes.items()]
        also = [", ".join(f"{k} = {v}" for k, v in at.items()) for at in self.also_at]
        return f" ({'; '.join(shown)}{'; also at ' if also else ''}{'; '.join(also)})"

    def _html(self) -> str:
        """A slim badge: plain elements, every text escaped, no ids, no styles of its own."""
        mark = "✓" if self.holds else "✗"
        rows = "".join(
            '<li><span class="dlc-verdict__rejected">'
            f"{'rejected' if r.rejected else 'not rejected'}</span> "
            f'<span class="dlc-verdict__label">{html.escape(r.label)}</span>: '
            f'<span class="dlc-verdict__finding">{html.escape(r.finding)}</span></li>'
            for r in self.wrong
        )
        wrong = f'<ul class="dlc-verdict__wrong">{rows}</ul>' if rows else ""
        failed = "" if self.holds else " dlc-verdict--failed"
        return (
            f'<div class="dlc-verdict dlc-verdict--{html.escape(self.kind)}{failed}">'
            f'<p class="dlc-verdict__head"><span aria-hidden="true">{mark}</span> '
            f'<span class="dlc-verdict__word">{html.escape(self.word)}</span> '
            f'<code class="dlc-verdict__id">{html.escape(self.id)}</code>'
            f"{html.escape(self._sizes_text())}</p>"
            f'<p class="dlc-verdict__summary">{html.escape(self.summary)}</p>{wrong}</div>'
        )

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, dict[str, Any] | str]:
        return {MIME_TYPE: self.payload(), "text/html": self._html(), "text/plain": str(self)}


def _rejection_text(rejection: Rejection) -> str:
    word = "rejected" if rejection.rejected else "NOT rejected"
    return f'✗ {word} "{rejection.label}": {rejection.finding}'


class ClaimError(AssertionError):
    """A check failed: the right version did not pass, or a wrong one was not rejected.

    Attributes
    ----------
    verdict
        The failing verdict, with what was found on every version.
    """

    def __init__(self, message: str, verdict: Verdict | None = None) -> None:
        super().__init__(message)
        self.verdict = verdict


def _plain(value: object) -> Any:
    """The JSON-able form of a value; numbers that are not finite become strings."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, sp.Basic | Fraction):
        return str(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Tensor | np.ndarray):
        return _plain(value.tolist())
    return str(value)


# Seeds

_drawn = False


def base_seed() -> int:
    """The base seed of every random number drawn here: ``DLCHECKED_SEED``, or 0.

    Raises
    ------
    ValueError
        If the variable holds something that is no integer.
    """
    text = os.environ.get("DLCHECKED_SEED", "0")
    if not re.fullmatch(r"-?[0-9]+", text.strip()):
        raise ValueError(f"DLCHECKED_SEED must be an integer, got {text!r}")
    return int(text)


def generator(k: int | str, *, device: str | torch.device = "cpu") -> torch.Generator:
    """A random generator whose stream depends on the base seed and `k`, and on nothing else.

    Parameters
    ----------
    k
        A number or a name for the stream. The same `k` gives the same stream again; different ones
        give independent streams. ``1`` and ``"1"`` are different.
    device
        Where the generator lives.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.ledger import generator
    >>> first = torch.rand(3, generator=generator("keys"))
    >>> bool((first == torch.rand(3, generator=generator("keys"))).all())
    True
    """
    if isinstance(k, bool) or not isinstance(k, int | str):
        raise TypeError(f"k must be an int or a str, got {type(k).__name__}")
    global _drawn
    _drawn = True
    digest = hashlib.sha256(f"{base_seed()}/{type(k).__name__}/{k}".encode()).digest()
    stream = torch.Generator(device=device)
    stream.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return stream


def _take_seed(*, always: bool = False) -> int | None:
    """The base seed, if it mattered for this verdict; then forget that it did."""
    global _drawn
    drawn, _drawn = _drawn, False
    return base_seed() if drawn or always else None


# The door: ids, labels and sizes


def _check_id(claim: object) -> str:
    if not isinstance(claim, str):
        raise TypeError(f"id must be a str, got {type(claim).__name__}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", claim):
        raise ValueError(
            f"id must be two or more lower-case words joined by hyphens, such as "
            f"'gaussian-split', got {claim!r}"
        )
    return claim


def _check_wrong(wrong: object) -> dict[str, Any]:
    if not isinstance(wrong, Mapping):
        raise TypeError(
            f"wrong must be a mapping of labels to versions, got {type(wrong).__name__}"
        )
    if not wrong:
        raise ValueError("wrong must hold at least one wrong version: a check must be seen to fail")
    for label in wrong:
        _check_text("wrong", "a label", label)
    return dict(wrong)


def _check_text(name: str, what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: {what} must be a str, got {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{name}: {what} must not be empty")
    return value


def _check_size(name: str, value: object) -> Size:
    if isinstance(value, Integral) and not isinstance(value, bool):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise TypeError(f"sizes: {name} must be a number, got {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"sizes: {name} must be positive and finite, got {value}")
    if value in (0, 1):
        raise ValueError(
            f"sizes: {name} = {value} is degenerate: wrong versions often hold there; name it in "
            "also_at, where only the right version is judged"
        )
    return value


def _check_sizes(sizes: object) -> dict[str, tuple[Size, ...]]:
    if not isinstance(sizes, Mapping):
        raise TypeError(f"sizes must be a mapping of names to numbers, got {type(sizes).__name__}")
    checked: dict[str, tuple[Size, ...]] = {}
    for name, value in sizes.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"sizes must be named like arguments, got {name!r}")
        if isinstance(value, str) or not isinstance(value, Sequence):
            value = (value,)
        if not value:
            raise ValueError(f"sizes: {name} must name at least one size")
        checked[name] = tuple(_check_size(name, entry) for entry in value)
        if len(set(checked[name])) < len(checked[name]):
            raise ValueError(f"sizes: {name} names a size twice: {checked[name]}")
    return checked


def _check_also_at(also_at: object, sizes: Mapping[str, object]) -> list[dict[str, Size]]:
    if isinstance(also_at, Mapping) or not isinstance(also_at, Sequence):
        raise TypeError(f"also_at must be a sequence of mappings, got {type(also_at).__name__}")
    for point in also_at:
        if not isinstance(point, Mapping) or set(point) != set(sizes):
            raise ValueError(
                f"also_at: each entry must give a size to each of {sorted(sizes)}, got {point!r}"
            )
        for name, value in point.items():
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"also_at: {name} must be a number, got {value!r}")
    return [dict(point) for point in also_at]


def _is_callable(version: object) -> bool:
    """Whether a version is a function of the sizes. (A SymPy symbol can be called; it is none.)"""
    return callable(version) and not isinstance(version, sp.Basic | Tensor)


def _wanted_by(version: Callable[..., object]) -> tuple[set[str], set[str], bool]:
    """The argument names a callable needs, those it takes, and whether it takes any others."""
    try:
        parameters = inspect.signature(version).parameters.values()
    except (TypeError, ValueError):
        return set(), set(), True
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = {p.name for p in named if p.default is p.empty}
    return needed, {p.name for p in named}, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _value_at(version: Any, at: Mapping[str, Size]) -> Any:
    """A version's value at some sizes: the version itself, or what it returns."""
    if not _is_callable(version):
        return version
    _, taken, any_name = _wanted_by(version)
    return version(**{name: value for name, value in at.items() if any_name or name in taken})


def _check_callables(
    versions: Sequence[Any], sizes: dict[str, tuple[Size, ...]], extra: set[str], also_at: object
) -> None:
    """Every size must be taken by some version; none may ask for one that is not there."""
    callables = [version for version in versions if _is_callable(version)]
    taken, anything = set(extra), False
    for version in callables:
        needed, names, any_name = _wanted_by(version)
        if not needed <= set(sizes):
            raise ValueError(
                f"sizes: a version asks for {sorted(needed - set(sizes))}, "
                f"sizes names {sorted(sizes)}"
            )
        taken |= names
        anything = anything or any_name
    idle = [name for name, at in sizes.items() if len(at) > 1 and name not in taken]
    if idle and not anything:
        raise ValueError(
            f"sizes: several sizes are given for {', '.join(idle)}, but no version takes it"
        )
    if also_at and not callables and not extra:
        raise ValueError("also_at needs versions that are functions of the sizes")


# Judging: one callable, the right version and the wrong ones


@dataclass(frozen=True)
class _Finding:
    """What came of one version at one choice of sizes; ``outcome`` None is undecided."""

    outcome: bool | None
    text: str
    detail: dict[str, Any] = field(default_factory=dict)
    cause: BaseException | None = None


def _at_text(at: Mapping[str, Size]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in at.items())


def _attempt(
    work: Callable[..., Any], *arguments: Any, **named: Any
) -> tuple[Any, _Finding | None]:
    """Run something of the author's; an exception becomes an undecided finding."""
    try:
        return work(*arguments, **named), None
    except Exception as problem:  # whatever it is, nothing has been judged
        text = f"raised {type(problem).__name__}: {proving.show(problem, longest=120)}"
        return None, _Finding(None, text, cause=problem)


def _merge_right(findings: Sequence[_Finding], points: Sequence[Mapping[str, Size]]) -> _Finding:
    """The right version passes if it passes everywhere."""
    for wanted in (False, None):
        for found, at in zip(findings, points, strict=True):
            if found.outcome is wanted:
                where = f"at {_at_text(at)}: " if at else ""
                return _Finding(wanted, where + found.text, found.detail, found.cause)
    first = findings[0]
    if len({found.text for found in findings}) == 1:
        return first
    text = f"at {_at_text(points[0])}: {first.text}; likewise at the other {len(points) - 1} sizes"
    return _Finding(True, text.replace("other 1 sizes", "other size"), first.detail)


def _merge_wrong(findings: Sequence[_Finding], points: Sequence[Mapping[str, Size]]) -> _Finding:
    """A wrong version is rejected if it fails somewhere; where it passed is said as well."""
    passed = [at for found, at in zip(findings, points, strict=True) if found.outcome is True]
    for found, at in zip(findings, points, strict=True):
        if found.outcome is False:
            where = f"at {_at_text(at)}: " if at else ""
            also = f" (it passes at {'; '.join(map(_at_text, passed))})" if passed else ""
            return _Finding(False, where + found.text + also, found.detail)
    for found in findings:
        if found.outcome is None:
            return found
    return findings[0]


_Merge = Callable[[Sequence[_Finding], Sequence[Mapping[str, Size]]], _Finding]


def _settle(
    kind: str,
    claim: str,
    judge: Callable[[Any, Mapping[str, Size]], _Finding],
    right: Any,
    wrong: Mapping[str, Any],
    *,
    sizes: Mapping[str, tuple[Size, ...]],
    also_at: Sequence[Mapping[str, Size]] = (),
    swept: bool = True,
    merge: _Merge = _merge_right,
    hint: str = "",
    seeded: bool = False,
) -> Verdict:
    """Judge all versions by one callable, and return the verdict or raise it."""
    names = list(sizes) if swept else []
    combinations = itertools.product(*(sizes[name] for name in names))
    points = [dict(zip(names, values, strict=True)) for values in combinations]
    everywhere = [*points, *also_at]
    found = merge([judge(right, at) for at in everywhere], everywhere)
    wrong_found = {
        label: _merge_wrong([judge(version, at) for at in points], points)
        for label, version in wrong.items()
    }
    rejections = [Rejection(label, f.outcome is False, f.text) for label, f in wrong_found.items()]
    verdict = Verdict(
        id=claim,
        kind=kind,
        holds=found.outcome is True and all(rejection.rejected for rejection in rejections),
        summary=found.text,
        wrong=tuple(rejections),
        sizes={name: tuple(map(_shown_size, values)) for name, values in sizes.items()},
        also_at=tuple({name: _shown_size(v) for name, v in at.items()} for at in also_at),
        seed=_take_seed(always=seeded),
        detail=_plain(found.detail),
    )
    return verdict if verdict.holds else _fail(verdict, found, wrong_found, hint)


def _shown_size(value: Size) -> int | str:
    return value if isinstance(value, int) else str(value)


def _fail(
    verdict: Verdict,
    found: _Finding,
    wrong_found: Mapping[str, _Finding],
    hint: str,
) -> Verdict:
    """Say how every version was judged, and raise it (or return it, where that was asked for)."""
    words = {True: "passed", False: "failed", None: "could not be judged"}
    lines = [
        f"{verdict.kind}({verdict.id!r}): the check failed",
        f"  right version: {words[found.outcome]}: {found.text}",
    ]
    for label, f in wrong_found.items():
        if f.outcome is True:
            lines.append(
                f'  wrong version "{label}": passed: {f.text}\n'
                f'    the check cannot tell "{label}" from the right version'
            )
        else:
            word = "rejected" if f.outcome is False else "could not be judged"
            lines.append(f'  wrong version "{label}": {word}: {f.text}')
    hint = _hint(found, wrong_found) or hint
    if hint:
        lines.append(f"hint: {hint}")
    message = "\n".join(lines)
    verdict.detail["message"] = message
    if _reports_failures():
        return verdict
    cause = next((f.cause for f in [found, *wrong_found.values()] if f.cause), None)
    raise ClaimError(message, verdict) from cause


def _reports_failures() -> bool:
    """Whether a failing verdict is returned instead of raised."""
    wanted = os.environ.get("DLCHECKED_ON_FAILURE", "raise")
    if wanted not in ("raise", "report"):
        raise ValueError(f"DLCHECKED_ON_FAILURE must be 'raise' or 'report', got {wanted!r}")
    return wanted == "report"


def _hint(found: _Finding, wrong_found: Mapping[str, _Finding]) -> str:
    """The one remedy that is obvious, if there is one."""
    if found.outcome is not True and found.detail.get("undeclared"):
        names = ", ".join(found.detail["undeclared"])
        return f"{names}: not declared real, so complex numbers were put in; declare what you mean"
    if found.outcome is None and found.text.find("not proved") >= 0:
        return "give rewrite= a rewriting that shows it, or for an order a certificate="
    if found.outcome is True and any(f.outcome is True for f in wrong_found.values()):
        return "choose sizes and values at which the wrong version differs, or drop it"
    return ""


# prove


def _check_prove_options(rewrite: object, points: object, digits: object) -> None:
    if rewrite is not None and not callable(rewrite):
        raise TypeError(
            f"rewrite must be a function of an expression, got {type(rewrite).__name__}"
        )
    for name, value, least in (("points", points, 4), ("digits", digits, 20)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int, got {type(value).__name__}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def prove(
    id: str,
    left: Any,
    right: Any,
    *,
    wrong: Mapping[str, Any],
    relation: str = "==",
    sizes: Sizes = _NO_SIZES,
    also_at: Sequence[Mapping[str, Size]] = (),
    certificate: Any = None,
    rewrite: Callable[[sp.Expr], sp.Expr] | None = None,
    points: int = 24,
    digits: int = 50,
) -> Verdict:
    """Prove that ``left (relation) right``, and reject what is put in the place of `right`.

    Parameters
    ----------
    id
        The claim's id.
    left, right
        SymPy expressions or matrices (compared entry by entry), exact numbers, or functions of the
        sizes that return such. One side may be a bare :class:`sympy.Limit`.
    wrong
        Label -> wrong version, each judged in the place of `right`.
    relation
        One of ``==``, ``!=``, ``<=``, ``<``, ``>=``, ``>``. For the last four all symbols must be
        declared real.
    sizes, also_at
        Sizes the functions are called with; see the module's text.
    certificate
        For an order relation: an expression with its sign on its face, such as a sum of squares,
        that equals the larger side minus the smaller one. Its equality is itself proved.
    rewrite
        A hint: a value-preserving rewriting of an expression, applied before the difference is
        reduced. It is not trusted but tested at random points.
    points, digits
        How many random points the numeric leg takes, and to how many digits it compares first.

    Returns
    -------
    Verdict

    Raises
    ------
    ClaimError
        If the right version is not proved or a wrong one is not rejected.
    TypeError, ValueError
        For floats, undefined functions, unknown relations, one name for two symbols, and the like.

    Notes
    -----
    *Guaranteed* when it returns: SymPy reduced the difference to zero (or showed its sign) by
    rewritings that are valid over the declared assumptions, none of them forced; **and** the two
    sides were compared at random exact points that satisfy the assumptions, and at special ones (0,
    1, -1, equal coordinates, the numbers that the statement mentions, for an order the place of the
    smallest gap), exactly where they are rational, else at two precisions, at the first points at
    six up to ``32 * digits``. Neither leg decides alone. Every wrong version was rejected by a
    witness, a point at which the relation is seen to be false.

    *Not guaranteed*: SymPy is trusted to be right where the numbers do not contradict it. Points
    are corroboration, not proof. The statement is claimed *wherever both sides are defined* (and,
    for an order, real): a removable singularity is not looked at. A symbol declared nothing about
    stands for complex numbers. ``!=`` claims that the sides are equal nowhere. Sums to infinity and
    integrals are compared to ten digits at few points, and where SymPy's value of them speaks
    against such a comparison nothing is decided; of a random variable's expectation SymPy's
    own rule is the symbolic leg and the integral the numeric one. A limit is SymPy's, corroborated
    by values on the way; ``Limit(f, x, a)`` is the limit from the right, as in SymPy. After
    `rewrite`, the algebra is as good as that rewriting, which is tested at points and not proved;
    the verdict says so.

    Examples
    --------
    >>> import sympy as sp
    >>> from dlchecked.ledger import prove
    >>> x = sp.Symbol("x", real=True)
    >>> prove("square-expanded", (x + 1) ** 2, x**2 + 2 * x + 1,
    ...       wrong={"the mixed term forgotten": x**2 + 1}).holds
    True
    """
    claim, versions = _check_id(id), _check_wrong(wrong)
    _check_prove_options(rewrite, points, digits)
    checked = _check_sizes(sizes)
    _check_callables([left, right, *versions.values(), certificate], checked, set(), also_at)
    degenerate = _check_also_at(also_at, checked)

    seed = f"{base_seed()}/prove/{claim}"

    def judge(version: Any, at: Mapping[str, Size]) -> _Finding:
        values: list[Any] = []
        for name, given in (("left", left), ("right", version), ("certificate", certificate)):
            value, problem = _attempt(_value_at, given, at)
            if problem is not None:
                return problem
            absent = name == "certificate" and value is None
            values.append(None if absent else proving.exact(name, value))
        a, b, shown = values
        proving.check(a, b, relation=relation, certificate=shown)
        judged, problem = _attempt(
            functools.partial(proving.judge, relation=relation, seed=seed),
            a,
            b,
            certificate=shown,
            rewrite=rewrite,
            points=points,
            digits=digits,
        )
        if problem is not None:
            return problem
        finding = judged.finding
        if judged.outcome is False and version is right:
            # The judgement stands; this only helps to find out what is wrong.
            contradiction, _ = _attempt(proving.contradiction, a, b, relation=relation)
            finding += f"; {contradiction}" if contradiction else ""
        return _Finding(judged.outcome, finding, judged.detail)

    return _settle(
        "prove", claim, judge, right, versions, sizes=checked, also_at=degenerate, seeded=True
    )


def equal(left: Any, right: Any, *, relation: str = "==", **options: Any) -> bool:
    """The judgement of `prove` alone, as a bool: for the callables of `refute` and `observe`.

    Parameters
    ----------
    left, right, relation
        As for `prove`, but no functions of sizes.
    options
        ``certificate``, ``rewrite``, ``points`` and ``digits`` of `prove`.

    Returns
    -------
    bool
        ``True`` if both legs carry the relation, ``False`` if a witness refutes it.

    Raises
    ------
    ClaimError
        If neither is the case.
    """
    a, b = proving.exact("left", left), proving.exact("right", right)
    if options.get("certificate") is not None:
        options["certificate"] = proving.exact("certificate", options["certificate"])
    proving.check(a, b, relation=relation, certificate=options.get("certificate"))
    judged = proving.judge(a, b, relation=relation, seed=f"{base_seed()}/equal", **options)
    if judged.outcome is None:
        raise ClaimError(f"could not be judged: {judged.finding}")
    return judged.outcome


# count


def _whole(name: str, value: Any, at: Mapping[str, Size]) -> int | Fraction:
    if isinstance(value, sp.Expr):
        given = {s: at[s.name] for s in value.free_symbols if s.name in at}
        unknown = sorted(s.name for s in value.free_symbols if s.name not in at)
        if unknown:
            raise ValueError(f"{name} contains {', '.join(unknown)}, which sizes does not name")
        value = value.subs(given).doit()
        if value.is_Rational and not value.is_Integer and name != "counted":
            return Fraction(int(value.p), int(value.q))
    if isinstance(value, bool | float) or not isinstance(value, Integral | sp.Integer):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
    return int(value)


_WRITABLE = 10**60


def _written(number: int | Fraction) -> str:
    """A number's digits; of a very long one (Python writes no more than 4300) what ends it."""
    if isinstance(number, Fraction):
        parts = number.numerator, number.denominator
        return str(number) if max(map(abs, parts)) < _WRITABLE else "/".join(map(_written, parts))
    if abs(number) < _WRITABLE:
        return str(number)
    sign, size = "-" if number < 0 else "", abs(number)
    return f"{sign}(a number of {size.bit_length()} bits that ends in {size % 1000:03})"


def count(
    id: str,
    counted: Any,
    formula: Any,
    *,
    wrong: Mapping[str, Any],
    sizes: Sizes = _NO_SIZES,
    also_at: Sequence[Mapping[str, Size]] = (),
) -> Verdict:
    """Compare an exact count with a formula, as integers.

    Parameters
    ----------
    counted
        What was counted: an int, or a function of the sizes that counts.
    formula
        What is claimed: an int, a SymPy expression in symbols named like the sizes, or a function
        of them.
    wrong
        Label -> wrong version, judged in the place of `formula`.

    Raises
    ------
    ClaimError
        If the numbers differ at some sizes, or a wrong version agrees at all of them.
    TypeError
        For floats, booleans and counts that are not whole.

    Examples
    --------
    >>> import sympy as sp
    >>> from dlchecked.ledger import count
    >>> N = sp.Symbol("N")
    >>> count("pairs-of-keys", lambda N: sum(range(N)), N * (N - 1) / 2,
    ...       wrong={"ordered pairs": N * (N - 1)}, sizes={"N": (2, 5)}).holds
    True
    """
    claim, versions = _check_id(id), _check_wrong(wrong)
    checked = _check_sizes(sizes)
    given = [counted, formula, *versions.values()]
    named = {
        s.name for version in given if isinstance(version, sp.Expr) for s in version.free_symbols
    }
    if (named or any(map(_is_callable, given))) and not checked:
        raise ValueError("sizes are required where a count or a formula depends on them")
    _check_callables(given, checked, named, also_at)
    degenerate = _check_also_at(also_at, checked)

    def judge(version: Any, at: Mapping[str, Size]) -> _Finding:
        numbers = []
        for name, source in (("counted", counted), ("formula", version)):
            value, problem = _attempt(_value_at, source, at)
            if problem is not None:
                return problem
            numbers.append(_whole(name, value, at))
        seen, claimed = numbers
        detail = {"counted": seen if -_WRITABLE < seen < _WRITABLE else _written(seen)}
        if seen == claimed:
            return _Finding(True, f"{_written(seen)}, as counted", detail)
        return _Finding(False, f"{_written(claimed)}, counted {_written(seen)}", detail)

    return _settle(
        "count",
        claim,
        judge,
        formula,
        versions,
        sizes=checked,
        also_at=degenerate,
        merge=_merge_counts,
    )


def _merge_counts(findings: Sequence[_Finding], points: Sequence[Mapping[str, Size]]) -> _Finding:
    """One finding for a count at several sizes: the first and the last number."""
    merged = _merge_right(findings, points)
    if merged.outcome is not True or len(points) == 1:
        return merged
    ends = [f"{findings[i].detail['counted']} at {_at_text(points[i])}" for i in (0, -1)]
    counted = {
        _at_text(at): found.detail["counted"] for at, found in zip(points, findings, strict=True)
    }
    text = f"equal at all {len(points)} choices of sizes: {ends[0]}, …, {ends[1]}"
    return _Finding(
        True, text.replace(", …" if len(points) == 2 else "\n", ""), {"counted": counted}
    )


# agree


def _array(name: str, value: object) -> NDArray[Any]:
    """Numbers as a NumPy array of float64, complex128 or int64."""
    if isinstance(value, Tensor):
        dense = value if value.layout == torch.strided else value.to_dense()
        tensor = dense.detach().cpu().resolve_conj().resolve_neg()
        if tensor.is_complex():
            array = tensor.to(torch.complex128).numpy()
        elif tensor.is_floating_point():
            array = tensor.to(torch.float64).numpy()
        else:
            array = tensor.to(torch.int64).numpy()
    else:
        if isinstance(value, list | tuple):
            value = [_array(name, entry) for entry in value]
            shapes = sorted({entry.shape for entry in value})
            if len(shapes) > 1:
                raise ValueError(f"{name} must have one shape, got entries of {shapes}")
        elif isinstance(value, sp.Expr | Fraction):
            value = _evaluated(name, value)
        if isinstance(value, int) and not -(2**63) <= int(value) < 2**63:
            raise ValueError(f"{name} must fit into int64, got {proving.show(_written(value))}")
        array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold numbers, got {type(value).__name__}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    if array.dtype.kind == "u" and int(array.max()) >= 2**63:
        raise ValueError(f"{name} must fit into int64, got {int(array.max())}")
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def _evaluated(name: str, value: sp.Expr | Fraction) -> int | float | complex:
    """The number that an exact one is nearest to."""
    if isinstance(value, sp.Integer):
        return int(value)
    try:
        number = complex(value)
    except TypeError as problem:
        raise TypeError(f"{name} must be a number, got {proving.show(value)}") from problem
    return number if number.imag else number.real


def _largest_error(computed: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """``|computed - expected|`` in float64; infinities that are equal differ by nothing."""
    if "i" in (computed.dtype.kind, expected.dtype.kind) and "c" not in (
        computed.dtype.kind,
        expected.dtype.kind,
    ):
        # float64 has no room for the last digits of an int64, and int64 none for every difference.
        largest = max(float(np.abs(side.astype(np.float64)).max()) for side in (computed, expected))
        if largest >= 2**53:
            computed, expected = _without_rounding(computed), _without_rounding(expected)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.asarray(np.abs(computed - expected), dtype=np.float64)
    error = np.where(np.isnan(error), np.inf, error)
    return np.where(computed == expected, 0.0, error)


def _without_rounding(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers as Python's own, the whole ones as int, which has room for every digit."""
    numbers = [
        int(x) if isinstance(x, float) and x.is_integer() else x for x in array.ravel().tolist()
    ]
    result = np.empty(array.size, dtype=object)
    result[:] = numbers
    return result.reshape(array.shape)


def agree(
    id: str,
    computed: Any,
    expected: Any,
    *,
    wrong: Mapping[str, Any],
    atol: float = 0.0,
    rtol: float = 0.0,
    exact: bool = False,
    sizes: Sizes = _NO_SIZES,
    also_at: Sequence[Mapping[str, Size]] = (),
) -> Verdict:
    """Compare two computations: ``|computed - expected| <= atol + rtol |expected|`` everywhere.

    Parameters
    ----------
    computed, expected
        Tensors, arrays, numbers, nested sequences of them, or functions of the sizes that return
        such. Both must have one shape; nothing is broadcast. They are compared in float64 or
        complex128.
    wrong
        Label -> wrong version, judged in the place of `expected`.
    atol, rtol
        The tolerances; at least one must be positive.
    exact
        Demand equal values instead; then no tolerance may be given.

    Raises
    ------
    ClaimError
        If the two differ by more, or a wrong version does not; if shapes differ or a NaN appears.
    """
    claim, versions = _check_id(id), _check_wrong(wrong)
    for name, tolerance in (("atol", atol), ("rtol", rtol)):
        if isinstance(tolerance, bool) or not isinstance(tolerance, Real):
            raise TypeError(f"{name} must be a number, got {type(tolerance).__name__}")
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ValueError(f"{name} must be finite and not negative, got {tolerance}")
    if exact == (atol > 0 or rtol > 0):
        raise ValueError(
            "give a positive atol or rtol, or exact=True and neither; "
            f"got atol = {atol}, rtol = {rtol}, exact = {exact}"
        )
    checked = _check_sizes(sizes)
    _check_callables([computed, expected, *versions.values()], checked, set(), also_at)
    degenerate = _check_also_at(also_at, checked)

    def judge(version: Any, at: Mapping[str, Size]) -> _Finding:
        arrays = []
        for name, source in (("computed", computed), ("expected", version)):
            value, problem = _attempt(_value_at, source, at)
            if problem is not None:
                return problem
            arrays.append(_array(name, value))
        return _compare_arrays(*arrays, atol=float(atol), rtol=float(rtol), exact=exact)

    return _settle(
        "agree",
        claim,
        judge,
        expected,
        versions,
        sizes=checked,
        also_at=degenerate,
        merge=_merge_errors,
    )


def _merge_errors(findings: Sequence[_Finding], points: Sequence[Mapping[str, Size]]) -> _Finding:
    """One finding for an agreement at several sizes: the largest error of all."""
    merged = _merge_right(findings, points)
    if merged.outcome is not True:
        return merged
    worst = max(findings, key=lambda found: float(found.detail["error"]))
    total = sum(found.detail["elements"] for found in findings)
    return _Finding(True, worst.text, {**worst.detail, "elements": total})


def _compare_arrays(
    computed: NDArray[Any], expected: NDArray[Any], *, atol: float, rtol: float, exact: bool
) -> _Finding:
    if computed.shape != expected.shape:
        return _Finding(
            None, f"shapes differ: computed {computed.shape}, expected {expected.shape}"
        )
    for name, array in (("computed", computed), ("expected", expected)):
        if np.isnan(array).any():
            return _Finding(None, f"{name} contains nan")
    error = _largest_error(computed, expected)
    with np.errstate(invalid="ignore"):
        allowed = atol + rtol * np.abs(expected).astype(np.float64)
    allowed = np.where(np.isfinite(allowed), allowed, 0.0)
    worst = int(np.argmax(error - allowed))
    off, limit = float(error.max()), float(allowed.flat[worst])
    detail = {
        "error": off,
        "atol": atol,
        "rtol": rtol,
        "exact": exact,
        "elements": int(computed.size),
    }
    if bool((error <= allowed).all()):
        if exact:
            return _Finding(True, f"all {computed.size} values are equal", detail)
        parts = [f"{atol:.2g}"] * (atol > 0) + [f"{rtol:.2g} |expected|"] * (rtol > 0)
        bound = " + ".join(parts)
        return _Finding(True, f"largest error {off:.2g} (allowed {bound})", detail)
    text = f"off by {float(error.flat[worst]):.2g}"
    return _Finding(False, text if exact else f"{text} (allowed {limit:.2g})", detail)


# observe and refute


def _name_of(behaviour: Any) -> str:
    first = (inspect.getdoc(behaviour) or "").strip().splitlines()[:1]
    name = getattr(behaviour, "__name__", type(behaviour).__name__)
    return first[0] if first and name != "<lambda>" else name


def _as_finding(name: str, answer: object) -> _Finding:
    """A bool, or a bool with a finding, as a callable of the author's must return it."""
    match answer:
        case bool():
            return _Finding(answer, "")
        case (bool() as outcome, str() as text):
            return _Finding(outcome, proving.show(text, longest=200))
    raise TypeError(
        f"{name} must return a bool, or a bool and a str, got {_kind_of(answer)}; "
        "bool(…) makes one of a NumPy value or a tensor"
    )


def _kind_of(answer: object) -> str:
    """A type's name; NumPy's bool is also called bool, and a tuple is told by what it holds."""
    if isinstance(answer, tuple):
        return f"({', '.join(map(_kind_of, answer))})"
    home = type(answer).__module__.partition(".")[0]
    return type(answer).__name__ if home == "builtins" else f"{home}.{type(answer).__name__}"


def observe(
    id: str,
    behaviour: Callable[[Any], bool | tuple[bool, str]],
    right: Any,
    *,
    wrong: Mapping[str, Any],
    sizes: Sizes = _NO_SIZES,
) -> Verdict:
    """Observe a behaviour of the right object that the wrong ones do not show.

    Parameters
    ----------
    behaviour
        Called with a version; returns whether it shows the behaviour, or that and a short finding.
    right
        Any object.
    wrong
        Label -> object that must not show the behaviour.
    sizes
        Recorded only.

    Examples
    --------
    >>> from dlchecked.ledger import observe, raises
    >>> observe("division-by-zero", raises(ZeroDivisionError), lambda: 1 / 0,
    ...         wrong={"zero divided": lambda: 0 / 1}).holds
    True
    """
    claim, versions = _check_id(id), _check_wrong(wrong)
    if not callable(behaviour):
        raise TypeError(f"behaviour must be callable, got {type(behaviour).__name__}")
    checked = _check_sizes(sizes)
    _check_callables([], checked, set(), ())
    name = _name_of(behaviour)

    def judge(version: Any, at: Mapping[str, Size]) -> _Finding:
        answer, problem = _attempt(behaviour, version)
        if problem is not None:
            return problem
        found = _as_finding("behaviour", answer)
        otherwise = f"observed: {name}" if found.outcome else f"not observed: {name}"
        return _Finding(found.outcome, found.text or otherwise)

    return _settle("observe", claim, judge, right, versions, sizes=checked, swept=False)


def raises(
    error: type[BaseException], match: str | None = None
) -> Callable[[Callable[[], Any]], tuple[bool, str]]:
    """A behaviour for `observe`: calling the version with no arguments raises `error`.

    Parameters
    ----------
    error
        The exception's type.
    match
        A regular expression that its message must contain.
    """
    if not (isinstance(error, type) and issubclass(error, BaseException)):
        raise TypeError(f"error must be an exception type, got {error!r}")

    try:
        pattern = re.compile(match or "")
    except (re.error, TypeError) as problem:
        raise ValueError(f"match must be a regular expression, got {match!r}") from problem

    def behaviour(version: Callable[[], Any]) -> tuple[bool, str]:
        try:
            version()
        except error as raised:
            text = f"raised {type(raised).__name__}: {proving.show(raised, longest=120)}"
            return pattern.search(str(raised)) is not None, text
        except Exception as raised:  # any other error is an answer too: not this one
            return False, f"raised {type(raised).__name__}: {proving.show(raised, longest=120)}"
        return False, "nothing was raised"

    behaviour.__name__ = f"raises {error.__name__}"
    return behaviour


def refute(
    id: str,
    holds: Callable[..., bool | tuple[bool, str]],
    *,
    printed: Any,
    corrected: Any,
    counterexample: Mapping[str, Any] = _NO_SIZES,
    printed_label: str = "as printed",
) -> Verdict:
    """Refute a printed statement at a counterexample where its correction holds.

    Parameters
    ----------
    holds
        Called as ``holds(version, **counterexample)``; returns whether the version holds there.
    printed, corrected
        The statement as printed, which must fail, and what corrects it, which must pass.
    counterexample
        The arguments of `holds`; shown in the verdict.
    printed_label
        How the printed statement is called in the verdict.
    """
    claim = _check_id(id)
    _check_text("printed_label", "it", printed_label)
    if not callable(holds):
        raise TypeError(f"holds must be callable, got {type(holds).__name__}")
    if not isinstance(counterexample, Mapping):
        raise TypeError(f"counterexample must be a mapping, got {type(counterexample).__name__}")
    shown = {str(name): _short(value) for name, value in counterexample.items()}
    where = ", ".join(f"{name} = {value}" for name, value in shown.items())

    def judge(version: Any, at: Mapping[str, Size]) -> _Finding:
        answer, problem = _attempt(holds, version, **counterexample)
        if problem is not None:
            return problem
        found = _as_finding("holds", answer)
        told = "the correction holds" if found.outcome else "does not hold"
        at_text = f" at {where}" if where else ""
        text = f"{told}{at_text}" + (f": {found.text}" if found.text else "")
        return _Finding(found.outcome, text, {"counterexample": shown})

    return _settle("refute", claim, judge, corrected, {printed_label: printed}, sizes={})


def _short(value: Any) -> str:
    """A short text of a counterexample's value; tensors as nested lists, rounded."""
    if isinstance(value, Tensor | np.ndarray):
        value = value.tolist()
    return proving.show(_rounded(value))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list | tuple):
        return type(value)(_rounded(entry) for entry in value)
    return value


# measure


@dataclass(frozen=True)
class Estimate:
    """An estimate with its two-sided interval.

    Attributes
    ----------
    value, low, high
        The estimate and the ends of its interval.
    n
        The number of samples behind it.
    level
        The interval's level: the share of repetitions in which it covers the truth.
    what
        What was estimated: ``"mean"``, ``"variance"``, …
    """

    value: float
    low: float
    high: float
    n: int
    level: float
    what: str = "estimate"

    def __post_init__(self) -> None:
        numbers = (self.value, self.low, self.high)
        if not all(isinstance(x, float | int) and math.isfinite(x) for x in numbers):
            raise ValueError(f"value, low and high must be finite numbers, got {numbers}")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"value must lie in [low, high], got {numbers}")
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 2:
            raise ValueError(f"n must be an int of at least 2, got {self.n!r}")
        _check_level(self.level)

    def __str__(self) -> str:
        return (
            f"{self.value:.4g}, {100 * self.level:.4g} % interval "
            f"[{self.low:.4g}, {self.high:.4g}], n = {self.n}"
        )


def _check_level(level: object) -> float:
    if isinstance(level, bool) or not isinstance(level, float) or not 0.5 < level < 1:
        raise ValueError(f"level must be between 0.5 and 1, got {level!r}")
    return level


def _samples(name: str, values: object, least: int) -> NDArray[np.float64]:
    array = _array(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be real, got complex numbers")
    if array.size < least:
        raise ValueError(f"{name} must hold at least {least} values, got {array.size}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array.astype(np.float64)


def _spread(name: str, array: NDArray[np.float64]) -> None:
    if float(array.min()) == float(array.max()):
        raise ValueError(f"{name} must not all be equal: there is no interval to be had")


def mean_of(samples: Any, *, level: float = 0.999) -> Estimate:
    """The mean of independent draws, with Student's t interval. Needs 30 draws.

    Parameters
    ----------
    samples
        Shape (n,). Independent, identically distributed; the interval is approximate unless normal.
    level
        Of the two-sided interval.
    """
    array = _samples("samples", samples, 30)
    _spread("samples", array)
    n = array.size
    half = float(stats.t.ppf((1 + _check_level(level)) / 2, n - 1)) * float(
        array.std(ddof=1) / math.sqrt(n)
    )
    mean = float(array.mean())
    return Estimate(mean, mean - half, mean + half, n, level, "mean")


def variance_of(samples: Any, *, level: float = 0.999) -> Estimate:
    r"""The variance of independent draws, for any distribution with a fourth moment. Needs 1000
    draws.

    Notes
    -----
    The variance of :math:`s^2` is :math:`(\mu_4 - \sigma^4 (n - 3) / (n - 1)) / n`; both moments
    are estimated from the draws. The interval is the normal one for :math:`\log s^2`, which is
    less skewed, made longer by :math:`z^2 / n` for what the estimated mean adds: of a fair coin the
    first-order variance vanishes. With heavy tails it is too short: of a log-normal's variance the
    99.9 % interval misses some 3 % at n = 1000 and 1 % at n = 10 000.
    """
    array = _samples("samples", samples, 1000)
    _spread("samples", array)
    n = array.size
    variance = float(array.var(ddof=1))
    fourth = float(((array - array.mean()) ** 4).mean())
    error = math.sqrt(max(fourth - variance**2 * (n - 3) / (n - 1), 0.0) / n)
    quantile = float(stats.norm.ppf((1 + _check_level(level)) / 2))
    factor = math.exp(quantile * error / variance + quantile**2 / n)
    return Estimate(variance, variance / factor, variance * factor, n, level, "variance")


def share_of(flags: Any, *, level: float = 0.999) -> Estimate:
    """The share of true flags among independent ones, with the exact (Clopper-Pearson) interval.

    Parameters
    ----------
    flags
        Shape (n,), booleans (or zeros and ones).
    """
    array = _samples("flags", flags, 2)
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError("flags must be booleans, or zeros and ones")
    hits, n = int(array.sum()), int(array.size)
    interval = stats.binomtest(hits, n).proportion_ci(_check_level(level), method="exact")
    return Estimate(hits / n, float(interval.low), float(interval.high), n, level, "share")


def slope_of(x: Any, y: Any, *, level: float = 0.999) -> Estimate:
    """The least-squares slope of `y` against `x`, with its t interval. Take logarithms first for a
    power.

    Notes
    -----
    The interval supposes independent errors of equal variance around a straight line.
    """
    first, second = _samples("x", x, 3), _samples("y", y, 3)
    if first.size != second.size:
        raise ValueError(f"y must have as many values as x, {first.size}, got {second.size}")
    _spread("x", first)
    fit = stats.linregress(first, second)
    half = float(stats.t.ppf((1 + _check_level(level)) / 2, first.size - 2)) * float(fit.stderr)
    slope = float(fit.slope)
    return Estimate(slope, slope - half, slope + half, first.size, level, "slope")


_SIDES = ("two-sided", "at least", "at most", "within")


def _number(name: str, value: object) -> float:
    if isinstance(value, sp.Expr | Tensor | np.ndarray):
        try:
            value = float(value)
        except (TypeError, ValueError, RuntimeError) as problem:
            raise TypeError(f"{name} must be one number, got {proving.show(value)}") from problem
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def _band(name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (a, b) for side='within', got {value!r}")
    low, high = _number(name, value[0]), _number(name, value[1])
    if not low < high:
        raise ValueError(f"{name} must be a pair (a, b) with a < b, got {value!r}")
    return low, high


def _place(estimate: Estimate, claimed: Any, side: str) -> tuple[bool | None, str]:
    """Whether the interval supports (True), excludes (False) or leaves open (None) a claim."""
    low, high = estimate.low, estimate.high
    if side == "within":
        a, b = _band("claimed", claimed)
        outcome = True if a <= low and high <= b else (False if high < a or b < low else None)
        return outcome, f"[{a:.6g}, {b:.6g}]"
    value = _number("claimed", claimed)
    if side == "two-sided":
        return low <= value <= high, f"{value:.6g}"
    if side == "at least":
        return (True if low >= value else (False if high < value else None)), f"{value:.6g}"
    return (True if high <= value else (False if low > value else None)), f"{value:.6g}"


def measure(
    id: str,
    estimate: Estimate,
    claimed: Any,
    *,
    wrong: Mapping[str, Any],
    side: str = "two-sided",
    sizes: Sizes = _NO_SIZES,
) -> Verdict:
    """Compare an estimate's interval with a claimed value.

    Parameters
    ----------
    estimate
        From `mean_of`, `variance_of`, `share_of`, `slope_of`, or your own :class:`Estimate`.
    claimed
        A number; for ``side="within"`` a pair (a, b).
    wrong
        Label -> wrong value (or pair), judged in the place of `claimed`.
    side
        ``"two-sided"``: the interval covers the claimed value. ``"at least"``: the whole interval
        lies at or above it. ``"at most"``: at or below. ``"within"``: the whole interval lies in
        the band. For the last three an interval that lies across the bound decides nothing: take
        more samples.
    sizes
        Recorded only.
    """
    claim, versions = _check_id(id), _check_wrong(wrong)
    if not isinstance(estimate, Estimate):
        raise TypeError(f"estimate must be an Estimate, got {type(estimate).__name__}")
    if side not in _SIDES:
        raise ValueError(f"side must be one of {_SIDES}, got {side!r}")
    checked = _check_sizes(sizes)
    _check_callables([], checked, set(), ())

    def judge(version: Any, at: Mapping[str, Size]) -> _Finding:
        outcome, shown = _place(estimate, version, side)
        detail = {
            "estimate": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "n": estimate.n,
            "level": estimate.level,
            "what": estimate.what,
            "side": side,
            "claimed": version,
        }
        if outcome is None:
            return _Finding(None, f"{shown} lies across the interval: {estimate}", detail)
        if outcome:
            return _Finding(True, str(estimate), detail)
        ends = version if side == "within" else (version, version)
        apart = max(_number("claimed", ends[0]) - estimate.high, estimate.low - float(ends[1]))
        return _Finding(False, f"{shown} is outside by {apart:.2g}: {estimate}", detail)

    hint = (
        "more samples narrow the interval; `make reseed` tells whether a miss is bad luck"
        if side == "two-sided"
        else "more samples narrow the interval"
    )
    return _settle(
        "measure",
        claim,
        judge,
        claimed,
        versions,
        sizes=checked,
        swept=False,
        hint=hint,
        seeded=True,
    )


# quote and record


def quote(id: str, value: Any, *, source: str, where: str) -> Verdict:
    """Enter a figure from elsewhere. Nothing is checked, and the verdict says so.

    Parameters
    ----------
    value
        A number, a str, or a mapping of them.
    source
        The citation key.
    where
        Where in the source: ``"Table 1"``.
    """
    claim = _check_id(id)
    _check_text("source", "it", source)
    _check_text("where", "it", where)
    plain = _quotable(value)
    _take_seed()
    return Verdict(
        id=claim,
        kind="quote",
        holds=True,
        summary="quoted, not checked",
        detail={"value": plain, "source": source, "where": where},
    )


def _quotable(value: Any) -> Any:
    if isinstance(value, Mapping):
        if not value:
            raise ValueError("value must not be empty")
        return {
            _check_text("value", "a key", key): _quotable(entry) for key, entry in value.items()
        }
    if isinstance(value, bool) or not isinstance(value, Real | str | sp.Number):
        raise TypeError(f"value must be a number, a str or a mapping, got {type(value).__name__}")
    return _plain(value)


def record(id: str, path: str | os.PathLike[str], key: str) -> Verdict:
    """Enter a figure of ours from a committed result file. Nothing is checked again.

    Parameters
    ----------
    path
        A JSON file whose object names the ``machine``, the ``date`` (ISO 8601) and the
        ``versions``.
    key
        A dotted path into it, such as ``"results.bfloat16.seconds"``; a number counts into a list.

    Returns
    -------
    Verdict
        Its ``value`` is the figure.

    Raises
    ------
    FileNotFoundError, KeyError, TypeError, ValueError
        If the file, the key, or what the file must name is missing.
    """
    claim = _check_id(id)
    _check_text("key", "it", key)
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"path: there is no result file {file}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ValueError(f"path: {file} is no JSON file: {problem}") from problem
    if not isinstance(content, dict):
        raise TypeError(f"path: {file} must hold a JSON object, got {type(content).__name__}")
    for name in ("machine", "date", "versions"):
        if not content.get(name):
            raise ValueError(f"path: {file} must say its {name}")
    try:
        datetime.datetime.fromisoformat(content["date"])
    except (TypeError, ValueError) as problem:
        raise ValueError(
            f"path: {file}: date must be ISO 8601, got {content['date']!r}"
        ) from problem
    value = _dig(content, key, file)
    _take_seed()
    return Verdict(
        id=claim,
        kind="record",
        holds=True,
        summary=f"recorded on {content['machine']}, {content['date']}; not checked again",
        detail={
            "value": value,
            "machine": content["machine"],
            "date": content["date"],
            "versions": content["versions"],
            "file": _committed(file),
            "key": key,
        },
    )


def _committed(file: Path) -> str:
    """A file's name as it stands in the repository: nothing of the machine it lies on."""
    return (
        file.name if file.is_absolute() else "/".join(p for p in file.parts if p not in (".", ".."))
    )


def _dig(content: Any, key: str, file: Path) -> Any:
    """Follow a dotted path into nested objects and lists."""
    for step in key.split("."):
        if isinstance(content, list) and step.isdecimal() and int(step) < len(content):
            content = content[int(step)]
        elif isinstance(content, dict) and step in content:
            content = content[step]
        else:
            raise KeyError(f"key: {file} has no {key!r}: nothing at {step!r}")
    return content

"""The two legs of a proof: algebra over the declared assumptions, and numbers at chosen points.

``simplify`` alone is too weak: it fails to see that two forms agree. Across branch cuts it is now and
then too strong. Numbers alone prove nothing: :math:`e^{\\pi\\sqrt{163}}` agrees with an integer to
thirty digits and is none. So a statement *holds* here only if both legs carry it:

* **symbolic**: SymPy reduces the difference of the two sides to zero (or shows its sign) from the
  assumptions declared on the symbols; no rewriting is forced;
* **numeric**: at random exact rationals that satisfy those assumptions, and at special values such as
  0, 1, -1 and the numbers that the statement mentions, the relation is seen to be true, exactly or to
  many digits at two precisions.

A statement *fails* only by a witness: a point where the relation is seen to be false. Everything else
is undecided, and undecided is never taken for either. The right version of a claim and its wrong ones
pass through the same function, :func:`judge`.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Integral as WholeNumber
from typing import Any

import mpmath
import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.matrices.expressions.matexpr import MatrixElement, MatrixExpr
from sympy.matrices.matrixbase import MatrixBase
from sympy.stats.rv import RandomSymbol

__all__ = ["RELATIONS", "Judgement", "exact", "judge", "reduces_to_zero", "show"]

RELATIONS = ("==", "!=", "<=", "<", ">=", ">")
"""The relations a statement may claim between its two sides."""

Point = dict[sp.Expr, sp.Expr]
Hint = Callable[[sp.Expr], sp.Expr]
Value = sp.Expr | sp.ImmutableDenseMatrix


@dataclass(frozen=True)
class Judgement:
    """What came of one statement: ``True`` it holds, ``False`` it fails, ``None`` undecided."""

    outcome: bool | None
    finding: str
    detail: dict[str, Any] = field(default_factory=dict)


class UndefinedHereError(ArithmeticError):
    """No value could be had at a point: a pole, a value that is not real, no convergence."""


# The door: what may be proved about


def exact(name: str, value: object) -> sp.Expr | sp.ImmutableDenseMatrix:
    """Turn an exact value into SymPy's form, and refuse what is not exact.

    Parameters
    ----------
    name
        What the value is, for the error.
    value
        A SymPy expression or matrix, an ``int`` or a :class:`fractions.Fraction`.

    Raises
    ------
    TypeError
        For floats, SymPy floats anywhere inside, booleans, and what is no expression.
    ValueError
        For NaN, undefined functions and symbols that do not commute: nothing can be put in for them.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an exact expression, got the bool {value}")
    if isinstance(value, WholeNumber):
        return sp.Integer(int(value))
    if isinstance(value, Fraction):
        return sp.Rational(value.numerator, value.denominator)
    if isinstance(value, float | complex):
        raise TypeError(
            f"{name} is not exact: got the {type(value).__name__} {value!r}; "
            "write sympy.Rational or Fraction"
        )
    if isinstance(value, MatrixExpr):
        value = value.as_explicit()
    if isinstance(value, MatrixBase):
        matrix = sp.ImmutableDenseMatrix(value)
        if not len(matrix):
            raise ValueError(f"{name} must not be empty, got a matrix of shape {matrix.shape}")
        for entry in matrix:
            _exact_expression(name, entry)
        return matrix
    if not isinstance(value, sp.Expr):
        raise TypeError(
            f"{name} must be a SymPy expression, a matrix, an int or a Fraction, "
            f"got {type(value).__name__}"
        )
    return _exact_expression(name, value)


def _exact_expression(name: str, value: sp.Expr) -> sp.Expr:
    floats = value.atoms(sp.Float)
    if floats:
        raise TypeError(f"{name} is not exact: it contains the float {min(floats)}")
    if value.has(sp.nan):
        raise ValueError(f"{name} is undefined: it contains nan")
    undefined = value.atoms(AppliedUndef)
    if undefined:
        shown = ", ".join(sorted(str(f) for f in undefined))
        raise ValueError(f"{name} contains {shown}: nothing can be put in for an undefined function")
    if value.is_commutative is False:
        raise ValueError(f"{name} does not commute; only commuting symbols can be judged")
    return value


def _entries(value: sp.Expr | sp.ImmutableDenseMatrix) -> list[tuple[str, sp.Expr]]:
    """The scalar statements inside a statement, each with the place it has there."""
    if isinstance(value, MatrixBase):
        rows, columns = value.shape
        return [
            (f"entry ({i}, {j})", value[i, j])
            for i, j in itertools.product(range(rows), range(columns))
        ]
    return [("", value)]


# Points: random exact numbers that satisfy what was declared


def _satisfies(symbol: sp.Symbol, value: sp.Expr) -> bool:
    """Whether a number has every property declared on a symbol (and those that follow from it)."""
    return all(
        getattr(value, f"is_{fact}") is wanted for fact, wanted in symbol.assumptions0.items()
    )


_RANGES = ((1, 4), (1, 4), (4, 12), (0, 1), (1, 4), (12, 60))
_DENOMINATORS = (2, 3, 4, 5, 7)


def _magnitude(rng: random.Random, turn: int) -> sp.Rational:
    """A positive rational, never 1: mostly moderate, now and then small or large."""
    low, high = _RANGES[turn % len(_RANGES)]
    denominator = rng.choice(_DENOMINATORS) if high > 1 else rng.choice((11, 13, 17, 29))
    while True:
        value = sp.Rational(rng.randint(low * denominator + 1, high * denominator - 1), denominator)
        if value != 1:
            return value


def _signed(rng: random.Random, turn: int) -> sp.Rational:
    return rng.choice((-1, 1)) * _magnitude(rng, turn)


def _whole(rng: random.Random, turn: int) -> sp.Integer:
    high = (6, 12, 9, 4, 8, 40)[turn % 6]
    return sp.Integer(rng.choice((-1, 1)) * rng.randint(2, high))


def _gaussian(rng: random.Random, turn: int) -> sp.Expr:
    # Some points on the axes: that is where the branch cuts of log, sqrt and the like lie.
    if turn % 3 == 1:
        return _signed(rng, turn)
    if turn % 6 == 5:
        return sp.I * _signed(rng, turn)
    return _signed(rng, turn) + sp.I * _signed(rng, turn + 1)


_POOLS: tuple[Callable[[random.Random, int], sp.Expr], ...] = (
    _gaussian,
    _signed,
    _whole,
    lambda rng, turn: sp.I * _signed(rng, turn),
    lambda rng, turn: sp.sqrt(2) * _signed(rng, turn),
    lambda rng, turn: sp.pi * _signed(rng, turn),
    lambda rng, turn: sp.Integer(rng.choice((-1, 0, 1))),
)


def _pool_of(symbol: sp.Symbol) -> Callable[[random.Random, int], sp.Expr]:
    """The first pool in which numbers are found that satisfy the symbol's assumptions."""
    rng = random.Random(0)
    for pool in _POOLS:
        if any(_satisfies(symbol, pool(rng, turn)) for turn in range(60)):
            return pool
    raise ValueError(f"no number at hand satisfies what is declared on {symbol}")


def _random_points(symbols: Sequence[sp.Symbol], rng: random.Random) -> Iterator[Point]:
    """Endless random points; none has a coordinate 0, 1 or -1 unless nothing else is allowed."""
    pools = {symbol: _pool_of(symbol) for symbol in symbols}
    for turn in itertools.count():
        point = {}
        for symbol, pool in pools.items():
            value = pool(rng, turn)
            while not _satisfies(symbol, value):
                value = pool(rng, rng.randrange(6))
            point[symbol] = value
        yield point


_MOST_SPECIAL = 40


def _special_points(
    symbols: Sequence[sp.Symbol], numbers: Iterable[sp.Expr], rng: random.Random
) -> list[Point]:
    """Where identities like to break: at 0, 1, -1, at the numbers they mention, and on the diagonal."""
    if not symbols:
        return []
    around = [n + shift for n in numbers for shift in (0, sp.Rational(1, 3), -sp.Rational(1, 3))]
    values = list(dict.fromkeys([sp.Integer(0), sp.Integer(1), sp.Integer(-1), *around]))
    stream = _random_points(symbols, rng)
    points: list[Point] = []
    first = next(stream)
    for symbol in symbols:
        if all(_satisfies(other, first[symbol]) for other in symbols):
            points.append(dict.fromkeys(symbols, first[symbol]))
            break
    for value in values:
        if len(symbols) > 1 and all(_satisfies(symbol, value) for symbol in symbols):
            points.append(dict.fromkeys(symbols, value))
        points += [{**next(stream), s: value} for s in symbols if _satisfies(s, value)]
    return points[:_MOST_SPECIAL]


def _free_symbols(*values: sp.Expr) -> list[sp.Symbol]:
    found = set().union(*(value.free_symbols for value in values))
    labels = {base.label for value in values for base in value.atoms(sp.IndexedBase)}
    symbols = [s for s in found if isinstance(s, sp.Symbol) and s not in labels]
    return sorted(symbols, key=lambda s: (s.name, str(sorted(s.assumptions0.items()))))


def _numbers_in(*values: sp.Expr) -> list[sp.Expr]:
    """The few rationals that the expressions mention: an ``Abs(x - 1000)`` has its kink at one."""
    found = set().union(*(value.atoms(sp.Rational) for value in values))
    kept = {abs(n) for n in found if 0 < abs(n) < 10**6 and n.q < 1000}
    ordered = sorted(kept)[:4]
    return [sign * n for n in ordered for sign in (1, -1)]


# Numbers: the value of an expression at a point


def _at(expression: sp.Expr, point: Point) -> sp.Expr:
    """Put a point into an expression and carry out finite sums and derivatives."""
    value = expression.replace(
        lambda node: isinstance(node, sp.Derivative | sp.Subs), lambda node: node.doit()
    )
    value = value.subs(point)
    value = value.replace(_is_finite_sum, lambda node: node.doit(deep=False))
    return _fill_indexed(value)


def _is_finite_sum(node: sp.Basic) -> bool:
    return isinstance(node, sp.Sum | sp.Product) and all(
        len(limit) == 3 and limit[1].is_Integer and limit[2].is_Integer for limit in node.limits
    )


def _fill_indexed(value: sp.Expr) -> sp.Expr:
    """Give every element ``q[2]`` a number of its own, the same wherever it occurs."""
    filled: Point = {}
    for element in sorted(value.atoms(sp.Indexed), key=str):
        stand_in = sp.Symbol(str(element), **element.base.label.assumptions0)
        stream = _random_points([stand_in], random.Random(f"{element}"))
        filled[element] = next(stream)[stand_in]
    return value.subs(filled) if filled else value


@functools.lru_cache(maxsize=8192)
def _evaluate(value: sp.Expr, digits: int) -> mpmath.mpc:
    """The complex number that a symbol-free expression stands for, to so many digits."""
    number = value.evalf(digits, maxn=max(400, 4 * digits))
    if number.has(sp.nan, sp.zoo, sp.oo, -sp.oo) or not number.is_number:
        raise UndefinedHereError(str(number))
    real, imaginary = number.as_real_imag()
    if not all(part.is_Float or part.is_Rational for part in (real, imaginary)):
        raise UndefinedHereError(f"no numeric value for {value}")
    with mpmath.workdps(digits + 15):
        return mpmath.mpc(_to_mpmath(real), _to_mpmath(imaginary))


def _to_mpmath(part: sp.Expr) -> mpmath.mpf:
    if part.is_Rational:
        return mpmath.mpf(part.p) / part.q
    return mpmath.mpmathify(part)


def _is_approximate(*values: sp.Expr) -> bool:
    """Whether a quadrature or an infinite series stands in the way of many digits."""
    return any(value.has(sp.Integral, sp.Sum, sp.Product) for value in values)


def _rational_parts(value: sp.Expr) -> tuple[sp.Rational, sp.Rational] | None:
    """Real and imaginary part, if both are rational."""
    if value.is_Rational:
        return value, sp.Integer(0)
    if value.has(sp.I) and not value.atoms(sp.NumberSymbol, sp.Function):
        real, imaginary = sp.expand(value).as_real_imag()
        if real.is_Rational and imaginary.is_Rational:
            return real, imaginary
    return None


@dataclass(frozen=True)
class _Gap:
    """How the two sides lie at a point: ``sign`` is 0 if they agree, None if their order is unknown."""

    equal: bool
    sign: int
    exactly: bool
    left: str
    right: str


def _gap(left: sp.Expr, right: sp.Expr, digits: int, *, deep: bool, ordered: bool) -> _Gap:
    """Compare two symbol-free expressions, exactly where that is possible."""
    if any(value in (sp.nan, sp.zoo, sp.oo, -sp.oo) for value in (left, right)):
        raise UndefinedHereError("infinite or undefined")
    exact_left, exact_right = _rational_parts(left), _rational_parts(right)
    if exact_left and exact_right:
        if ordered and (exact_left[1] or exact_right[1]):
            raise UndefinedHereError("not real")
        step = exact_left[0] - exact_right[0]
        return _Gap(exact_left == exact_right, int(sp.sign(step)), True, show(left), show(right))
    ladder = [digits, 2 * digits] + ([4 * digits, 20 * digits] if deep else [])
    if _is_approximate(left, right):
        ladder = [15, 30] if digits <= 30 else [20, 40]
    return _numeric_gap(left, right, ladder, ordered)


def _numeric_gap(left: sp.Expr, right: sp.Expr, ladder: Sequence[int], ordered: bool) -> _Gap:
    """Climb through the precisions until a difference stands still, which makes it a real one.

    A rounding error changes when the precision does; a true difference, however small, stays.
    """
    loose = _is_approximate(left, right)
    before: mpmath.mpc | None = None
    for digits in ladder:
        a, b = _evaluate(left, digits), _evaluate(right, digits)
        with mpmath.workdps(digits + 15):
            scale = max(mpmath.mpf(1), abs(a), abs(b))
            noise = scale * mpmath.mpf(10) ** (-(digits - 10) if not loose else -12)
            if ordered and max(abs(a.imag), abs(b.imag)) > noise:
                raise UndefinedHereError("not real")
            difference = a - b
            size = abs(difference)
            stands = (
                before is not None
                and size > 0
                and abs(difference - before) <= size * mpmath.mpf("1e-6")
            )
            if stands:
                sign = 1 if difference.real > 0 else -1
                return _Gap(False, sign, False, _shown(a), _shown(b))
            before = difference
    if size > noise:
        raise UndefinedHereError("the value could not be computed reliably")
    return _Gap(True, 0, False, _shown(a), _shown(b))


def _shown(number: mpmath.mpc) -> str:
    if abs(number.imag) <= abs(number.real) * mpmath.mpf("1e-30"):
        return str(mpmath.nstr(number.real, 4))
    if abs(number.real) <= abs(number.imag) * mpmath.mpf("1e-30"):
        return f"{mpmath.nstr(number.imag, 4)}i"
    sign = "-" if number.imag < 0 else "+"
    return f"{mpmath.nstr(number.real, 4)} {sign} {mpmath.nstr(abs(number.imag), 4)}i"


def show(value: object, *, longest: int = 60) -> str:
    """A short, plain text of a value: rationals as fractions, cut where it gets long."""
    text = str(value).replace("\n", " ")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _show_point(point: Point) -> str:
    shown = [f"{symbol} = {value}" for symbol, value in point.items()]
    return ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")


# The numeric leg


def _relation_holds(gap: _Gap, relation: str) -> bool:
    return {
        "==": gap.equal,
        "!=": not gap.equal,
        "<=": gap.equal or gap.sign < 0,
        "<": not gap.equal and gap.sign < 0,
        ">=": gap.equal or gap.sign > 0,
        ">": not gap.equal and gap.sign > 0,
    }[relation]


@dataclass(frozen=True)
class _Numbers:
    """The numeric leg's result: a witness, or how many points agreed."""

    witness: str = ""
    points: int = 0
    exact_points: int = 0
    special: int = 0
    undefined: str = ""


def _numeric_leg(
    left: sp.Expr, right: sp.Expr, relation: str, points: int, digits: int, seed: str
) -> _Numbers:
    symbols = _free_symbols(left, right)
    elements = bool(left.atoms(sp.Indexed) | right.atoms(sp.Indexed))
    rng = random.Random(seed)
    if _is_approximate(left, right):
        points, digits = min(points, 6), min(digits, 30)
    if not symbols and not elements:
        points = 1
    agreed = exactly = tried = 0
    undefined = ""
    for point in itertools.islice(_random_points(symbols, rng), 6 * points):
        tried += 1
        try:
            gap = _compare(left, right, point, relation, digits, deep=agreed < 2)
        except UndefinedHereError as problem:
            undefined = f"undefined at {_show_point(point) or 'every point'} ({problem})"
            continue
        if not _relation_holds(gap, relation):
            return _Numbers(witness=_describe(point, gap))
        agreed += 1
        exactly += gap.exactly
        if agreed == points:
            break
    if agreed < points:
        return _Numbers(undefined=undefined, points=agreed)
    special = 0
    for point in _special_points(symbols, _numbers_in(left, right), rng):
        try:
            gap = _compare(left, right, point, relation, digits, deep=False)
        except UndefinedHereError:
            continue  # a removable singularity: the claim speaks of where both sides are defined
        if not _relation_holds(gap, relation):
            return _Numbers(witness=_describe(point, gap))
        special += 1
    return _Numbers(points=agreed, exact_points=exactly, special=special)


def _compare(
    left: sp.Expr, right: sp.Expr, point: Point, relation: str, digits: int, *, deep: bool
) -> _Gap:
    try:
        a, b = _at(left, point), _at(right, point)
        return _gap(a, b, digits, deep=deep, ordered=relation not in ("==", "!="))
    except UndefinedHereError:
        raise
    except (TypeError, ValueError, ArithmeticError, NotImplementedError, AttributeError) as problem:
        raise UndefinedHereError(show(problem)) from problem


def _describe(point: Point, gap: _Gap) -> str:
    where = f"at {_show_point(point)} " if point else ""
    if gap.equal:
        return f"{where}both sides are {gap.left}"
    if gap.left == gap.right:
        return f"{where}the sides differ although both round to {gap.left}"
    return f"{where}the sides are {gap.left} and {gap.right}"


# The symbolic leg


def _rewritings() -> Iterator[tuple[str, Hint]]:
    """Value-preserving rewritings, cheap ones first; none of them is forced."""
    yield "expand", sp.expand
    yield "cancel", lambda e: sp.cancel(sp.together(e))
    yield "powsimp", lambda e: sp.powsimp(sp.powdenest(sp.expand(e)))
    yield "expand_log", lambda e: sp.expand(sp.expand_log(e))
    yield "radsimp", lambda e: sp.radsimp(sp.sqrtdenest(e))
    yield "factor", sp.factor
    yield "trigsimp", lambda e: sp.trigsimp(sp.expand_trig(e)) if e.has(sp.sin, sp.cos) else e
    yield "exp", lambda e: sp.powsimp(sp.expand(e.rewrite(sp.exp)))
    yield "gammasimp", lambda e: sp.gammasimp(sp.expand_func(e))
    yield "combsimp", sp.combsimp
    yield "logcombine", lambda e: sp.logcombine(sp.expand(e))
    yield "simplify", sp.simplify
    yield "simplify after expand", lambda e: sp.simplify(sp.expand(e))
    yield "simplify after exp", lambda e: sp.simplify(e.rewrite(sp.exp))


def _forms(expression: sp.Expr) -> Iterator[tuple[str, sp.Expr]]:
    """The expression and what the rewritings make of it, lazily."""
    yield "as it stands", expression
    done = expression.doit()
    if done != expression:
        yield "doit", done
    for name, rewriting in _rewritings():
        try:
            form = rewriting(done)
        except (TypeError, ValueError, ArithmeticError, NotImplementedError, AttributeError):
            continue  # a rewriting that does not apply
        if isinstance(form, sp.Expr):
            yield name, form


def _is_zero(expression: sp.Expr) -> bool:
    if expression == 0 or expression.is_zero is True:
        return True
    return _is_algebraic_zero(expression)


def _is_algebraic_zero(expression: sp.Expr) -> bool:
    """Decide for nested radicals, exactly: zero is the number whose minimal polynomial is x."""
    if expression.free_symbols or expression.is_algebraic is not True:
        return False
    x = sp.Dummy("x")
    try:
        return bool(sp.minimal_polynomial(expression, x) == x)
    except (NotImplementedError, ValueError):
        return False


def reduces_to_zero(difference: sp.Expr) -> tuple[str, sp.Expr]:
    """Try to reduce an expression to zero over the assumptions declared on its symbols.

    Returns
    -------
    how, left
        How it was reached (empty if it was not) and the shortest form that was left.
    """
    shortest = difference
    for name, form in _forms(difference):
        if _is_zero(form):
            return name, sp.Integer(0)
        if sp.count_ops(form) < sp.count_ops(shortest):
            shortest = form
    return "", shortest


def _sign_known(expression: sp.Expr, relation: str) -> bool:
    """Whether the assumptions alone give ``expression (relation) 0``."""
    fact = {
        "!=": "is_zero",
        "<=": "is_nonpositive",
        "<": "is_negative",
        ">=": "is_nonnegative",
        ">": "is_positive",
    }[relation]
    wanted = relation != "!="
    return getattr(expression, fact) is wanted


def _symbolic_leg(
    left: sp.Expr, right: sp.Expr, relation: str, rewrite: Hint | None
) -> tuple[str, sp.Expr]:
    """How the statement follows (empty if it was not shown), and what is left of the difference."""
    if relation == "==" and left.doit() == right.doit():
        return "both sides are the same expression", sp.Integer(0)
    differences = [left - right]
    if rewrite is not None:
        differences = [rewrite(left) - rewrite(right), rewrite(left - right), *differences]
    remainder = differences[-1]
    for difference in differences:
        if relation == "==":
            how, remainder = reduces_to_zero(difference)
            if how:
                return f"the difference simplifies to 0 ({how})", remainder
            continue
        for name, form in _forms(difference):
            if _sign_known(form, relation):
                return f"the difference is {relation} 0 by the assumptions ({name})", form
        if _extremum_decides(difference, relation):
            return f"the difference is {relation} 0 at its extremum", difference
    return "", remainder


def _extremum_decides(difference: sp.Expr, relation: str) -> bool:
    """For one real symbol: compare the least (or greatest) value with zero."""
    symbols = _free_symbols(difference)
    if relation == "!=" or len(symbols) != 1 or difference.atoms(sp.Indexed):
        return False
    symbol = symbols[0]
    upward = relation in (">", ">=")
    try:
        least = sp.minimum(difference if upward else -difference, symbol, _domain(symbol))
    except (NotImplementedError, ValueError, TypeError, AttributeError, ArithmeticError):
        return False
    return least.is_positive is True or (
        relation in (">=", "<=") and least.is_nonnegative is True
    )


def _domain(symbol: sp.Symbol) -> sp.Set:
    if symbol.is_positive:
        return sp.Interval.open(0, sp.oo)
    if symbol.is_nonnegative:
        return sp.Interval(0, sp.oo)
    if symbol.is_negative:
        return sp.Interval.open(-sp.oo, 0)
    if symbol.is_nonpositive:
        return sp.Interval(-sp.oo, 0)
    return sp.S.Reals


# Limits


_EXPONENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _limit_values(limit: sp.Limit, point: Point, sign: int) -> list[mpmath.mpc]:
    """The function at points that approach the limit point, each far nearer than the one before."""
    function, variable, target, _ = limit.args
    function = function.doit().subs(point)
    target = target.subs(point)
    if function.has(sp.Sum, sp.Product, sp.Integral):
        raise UndefinedHereError("the function contains an unevaluated sum or integral")
    evaluate = sp.lambdify(variable, function, modules="mpmath")
    values: list[mpmath.mpc] = []
    for exponent in _EXPONENTS:
        with mpmath.workdps(60 + 6 * exponent):
            step = mpmath.mpf(10) ** exponent
            if target in (sp.oo, -sp.oo):
                place = step if target == sp.oo else -step
            else:
                place = _evaluate(target, 60 + 6 * exponent).real + sign / step
            try:
                value = mpmath.mpmathify(evaluate(place))
            except (ArithmeticError, ValueError, MemoryError):
                break
            if not mpmath.isfinite(value):
                break
            values.append(mpmath.mpc(value))
    return values


def _judge_limit(
    limit: sp.Limit, claimed: sp.Expr, relation: str, rewrite: Hint | None, seed: str
) -> Judgement:
    """Judge ``limit == claimed``: SymPy's limit, and the function's values on the way there."""
    if relation != "==":
        raise ValueError(f"relation must be '==' for a Limit, got {relation!r}")
    if claimed.has(sp.Limit):
        claimed = claimed.doit()
    symbols = _free_symbols(limit, claimed)
    stream = _random_points(symbols, random.Random(seed))
    tried = 0
    for point in itertools.islice(stream, 4 if symbols else 1):
        target = limit.args[2]
        direction = str(limit.args[3])
        signs = {"+": (1,), "-": (-1,), "+-": (1, -1)}[direction]
        signs = signs if target not in (sp.oo, -sp.oo) else (1,)
        for sign in signs:
            try:
                values = _limit_values(limit, point, sign)
                verdict, text = _approach(values, claimed.subs(point))
            except UndefinedHereError as problem:
                return Judgement(None, f"the numeric leg cannot follow the limit: {problem}")
            where = f"at {_show_point(point)} " if point else ""
            if verdict is False:
                return Judgement(False, where + text)
            if verdict is None:
                return Judgement(None, f"{where}the values do not settle: {text}")
            tried += 1
    found = limit.doit()
    if found != claimed:
        how, remainder = _symbolic_leg(found, claimed, "==", rewrite)
        if not how:
            return Judgement(None, f"what is left of the difference: {show(remainder)}")
    text = f"SymPy finds the limit, and the function's values approach it along {tried} sequences"
    return Judgement(True, text.replace("1 sequences", "one sequence"), {"points": tried})


def _approach(values: Sequence[mpmath.mpc], claimed: sp.Expr) -> tuple[bool | None, str]:
    """Whether values approach a claimed limit (True), stay away from it (False), or neither (None)."""
    if len(values) < 4:
        return None, "too few values on the way"
    last = _shown(values[-1])
    digits = 60 + 6 * _EXPONENTS[-1]
    with mpmath.workdps(digits):
        if claimed in (sp.oo, -sp.oo):
            toward = [value.real * (1 if claimed == sp.oo else -1) for value in values]
            steps = [b - a for a, b in itertools.pairwise(toward)][-3:]
            if all(step > 0 for step in steps) and steps[-1] >= steps[-2] * 0.9 >= steps[-3] * 0.81:
                return True, ""
            settled = abs(steps[-1]) <= abs(toward[-1]) * 1e-3 or toward[-1] < 0
            return (False if settled else None), f"the values reach {last}, claimed {claimed}"
        goal = _evaluate(claimed, digits)
        away = [abs(value - goal) for value in values][-4:]
        noise = mpmath.mpf(10) ** -(60 + 5 * _EXPONENTS[len(values) - 1]) * max(1, abs(goal))
        if away[-1] <= noise or all(b <= 0.75 * a for a, b in itertools.pairwise(away)):
            return True, ""
        stays = all(b >= 0.95 * a for a, b in itertools.pairwise(away[-3:]))
        return (False if stays else None), f"the values reach {last}, claimed {_shown(goal)}"


# The judgement


def judge(
    left: sp.Expr | sp.ImmutableDenseMatrix,
    right: sp.Expr | sp.ImmutableDenseMatrix,
    *,
    relation: str = "==",
    certificate: sp.Expr | None = None,
    rewrite: Hint | None = None,
    points: int = 24,
    digits: int = 50,
    seed: str = "0",
) -> Judgement:
    """Judge ``left (relation) right`` by both legs; see the module's text for what that means."""
    if isinstance(left, MatrixBase) != isinstance(right, MatrixBase) or (
        isinstance(left, MatrixBase) and left.shape != right.shape
    ):
        return Judgement(None, f"the shapes differ: {_shape(left)} and {_shape(right)}")
    parts = list(zip(_entries(left), _entries(right), strict=True))
    results: list[Judgement] = []
    for (place, a), (_, b) in parts:
        result = _judge_entry(a, b, relation, certificate, rewrite, points, digits, seed)
        if result.outcome is False:
            return Judgement(False, f"{place}: {result.finding}".removeprefix(": "), result.detail)
        named = Judgement(
            result.outcome, f"{place}: {result.finding}".removeprefix(": "), result.detail
        )
        results.append(named)
    for result in results:
        if result.outcome is None:
            return result
    if len(results) == 1:
        return results[0]
    total = sum(result.detail.get("points", 0) for result in results)
    return Judgement(
        True,
        f"all {len(results)} entries: {_common(results)}",
        {**results[0].detail, "points": total, "entries": len(results)},
    )


def _common(results: Sequence[Judgement]) -> str:
    texts = list(dict.fromkeys(result.finding.partition(": ")[2] for result in results))
    return texts[0] if len(texts) == 1 else f"{texts[0]}, and the like"


def _shape(value: sp.Expr | sp.ImmutableDenseMatrix) -> str:
    return str(value.shape) if isinstance(value, MatrixBase) else "a scalar"


def _judge_entry(
    left: sp.Expr,
    right: sp.Expr,
    relation: str,
    certificate: sp.Expr | None,
    rewrite: Hint | None,
    points: int,
    digits: int,
    seed: str,
) -> Judgement:
    if isinstance(left, sp.Limit) or isinstance(right, sp.Limit):
        if not isinstance(left, sp.Limit):
            left, right = right, left
        return _judge_limit(left, right, relation, rewrite, seed)
    numbers = _numeric_leg(left, right, relation, points, digits, seed)
    if numbers.witness:
        return Judgement(False, numbers.witness, {"counterexample": numbers.witness})
    if numbers.undefined:
        return Judgement(None, numbers.undefined)
    how, remainder = _symbolic_leg(left, right, relation, rewrite)
    if not how and certificate is not None:
        how = _by_certificate(left, right, relation, certificate, points, digits, seed)
    count = f"{numbers.points} points" if numbers.points != 1 else "one evaluation"
    if not how:
        return Judgement(
            None,
            f"agrees at {count} but the difference does not reduce; what is left: "
            f"{show(remainder, longest=200)}",
        )
    tail = _tail(numbers, relation, digits)
    detail = {
        "points": numbers.points,
        "exact_points": numbers.exact_points,
        "special_points": numbers.special,
        "digits": digits,
        "symbolic": how,
    }
    return Judgement(True, f"{how.partition(' (')[0]} and {tail}", detail)


def _tail(numbers: _Numbers, relation: str, digits: int) -> str:
    verb = "vanishes" if relation == "==" else f"is {relation} 0"
    if numbers.points == 1:
        return f"{verb} to {2 * digits} digits" if not numbers.exact_points else f"{verb} exactly"
    if numbers.exact_points == numbers.points:
        return f"{verb} at {numbers.points} exact points"
    return f"{verb} at {numbers.points} points to {digits} digits"


def _by_certificate(
    left: sp.Expr,
    right: sp.Expr,
    relation: str,
    certificate: sp.Expr,
    points: int,
    digits: int,
    seed: str,
) -> str:
    """Show an order by an expression that equals the difference and has its sign on its face."""
    if relation == "==":
        return ""
    difference, sign = left - right, relation
    if relation in ("<", "<="):
        difference, sign = right - left, relation.replace("<", ">")
    if not _sign_known(certificate, sign):
        return ""
    if judge(difference, certificate, points=points, digits=digits, seed=seed).outcome is not True:
        return ""
    return "the difference equals the certificate, whose sign is plain,"

r"""The two legs of a proof: algebra over the declared assumptions, and numbers at chosen points.

``simplify`` alone is too weak: it fails to see that two forms agree. Across branch cuts it is now
and then too strong. Numbers alone prove nothing: :math:`e^{\pi\sqrt{163}}` agrees with an integer
to thirty digits and is none. So a statement *holds* here only if both legs carry it:

* **symbolic**: SymPy reduces the difference of the two sides to zero (or shows its sign) from the
  assumptions declared on the symbols; no rewriting is forced;
* **numeric**: at random exact rationals that satisfy those assumptions, and at special values
  such as 0, 1, -1 and the numbers that the statement mentions, the relation is seen to be true,
  exactly or to many digits at two precisions.

A statement *fails* only by a witness: a point where the relation is seen to be false. Everything
else is undecided, and undecided is never taken for either. The right version of a claim and its
wrong ones pass through the same function, :func:`judge`.
"""

from __future__ import annotations

import functools
import itertools
import operator
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Integral as WholeNumber
from typing import Any, TypeAlias

import mpmath
import sympy as sp
from sympy import stats
from sympy.core.function import AppliedUndef
from sympy.functions.elementary.trigonometric import TrigonometricFunction
from sympy.matrices.expressions.matexpr import MatrixElement, MatrixExpr
from sympy.matrices.matrixbase import MatrixBase
from sympy.stats.rv import RandomSymbol
from sympy.stats.symbolic_probability import Covariance, Expectation, Probability, Variance

__all__ = [
    "RELATIONS",
    "Judgement",
    "check",
    "contradiction",
    "exact",
    "judge",
    "reduces_to_zero",
    "show",
]

RELATIONS = ("==", "!=", "<=", "<", ">=", ">")
"""The relations a statement may claim between its two sides."""

Hint = Callable[[sp.Expr], sp.Expr]
Reader = Callable[[int], mpmath.mpc]
Value: TypeAlias = sp.Expr | sp.ImmutableDenseMatrix


@dataclass(frozen=True)
class Judgement:
    """What came of one statement: ``True`` it holds, ``False`` it fails, ``None`` undecided."""

    outcome: bool | None
    finding: str
    detail: dict[str, Any] = field(default_factory=dict)


class UndefinedHereError(ArithmeticError):
    """No value could be had at a point: a pole, a value that is not real, no convergence."""


class OutOfRangeError(UndefinedHereError):
    """A value with so many digits before or after the point that it cannot be written."""


# The door: what may be proved about


def exact(name: str, value: object) -> Value:
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
        For NaN, empty matrices, and what no number can be put in for: undefined functions, random
        variables outside of an expectation, symbols that do not commute.
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
        value = _explicit(name, value)
    if isinstance(value, MatrixBase):
        matrix = sp.ImmutableDenseMatrix(value)
        if not len(matrix):
            raise ValueError(f"{name} must not be empty, got a matrix of shape {matrix.shape}")
        for entry in matrix:
            _check_expression(name, entry)
        return matrix
    if not isinstance(value, sp.Expr) or isinstance(value, sp.Lambda):
        raise TypeError(
            f"{name} must be a SymPy expression, a matrix, an int or a Fraction, "
            f"got {type(value).__name__}"
        )
    value = value.replace(
        lambda node: isinstance(node, sp.Trace | sp.Determinant),
        lambda node: _written_out(name, node),
    )
    _check_expression(name, value)
    return value


def _written_out(name: str, value: sp.Expr) -> sp.Expr:
    """A trace or a determinant in the entries of its matrix."""
    matrix = _explicit(name, value.arg)
    return matrix.trace() if isinstance(value, sp.Trace) else matrix.det()


def _explicit(name: str, value: MatrixExpr) -> MatrixBase:
    try:
        return value.doit().as_explicit()
    except (ValueError, AttributeError) as problem:
        raise ValueError(
            f"{name} must have a shape of plain numbers, got {value.shape}"
        ) from problem


def _check_expression(name: str, value: sp.Expr) -> None:
    floats = value.atoms(sp.Float)
    if floats:
        raise TypeError(f"{name} is not exact: it contains the float {min(floats)}")
    if value.has(sp.nan):
        raise ValueError(f"{name} is undefined: it contains nan")
    undefined = value.atoms(AppliedUndef)
    if undefined:
        shown = ", ".join(sorted(str(f) for f in undefined))
        raise ValueError(f"{name} contains {shown}: no number can be put in for such a function")
    if value.has(sp.Limit) and not isinstance(value, sp.Limit):
        raise ValueError(f"{name} contains a Limit: it must stand alone, or be evaluated by doit()")
    if value.is_commutative is False:
        raise ValueError(f"{name} does not commute; only commuting symbols can be judged")
    loose = _without_random(value).atoms(RandomSymbol)
    if loose:
        shown = ", ".join(sorted(str(x) for x in loose))
        raise ValueError(f"{name} contains {shown} outside of an expectation: a random variable")


def _without_random(value: sp.Expr) -> sp.Expr:
    """Expectations and their like as integrals and sums; the random variables become plain ones."""
    if not value.has(RandomSymbol):
        return value
    # As they are defined: a mean inside an integrand would be integrated at each of its points.
    value = value.replace(Variance, lambda x, *given: Covariance(x, x, *given))
    value = value.replace(Covariance, _covariance)
    value = value.replace(Expectation, lambda x, *given: Expectation(sp.expand(x), *given).expand())
    written = value.rewrite(sp.Integral)
    bound = {x: x.symbol for x in written.atoms(RandomSymbol) if x not in written.free_symbols}
    return written.xreplace(bound).replace(_is_single_integral, _constants_in_front)


def _covariance(x: sp.Expr, y: sp.Expr, *given: sp.Basic) -> sp.Expr:
    return Expectation(x * y, *given) - Expectation(x, *given) * Expectation(y, *given)


def _is_single_integral(node: sp.Basic) -> bool:
    return isinstance(node, sp.Integral) and len(node.limits) == 1


def _constants_in_front(node: sp.Integral) -> sp.Expr:
    """Of independent variables a double integral becomes a product of two, which is far quicker."""
    constant, rest = node.function.as_independent(node.limits[0][0], as_Add=False)
    return constant * sp.Integral(rest, *node.limits)


def _moments(value: sp.Expr) -> sp.Expr:
    """Expectations and their like as SymPy's own rules for random variables evaluate them."""
    rules: dict[type, Callable[..., sp.Expr]] = {
        Expectation: stats.E,
        Variance: stats.variance,
        Covariance: stats.covariance,
        Probability: stats.P,
    }
    for kind, rule in rules.items():
        value = value.replace(kind, rule)
    return value


def check(
    left: Value, right: Value, *, relation: str = "==", certificate: Value | None = None
) -> None:
    """Refuse a statement that cannot be judged whatever its truth: a mistake of its author.

    Raises
    ------
    ValueError
        If one name stands for two symbols with different assumptions, if an order is claimed
        between what is not declared real or ``!=`` between matrices, if a certificate does not fit,
        or if no number at hand satisfies what is declared on a symbol.
    """
    if relation not in RELATIONS:
        raise ValueError(f"relation must be one of {RELATIONS}, got {relation!r}")
    sides = [entry for side in (left, right) for _, entry in _entries(side)]
    symbols = _free_symbols(*map(_without_random, sides))
    for first, second in itertools.pairwise(symbols):
        if first.name == second.name and not isinstance(first, sp.Dummy):
            raise ValueError(
                f"two different symbols are both called {first.name}: declared differently"
            )
    for symbol in symbols:
        _pool_of(symbol)
    if relation == "!=" and isinstance(left, MatrixBase):
        raise ValueError("relation '!=' is not for matrices: say which entry differs")
    if relation not in ("==", "!="):
        loose = [str(s) for s in symbols if not s.is_extended_real]
        loose += sorted(str(e) for side in sides for e in _elements(side) if not e.is_real)
        if loose:
            raise ValueError(
                f"relation {relation!r} needs real symbols; declare real=True or more on "
                f"{', '.join(loose)}"
            )
    if any(isinstance(side, sp.Limit) for side in sides):
        if relation != "==":
            raise ValueError(f"relation must be '==' where a Limit is claimed, got {relation!r}")
        if all(isinstance(side, sp.Limit) for side in sides):
            raise ValueError("only one side may be a Limit")
    if certificate is not None and (
        relation in ("==", "!=")
        or isinstance(left, MatrixBase)
        or isinstance(certificate, MatrixBase)
    ):
        raise ValueError("certificate is for one order relation (<=, <, >=, >) between scalars")


def _entries(value: Value) -> list[tuple[str, sp.Expr]]:
    """The scalars inside a value, each with the place it has there."""
    if isinstance(value, MatrixBase):
        rows, columns = value.shape
        return [
            (f"entry ({i}, {j}): ", value[i, j])
            for i, j in itertools.product(range(rows), range(columns))
        ]
    return [("", value)]


def _free_symbols(*values: sp.Expr) -> list[sp.Symbol]:
    found = set().union(*(value.free_symbols for value in values))
    labels = {base.label for value in values for base in value.atoms(sp.IndexedBase)}
    symbols = [s for s in found if isinstance(s, sp.Symbol) and s not in labels]
    return sorted(symbols, key=lambda s: (s.name, str(sorted(s.assumptions0.items())), str(s)))


def _elements(value: sp.Expr) -> set[sp.Expr]:
    """Entries of indexed objects and matrix symbols, such as ``q[2]``."""
    found: set[sp.Expr] = value.atoms(sp.Indexed, MatrixElement)
    return found


# Points: exact numbers that satisfy what was declared


@dataclass(frozen=True)
class _Point:
    """A number for each free symbol; ``salt`` decides those for elements such as ``q[2]``."""

    coordinates: tuple[tuple[sp.Symbol, sp.Expr], ...]
    salt: str

    def __str__(self) -> str:
        shown = [f"{symbol} = {value}" for symbol, value in self.coordinates]
        return ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")

    def where(self) -> str:
        """The point as the words that begin a finding."""
        return f"at {self} " if self.coordinates else ""


# Follow from others, and SymPy does not derive them for numbers.
_IGNORED_FACTS = ("hermitian", "antihermitian", "commutative")


def _satisfies(symbol: sp.Symbol, value: sp.Expr) -> bool:
    """Whether a number has every property declared on a symbol (and those that follow from it)."""
    return all(
        getattr(value, f"is_{fact}") is wanted
        for fact, wanted in symbol.assumptions0.items()
        if fact not in _IGNORED_FACTS
    )


_RANGES = ((1, 4), (1, 4), (4, 12), (0, 1), (1, 4), (12, 60))
_WHOLE_UP_TO = (6, 12, 9, 4, 8, 20)


def _magnitude(rng: random.Random, turn: int) -> sp.Rational:
    """A positive rational, never whole: mostly moderate, now and then small or large."""
    low, high = _RANGES[turn % len(_RANGES)]
    denominator = rng.choice((2, 3, 4, 5, 7) if high > 1 else (11, 13, 17, 29))
    while True:
        value = sp.Rational(rng.randint(low * denominator, high * denominator), denominator)
        if not value.is_Integer:
            return value


def _signed(rng: random.Random, turn: int) -> sp.Rational:
    return rng.choice((-1, 1)) * _magnitude(rng, turn)


def _whole(rng: random.Random, turn: int) -> sp.Integer:
    high = _WHOLE_UP_TO[turn % len(_WHOLE_UP_TO)]
    return sp.Integer(rng.choice((-1, 1)) * rng.randint(2, high))


def _gaussian(rng: random.Random, turn: int) -> sp.Expr:
    # A third of the points lie on the axes: that is where log, sqrt and the like have their cuts.
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
    lambda rng, _: sp.Integer(rng.choice((-1, 0, 1))),
)


@functools.cache
def _pool_of(symbol: sp.Symbol) -> Callable[[random.Random, int], sp.Expr]:
    """The pool in which most numbers satisfy the symbol's assumptions; the first of the best."""
    rng = random.Random(0)
    fitting = [sum(_satisfies(symbol, pool(rng, turn)) for turn in range(36)) for pool in _POOLS]
    if not any(fitting):
        raise ValueError(f"no number at hand satisfies what is declared on {symbol}")
    # Half of the numbers are negative: a pool that misses by the sign alone is as good as another.
    return next(pool for pool, n in zip(_POOLS, fitting, strict=True) if 2 * n >= max(fitting))


def _draw(symbol: sp.Symbol, rng: random.Random, turn: int) -> sp.Expr:
    """A number for a symbol; never 0, 1 or -1 unless nothing else is allowed."""
    pool = _pool_of(symbol)
    for attempt in itertools.count():
        # Keep to this turn's range for a while: it may only be the sign that does not fit.
        value = pool(rng, turn if attempt < 12 else rng.randrange(6))
        if _satisfies(symbol, value):
            return value
    raise AssertionError


def _random_points(
    symbols: Sequence[sp.Symbol], seed: str, *, moderate: bool = False
) -> Iterator[_Point]:
    """Endless random points, the same ones for the same seed and symbols.

    A quadrature misses a narrow peak far out; where there is one all coordinates are moderate.
    """
    rng = random.Random(seed)
    for turn in itertools.cycle((0, 1, 4)) if moderate else itertools.count():
        drawn = tuple((symbol, _draw(symbol, rng, turn)) for symbol in symbols)
        yield _Point(drawn, f"{seed}/{rng.random()}")


def _special_points(
    symbols: Sequence[sp.Symbol], numbers: Iterable[sp.Expr], seed: str
) -> Iterator[_Point]:
    """Where statements like to break: all coordinates equal; one of them at a special value.

    The special values are 0, 1, -1, the numbers that the statement mentions and their
    neighbourhood.
    """
    stream = _random_points(symbols, f"{seed}/special")
    third = sp.Rational(1, 3)
    around = [n + shift for n in numbers for shift in (0, third, -third)]
    values = dict.fromkeys([sp.Integer(0), sp.Integer(1), sp.Integer(-1), *around])
    if len(symbols) > 1:
        drawn = next(stream).coordinates[0][1]
        for value in [drawn, *values]:
            if all(_satisfies(symbol, value) for symbol in symbols):
                yield _Point(tuple((symbol, value) for symbol in symbols), f"{seed}/{value}")
    for value, symbol in itertools.product(values, symbols):
        if _satisfies(symbol, value):
            point = next(stream)
            moved = {**dict(point.coordinates), symbol: value}
            yield _Point(tuple(moved.items()), point.salt)


def _numbers_in(*values: sp.Expr) -> list[sp.Expr]:
    """A few rationals that the expressions mention: an ``Abs(x - 1000)`` has its kink at one."""
    found = set().union(*(value.atoms(sp.Rational) for value in values))
    kept = sorted(abs(n) for n in found if 0 < abs(n) <= 10**9 and n.q <= 1000)
    return [sign * n for n in dict.fromkeys(kept[:3] + kept[-3:]) for sign in (1, -1)]


# Numbers: the value of an expression at a point


@functools.lru_cache(maxsize=8192)
def _at(expression: sp.Expr, point: _Point) -> sp.Expr:
    """Put a point into an expression, and carry out derivatives and finite sums."""
    value = expression.replace(
        lambda node: isinstance(node, sp.Derivative | sp.Subs), lambda node: node.doit()
    )
    value = value.subs(dict(point.coordinates))
    value = value.replace(_is_finite_sum, lambda node: node.doit(deep=False))
    filled = {}
    for element in sorted(_elements(value), key=str):
        # One number for an element wherever it occurs, another one at the next point.
        rng = random.Random(f"{point.salt}/{element}")
        filled[element] = _draw(_stand_in(element), rng, rng.randrange(6))
    return value.xreplace(filled) if filled else value


def _stand_in(element: sp.Expr) -> sp.Symbol:
    """A symbol with the assumptions of an element of an indexed object."""
    declared = element.base.label.assumptions0 if isinstance(element, sp.Indexed) else {}
    return sp.Symbol(str(element), **declared)


def _is_finite_sum(node: sp.Basic) -> bool:
    return isinstance(node, sp.Sum | sp.Product) and all(
        len(limit) == 3 and limit[1].is_Integer and limit[2].is_Integer for limit in node.limits
    )


@functools.lru_cache(maxsize=8192)
def _evaluate(value: sp.Expr, digits: int) -> mpmath.mpc:
    """The complex number that an expression without symbols stands for, to so many digits."""
    # The limit on the working precision grows with the digits asked for: with a fixed one a hidden
    # zero would come out as the same rounding error at every precision, and look like a number.
    if value.has(sp.Integral):
        value = value.replace(
            lambda node: isinstance(node, sp.Integral), lambda node: _quadrature(node, digits)
        )
    number = value.evalf(digits, maxn=100 + 4 * digits)
    if number.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
        raise UndefinedHereError(f"the value is {number}")
    real, imaginary = number.as_real_imag()
    if not (_is_plain(real) and _is_plain(imaginary)):
        raise UndefinedHereError(f"no numeric value for {show(value)}")
    with mpmath.workdps(digits + 15):
        return _in_range(mpmath.mpc(_to_mpmath(real), _to_mpmath(imaginary)))


_CUTS = (-100, -30, -10, -3, 0, 3, 10, 30, 100)


def _quadrature(integral: sp.Integral, digits: int) -> sp.Expr:
    """An integral's value by tanh-sinh quadrature, without any algebra of SymPy's."""
    if integral.free_symbols:
        return integral  # an inner one: mpmath nests the quadratures when it comes to the outer one
    function, limits = integral.function, integral.limits
    if len(limits) > 1:
        function = sp.Integral(function, *limits[:-1])
    variable, low, high = limits[-1]
    # Cut into pieces: kinks are mostly at 0, and one piece for everything overlooks narrow peaks.
    cuts = (0,) if function.has(sp.Integral) else _CUTS
    ends = [low, *(sp.Integer(cut) for cut in cuts if low < cut and cut < high), high]
    with mpmath.workdps(digits):
        integrand = sp.lambdify(variable, function, modules="mpmath")
        places = sp.lambdify((), ends, modules="mpmath")()
        number, error = mpmath.quad(integrand, places, error=True)
        if not error <= max(1, abs(number)) * _NOISE / 10:
            raise UndefinedHereError("a quadrature does not settle")
        number = mpmath.mpc(number)
        return sp.Float(number.real, digits) + sp.I * sp.Float(number.imag, digits)


def _is_plain(part: sp.Expr) -> bool:
    return bool(part.is_Float or part.is_Rational)


def _to_mpmath(part: sp.Expr) -> mpmath.mpf:
    return mpmath.mpf(part.p) / part.q if part.is_Rational else mpmath.mpmathify(part)


def _gaussian_rational(value: sp.Expr) -> Any:
    """A number ``a + b i`` with rational parts in exact arithmetic; ``None`` if it is none."""
    if value.is_Rational:
        return sp.QQ_I(sp.QQ(value.p, value.q), 0)
    if value.has(sp.I) and not value.atoms(sp.NumberSymbol, sp.Function):
        real, imaginary = sp.expand(value).as_real_imag()
        if real.is_Rational and imaginary.is_Rational:
            return sp.QQ_I(sp.QQ(real.p, real.q), sp.QQ(imaginary.p, imaginary.q))
    return None


@functools.lru_cache(maxsize=512)
def _is_rational_function(expression: sp.Expr) -> bool:
    """Whether only the four operations and whole powers are needed."""
    return all(
        node.is_Symbol
        or node.is_Rational
        or node is sp.I
        or isinstance(node, sp.Add | sp.Mul)
        or (isinstance(node, sp.Pow) and node.exp.is_Integer)
        for node in sp.preorder_traversal(expression)
    )


def _exactly(expression: sp.Expr, values: dict[sp.Expr, Any]) -> Any:
    """The exact value of a rational function; `values` keeps what has been computed already."""
    if expression not in values:
        parts = expression.args
        if isinstance(expression, sp.Pow):
            base, power = _exactly(parts[0], values), int(parts[1])
            if not base and power < 0:
                raise UndefinedHereError("a division by zero")
            value = base**power if power >= 0 else (1 / base) ** -power
        elif isinstance(expression, sp.Add | sp.Mul):
            join = operator.add if isinstance(expression, sp.Add) else operator.mul
            value = functools.reduce(join, (_exactly(part, values) for part in parts))
        else:
            value = _gaussian_rational(expression)
        values[expression] = value
    return values[expression]


# Where mpmath and SymPy mean the same function, and rounding does no harm between real numbers.
_PLAIN_FUNCTIONS = (
    *(sp.exp, sp.log, sp.Abs, sp.gamma, sp.erf),
    *(sp.sin, sp.cos, sp.tan, sp.atan, sp.sinh, sp.cosh, sp.tanh),
)


@functools.lru_cache(maxsize=512)
def _compiled(expression: sp.Expr) -> Callable[..., Any] | None:
    """A fast function for an expression of plain functions; ``None`` for any other."""
    for node in sp.preorder_traversal(expression):
        if not (
            node.is_Symbol
            or node.is_Rational
            or isinstance(node, (sp.NumberSymbol, sp.Add, sp.Mul, sp.Pow, *_PLAIN_FUNCTIONS))
        ):
            return None
    compiled: Callable[..., Any] = sp.lambdify(
        _free_symbols(expression), expression, modules="mpmath", cse=True
    )
    return compiled


def _reader(expression: sp.Expr, point: _Point) -> Reader | None:
    """What reads off a plain expression's value at a real point to so many digits."""
    function = _compiled(expression)
    if function is None or any(not value.is_Rational for _, value in point.coordinates):
        return None
    numbers = dict(point.coordinates)
    values = [numbers[symbol] for symbol in _free_symbols(expression)]

    def read(digits: int) -> mpmath.mpc:
        with mpmath.workdps(digits + 15):
            value = function(*map(_to_mpmath, values))
            if isinstance(value, mpmath.mpc) or not mpmath.isfinite(value):
                raise UndefinedHereError("not a finite real number")
            return _in_range(mpmath.mpc(value))

    return read


def _in_range(number: mpmath.mpc) -> mpmath.mpc:
    """Refuse numbers beyond some 30 000 digits before or after the point."""
    if number and abs(mpmath.mag(number)) > 100_000:
        raise OutOfRangeError("the value is too large or too small to be handled")
    return number


@dataclass(frozen=True)
class _Gap:
    """How two numbers lie to each other: equal or not, in which order, known exactly or not."""

    equal: bool
    sign: int
    exactly: bool
    left: str
    right: str

    def satisfies(self, relation: str) -> bool:
        """Whether the relation holds between the two."""
        return {
            "==": self.equal,
            "!=": not self.equal,
            "<=": self.equal or self.sign < 0,
            "<": not self.equal and self.sign < 0,
            ">=": self.equal or self.sign > 0,
            ">": not self.equal and self.sign > 0,
        }[relation]

    def __str__(self) -> str:
        if self.equal:
            return f"both sides are {self.left}"
        if self.left == self.right:
            return f"the sides differ although both round to {self.left}"
        return f"the sides are {self.left} and {self.right}"


def _exact_gap(a: Any, b: Any, real: bool) -> _Gap:
    """Compare two Gaussian rationals."""
    if real and (a.y or b.y):
        raise UndefinedHereError("the value is not real")
    left, right = (sp.QQ_I.to_sympy(side) for side in (a, b))
    # Python refuses to write numbers of thousands of digits; of any that long a few will do.
    wholes = [whole for n in (a.x, a.y, b.x, b.y) for whole in (n.numerator, n.denominator)]
    if max(int(whole).bit_length() for whole in wholes) > 100 or len(f"{left}{right}") > 50:
        left, right = (_shown(_evaluate(side, 50)) for side in (left, right))
    return _Gap(a == b, (a.x > b.x) - (a.x < b.x), True, str(left), str(right))


def _climb(left: Reader, right: Reader, ladder: Sequence[int], real: bool) -> _Gap:
    """Climb through the precisions until a difference stands still, which makes it a true one.

    A rounding error changes when the precision does; a true difference, however small, stays.
    """
    before: mpmath.mpc | None = None
    # One more rung in case the last one is the first to show a difference.
    for digits in (*ladder, 2 * ladder[-1]):
        a, b = left(digits), right(digits)
        with mpmath.workdps(digits + 15):
            allowed = max(mpmath.mpf(1), abs(a), abs(b)) * mpmath.mpf(10) ** (10 - digits)
            if real and max(abs(a.imag), abs(b.imag)) > allowed:
                raise UndefinedHereError("the value is not real")
            difference = a - b
            size = abs(difference)
            if before is not None and size > 0 and abs(difference - before) <= size * 1e-6:
                sign = 1 if difference.real > 0 else -1
                return _Gap(False, sign, False, _shown(a), _shown(b))
            before = difference
            if size <= allowed and digits == ladder[-1]:
                a, b = (x if abs(x) > allowed else mpmath.mpc(0) for x in (a, b))
                return _Gap(True, 0, False, _shown(a), _shown(b))
    raise UndefinedHereError("the value cannot be computed reliably")


_NOISE = 1e-11


def _nearly(left: sp.Expr, right: sp.Expr, real: bool) -> _Gap:
    """Compare where a quadrature or an infinite series allows few digits: apart is far apart."""
    a, b = _evaluate(left, 20), _evaluate(right, 20)
    with mpmath.workdps(20):
        size, scale = abs(a - b), max(1, abs(a), abs(b))
    if real and max(abs(a.imag), abs(b.imag)) > _NOISE * scale:
        raise UndefinedHereError("the value is not real")
    if _NOISE * scale < size < 100 * _NOISE * scale:
        raise UndefinedHereError("the sides are too near to each other for a quadrature")
    sign = 1 if a.real > b.real else -1
    equal = bool(size <= _NOISE * scale)
    return _Gap(equal, 0 if equal else sign, False, _shown(a), _shown(b))


def _shown(number: mpmath.mpc) -> str:
    tiny = mpmath.mpf("1e-30")
    if abs(number.imag) <= abs(number.real) * tiny:
        return str(mpmath.nstr(number.real, 4))
    if abs(number.real) <= abs(number.imag) * tiny:
        return f"{mpmath.nstr(number.imag, 4)}i"
    sign = "-" if number.imag < 0 else "+"
    return f"{mpmath.nstr(number.real, 4)} {sign} {mpmath.nstr(abs(number.imag), 4)}i"


_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def show(value: object, *, longest: int = 60) -> str:
    """A short, plain text of a value: one line, cut where it gets long, no memory addresses."""
    text = _ADDRESS.sub("", " ".join(str(value).split()))
    return text if len(text) <= longest else text[: longest - 1] + "…"


# The numeric leg


# What mpmath and SymPy raise where a value cannot be had.
_TROUBLE = (TypeError, ValueError, ArithmeticError, MemoryError, RecursionError)


@dataclass(frozen=True)
class _Statement:
    """``left (relation) right`` between two scalars, and how to look at it."""

    left: sp.Expr
    right: sp.Expr
    relation: str
    digits: int

    @functools.cached_property
    def symbols(self) -> list[sp.Symbol]:
        return _free_symbols(self.left, self.right)

    @functools.cached_property
    def approximate(self) -> bool:
        """Whether a quadrature or an infinite series stands in the way of many digits."""
        return any(
            isinstance(node, sp.Integral) or (node.has(sp.oo, -sp.oo))
            for side in (self.left, self.right)
            for node in side.atoms(sp.Integral, sp.Sum, sp.Product)
        )

    @functools.cached_property
    def nested(self) -> bool:
        """Whether an integral runs over more than one variable, which takes long."""
        return any(
            len(node.limits) > 1 or node.function.has(sp.Integral)
            for side in (self.left, self.right)
            for node in side.atoms(sp.Integral)
        )

    @property
    def constant(self) -> bool:
        return not self.symbols and not _elements(self.left) and not _elements(self.right)

    def look(self, point: _Point, *, deep: bool = False) -> _Gap:
        """Compare the sides at a point; exactly where both are rational, else numerically."""
        real = self.relation not in ("==", "!=")
        try:
            if _is_rational_function(self.left) and _is_rational_function(self.right):
                values = {symbol: _gaussian_rational(value) for symbol, value in point.coordinates}
                if all(value is not None for value in values.values()):
                    a, b = _exactly(self.left, values), _exactly(self.right, values)
                    return _exact_gap(a, b, real)
            gap = self._glance(point, deep)
            if gap is not None and gap.satisfies(self.relation):
                return gap
            return self._look(_at(self.left, point), _at(self.right, point), deep)
        except UndefinedHereError:
            raise
        except (*_TROUBLE, NotImplementedError, AttributeError) as why:
            raise UndefinedHereError(show(why)) from why

    def _glance(self, point: _Point, deep: bool) -> _Gap | None:
        """The quick way, for plain functions of real numbers; ``None`` where it does not lead.

        Only what agrees is believed: a value that lies on a branch cut must not be rounded off it.
        """
        left, right = _reader(self.left, point), _reader(self.right, point)
        if left is None or right is None:
            return None
        try:
            return _climb(left, right, self._ladder(deep), real=True)
        except OutOfRangeError:
            raise
        except _TROUBLE:
            return None

    def _look(self, left: sp.Expr, right: sp.Expr, deep: bool) -> _Gap:
        for value in (left, right):
            if value in (sp.nan, sp.zoo, sp.oo, -sp.oo):
                raise UndefinedHereError(f"the value is {value}")
        real = self.relation not in ("==", "!=")
        exact_left, exact_right = _gaussian_rational(left), _gaussian_rational(right)
        if exact_left is not None and exact_right is not None:
            return _exact_gap(exact_left, exact_right, real)
        if self.approximate:
            return _nearly(left, right, real)
        a, b = functools.partial(_evaluate, left), functools.partial(_evaluate, right)
        return _climb(a, b, self._ladder(deep), real)

    def _ladder(self, deep: bool) -> list[int]:
        return [self.digits * 2**k for k in range(6 if deep else 2)]


@dataclass(frozen=True)
class _Numbers:
    """What the numeric leg found: a witness, how many points agreed, or why it cannot tell."""

    witness: str = ""
    place: _Point | None = None
    points: int = 0
    exact_points: int = 0
    special: int = 0
    undefined: str = ""


def _numeric_leg(statement: _Statement, points: int, seed: str) -> _Numbers:
    if statement.approximate:
        points = 2 if statement.nested else min(points, 4)
    if statement.constant:
        points = 1
    agreed = exactly = 0
    undefined = ""
    stream = _random_points(statement.symbols, seed, moderate=statement.approximate)
    for point in itertools.islice(stream, 12 * points):
        try:
            # At the first points also far more digits: a factor 1 + 10**-500 is not 1.
            gap = statement.look(point, deep=agreed < 2)
            if not gap.satisfies(statement.relation):
                _confirm(statement, point, gap)
                return _Numbers(f"{point.where()}{gap}", point)
        except UndefinedHereError as problem:
            undefined = undefined or f"cannot be compared {point.where()}({problem})"
            continue
        agreed += 1
        exactly += gap.exactly
        if agreed == points:
            break
    if agreed < points:
        return _Numbers(undefined=undefined, points=agreed)
    special, witness, place = _look_further(statement, seed)
    return _Numbers(witness, place, agreed, exactly, special)


def _look_further(statement: _Statement, seed: str) -> tuple[int, str, _Point | None]:
    """Special points, and for order relations a search for the place where they break first."""
    if statement.approximate:
        few = 0 if statement.nested else 2
        candidates = itertools.islice(_special_points(statement.symbols, (), seed), few)
    else:
        numbers = _numbers_in(statement.left, statement.right)
        candidates = itertools.islice(_special_points(statement.symbols, numbers, seed), 60)
    seen = 0
    for point in itertools.chain(candidates, _critical_points(statement, seed)):
        try:
            gap = statement.look(point)
            if not gap.satisfies(statement.relation):
                _confirm(statement, point, gap)
                return seen, f"{point.where()}{gap}", point
        except UndefinedHereError:
            continue  # a removable singularity: the claim speaks of where both sides are defined
        seen += 1
    return seen, "", None


def _confirm(statement: _Statement, point: _Point, gap: _Gap) -> None:
    """Where a relation breaks by a tie, the tie must be proved: equal digits are not enough."""
    if gap.equal and not gap.exactly:
        difference = _at(statement.left, point) - _at(statement.right, point)
        if not reduces_to_zero(difference)[0]:
            raise UndefinedHereError("a tie to all digits computed, but not proved")


def _doubted(statement: _Statement, point: _Point) -> bool:
    """Whether SymPy's values of integrals and sums keep the relation where a quadrature broke it.

    A quadrature can overlook a peak; then it is no witness.
    """
    left, right = (_try(lambda e: e.doit(), side) for side in (statement.left, statement.right))
    if left is None or right is None:
        return False
    closed = replace(statement, left=left, right=right)
    if closed.approximate:
        return False
    try:
        return closed.look(point).satisfies(closed.relation)
    except UndefinedHereError:
        return False


def _critical_points(statement: _Statement, seed: str) -> Iterator[_Point]:
    """Where an order (or an inequality) would break: near its smallest gap, and at its ties."""
    if statement.relation == "==" or statement.approximate or not statement.symbols:
        return
    if statement.relation in (">=", ">", "<=", "<"):
        yield from _descents(statement, seed)
    if statement.relation in ("!=", ">", "<") and len(statement.symbols) == 1:
        symbol = statement.symbols[0]
        for root in _roots(statement.left - statement.right, symbol):
            if isinstance(root, sp.Expr) and not root.free_symbols and _satisfies(symbol, root):
                yield _Point(((symbol, root),), f"{seed}/{root}")


_EASY = 60
"""Above so many operations no roots and extrema are sought: SymPy might not come back."""


def _roots(expression: sp.Expr, symbol: sp.Symbol) -> list[sp.Expr]:
    if sp.count_ops(expression) > _EASY:
        return []
    try:
        return list(sp.solve(expression, symbol))
    except Exception:  # SymPy raises anything; then no root is known
        return []


def _descents(statement: _Statement, seed: str) -> Iterator[_Point]:
    """Walk downhill from a few points toward the least distance that the order leaves."""
    if _elements(statement.left) or _elements(statement.right):
        return
    upward = statement.relation in (">", ">=")
    rise = statement.left - statement.right if upward else statement.right - statement.left
    height = sp.lambdify(statement.symbols, rise, modules="mpmath")
    for start in itertools.islice(_random_points(statement.symbols, f"{seed}/descent"), 4):
        place = [Fraction(int(v.p), int(v.q)) for _, v in start.coordinates if v.is_Rational]
        if len(place) < len(statement.symbols):
            return
        found = _descend(height, statement.symbols, place)
        for denominator in (7, 100, 10**9):
            near = [sp.Rational(x.limit_denominator(denominator)) for x in found]
            pairs = list(zip(statement.symbols, near, strict=True))
            if all(_satisfies(symbol, value) for symbol, value in pairs):
                yield _Point(tuple(pairs), f"{seed}/descent")


def _descend(
    height: Callable[..., Any], symbols: Sequence[sp.Symbol], place: list[Fraction]
) -> list[Fraction]:
    """A pattern search on exact rationals: halve the step when no neighbour lies lower."""

    def at(point: Sequence[Fraction]) -> mpmath.mpf:
        with mpmath.workdps(30):
            try:
                value = height(*(mpmath.mpf(x.numerator) / x.denominator for x in point))
                return value if isinstance(value, mpmath.mpf) else mpmath.inf
            except (*_TROUBLE, NameError, AttributeError):
                return mpmath.inf

    step, lowest = Fraction(2), at(place)
    for _ in range(40):
        neighbours = []
        for index, symbol in enumerate(symbols):
            width = max(Fraction(1), Fraction(int(step))) if symbol.is_integer else step
            for move in (width, -width):
                moved = [*place[:index], place[index] + move, *place[index + 1 :]]
                if _satisfies(symbol, sp.Rational(moved[index])):
                    neighbours.append((at(moved), moved))
        best = min(neighbours, key=lambda pair: pair[0], default=(mpmath.inf, place))
        if best[0] < lowest:
            lowest, place = best
        else:
            step /= 2
    return place


# The symbolic leg


def _rewritings() -> Iterator[tuple[str, Hint]]:
    """Rewritings that keep an expression's value, cheap ones first; none of them is forced."""
    yield "expand", sp.expand
    yield "cancel", lambda e: sp.cancel(sp.together(e))
    yield "powsimp", lambda e: sp.powsimp(sp.powdenest(sp.expand(e)))
    yield "expand_log", lambda e: sp.expand(sp.expand_log(e))
    yield "radsimp", lambda e: sp.radsimp(sp.sqrtdenest(e))
    yield "factor", sp.factor
    yield "trigsimp", lambda e: sp.trigsimp(sp.expand_trig(e))
    yield "rewrite as exp", lambda e: sp.powsimp(sp.expand(e.rewrite(sp.exp)))
    yield "gammasimp", lambda e: sp.gammasimp(sp.expand_func(e))
    yield "combsimp", sp.combsimp
    yield "logcombine", lambda e: sp.logcombine(sp.expand(e))
    yield "simplify", sp.simplify
    yield "expand, simplify", lambda e: sp.simplify(sp.expand(e))
    yield "rewrite as exp, simplify", lambda e: sp.simplify(e.rewrite(sp.exp))
    yield "cancel, simplify", lambda e: sp.simplify(sp.cancel(sp.together(e)))


def _forms(expression: sp.Expr) -> Iterator[tuple[str, sp.Expr]]:
    """The expression and what the rewritings make of it, lazily."""
    yield "as it stands", expression
    starts = {"doit": _try(lambda e: e.doit(), expression)}
    if expression.has(sp.Sum):
        starts["linear sums"] = _try(linear_sums, expression)
    for start, base in starts.items():
        if base is None:
            continue
        yield start, base
        for name, rewriting in _rewritings():
            if base.has(sp.Integral) and name not in ("expand", "simplify"):
                continue  # each would try to integrate once more
            form = _try(rewriting, base)
            if form is not None:
                yield name, form


def _try(rewriting: Hint, expression: sp.Expr) -> sp.Expr | None:
    """What a rewriting makes of an expression, or nothing where it does not apply."""
    try:
        form = rewriting(expression)
    except Exception:  # SymPy raises anything; the other rewritings remain
        return None
    return form if isinstance(form, sp.Expr) else None


_INDEX = "∑"
"""How the index of a sum in its one form is called; no author's symbol begins like this."""


def linear_sums(expression: sp.Expr) -> sp.Expr:
    """Bring finite sums into one form: split, constants in front, one index, from zero on."""
    return sp.expand(expression).replace(_is_plain_sum, _linear_sum)


def _is_plain_sum(node: sp.Basic) -> bool:
    return isinstance(node, sp.Sum) and not any(limit.has(sp.oo, -sp.oo) for limit in node.limits)


def _linear_sum(node: sp.Sum) -> sp.Expr:
    total = node.function
    for index, low, high in node.limits:
        # An outer sum's index must not be an inner one's.
        inner = [s.name for s in total.atoms(sp.Symbol) if s.name.startswith(_INDEX)]
        canonical = sp.Symbol(f"{_INDEX}{len(inner)}", integer=True)
        shifted = sp.expand(total.subs(index, canonical + low))
        total = sp.Integer(0)
        for term in sp.Add.make_args(shifted):
            constant, rest = term.as_independent(canonical, as_Add=False)
            total += constant * sp.Sum(rest, (canonical, 0, high - low)).doit()
    return total


def _is_zero(expression: sp.Expr) -> bool:
    return expression == 0 or expression.is_zero is True or _is_algebraic_zero(expression)


def _is_algebraic_zero(expression: sp.Expr) -> bool:
    """Decide for nested radicals, exactly: zero is the number whose minimal polynomial is x."""
    if expression.free_symbols or expression.is_algebraic is not True:
        return False
    x = sp.Dummy("x")
    polynomial = _try(lambda e: sp.minimal_polynomial(e, x), expression)
    return bool(polynomial == x)


def reduces_to_zero(difference: sp.Expr) -> tuple[str, sp.Expr]:
    """Try to reduce an expression to zero over the assumptions declared on its symbols.

    Returns
    -------
    how, left
        The rewriting that did it (empty if none did) and the shortest form that was left.
    """
    shortest = difference
    for name, form in _forms(difference):
        if _is_zero(form):
            return name, sp.Integer(0)
        if not form.has(sp.nan, sp.zoo) and sp.count_ops(form) < sp.count_ops(shortest):
            shortest = form
    return "", shortest


def _sign_known(expression: sp.Expr, relation: str) -> bool:
    """Whether the assumptions alone give ``expression (relation) 0``."""
    fact, wanted = {
        "==": ("is_zero", True),
        "!=": ("is_zero", False),
        "<=": ("is_nonpositive", True),
        "<": ("is_negative", True),
        ">=": ("is_nonnegative", True),
        ">": ("is_positive", True),
    }[relation]
    return getattr(expression, fact) is wanted


def _reduces(difference: sp.Expr, relation: str) -> tuple[str, sp.Expr]:
    """How ``difference (relation) 0`` follows, and what is left of it if it does not."""
    if relation == "==":
        return reduces_to_zero(difference)
    shortest = difference
    for name, form in _forms(difference):
        if _sign_known(form, relation):
            return name, form
        if not form.has(sp.nan, sp.zoo) and sp.count_ops(form) < sp.count_ops(shortest):
            shortest = form
    return ("extremum", shortest) if _extremum_decides(difference, relation) else ("", shortest)


def _symbolic_leg(left: sp.Expr, right: sp.Expr, relation: str) -> tuple[str, sp.Expr]:
    """How the statement follows (empty if not shown), and what is left of the difference."""
    if relation == "==" and left == right:
        return "as it stands", sp.Integer(0)
    how, remainder = _reduces(left - right, relation)
    if how:
        return how, remainder
    if relation == "==" and _ratio_is_one(left, right):
        return "ratio", sp.Integer(0)
    if _by_exponentials(left, right, relation):
        return "exponentials of both sides", sp.Integer(0)
    if _in_every_branch(left - right, relation):
        return "every branch", sp.Integer(0)
    if _for_every_sign(left - right, relation):
        return "every sign", sp.Integer(0)
    if _in_either_order(left, right, relation):
        return "either order", sp.Integer(0)
    return "", remainder


def _by_exponentials(left: sp.Expr, right: sp.Expr, relation: str) -> bool:
    """Between real numbers every relation is that of the exponentials, where logarithms vanish."""
    if not (left.has(sp.log) or right.has(sp.log)) or left.has(sp.Integral, sp.Sum):
        return False
    if not (left.is_real and right.is_real):
        return False
    return bool(_reduces(sp.exp(left) - sp.exp(right), relation)[0])


def _in_either_order(left: sp.Expr, right: sp.Expr, relation: str) -> bool:
    """Show a statement on the larger of two real symbols for either order, and for equality."""
    symbols = _free_symbols(left, right)
    both = (left, right)
    if len(symbols) != 2 or not any(side.has(sp.Max, sp.Min, sp.Abs) for side in both):
        return False
    first, second = symbols
    if not (first.is_real and second.is_real) or any(map(_elements, both)):
        return False
    ahead = sp.Dummy(f"{second.name}-{first.name}", positive=True)
    for moved in (first + ahead, first - ahead, first):
        a, b = (side.subs(second, moved) for side in both)
        if not _reduces(a - b, relation)[0] and not _by_exponentials(a, b, relation):
            return False
    return True


def _ratio_is_one(left: sp.Expr, right: sp.Expr) -> bool:
    """For sides that are never zero, such as exponentials, a ratio is easier than a difference."""
    a, b = _try(lambda e: e.doit(), left), _try(lambda e: e.doit(), right)
    if a is None or b is None or b.is_zero is not False:
        return False
    return any(
        form is not None and form == 1
        for form in (_try(sp.powsimp, sp.expand(a) / sp.expand(b)), _try(sp.simplify, a / b))
    )


def _in_every_branch(difference: sp.Expr, relation: str) -> bool:
    """Show a statement with case distinctions branch by branch.

    A branch ``Eq(x, a)`` is judged at ``x = a``, and is empty where the difference is undefined
    there.
    """
    folded = _try(lambda e: sp.piecewise_fold(e.doit()), difference)
    if not isinstance(folded, sp.Piecewise):
        return False
    for branch, condition in folded.args:
        case = branch
        if isinstance(condition, sp.Eq) and isinstance(condition.lhs, sp.Symbol):
            case = branch.subs(condition.lhs, condition.rhs)
        if case not in (sp.nan, sp.zoo) and not _reduces(case, relation)[0]:
            return False
    return True


def _for_every_sign(difference: sp.Expr, relation: str) -> bool:
    """Show a statement with absolute values and the like for each sign of each real symbol."""
    if not difference.has(sp.Abs, sp.sign, sp.Max, sp.Min, sp.Heaviside, sp.arg):
        return False
    unsigned = [
        s
        for s in _free_symbols(difference)
        if s.is_real and s.is_positive is None and s.is_negative is None
    ]
    if not 1 <= len(unsigned) <= 2 or _elements(difference):
        return False
    choices = []
    for s in unsigned:
        size = sp.Dummy(s.name, positive=True, integer=s.is_integer)
        choices.append([size, -size, sp.Integer(0)] if s.is_zero is None else [size, -size])
    for signs in itertools.product(*choices):
        case = difference.subs(dict(zip(unsigned, signs, strict=True)))
        if case not in (sp.nan, sp.zoo) and not _reduces(case, relation)[0]:
            return False
    return True


def _extremum_decides(difference: sp.Expr, relation: str) -> bool:
    """For one real symbol: compare the least (or greatest) value with zero."""
    symbols = _free_symbols(difference)
    if relation in ("==", "!=") or len(symbols) != 1 or _elements(difference):
        return False
    if sp.count_ops(difference) > _EASY:
        return False
    symbol = symbols[0]
    lifted = difference.doit() if relation in (">", ">=") else -difference.doit()
    # Over the reals even for an integer: the least value there can only be smaller.
    variable = sp.Dummy(symbol.name, real=True)
    lifted = lifted.xreplace({symbol: variable})
    if lifted.has(TrigonometricFunction) and not _try(
        lambda e: sp.periodicity(e, variable), lifted
    ):
        return False  # SymPy would not come back from infinitely many stationary points
    least = _try(lambda e: sp.minimum(e, variable, _domain(symbol)), lifted)
    if least is None:
        return False
    return least.is_positive is True or (relation in (">=", "<=") and least.is_nonnegative is True)


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


# Hints and certificates: an author may help, and is not believed


def _probe(statement: _Statement) -> list[sp.Expr]:
    """Expressions on which a hint must keep the value: the sides, and both mixed with every symbol.

    On the difference alone a hint that returns 0 for everything would look harmless.
    """
    strangers = sum((k + 2) * s for k, s in enumerate(statement.symbols)) + sp.Integer(5)
    return [statement.left, statement.right, 3 * statement.left + 7 * statement.right + strangers]


def _hint_fails(statement: _Statement, rewrite: Hint, points: int, seed: str) -> str:
    """Why a hint is not to be used: it raises, or it changes a value."""
    for original in _probe(statement):
        try:
            changed = rewrite(original)
        except Exception as problem:  # whatever the author's function raises
            return f"rewrite raised {type(problem).__name__}: {show(problem)}"
        if not isinstance(changed, sp.Expr):
            return f"rewrite returned {type(changed).__name__}, not an expression"
        kept = _Statement(original, changed, "==", statement.digits)
        numbers = _numeric_leg(kept, points, f"{seed}/rewrite")
        if numbers.witness:
            return f"rewrite changes the value of {show(original)}: {numbers.witness}"
        if numbers.undefined:
            return f"rewrite cannot be tested: {numbers.undefined}"
    return ""


def _by_hint(statement: _Statement, rewrite: Hint) -> tuple[str, sp.Expr]:
    left, right = rewrite(statement.left), rewrite(statement.right)
    how, remainder = _symbolic_leg(left, right, statement.relation)
    if not how:
        how, remainder = _reduces(rewrite(statement.left - statement.right), statement.relation)
    return (f"after the given rewriting, {how}" if how else ""), remainder


def _certificate_fails(statement: _Statement, certificate: sp.Expr, points: int, seed: str) -> str:
    """Why a certificate shows nothing: its sign is not plain, or it is not the difference."""
    larger, smaller, sign = statement.left, statement.right, statement.relation
    if sign in ("<", "<="):
        larger, smaller, sign = smaller, larger, sign.replace("<", ">")
    if not _sign_known(certificate, sign):
        return f"the certificate is not plainly {sign} 0"
    same = _judge_scalar(
        _Statement(larger - smaller, certificate, "==", statement.digits), points=points, seed=seed
    )
    if same.outcome is not True:
        return f"the certificate is not shown to be the difference: {same.finding}"
    return ""


# Limits


_EXPONENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_FEW_EXPONENTS = 6
"""Of functions that take long to many digits, such as the gamma function."""

_LIMIT_DIGITS = 60 + 12 * _EXPONENTS[-1]


def _judge_limit(
    limit: sp.Limit, claimed: sp.Expr, points: int, digits: int, seed: str
) -> Judgement:
    """Judge ``limit == claimed``.

    SymPy's limit must be approached by the function's values; then it is compared with the claimed
    one like any two expressions. Without it, values that stay away from the claimed one still
    refute it.
    """
    try:
        found = limit.doit()
    except Exception as problem:  # SymPy raises anything
        return Judgement(None, f"SymPy finds no limit: {show(problem, longest=120)}")
    symbols = _free_symbols(limit, claimed)
    count = 0
    for point in itertools.islice(_random_points(symbols, seed), 4 if symbols else 1):
        for sign in _signs(limit):
            try:
                values = _values_on_the_way(limit, point, sign)
                if not _approach(values, _at(found, point)):
                    text = _stay_away(values, _at(claimed, point))
                    # Slow values look as if they stood still: against SymPy they are no witness.
                    if text and not reduces_to_zero(found - claimed)[0]:
                        return Judgement(False, f"{point.where()}{text}")
                    return Judgement(
                        None, f"the values do not approach SymPy's limit {show(found)}"
                    )
            except UndefinedHereError as problem:
                return Judgement(None, f"the limit cannot be followed by numbers: {problem}")
            count += 1
    along = f"the values approach it along {count} sequence{'s' * (count != 1)}"
    if found == claimed:
        detail = {"points": count, "symbolic": "limit"}
        return Judgement(True, f"SymPy finds the limit; {along}", detail)
    if found.is_infinite or claimed.is_infinite:
        return Judgement(False, f"the limit is {show(found)}; {along}")
    same = _judge_scalar(_Statement(found, claimed, "==", digits), points=points, seed=seed)
    told = {
        True: f"SymPy's limit is the claimed one; {along}",
        False: f"the limit is {show(found)}; {same.finding}",
        None: f"SymPy's limit is {show(found)}; {same.finding}",
    }
    return Judgement(same.outcome, told[same.outcome], {**same.detail, "points": count})


def _signs(limit: sp.Limit) -> tuple[int, ...]:
    """The sides from which the limit point is approached."""
    if limit.args[2] in (sp.oo, -sp.oo):
        return (1,)
    return {"+": (1,), "-": (-1,), "+-": (1, -1)}[str(limit.args[3])]


def _values_on_the_way(limit: sp.Limit, point: _Point, sign: int) -> list[mpmath.mpc]:
    """The function's values at points that approach the limit point, each far nearer."""
    function, variable, target, _ = limit.args
    function, target = function.doit().subs(dict(point.coordinates)), _at(target, point)
    if function.has(sp.Sum, sp.Product, sp.Integral):
        return _slow_values(function, variable, target, sign)
    evaluate = sp.lambdify(variable, function, modules="mpmath")
    values: list[mpmath.mpc] = []
    try:
        _value_near(evaluate, target, sign, 1, 60)
    except Exception:  # a function that mpmath does not know: by SymPy, then
        return _slow_values(function, variable, target, sign)
    slow = function.has(sp.gamma, sp.loggamma, sp.zeta, sp.polygamma, sp.beta, sp.besseli)
    for exponent in _EXPONENTS[:_FEW_EXPONENTS] if slow else _EXPONENTS:
        digits = 60 + 6 * exponent
        try:
            # Twice: where the cancellation eats all digits the two do not agree.
            twice = [_value_near(evaluate, target, sign, exponent, d) for d in (digits, 2 * digits)]
        except Exception:  # overflow, or a pole on the way
            break
        with mpmath.workdps(2 * digits):
            if not all(map(mpmath.isfinite, twice)):
                break
            if abs(twice[0] - twice[1]) > mpmath.mpf("1e-40") * max(1, abs(twice[1])):
                break
        values.append(twice[1])
    return values


def _value_near(
    evaluate: Callable[[mpmath.mpf], Any], target: sp.Expr, sign: int, exponent: int, digits: int
) -> mpmath.mpc:
    with mpmath.workdps(digits):
        step = mpmath.mpf(10) ** exponent
        if target in (sp.oo, -sp.oo):
            return mpmath.mpc(evaluate(step if target == sp.oo else -step))
        return mpmath.mpc(evaluate(_evaluate(target, digits).real + sign / step))


def _slow_values(
    function: sp.Expr, variable: sp.Symbol, target: sp.Expr, sign: int
) -> list[mpmath.mpc]:
    """Values where a sum or an integral stands in the function: fewer digits, not as near."""
    values = []
    for step in (sp.Integer(4 * 2**k) for k in range(8)):
        if target in (sp.oo, -sp.oo):
            place = step if target == sp.oo else -step
        else:
            place = target + sp.Rational(sign, step**2)
        value = _at(function, _Point(((variable, place),), ""))
        values.append(_evaluate(value, 30))
    return values


def _approach(values: Sequence[mpmath.mpc], limit: sp.Expr) -> bool:
    """Whether values come nearer and nearer to a limit, or grow without bound if it is infinite.

    The steps double the exponent, so that even the distance 1 / log x halves.
    """
    if len(values) < 4 or not (limit.is_infinite or limit.is_finite):
        return False
    with mpmath.workdps(_LIMIT_DIGITS):
        if limit in (sp.oo, -sp.oo):
            grown = [v.real * (1 if limit == sp.oo else -1) for v in values]
            steps = [b - a for a, b in itertools.pairwise(grown)][-3:]
            return min(steps) > 0 and all(b >= a * 0.9 for a, b in itertools.pairwise(steps))
        goal = _evaluate(limit, _LIMIT_DIGITS)
        away = [abs(value - goal) for value in values][-4:]
        return all(b <= a * 0.75 for a, b in itertools.pairwise(away))


def _stay_away(values: Sequence[mpmath.mpc], claimed: sp.Expr) -> str:
    """The finding that values settle at a distance from a claimed limit; empty if they do not."""
    if len(values) < 4 or not claimed.is_finite:
        return ""
    with mpmath.workdps(_LIMIT_DIGITS):
        goal = _evaluate(claimed, _LIMIT_DIGITS)
        away = [abs(value - goal) for value in values][-3:]
        settled = all(abs(b - a) <= b / 100 for a, b in itertools.pairwise(away))
    text = f"the values on the way reach {_shown(values[-1])}, claimed {show(claimed)}"
    return text if settled and away[-1] > 0 else ""


# The judgement


def judge(
    left: Value,
    right: Value,
    *,
    relation: str = "==",
    certificate: sp.Expr | None = None,
    rewrite: Hint | None = None,
    points: int = 24,
    digits: int = 50,
    seed: str = "0",
) -> Judgement:
    """Judge ``left (relation) right``, matrices entry by entry, by both legs.

    Parameters
    ----------
    left, right
        From :func:`exact`; the pair should have gone through :func:`check`.
    relation
        One of :data:`RELATIONS`.
    certificate
        For an order: an expression with its sign on its face that equals larger minus smaller side.
    rewrite
        A value-preserving rewriting to be tried first. It is tested, not trusted.
    points, digits
        Random points of the numeric leg, and the digits it compares first.
    seed
        Decides the random points.

    Returns
    -------
    Judgement
        Undecided if the legs do not both carry the statement and no witness speaks against it.
    """
    shapes = [side.shape if isinstance(side, MatrixBase) else "scalar" for side in (left, right)]
    if shapes[0] != shapes[1]:
        return Judgement(None, f"the shapes differ: {shapes[0]} and {shapes[1]}")
    results = []
    for (place, a), (_, b) in zip(_entries(left), _entries(right), strict=True):
        result = _judge_entry(a, b, relation, certificate, rewrite, points, digits, seed)
        results.append(Judgement(result.outcome, place + result.finding, result.detail))
        if result.outcome is False:
            return results[-1]
    for result in results:
        if result.outcome is None:
            return result
    return results[0] if len(results) == 1 else _all_entries(results)


def _all_entries(results: Sequence[Judgement]) -> Judgement:
    """One judgement for a matrix whose entries all hold."""
    total = sum(result.detail["points"] for result in results)
    hows = sorted({result.detail["symbolic"] for result in results})
    return Judgement(
        True,
        f"all {len(results)} entries: both legs agree, at {total} points in all",
        {"entries": len(results), "points": total, "symbolic": "; ".join(hows)},
    )


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
    if isinstance(left, sp.Limit):
        return _judge_limit(left, right, points, digits, seed)
    if isinstance(right, sp.Limit):
        return _judge_limit(right, left, points, digits, seed)
    statement = _Statement(left, right, relation, digits)
    return _judge_scalar(
        statement, points=points, seed=seed, certificate=certificate, rewrite=rewrite
    )


def _judge_scalar(
    statement: _Statement,
    *,
    points: int,
    seed: str,
    certificate: sp.Expr | None = None,
    rewrite: Hint | None = None,
) -> Judgement:
    looked = statement
    if statement.left.has(RandomSymbol) or statement.right.has(RandomSymbol):
        left, right = statement.left, statement.right
        looked = replace(statement, left=_without_random(left), right=_without_random(right))
        statement = replace(statement, left=_moments(left), right=_moments(right))
    # Numbers first: a wrong version is then rejected before any algebra is tried on it.
    numbers = _numeric_leg(looked, points, seed)
    if numbers.witness:
        if looked.approximate and numbers.place and _doubted(statement, numbers.place):
            text = f"{numbers.witness}, but SymPy's value keeps the relation there"
            return Judgement(None, f"the two legs contradict each other: {text}")
        detail = {"counterexample": numbers.witness, **_undeclared(looked)}
        return Judgement(False, numbers.witness, detail)
    if numbers.undefined:
        return Judgement(None, numbers.undefined, _undeclared(looked))
    how, remainder, complaint = "", statement.left - statement.right, ""
    if certificate is not None:
        complaint = _certificate_fails(statement, certificate, points, seed)
        how = "" if complaint else "certificate"
    if not how and rewrite is not None:
        complaint = _hint_fails(looked, rewrite, min(points, 8), seed)
        if not complaint:
            how, remainder = _by_hint(statement, rewrite)
    if not how:
        how, remainder = _symbolic_leg(statement.left, statement.right, statement.relation)
    seen = _seen(numbers, looked)
    if not how:
        aim = "does not reduce to 0" if statement.relation == "==" else "shows no sign"
        text = f"not proved: {seen}, but the difference {aim}; left: {show(remainder, longest=160)}"
        return Judgement(None, f"{text}; {complaint}".removesuffix("; "), _undeclared(looked))
    detail = {
        "points": numbers.points,
        "exact_points": numbers.exact_points,
        "special_points": numbers.special,
        "digits": 10 if looked.approximate else statement.digits,
        "symbolic": how,
    }
    return Judgement(True, f"{_told(statement.relation, how)}; {seen}", detail)


def _undeclared(statement: _Statement) -> dict[str, Any]:
    """The symbols that carry no assumption, for which complex numbers were put in."""
    names = [s.name for s in statement.symbols if s.is_extended_real is None]
    return {"undeclared": names} if names else {}


def _told(relation: str, how: str) -> str:
    if how == "certificate":
        return f"the difference equals the certificate, which is {relation} 0".replace("<", ">")
    if relation == "==":
        return f"the difference reduces to 0 ({how})"
    return f"the difference is {relation} 0 ({how})"


def _seen(numbers: _Numbers, statement: _Statement) -> str:
    """What the numbers say, in words."""
    verb = "it vanishes" if statement.relation == "==" else f"it is {statement.relation} 0"
    if numbers.exact_points == numbers.points:
        manner = "exactly"
    else:
        manner = f"to {10 if statement.approximate else statement.digits} digits"
    if numbers.points == 1:
        return f"{verb} {manner}"
    extra = f" and {numbers.special} special" if numbers.special else ""
    return f"{verb} {manner} at {numbers.points} random{extra} points"


def contradiction(left: Value, right: Value, *, relation: str = "==") -> str:
    """For a statement that a witness refutes: whether the algebra claims it all the same."""
    if isinstance(left, MatrixBase) or isinstance(right, MatrixBase):
        return ""
    if isinstance(left, sp.Limit) or isinstance(right, sp.Limit):
        return ""
    how, _ = _symbolic_leg(left, right, relation)
    return f"the two legs contradict each other: SymPy claims the relation ({how})" if how else ""

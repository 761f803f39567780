"""The two legs of `prove`: what must hold, what must fail, and what must stay undecided.

Every row is one statement with the outcome it must have: ``True`` (both legs carry it), ``False``
(a witness refutes it) or ``None`` (neither). A near miss that comes out ``True``, or a truth that
comes out ``False``, would make the ledger worthless; so both kinds are here in numbers.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from typing import Any

import pytest
import sympy as sp
from sympy import stats

from dlchecked import proving

x, y, t = sp.symbols("x y t", real=True)
p, q = sp.symbols("p q", positive=True)
m = sp.Symbol("m", nonnegative=True)
z, w = sp.symbols("z w")
n, i, j = sp.symbols("n i j", integer=True)
k = sp.Symbol("k", integer=True, nonnegative=True)
N = sp.Symbol("N", integer=True, positive=True)
R = sp.Rational
Q, K = sp.IndexedBase("q", real=True), sp.IndexedBase("k", real=True)
qk = sp.Sum(Q[i] * K[i], (i, 0, N - 1))
qq, kk = sp.Sum(Q[i] ** 2, (i, 0, N - 1)), sp.Sum(K[i] ** 2, (i, 0, N - 1))
distance = sp.Sum((Q[i] - K[i]) ** 2, (i, 0, N - 1))
M = sp.MatrixSymbol("M", 2, 2)
X, Y = stats.Normal("X", x, p), stats.Normal("Y", 0, p)


def judged(left: Any, right: Any, **options: Any) -> proving.Judgement:
    """Go through the door and judge, as the ledger does."""
    a, b = proving.exact("left", left), proving.exact("right", right)
    relation = options.get("relation", "==")
    proving.check(a, b, relation=relation, certificate=options.get("certificate"))
    return proving.judge(a, b, **options)


EQUALITIES = [
    # truths
    (True, sp.sin(x) ** 2 + sp.cos(x) ** 2, 1),
    (True, sp.sin(z) ** 2 + sp.cos(z) ** 2 - 1, 0),
    (True, (z + w) ** 3, z**3 + 3 * z**2 * w + 3 * z * w**2 + w**3),
    (True, (z**2 - 1) / (z - 1), z + 1),  # a removable singularity: where both are defined
    (True, sp.sqrt(p**2), p),
    (True, sp.sqrt(x**2), sp.Abs(x)),
    (True, sp.log(p * q), sp.log(p) + sp.log(q)),
    (True, sp.log(1 / p), -sp.log(p)),
    (True, sp.sqrt(p * q), sp.sqrt(p) * sp.sqrt(q)),
    (True, sp.log(sp.exp(x)), x),
    (True, sp.cos(sp.pi * n), (-1) ** n),
    (True, sp.Abs(x), sp.Max(x, -x)),
    (True, sp.Max(x, 0) - sp.Max(-x, 0), x),
    (True, sp.sqrt(5 + 2 * sp.sqrt(6)), sp.sqrt(2) + sp.sqrt(3)),
    (True, sp.tanh(x), (sp.exp(2 * x) - 1) / (sp.exp(2 * x) + 1)),
    (True, sp.binomial(N + 1, 2), N * (N + 1) / 2),
    (True, sp.gamma(N + 1), sp.factorial(N)),
    (True, sp.Derivative(x**3, x), 3 * x**2),
    (True, sp.exp(sp.cosh(x**3)), sp.exp(sp.cosh(-(x**3)))),  # numbers too large to be written
    (True, sp.exp(-sp.exp(3 * x)) ** 2, sp.exp(-2 * sp.exp(3 * x))),
    (True, sp.Sum(i, (i, 1, N)), N * (N + 1) / 2),
    (True, sp.Sum(p**i, (i, 0, N)), (1 - p ** (N + 1)) / (1 - p)),
    (True, sp.Sum(1 / i**2, (i, 1, sp.oo)), sp.pi**2 / 6),
    (True, sp.Integral(sp.exp(-p * x**2), (x, -sp.oo, sp.oo)), sp.sqrt(sp.pi / p)),
    (True, sp.Integral(sp.Abs(x), (x, -1, p)), (1 + p**2) / 2),
    (True, distance, qq - 2 * sp.Sum(Q[j] * K[j], (j, 0, N - 1)) + kk),
    (True, sp.exp(qk / 2), sp.exp(qq / 4) * sp.exp(-distance / 4) * sp.exp(kk / 4)),
    (True, stats.Expectation(X**2), x**2 + p**2),
    (True, stats.Variance(X), p**2),
    (True, stats.Variance(X + Y), 2 * p**2),  # no double integral, which takes minutes
    (True, stats.Variance(X * Y), p**4 + x**2 * p**2),
    (True, stats.Covariance(X, X + Y), p**2),
    (True, sp.Integral(sp.exp(-((x - 50) ** 2)), (x, -sp.oo, sp.oo)), sp.sqrt(sp.pi)),  # far out
    (True, sp.log(sp.exp(x) + sp.exp(y)), x + sp.log(1 + sp.exp(y - x))),
    (True, sp.Max(x, y), (x + y + sp.Abs(x - y)) / 2),
    (True, sp.Max(x, y) + sp.Min(x, y), x + y),
    (True, sp.Trace(M * M.T), sum(entry**2 for entry in M.as_explicit())),
    (True, sp.Determinant(M * M), sp.Determinant(M) ** 2),
    (True, sp.Matrix([[x, y]]) * 2, sp.Matrix([[2 * x, 2 * y]])),
    (True, Fraction(1, 3), R(2, 6)),
    (True, 7, sp.Integer(7)),
    # near misses
    (False, sp.exp(x), sp.exp(x) * (1 + R(1, 10**40))),
    (False, sp.exp(x), sp.exp(x) * (1 + R(1, 10**400))),
    (False, sp.sin(z), sp.sin(z) + R(1, 10**60)),
    (False, x**2, x**2 + R(1, 10**1000)),
    (False, x**2, x**2 + R(1, 10**6000)),  # too many digits for Python to write
    (False, sp.Max(x, y), (x + y + sp.Abs(x - y)) / 2 + R(1, 10**60)),
    (False, sp.exp(sp.pi * sp.sqrt(163)), 640320**3 + 744),
    (False, sp.sqrt(2) + sp.sqrt(3), sp.pi + R(46, 10000)),
    (False, 22 * sp.pi**4, 2143),  # Ramanujan: equal to nine digits
    (False, sp.exp(-1000 * p), 0),
    (False, sp.tanh(100 + p), 1),
    (False, sp.Sum(1 / i**2, (i, 1, sp.oo)), R(1645, 1000)),
    (False, sp.Integral(sp.exp(-x**2), (x, -sp.oo, sp.oo)), R(17725, 10000)),
    # true on a part only
    (False, sp.sqrt(x**2), x),
    (False, sp.sqrt(z**2), z),
    (False, sp.log(sp.exp(z)), z),
    (False, sp.log(z * w), sp.log(z) + sp.log(w)),
    (False, sp.sqrt(z * w), sp.sqrt(z) * sp.sqrt(w)),
    (False, sp.log(1 / z), -sp.log(z)),  # wrong on the negative axis alone
    (False, sp.sqrt(1 / z), 1 / sp.sqrt(z)),
    (False, (z**2) ** R(1, 4), sp.sqrt(z)),
    (False, sp.asin(sp.sin(x)), x),
    (False, sp.atan(x) + sp.atan(1 / x), sp.pi / 2),
    (False, sp.cos(sp.pi * x), (-1) ** x),
    (False, sp.sin(sp.pi * x), 0),
    (False, sp.floor(x) + sp.floor(-x), -1),  # wrong at the whole numbers alone
    (False, sp.ceiling(x), sp.floor(x) + 1),
    (False, 0**k, 0),  # wrong at 0 alone: 0**0 = 1
    (False, sp.Piecewise((1, sp.Eq(x, 0)), (0, True)), 0),
    (False, sp.Abs(x - 1000), 1000 - x),
    (False, sp.Piecewise((x, x < 10**6), (0, True)), x),
    (False, (x - y) ** 2 / (1 + (x - y) ** 2) + sp.Piecewise((1, sp.Eq(x, y)), (0, True)),
     (x - y) ** 2 / (1 + (x - y) ** 2)),  # wrong on the diagonal alone
    # plain mistakes
    (False, sp.Sum(i, (i, 1, N)), N * (N - 1) / 2),
    (False, distance, qq - 2 * qk + sp.Sum(K[i], (i, 0, N - 1))),
    (False, stats.Expectation(X**2), p**2),
    (False, stats.Variance(X + Y), 4 * p**2),
    (False, stats.Covariance(X, X + Y), 2 * p**2),
    (False, sp.Determinant(2 * M), 2 * sp.Determinant(M)),
    (False, sp.Matrix([[x, y]]), sp.Matrix([[x, x]])),
    # undecided
    (None, sp.Matrix([[x, y]]), sp.Matrix([x, y])),
    (None, sp.atan(p) + sp.atan(1 / p), sp.pi / 2),
    (None, x / 0, 1),
    (None, sp.oo, sp.oo),
    # a peak that every quadrature overlooks is no witness
    (None, sp.Integral(sp.exp(-1000 * (x - 77) ** 2), (x, -sp.oo, sp.oo)), sp.sqrt(sp.pi / 1000)),
    (None, sp.Integral(sp.sin(x) / x, (x, 0, sp.oo)), sp.pi / 2),
    (None, sp.Integral(x**2, (x, 0, p)), p**3 / 3 * (1 + R(1, 3 * 10**10))),
]  # fmt: skip


@pytest.mark.parametrize(("outcome", "left", "right"), EQUALITIES)
def test_equality(outcome: bool | None, left: Any, right: Any) -> None:
    found = judged(left, right)
    assert found.outcome is outcome, found.finding
    assert found.finding


ORDERS = [
    (True, x**2 + 1, ">=", 2 * x),
    (True, x**2 + 1, ">", x),
    (True, 2 * x * y, "<=", x**2 + y**2),
    (True, sp.exp(x), ">=", 1 + x),
    (True, sp.exp(x), ">", x),
    (True, sp.exp(x), "!=", 0),
    (True, p, ">", 0),
    (True, m, ">=", 0),
    (True, sp.exp(sp.pi * sp.sqrt(163)), "<", 640320**3 + 744),
    (True, sp.exp(sp.pi * sp.sqrt(163)), "!=", 640320**3 + 744),
    (True, p + 1 / p, ">=", 2),
    (True, x**2, ">=", 2 * sp.sqrt(2) * x - 2),
    (True, sp.log(sp.exp(x) + sp.exp(y)), ">", sp.Max(x, y)),
    (True, sp.sin(x) + 1, ">=", 0),
    (True, sp.log(x), "<", x),  # claimed where both sides are real
    (True, sp.Matrix([x**2, p]), ">=", sp.Matrix([0, 0])),
    # ties
    (False, x**2 + 1, ">", 2 * x),
    (False, sp.exp(x), ">", 1 + x),
    (False, m, ">", 0),
    (False, p + 1 / p, ">", 2),
    (False, x**2, ">", 2 * sp.sqrt(2) * x - 2),  # a tie at an irrational point alone
    (False, (p + q) / 2, ">", sp.sqrt(p * q)),  # a tie on the diagonal alone
    (False, x, "!=", x),
    (False, x**3 - x - 1, "!=", 0),
    # true for some numbers only
    (False, x + 1 / x, ">=", 2),
    (False, p**2, ">=", p),
    (False, x**2 - 2 * x + R(99, 100), ">=", 0),
    (False, (x - R(17, 13)) ** 2, ">=", R(1, 10**4)),
    (False, sp.expand((x - R(17, 13)) ** 2 + (y - R(5, 11)) ** 2), ">=", R(1, 10**4)),
    (False, sp.exp(x), ">=", 1 + x + x**2 / 2),
    (False, (x + y) / 2, ">=", sp.sqrt(x * y)),
    (False, sp.sin(x), "<=", x),
    (False, 1 / x, ">=", -100),
    (False, 640320**3 + 744, "<=", sp.exp(sp.pi * sp.sqrt(163))),
    # true, but neither sign nor extremum is found
    (None, (p + q) / 2, ">=", sp.sqrt(p * q)),
    (None, sp.sin(p), "<", p),  # SymPy's search for extrema would never end
]


@pytest.mark.parametrize(("outcome", "left", "relation", "right"), ORDERS)
def test_order(outcome: bool | None, left: Any, relation: str, right: Any) -> None:
    found = judged(left, right, relation=relation)
    assert found.outcome is outcome, found.finding


LIMITS = [
    (True, sp.Limit(sp.sin(x) / x, x, 0), 1),
    (True, sp.Limit((1 + 1 / x) ** x, x, sp.oo), sp.E),
    (True, sp.Limit((1 - sp.cos(p * x)) / x**2, x, 0), p**2 / 2),
    (True, sp.Limit((sp.exp(x) - 1 - x - x**2 / 2) / x**3, x, 0, "+-"), R(1, 6)),
    (True, sp.Limit(1 / sp.log(x), x, sp.oo), 0),  # as slow as they come
    (True, sp.Limit(1 / x, x, 0), sp.oo),
    (True, sp.Limit(sp.log(x), x, sp.oo), sp.oo),
    (True, sp.Limit(x**3 * sp.exp(-x), x, sp.oo), 0),
    (True, sp.Limit(x * sp.gamma(x), x, 0), 1),  # gamma to thousands of digits takes minutes
    (True, sp.Limit((1 + p / N) ** N, N, sp.oo), sp.exp(p)),
    (True, sp.Limit(sp.Sum(1 / i**2, (i, 1, N)), N, sp.oo), sp.pi**2 / 6),
    (True, sp.E, sp.Limit((1 + 1 / x) ** x, x, sp.oo)),
    (False, sp.Limit((1 + 1 / x) ** x, x, sp.oo), sp.E + R(1, 10**40)),
    (False, sp.Limit((1 - sp.cos(p * x)) / x**2, x, 0), p**2),
    (False, sp.Limit(1 / x, x, 0, "-"), sp.oo),
    (False, sp.Limit(sp.atan(x), x, sp.oo), sp.oo),
    (False, sp.Limit(x, x, sp.oo), 5),
    (False, sp.Limit(sp.Sum(1 / i**2, (i, 1, N)), N, sp.oo), R(1645, 1000)),
    (None, sp.Limit(sp.sin(x), x, sp.oo), 0),
    (None, sp.Limit(sp.sin(sp.pi * x), x, sp.oo), 0),  # 0 at every whole number
    (None, sp.Limit(sp.Piecewise((1, x < 10), (0, True)), x, sp.oo), 0),  # SymPy raises TypeError
    (None, sp.Limit(sp.Abs(x) / x, x, 0, "+-"), 1),
]


@pytest.mark.parametrize(("outcome", "limit", "claimed"), LIMITS)
def test_limit(outcome: bool | None, limit: Any, claimed: Any) -> None:
    found = judged(limit, claimed)
    assert found.outcome is outcome, found.finding


def quarter_turn(expression: sp.Expr) -> sp.Expr:
    """The one identity that SymPy does not apply by itself."""
    return expression.replace(sp.atan(1 / p), sp.pi / 2 - sp.atan(p))


HINTS = [
    ("keeps the value", quarter_turn, True, "after the given rewriting"),
    ("drops everything", lambda e: sp.Integer(0), None, "changes the value"),
    ("takes one value", lambda e: e.subs(p, 1), None, "changes the value"),
    ("raises", lambda e: 1 / 0, None, "raised ZeroDivisionError"),
    ("returns no expression", lambda e: "0", None, "returned str"),
    ("forces", lambda e: e.replace(sp.atan, lambda a: a), None, "changes the value"),
]


@pytest.mark.parametrize(("name", "rewrite", "outcome", "words"), HINTS)
def test_a_hint_is_tested_and_not_trusted(
    name: str, rewrite: Any, outcome: bool | None, words: str
) -> None:
    found = judged(sp.atan(p) + sp.atan(1 / p), sp.pi / 2, rewrite=rewrite)
    assert found.outcome is outcome, name
    assert words in found.finding


def test_a_hint_for_a_vanishing_side_is_tested_on_more_than_that_side() -> None:
    """On a side that is 0 the hint "0 for everything" changes nothing."""
    found = judged(sp.atan(p) + sp.atan(1 / p) - sp.pi / 2, 0, rewrite=lambda e: sp.Integer(0))
    assert found.outcome is None
    assert "changes the value" in found.finding


ROOTS = (sp.sqrt(p) - sp.sqrt(q)) ** 2 / 2
CERTIFICATES = [
    ("the squared difference of roots", ROOTS, ">=", True, "the certificate"),
    ("another square", (p - q) ** 2 / 2, ">=", None, "is not shown to be the difference"),
    ("a near miss", ROOTS * (1 + R(1, 10**40)), ">=", None, "is not shown to be the difference"),
    ("no plain sign", (p + q) / 2 - sp.sqrt(p * q), ">=", None, "is not plainly >= 0"),
]


@pytest.mark.parametrize(("name", "certificate", "relation", "outcome", "words"), CERTIFICATES)
def test_a_certificate_is_checked(
    name: str, certificate: Any, relation: str, outcome: bool | None, words: str
) -> None:
    mean, root = (p + q) / 2, sp.sqrt(p * q)
    found = judged(mean, root, relation=relation, certificate=certificate)
    assert found.outcome is outcome, name
    assert words in found.finding
    mirrored = judged(root, mean, relation=relation.replace(">", "<"), certificate=certificate)
    assert mirrored.outcome is outcome, name


def test_a_certificate_does_not_save_a_false_statement() -> None:
    assert judged((p + q) / 2, sp.sqrt(p * q), relation=">", certificate=ROOTS).outcome is False


DECLARED = [
    {},
    {"real": True},
    {"positive": True},
    {"negative": True},
    {"nonnegative": True},
    {"nonzero": True},
    {"integer": True},
    {"integer": True, "positive": True},
    {"even": True},
    {"odd": True, "positive": True},
    {"prime": True},
    {"rational": True},
    {"irrational": True},
    {"imaginary": True},
    {"complex": True},
]


@pytest.mark.parametrize("declared", DECLARED, ids=str)
def test_points_satisfy_what_is_declared(declared: dict[str, bool]) -> None:
    symbol = sp.Symbol("s", **declared)
    for number in range(30):
        left, right = symbol + number, number + symbol
        assert judged(left, right, points=4).outcome is True
    points = list(islice(proving._random_points([symbol], "a"), 40))
    for point in points:
        value = point.coordinates[0][1]
        assert value not in (0, 1, -1)
        assert all(getattr(value, f"is_{fact}") is wanted for fact, wanted in declared.items())
    assert len({str(point) for point in points}) > 3


def test_points_depend_on_the_seed_and_on_nothing_else() -> None:
    first, again, other = (
        [str(point) for point in islice(proving._random_points([x, p, n], seed), 10)]
        for seed in ("a", "a", "b")
    )
    assert first == again
    assert first != other


def test_both_signs_are_drawn_for_a_real_symbol() -> None:
    values = [v.coordinates[0][1] for v in islice(proving._random_points([x], "0"), 24)]
    assert any(value < 0 for value in values)
    assert any(value > 0 for value in values)
    assert any(abs(value) < 1 for value in values)
    assert any(abs(value) > 10 for value in values)


MALFORMED = [
    ("a float", 0.5, x, {}, TypeError, "not exact"),
    ("a hidden float", x, x + sp.Float(0.5), {}, TypeError, "contains the float"),
    ("a float exponent", x, x**0.5, {}, TypeError, "contains the float"),
    ("a float in a matrix", sp.Matrix([[x, 0.5]]), sp.Matrix([[x, x]]), {}, TypeError, "float"),
    ("a complex number", 1j, x, {}, TypeError, "not exact"),
    ("a bool", True, x, {}, TypeError, "bool"),
    ("a str", "x", x, {}, TypeError, "must be a SymPy expression"),
    ("an equation", sp.Eq(x, y), x, {}, TypeError, "must be a SymPy expression"),
    ("a function", sp.Lambda(x, x), x, {}, TypeError, "must be a SymPy expression"),
    ("nan", sp.nan, x, {}, ValueError, "undefined"),
    ("an undefined function", sp.Function("f")(x), x, {}, ValueError, "f(x)"),
    ("a loose random variable", X, x, {}, ValueError, "outside of an expectation"),
    ("an empty matrix", sp.zeros(0, 2), sp.zeros(0, 2), {}, ValueError, "empty"),
    ("a matrix of unknown size", sp.MatrixSymbol("A", N, N), x, {}, ValueError, "shape"),
    ("a trace of unknown size", sp.Trace(sp.MatrixSymbol("A", N, N)), x, {}, ValueError, "shape"),
    ("a limit inside", 2 * sp.Limit(x, x, 0) + 1, x, {}, ValueError, "stand alone"),
    ("two limits", sp.Limit(x, x, 0), sp.Limit(x, x, 1), {}, ValueError, "only one side"),
    ("a limit ordered", sp.Limit(x, x, 0), 1, {"relation": "<"}, ValueError, "'=='"),
    ("one name, two symbols", x, sp.Symbol("x"), {}, ValueError, "both called x"),
    ("an order of complex numbers", z, 1, {"relation": ">"}, ValueError, "needs real symbols"),
    ("an unknown relation", x, x, {"relation": "="}, ValueError, "relation"),
    ("matrices unequal", sp.eye(2), sp.zeros(2, 2), {"relation": "!="}, ValueError, "matrices"),
    ("a certificate of equality", x, x, {"certificate": x}, ValueError, "order"),
    ("no commuting", sp.Symbol("a", commutative=False), x, {}, ValueError, "commute"),
    ("nothing fits", sp.Symbol("o", infinite=True), x, {}, ValueError, "no number at hand"),
]


@pytest.mark.parametrize(("name", "left", "right", "options", "error", "words"), MALFORMED)
def test_malformed_statements_are_refused(
    name: str, left: Any, right: Any, options: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error) as refused:
        judged(left, right, **options)
    assert words in str(refused.value), name


def test_elements_of_indexed_objects_are_one_number_wherever_they_occur() -> None:
    assert judged(Q[2] + K[0], K[0] + Q[2]).outcome is True
    assert judged(Q[2], Q[1]).outcome is False
    assert judged(sp.Matrix(sp.MatrixSymbol("A", 2, 2)).trace() * 2, 4).outcome is False


def test_a_contradiction_of_the_legs_is_told() -> None:
    assert proving.contradiction(x, y) == ""
    assert "contradict" in proving.contradiction(x, x)

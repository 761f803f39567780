"""The ledger: for every kind of check truths, near misses, degenerate and malformed inputs."""

from __future__ import annotations

import html.parser
import json
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch
from scipy import stats

from dlchecked import ledger
from dlchecked.ledger import (
    ClaimError,
    Estimate,
    Verdict,
    agree,
    base_seed,
    count,
    equal,
    generator,
    mean_of,
    measure,
    observe,
    prove,
    quote,
    raises,
    record,
    refute,
    share_of,
    slope_of,
    variance_of,
)

x, y = sp.symbols("x y", real=True)
p = sp.Symbol("p", positive=True)
N, D = sp.symbols("N D")
NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No seed and no mode from outside; nothing drawn before the test."""
    monkeypatch.delenv("DLCHECKED_SEED", raising=False)
    monkeypatch.delenv("DLCHECKED_ON_FAILURE", raising=False)
    monkeypatch.setattr(ledger, "_drawn", False)


def failure(check: Any, *arguments: Any, **options: Any) -> str:
    """The message of a check that must fail, whose verdict must say so too."""
    with pytest.raises(ClaimError) as failed:
        check("a-claim", *arguments, **options)
    assert failed.value.verdict is not None
    assert not failed.value.verdict
    assert failed.value.verdict.detail["message"] == str(failed.value)
    return str(failed.value)


# prove (the two legs have their own tables in test_proving.py)


def squares(D: int) -> sp.Expr:
    """A sum of squares of D coordinates."""
    return sum(s**2 for s in sp.symbols(f"a1:{D + 1}", real=True))


PROVED = [
    ((x + 1) ** 2, x**2 + 2 * x + 1, {"no mixed term": x**2 + 1}, {}),
    (sp.sqrt(x**2), sp.Abs(x), {"x": x, "nearly": sp.Abs(x) * (1 + sp.Rational(1, 10**50))}, {}),
    (x**2 + 1, 2 * x, {"strictly too large": 2 * x + sp.Rational(1, 10**6)}, {"relation": ">="}),
    (p, 0, {"above 1": 1}, {"relation": ">"}),
    (sp.exp(x), 0, {"equal to 1 at 0": 1}, {"relation": "!="}),
    (sp.Limit(sp.sin(x) / x, x, 0), 1, {"the value put in": 0}, {}),
    (sp.Matrix([x, y]) * 2, sp.Matrix([2 * x, 2 * y]), {"one entry": sp.Matrix([2 * x, y])}, {}),
    (squares, squares, {"one too few": lambda D: squares(D - 1)}, {"sizes": {"D": (2, 3)}}),
    (
        lambda D: sp.sqrt(D),
        lambda D: sp.sqrt(D),
        {"no root": lambda D: D},
        {"sizes": {"D": (2, 3)}, "also_at": [{"D": 1}]},
    ),
    (
        lambda D, H: D * H * x,
        lambda D, H: H * D * x,
        {"one taken only": lambda D: D * x},
        {"sizes": {"D": range(2, 4), "H": 2}},
    ),
    (lambda s: x / s, lambda s: x / s, {"w": lambda s: s * x}, {"sizes": {"s": Fraction(1, 2)}}),
    (Fraction(1, 3), sp.Rational(2, 6), {"a half": Fraction(1, 2)}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right", "wrong", "options"), PROVED)
def test_prove(left: Any, right: Any, wrong: dict[str, Any], options: dict[str, Any]) -> None:
    verdict = prove("a-claim", left, right, wrong=wrong, **options)
    assert verdict
    assert verdict.kind == "prove"
    assert [r.label for r in verdict.wrong] == list(wrong)
    assert all(r.rejected and r.finding for r in verdict.wrong)
    assert verdict.seed == 0


NOT_PROVED = [
    # right, wrong, words of the message
    (x**2, {"w": x}, "right version: failed"),
    (x**2 + 2 * x + 1, {"same": (x + 1) ** 2}, 'cannot tell "same" from the right version'),
    (x**2 + 2 * x + 1, {"pole": x / sp.Integer(0)}, "could not be judged"),
    (x**2 + 2 * x + 1, {"raises": lambda: 1 / 0}, "raised ZeroDivisionError"),
    (x**2 + 2 * x + 1, {"shape": sp.Matrix([x])}, "the shapes differ"),
    (x**2 + 2 * x + 1 + sp.Rational(1, 10**80), {"w": x}, "differ although both round to"),
]


@pytest.mark.parametrize(("right", "wrong", "words"), NOT_PROVED)
def test_prove_fails(right: Any, wrong: dict[str, Any], words: str) -> None:
    message = failure(prove, (x + 1) ** 2, right, wrong=wrong)
    assert words in message
    assert message.startswith("prove('a-claim'): the check failed\n")


def test_prove_hints_at_what_is_left_and_at_undeclared_symbols() -> None:
    message = failure(prove, sp.atan(p) + sp.atan(1 / p), sp.pi / 2, wrong={"w": sp.pi})
    assert "not proved" in message
    assert "atan(p)" in message
    assert "hint: give rewrite=" in message
    message = failure(prove, sp.sqrt(N**2), N, wrong={"w": -N})
    assert "hint: N: not declared real" in message


def test_a_wrong_version_is_rejected_if_it_fails_at_one_size_and_the_finding_says_where_not() -> (
    None
):
    verdict = prove(
        "a-claim",
        lambda D: x**D,
        lambda D: x**D,
        wrong={"always squared": lambda D: x**2},
        sizes={"D": (2, 3)},
    )
    assert verdict.wrong[0].finding.startswith("at D = 3: ")
    assert verdict.wrong[0].finding.endswith("(it passes at D = 2)")


def test_the_right_version_must_hold_in_the_degenerate_case_and_the_wrong_ones_may() -> None:
    options: dict[str, Any] = {"sizes": {"D": 2}, "also_at": [{"D": 1}]}
    wrong = {"no root": lambda D: D * x}
    verdict = prove(
        "a-claim", lambda D: sp.sqrt(D) * x, lambda D: sp.sqrt(D) * x, wrong=wrong, **options
    )
    assert verdict.also_at == ({"D": 1},)
    assert "(D = 2; also at D = 1)" in str(verdict)
    broken = failure(prove, lambda D: D * x, lambda D: 2 * x, wrong={"w": x}, **options)
    assert "right version: failed: at D = 1" in broken


def test_equal_is_the_judgement_alone() -> None:
    assert equal((x + 1) ** 2, x**2 + 2 * x + 1) is True
    assert equal(sp.sqrt(x**2), x) is False
    assert equal(x**2, 0, relation=">=") is True
    with pytest.raises(ClaimError, match="could not be judged"):
        equal(sp.atan(p) + sp.atan(1 / p), sp.pi / 2)


# count


def pairs(N: int) -> int:
    """How many unordered pairs there are, by making them."""
    return sum(1 for i in range(N) for j in range(i))


COUNTED = [
    (pairs, N * (N - 1) / 2, {"ordered": N * (N - 1), "and self": N * (N + 1) / 2}, {"N": (2, 5)}),
    (pairs, lambda N: N * (N - 1) // 2, {"a half": N / 2}, {"N": (3, 4)}),
    (60, 60, {"one off": 61}, {}),
    (sp.Integer(2) ** 100, 2**100, {"one off": 2**100 + 1}, {}),
    (lambda N, D: N * D, N * D, {"N alone": N}, {"N": (2, 3), "D": 4}),
    (lambda N: N**3, sp.Symbol("N", integer=True, positive=True) ** 3, {"squared": N**2}, {"N": 7}),
    (np.int64(6), sp.factorial(3), {"one off": 5}, {}),
    (lambda N: N * (N + 1) // 2, sp.Sum(D, (D, 1, N)), {"w": N}, {"N": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("counted", "formula", "wrong", "sizes"), COUNTED)
def test_count(counted: Any, formula: Any, wrong: dict[str, Any], sizes: dict[str, Any]) -> None:
    verdict = count("a-claim", counted, formula, wrong=wrong, sizes=sizes)
    assert verdict
    assert verdict.seed is None
    assert all("counted" in r.finding for r in verdict.wrong)


def test_count_shows_the_numbers_at_the_first_sizes_that_differ() -> None:
    verdict = count(
        "a-claim",
        lambda N, D: N * D,
        N * D,
        wrong={"true at 2": N**2 * D / 2},
        sizes={"N": (2, 5), "D": 3},
    )
    assert verdict.wrong[0].finding == (
        "at N = 5, D = 3: 75/2, counted 15 (it passes at N = 2, D = 3)"
    )
    assert verdict.summary == (
        "equal at all 2 choices of sizes: 6 at N = 2, D = 3, 15 at N = 5, D = 3"
    )


def test_numbers_of_more_digits_than_python_writes_are_counted_all_the_same() -> None:
    googols = 10**5000
    wrong = {"one more": googols + 1, "a third": sp.Rational(googols, 3)}
    verdict = count("a-claim", googols, googols, wrong=wrong)
    assert verdict.summary == "(a number of 16610 bits that ends in 000), as counted"
    assert json.dumps(verdict.payload())


NOT_COUNTED = [
    (pairs, N**2 / 2, {"w": N}, {"N": (2, 4)}, "right version: failed: at N = 2: 2, counted 1"),
    (pairs, N * (N - 1) / 2, {"at 3": N}, {"N": 3}, 'cannot tell "at 3" from the right version'),
    (pairs, N * (N - 1) / 2, {"w": lambda N: N / 0}, {"N": 3}, "raised ZeroDivisionError"),
    (2**53 + 1, 2**53, {"w": 1}, {}, "right version: failed"),
]


@pytest.mark.parametrize(("counted", "formula", "wrong", "sizes", "words"), NOT_COUNTED)
def test_count_fails(counted: Any, formula: Any, wrong: Any, sizes: Any, words: str) -> None:
    assert words in failure(count, counted, formula, wrong=wrong, sizes=sizes)


# agree

ROW = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
AGREED = [
    (ROW, [1.0, 2.0, 3.0], {"one off": [1.0, 2.0, 3.1]}, {"atol": 1e-12}),
    (ROW, ROW + 1e-13, {"nearly": ROW + 1e-11}, {"atol": 1e-12}),
    (ROW.bfloat16(), ROW, {"scaled": 2 * ROW}, {"rtol": 1e-2}),
    (1e20, 1e20 * (1 + 1e-13), {"a bit more": 1e20 * (1 + 1e-11)}, {"rtol": 1e-12}),
    (ROW, ROW.clone(), {"nearly": ROW + 1e-15}, {"exact": True}),
    (torch.tensor([1, 2]), [1, 2], {"one off": [1, 3]}, {"exact": True}),
    (2**60, 2**60, {"the next": 2**60 + 1}, {"exact": True}),
    (2.0**53, 2**53, {"no float": 2**53 + 1}, {"exact": True}),
    (2**60, sp.Integer(2**60), {"the next": sp.Integer(2**60 + 1)}, {"exact": True}),
    (torch.eye(2).to_sparse(), torch.eye(2), {"zero": torch.zeros(2, 2)}, {"atol": 1e-9}),
    (1j, sp.I, {"minus": -sp.I}, {"atol": 1e-9}),
    (torch.tensor([True, False]), [True, False], {"turned": [False, True]}, {"exact": True}),
    ([INF, 1.0], [INF, 1.0], {"other": [-INF, 1.0], "finite": [1.0, 1.0]}, {"atol": 1e-9}),
    (np.array([1j, 2]), [1j, 2], {"conjugate": [-1j, 2]}, {"atol": 1e-9}),
    (ROW.requires_grad_(), ROW.detach(), {"zero": torch.zeros(3)}, {"atol": 1e-9}),
    (0.5, sp.Rational(1, 2), {"a third": Fraction(1, 3)}, {"atol": 1e-12}),
    ([[1.0], [2.0]], torch.tensor([[1.0], [2.0]]), {"turned": [[2.0], [1.0]]}, {"atol": 1e-9}),
]


@pytest.mark.parametrize(("computed", "expected", "wrong", "options"), AGREED)
def test_agree(computed: Any, expected: Any, wrong: Any, options: dict[str, Any]) -> None:
    verdict = agree("a-claim", computed, expected, wrong=wrong, **options)
    assert verdict
    assert verdict.seed is None
    assert all(r.finding.startswith("off by") for r in verdict.wrong)


NOT_AGREED = [
    (ROW, ROW + 1e-11, {"w": 2 * ROW}, "right version: failed: off by 1e-11"),
    (ROW, ROW, {"same": ROW + 1e-14}, 'cannot tell "same" from the right version'),
    (ROW, ROW[:2], {"w": 2 * ROW}, "shapes differ: computed (3,), expected (2,)"),
    (ROW, 2.0, {"w": 2 * ROW}, "shapes differ"),
    (ROW, ROW, {"broadcast": 1.0}, 'wrong version "broadcast": could not be judged'),
    ([NAN], [NAN], {"w": [1.0]}, "computed contains nan"),
    (ROW, ROW, {"nan": ROW * NAN}, "expected contains nan"),
    ([INF], [1.0], {"w": [2.0]}, "off by inf"),
    ([INF], [-INF], {"w": [2.0]}, "off by inf"),
]


@pytest.mark.parametrize(("computed", "expected", "wrong", "words"), NOT_AGREED)
def test_agree_fails(computed: Any, expected: Any, wrong: Any, words: str) -> None:
    assert words in failure(agree, computed, expected, wrong=wrong, atol=1e-12)


def test_agree_reports_the_largest_error_of_all_sizes() -> None:
    verdict = agree(
        "a-claim",
        lambda D: torch.full((D,), 1.0) + 10.0**-D,
        lambda D: torch.ones(D),
        wrong={"zero": lambda D: torch.zeros(D)},
        atol=0.02,
        sizes={"D": (2, 3)},
    )
    assert verdict.detail["error"] == pytest.approx(0.01, rel=1e-5)
    assert verdict.detail["elements"] == 5
    assert verdict.summary == "largest error 0.01 (allowed 0.02)"


# observe, refute and raises


def is_sorted(row: list[int]) -> bool:
    """The row never falls."""
    return row == sorted(row)


def with_finding(row: list[int]) -> tuple[bool, str]:
    return is_sorted(row), f"first {row[0]}"


def too_short() -> None:
    raise ValueError("length must be 3")


OBSERVED = [
    (is_sorted, [1, 2], {"falls": [2, 1]}, "observed: The row never falls."),
    (with_finding, [1, 2], {"falls": [2, 1]}, "first 1"),
    (raises(ZeroDivisionError), lambda: 1 / 0, {"fine": lambda: 1}, "raised ZeroDivisionError"),
    (raises(ValueError, "3"), too_short, {"other": lambda: 1 / 0}, "length must be 3"),
    (raises(ValueError), too_short, {"an int": int}, "raised"),
]


@pytest.mark.parametrize(("behaviour", "right", "wrong", "words"), OBSERVED)
def test_observe(behaviour: Any, right: Any, wrong: dict[str, Any], words: str) -> None:
    verdict = observe("a-claim", behaviour, right, wrong=wrong, sizes={"D": 3})
    assert verdict
    assert words in verdict.summary
    assert verdict.sizes == {"D": (3,)}


NOT_OBSERVED = [
    (is_sorted, [2, 1], {"w": [3, 1]}, "right version: failed: not observed"),
    (is_sorted, [1, 2], {"too": [1, 3]}, 'cannot tell "too" from the right version'),
    (lambda row: row[5] > 0, [1], {"w": [2]}, "raised IndexError"),
    (is_sorted, [1, 2], {"broken": None}, 'wrong version "broken": could not be judged'),
    (raises(ValueError, "4"), too_short, {"w": lambda: 1}, "length must be 3"),
    (raises(ValueError), too_short, {"same": lambda: int("q")}, 'cannot tell "same"'),
]


@pytest.mark.parametrize(("behaviour", "right", "wrong", "words"), NOT_OBSERVED)
def test_observe_fails(behaviour: Any, right: Any, wrong: dict[str, Any], words: str) -> None:
    assert words in failure(observe, behaviour, right, wrong=wrong)


def doubles(version: Any, q: Any) -> bool:
    return bool((version(q) == q + q).all())


def test_refute() -> None:
    verdict = refute(
        "a-claim",
        doubles,
        printed=lambda q: q**2,
        corrected=lambda q: 2 * q,
        counterexample={"q": torch.tensor([1.0, 1 / 3])},
        printed_label="as in the sheet",
    )
    assert verdict.summary == "the correction holds at q = [1.0, 0.3333]"
    assert verdict.wrong[0].label == "as in the sheet"
    assert verdict.wrong[0].rejected
    assert verdict.detail["counterexample"] == {"q": "[1.0, 0.3333]"}


NOT_REFUTED = [
    (lambda q: 2 * q, lambda q: 2 * q, "cannot tell"),
    (lambda q: 3 * q, lambda q: 4 * q, "right version: failed"),
    (lambda q: q[9], lambda q: 2 * q, 'wrong version "as printed": could not be judged'),
    (lambda q: 3 * q, lambda q: q[9], "right version: could not be judged"),
]


@pytest.mark.parametrize(("printed", "corrected", "words"), NOT_REFUTED)
def test_refute_fails(printed: Any, corrected: Any, words: str) -> None:
    given = {"q": torch.ones(2)}
    assert words in failure(
        refute, doubles, printed=printed, corrected=corrected, counterexample=given
    )


# measure

ESTIMATE = Estimate(0.5, 0.4, 0.6, n=100, level=0.99, what="mean")
MEASURED = [
    (0.5, {"outside": 0.61}, "two-sided"),
    (0.4, {"just outside": 0.3999999}, "two-sided"),
    (sp.Rational(1, 2), {"one": 1}, "two-sided"),
    (0.4, {"above": 0.7}, "at least"),
    (0.1, {"above": 0.6000001}, "at least"),
    (0.6, {"below": 0.3}, "at most"),
    ((0.3, 0.7), {"beside": (0.7, 0.9), "below": (0, 0.3)}, "within"),
]


@pytest.mark.parametrize(("claimed", "wrong", "side"), MEASURED)
def test_measure(claimed: Any, wrong: dict[str, Any], side: str) -> None:
    verdict = measure("a-claim", ESTIMATE, claimed, wrong=wrong, side=side)
    assert verdict
    assert verdict.summary == "0.5, 99 % interval [0.4, 0.6], n = 100"
    assert verdict.seed == 0
    assert verdict.detail["level"] == 0.99


NOT_MEASURED = [
    (0.61, {"w": 2}, "two-sided", "right version: failed: 0.61 is outside by 0.01: 0.5"),
    (0.6 + 1e-9, {"w": 2}, "two-sided", "right version: failed: 0.6 is outside by 1e-09"),
    ((0.7, 0.9), {"w": (2, 3)}, "within", "[0.7, 0.9] is outside by 0.1"),
    (0.7, {"w": 2}, "at least", "0.7 is outside by 0.1"),
    (0.5, {"near": 0.55}, "two-sided", 'cannot tell "near" from the right version'),
    (0.5, {"w": 2}, "at least", "right version: could not be judged: 0.5 lies across"),
    (0.7, {"w": 2}, "at least", "right version: failed"),
    (0.1, {"across": 0.5}, "at least", 'wrong version "across": could not be judged'),
    (0.5, {"w": 0}, "at most", "right version: could not be judged"),
    ((0.3, 0.5), {"w": (2, 3)}, "within", "right version: could not be judged"),
    ((0.3, 0.7), {"across": (0.5, 0.9)}, "within", "could not be judged"),
]


@pytest.mark.parametrize(("claimed", "wrong", "side", "words"), NOT_MEASURED)
def test_measure_fails(claimed: Any, wrong: dict[str, Any], side: str, words: str) -> None:
    message = failure(measure, ESTIMATE, claimed, wrong=wrong, side=side)
    assert words in message
    assert "hint: " in message


def test_estimates_agree_with_their_formulas() -> None:
    draws = np.random.default_rng(0).normal(2.0, 3.0, 5000)
    mean = mean_of(draws, level=0.95)
    expected = stats.t.interval(0.95, 4999, draws.mean(), stats.sem(draws))
    assert (mean.low, mean.high) == pytest.approx(expected)
    variance = variance_of(torch.tensor(draws), level=0.95)
    assert variance.value == pytest.approx(draws.var(ddof=1))
    # for normal draws the fourth moment is 3 sigma^4, and the deviation of s^2 sigma^2 sqrt(2 / n)
    assert variance.high - variance.low == pytest.approx(
        2 * 1.96 * 9 * math.sqrt(2 / 5000), rel=0.1
    )
    share = share_of([True] * 30 + [False] * 70, level=0.95)
    assert (share.low, share.high) == pytest.approx((0.2124064, 0.3998147), abs=1e-6)
    slope = slope_of([0.0, 1, 2, 3], [1.0, 3, 5, 7.5], level=0.95)
    assert slope.value == pytest.approx(2.15)
    assert slope.low < 2.15 < slope.high


def misses(name: str, rng: np.random.Generator) -> bool:
    """Whether a true claim fails once, at level 0.9."""
    if name == "mean":
        estimate, truth = mean_of(rng.normal(1.0, 2.0, 40), level=0.9), 1.0
    elif name == "mean, uniform":
        estimate, truth = mean_of(rng.uniform(0.0, 1.0, 40), level=0.9), 0.5
    elif name == "variance":
        estimate, truth = variance_of(rng.normal(0.0, 2.0, 1000), level=0.9), 4.0
    elif name == "variance, uniform":
        estimate, truth = variance_of(rng.uniform(0.0, 1.0, 1000), level=0.9), 1 / 12
    elif name == "share":
        estimate, truth = share_of(rng.random(60) < 0.3, level=0.9), 0.3
    else:
        line = np.linspace(0.0, 1.0, 12)
        estimate, truth = slope_of(line, 3 * line + rng.normal(0, 0.2, 12), level=0.9), 3.0
    try:
        measure("a-claim", estimate, truth, wrong={"far": truth + 1000})
    except ClaimError:
        return True
    return False


ESTIMATORS = ["mean", "mean, uniform", "variance", "variance, uniform", "share", "slope"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_true_claim_fails_as_often_as_its_level_says(name: str) -> None:
    rng = np.random.default_rng(7)
    missed = sum(misses(name, rng) for _ in range(400))
    # 0.1 of 400, give or take what a binomial law does once in ten thousand times
    low, high = stats.binom.ppf([5e-5, 1 - 5e-5], 400, 0.1)
    assert missed <= high + 4  # normal approximations are a trifle short
    assert missed >= (low if name != "share" else 0)  # the exact interval is a trifle long


def test_the_variance_of_a_fair_coin_lies_in_its_interval() -> None:
    """There the first-order variance of the estimate vanishes, and with it a naive interval."""
    rng = np.random.default_rng(7)
    flips = (rng.random(1000) < 0.5 for _ in range(300))
    estimates = [variance_of(flip.astype(float), level=0.99) for flip in flips]
    assert sum(not e.low <= 0.25 <= e.high for e in estimates) <= 10
    assert all(e.high - e.low < 0.03 for e in estimates)


# quote and record


def test_quote_checks_nothing_and_says_so() -> None:
    verdict = quote(
        "a-figure", {"BLEU": 28.4, "model": "big"}, source="vaswani2017", where="Table 2"
    )
    assert verdict
    assert verdict.summary == "quoted, not checked"
    assert verdict.value == {"BLEU": 28.4, "model": "big"}
    assert verdict.wrong == ()


RESULTS = {
    "machine": "a machine",
    "date": "2026-01-31",
    "versions": {"torch": "2.13"},
    "seconds": {"float32": [0.5, 0.25]},
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS))
    return path


def test_record_reads_a_dotted_path(results: Path) -> None:
    reading = record("a-figure", results, "seconds.float32.1")
    assert reading
    assert reading.value == 0.25
    assert reading.detail["machine"] == "a machine"
    assert reading.detail["file"] == "results.json"
    assert "a machine" in reading.summary


@pytest.mark.parametrize(
    ("change", "key", "error", "words"),
    [
        ({}, "seconds.float64", KeyError, "nothing at 'float64'"),
        ({}, "seconds.float32.7", KeyError, "nothing at '7'"),
        ({}, "seconds.float32.²", KeyError, "nothing at '²'"),
        ({}, "machine.name", KeyError, "nothing at 'name'"),
        ({}, "", ValueError, "key"),
        ({"machine": ""}, "seconds", ValueError, "machine"),
        ({"versions": {}}, "seconds", ValueError, "versions"),
        ({"date": "yesterday"}, "seconds", ValueError, "ISO 8601"),
        ({"date": 2026}, "seconds", ValueError, "ISO 8601"),
    ],
)
def test_record_refuses(results: Path, change: Any, key: str, error: Any, words: str) -> None:
    results.write_text(json.dumps({**RESULTS, **change}))
    with pytest.raises(error, match=re.escape(words)):
        record("a-figure", results, key)


def test_record_refuses_what_is_no_result_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no result file"):
        record("a-figure", tmp_path / "none.json", "a")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(TypeError, match="JSON object"):
        record("a-figure", tmp_path / "list.json", "a")
    (tmp_path / "text.json").write_text("nothing")
    with pytest.raises(ValueError, match="no JSON file"):
        record("a-figure", tmp_path / "text.json", "a")


# malformed calls


def proved(**changes: Any) -> Any:
    return prove(**{"id": "a-claim", "left": x, "right": x, "wrong": {"w": y}, **changes})


def counted(**changes: Any) -> Any:
    return count(**{"id": "a-claim", "counted": 2, "formula": 2, "wrong": {"w": 3}, **changes})


def agreed(**changes: Any) -> Any:
    given = {"id": "a-claim", "computed": 2.0, "expected": 2.0, "wrong": {"w": 3.0}, "atol": 1e-9}
    return agree(**{**given, **changes})


def observed(**changes: Any) -> Any:
    given = {"id": "a-claim", "behaviour": bool, "right": 1, "wrong": {"w": 0}}
    return observe(**{**given, **changes})


def measured(**changes: Any) -> Any:
    given = {"id": "a-claim", "estimate": ESTIMATE, "claimed": 0.5, "wrong": {"w": 1}}
    return measure(**{**given, **changes})


def refuted(**changes: Any) -> Any:
    given = {"id": "a-claim", "holds": lambda v: v == 1, "printed": 2, "corrected": 1}
    return refute(**{**given, **changes})


def quoted(**changes: Any) -> Any:
    return quote(**{"id": "a-claim", "value": 1, "source": "key", "where": "Table 1", **changes})


def test_the_calls_that_the_malformed_ones_start_from_are_fine() -> None:
    for call in (proved, counted, agreed, observed, measured, refuted, quoted):
        assert call().holds


MALFORMED = [
    (proved, {"id": "Claim-one"}, ValueError, "id"),
    (proved, {"id": "claim"}, ValueError, "two or more"),
    (proved, {"id": "1-claim"}, ValueError, "id"),
    (proved, {"id": "a--claim"}, ValueError, "id"),
    (proved, {"id": "a-claim\n"}, ValueError, "id"),
    (proved, {"id": 7}, TypeError, "id"),
    (proved, {"wrong": {}}, ValueError, "at least one wrong version"),
    (proved, {"wrong": [y]}, TypeError, "mapping"),
    (proved, {"wrong": {1: y}}, TypeError, "a label must be a str"),
    (proved, {"wrong": {" ": y}}, ValueError, "a label must not be empty"),
    (proved, {"wrong": {"w": 0.5}}, TypeError, "not exact"),
    (proved, {"right": 1.0}, TypeError, "right is not exact"),
    (proved, {"right": None}, TypeError, "right must be a SymPy expression"),
    (proved, {"wrong": {"w": None}}, TypeError, "got NoneType"),
    (proved, {"relation": "="}, ValueError, "relation"),
    (proved, {"points": 2}, ValueError, "points must be at least 4"),
    (proved, {"points": 24.0}, TypeError, "points"),
    (proved, {"digits": 10}, ValueError, "digits must be at least 20"),
    (proved, {"rewrite": "expand"}, TypeError, "rewrite"),
    (proved, {"certificate": x**2}, ValueError, "certificate"),
    (proved, {"sizes": {"D": 1}}, ValueError, "D = 1 is degenerate"),
    (proved, {"sizes": {"D": (2, 1)}}, ValueError, "also_at"),
    (proved, {"sizes": {"D": np.int64(1)}}, ValueError, "degenerate"),
    (proved, {"sizes": {"sigma": 1.0}}, ValueError, "degenerate"),
    (proved, {"sizes": {"sigma": Fraction(1)}}, ValueError, "degenerate"),
    (proved, {"sizes": {"D": 0}}, ValueError, "degenerate"),
    (proved, {"sizes": {"D": -2}}, ValueError, "positive"),
    (proved, {"sizes": {"D": NAN}}, ValueError, "finite"),
    (proved, {"sizes": {"D": True}}, TypeError, "number"),
    (proved, {"sizes": {"D": "2"}}, TypeError, "number"),
    (proved, {"sizes": {"D": ()}}, ValueError, "at least one size"),
    (proved, {"sizes": {"D": (2, 2)}}, ValueError, "twice"),
    (proved, {"sizes": {"the size": 2}}, ValueError, "named"),
    (proved, {"sizes": [2]}, TypeError, "mapping"),
    (proved, {"sizes": {"D": (2, 3)}}, ValueError, "no version takes it"),
    (proved, {"left": lambda D: x}, ValueError, "asks for ['D']"),
    (proved, {"sizes": {"D": 2}, "also_at": [{"D": 1}]}, ValueError, "also_at"),
    (proved, {"left": lambda D: x, "sizes": {"D": 2}, "also_at": {"D": 1}}, TypeError, "sequence"),
    (proved, {"left": lambda D: x, "sizes": {"D": 2}, "also_at": [{"N": 1}]}, ValueError, "also"),
    (counted, {"counted": 2.0}, TypeError, "counted must be an integer"),
    (counted, {"counted": True}, TypeError, "counted must be an integer"),
    (counted, {"formula": 2.0}, TypeError, "formula"),
    (counted, {"formula": sp.pi}, TypeError, "formula"),
    (counted, {"counted": sp.Rational(1, 2)}, TypeError, "counted"),
    (counted, {"formula": N, "sizes": {"D": 2}}, ValueError, "contains N"),
    (counted, {"formula": N}, ValueError, "sizes are required"),
    (counted, {"counted": lambda: 2}, ValueError, "sizes are required"),
    (agreed, {"atol": 0.0}, ValueError, "positive atol or rtol"),
    (agreed, {"atol": -1.0}, ValueError, "not negative"),
    (agreed, {"atol": INF}, ValueError, "finite"),
    (agreed, {"rtol": "1e-3"}, TypeError, "rtol"),
    (agreed, {"exact": True}, ValueError, "exact"),
    (agreed, {"computed": torch.empty(0)}, ValueError, "empty"),
    (agreed, {"expected": []}, ValueError, "empty"),
    (agreed, {"computed": "2"}, TypeError, "numbers"),
    (agreed, {"computed": [None]}, TypeError, "numbers"),
    (agreed, {"computed": [[1.0], [1.0, 2.0]]}, ValueError, "must have one shape"),
    (agreed, {"computed": 2**70}, ValueError, "must fit into int64"),
    (agreed, {"computed": x}, TypeError, "computed must be a number, got x"),
    (observed, {"behaviour": 7}, TypeError, "behaviour"),
    (observed, {"behaviour": lambda v: 1}, TypeError, "must return a bool"),
    (observed, {"behaviour": lambda v: np.bool_(v)}, TypeError, "got numpy.bool"),
    (observed, {"behaviour": lambda v: (np.bool_(v), "seen")}, TypeError, "got (numpy.bool"),
    (observed, {"behaviour": lambda v: torch.tensor(True)}, TypeError, "got torch.Tensor"),
    (observed, {"behaviour": lambda v: None}, TypeError, "must return a bool"),
    (observed, {"behaviour": lambda v: (True, 1)}, TypeError, "must return a bool"),
    (observed, {"sizes": {"D": (2, 3)}}, ValueError, "no version takes it"),
    (measured, {"estimate": 0.5}, TypeError, "Estimate"),
    (measured, {"claimed": "0.5"}, TypeError, "claimed"),
    (measured, {"claimed": NAN}, ValueError, "finite"),
    (measured, {"claimed": x}, TypeError, "claimed must be one number, got x"),
    (measured, {"claimed": torch.ones(2)}, TypeError, "claimed must be one number"),
    (measured, {"side": "above"}, ValueError, "side"),
    (measured, {"side": "within"}, TypeError, "pair"),
    (measured, {"side": "within", "claimed": (1, 0)}, ValueError, "a < b"),
    (refuted, {"holds": 1}, TypeError, "holds"),
    (refuted, {"holds": lambda v: 1}, TypeError, "must return a bool"),
    (refuted, {"counterexample": [1]}, TypeError, "counterexample"),
    (refuted, {"printed_label": ""}, ValueError, "printed_label"),
    (quoted, {"source": ""}, ValueError, "source"),
    (quoted, {"where": None}, TypeError, "where"),
    (quoted, {"value": None}, TypeError, "value"),
    (quoted, {"value": {}}, ValueError, "empty"),
    (lambda **c: raises(**c), {"error": "ValueError"}, TypeError, "error"),
    (lambda **c: raises(**c), {"error": ValueError, "match": "("}, ValueError, "match"),
    (lambda **c: mean_of(**c), {"samples": range(29)}, ValueError, "at least 30"),
    (lambda **c: mean_of(**c), {"samples": torch.ones(40)}, ValueError, "all be equal"),
    (lambda **c: mean_of(**c), {"samples": torch.randn(40, 2)}, ValueError, "one dimension"),
    (lambda **c: mean_of(**c), {"samples": [*range(40), NAN]}, ValueError, "finite"),
    (lambda **c: mean_of(**c), {"samples": range(40), "level": 1.0}, ValueError, "level"),
    (lambda **c: mean_of(**c), {"samples": range(40), "level": 99}, ValueError, "level"),
    (lambda **c: variance_of(**c), {"samples": range(999)}, ValueError, "at least 1000"),
    (lambda **c: share_of(**c), {"flags": [0, 1, 2]}, ValueError, "zeros and ones"),
    (lambda **c: slope_of(**c), {"x": [1, 2], "y": [1, 2]}, ValueError, "at least 3"),
    (lambda **c: slope_of(**c), {"x": [1, 2, 3], "y": [1, 2, 3, 4]}, ValueError, "as many"),
    (lambda **c: slope_of(**c), {"x": [1, 1, 1], "y": [1, 2, 3]}, ValueError, "all be equal"),
    (lambda **c: Estimate(**c), {"value": 2, "low": 0, "high": 1, "n": 9, "level": 0.9}, ValueError,
     "[low, high]"),
    (lambda **c: Estimate(**c), {"value": 0, "low": 0, "high": 1, "n": 1, "level": 0.9}, ValueError,
     "n must"),
    (lambda **c: Estimate(**c), {"value": 0, "low": -INF, "high": 1, "n": 9, "level": 0.9},
     ValueError, "finite"),
    (lambda **c: generator(**c), {"k": 1.5}, TypeError, "k must"),
    (lambda **c: generator(**c), {"k": True}, TypeError, "k must"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "changes", "error", "words"), MALFORMED)
def test_malformed_calls(call: Any, changes: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error) as refused:
        call(**changes)
    assert words in str(refused.value)
    assert not isinstance(refused.value, ClaimError)


# verdicts


def every_kind(results: Path) -> list[Verdict]:
    return [
        prove("a-proof", x * (x + 1), x**2 + x, wrong={"<b>&": x**2}),
        counted(),
        agreed(sizes={"N": 3}),
        observed(),
        measured(),
        refuted(counterexample={}),
        quote("a-quote", "<script>", source="key", where="p. 1"),
        record("a-record", results, "seconds"),
    ]


class Tags(html.parser.HTMLParser):
    """Collects what is not text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_payload_is_json_and_comes_back(results: Path) -> None:
    for verdict in every_kind(results):
        payload = verdict.payload()
        assert json.loads(json.dumps(payload, allow_nan=False)) == payload
        assert payload["id"] == verdict.id
        assert payload["holds"] is True
        assert payload["word"] == ledger._PAST_TENSE[verdict.kind]
        assert [r["label"] for r in payload["wrong"]] == [r.label for r in verdict.wrong]


def test_numbers_that_are_not_finite_become_strings() -> None:
    verdict = Verdict("a-claim", "agree", True, "", detail={"error": INF, "low": NAN, "n": 3})
    assert verdict.payload()["detail"] == {"error": "inf", "low": "nan", "n": 3}


def test_the_badge_escapes_everything_and_carries_no_ids_and_no_styles(results: Path) -> None:
    for verdict in every_kind(results):
        bundle = verdict._repr_mimebundle_()
        assert set(bundle) == {ledger.MIME_TYPE, "text/html", "text/plain"}
        badge = bundle["text/html"]
        assert isinstance(badge, str)
        tags = Tags()
        tags.feed(badge)
        tags.close()
        assert tags.open == []
        assert tags.attributes <= {"class", "aria-hidden"}
        assert f"dlc-verdict--{verdict.kind}" in badge
    proof = every_kind(results)[0]._html()
    assert "&lt;b&gt;&amp;" in proof
    assert "<b>" not in proof


def test_texts_are_the_same_every_time_and_hold_no_addresses(results: Path) -> None:
    first = [(str(v), v._html(), v.payload()) for v in every_kind(results)]
    again = [(str(v), v._html(), v.payload()) for v in every_kind(results)]
    assert first == again
    strange = refuted(counterexample={}, holds=lambda v: (v == 1, f"{object()}"))
    assert "0x" not in json.dumps(strange.payload())
    stranger = refute(
        "a-claim",
        lambda v, q: v == 1,
        printed=2,
        corrected=1,
        counterexample={"q": object()},
    )
    assert "0x" not in str(stranger)


def test_the_text_names_the_claim_the_sizes_and_what_was_rejected() -> None:
    verdict = count("a-claim", pairs, N * (N - 1) / 2, wrong={"all": N**2}, sizes={"N": (2, 3)})
    assert str(verdict).splitlines() == [
        "✓ counted a-claim (N = 2, 3)",
        "  equal at all 2 choices of sizes: 1 at N = 2, 3 at N = 3",
        '  ✗ rejected "all": at N = 2: 4, counted 1',
    ]
    assert repr(verdict) == str(verdict)


def test_a_verdict_cannot_be_changed() -> None:
    verdict = counted()
    with pytest.raises(AttributeError):
        verdict.holds = False
    with pytest.raises(AttributeError, match="has no value"):
        _ = verdict.value


def test_one_callable_judges_all_versions() -> None:
    seen: list[Any] = []

    def behaviour(version: int) -> bool:
        seen.append(version)
        return version == 1

    observe("a-claim", behaviour, 1, wrong={"two": 2, "three": 3})
    assert seen == [1, 2, 3]


def test_the_cause_of_an_undecided_version_is_chained() -> None:
    with pytest.raises(ClaimError) as failed:
        observe("a-claim", lambda v: v > 0, 1, wrong={"text": "a"})
    assert isinstance(failed.value.__cause__, TypeError)
    assert isinstance(failed.value, AssertionError)


# seeds and modes


def test_the_base_seed_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert base_seed() == 0
    monkeypatch.setenv("DLCHECKED_SEED", "17")
    assert base_seed() == 17
    assert proved().seed == 17
    for bad in ("", "a", "1.5", "1 2"):
        monkeypatch.setenv("DLCHECKED_SEED", bad)
        with pytest.raises(ValueError, match="DLCHECKED_SEED"):
            base_seed()


def draw(k: int | str) -> list[float]:
    return torch.rand(2000, generator=generator(k), dtype=torch.float64).tolist()


def test_generators_are_the_same_for_the_same_name_and_independent_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[int | str] = [0, 1, 2, "1", "keys", -1]
    streams = [draw(k) for k in names]
    assert streams == [draw(k) for k in names]
    correlations = np.corrcoef(streams)[~np.eye(len(names), dtype=bool)]
    assert np.abs(correlations).max() < 0.1
    monkeypatch.setenv("DLCHECKED_SEED", "1")
    assert all(draw(k) != stream for k, stream in zip(names, streams, strict=True))


def test_the_seed_is_kept_where_random_numbers_were_drawn() -> None:
    assert agreed().seed is None
    draw("keys")
    assert agreed().seed == 0
    assert agreed().seed is None


def test_other_seeds_lead_to_other_points_and_to_the_same_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    findings = set()
    for seed in range(5):
        monkeypatch.setenv("DLCHECKED_SEED", str(seed))
        verdict = prove("a-claim", x * (x + 1), x**2 + x, wrong={"no x": x**2})
        findings.add(verdict.wrong[0].finding)
    assert len(findings) > 1


def test_a_failing_verdict_is_returned_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DLCHECKED_ON_FAILURE", "report")
    verdict = measured(claimed=3)
    assert not verdict
    assert verdict.word == "not measured"
    assert "right version: failed" in verdict.detail["message"]
    assert "dlc-verdict--failed" in verdict._html()
    assert str(verdict).startswith("✗ not measured a-claim")
    blind = measured(wrong={"near": 0.55})
    assert not blind.wrong[0].rejected
    assert 'NOT rejected "near"' in str(blind)
    with pytest.raises(ValueError, match="at least one"):
        measured(wrong={})
    monkeypatch.setenv("DLCHECKED_ON_FAILURE", "ignore")
    with pytest.raises(ValueError, match="DLCHECKED_ON_FAILURE"):
        measured(claimed=3)

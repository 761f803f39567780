"""Summarization: data, loader, positions, the transformer, the log, the searches, ROUGE."""

from __future__ import annotations

import builtins
import itertools
import json
import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from dlchecked.decoding import KeyValueCache
from dlchecked.summarization import (
    END,
    PADDING,
    START,
    UNKNOWN,
    CachedDecoding,
    EncoderDecoder,
    Example,
    Hypothesis,
    Pairs,
    PrefixDecoding,
    Summarizer,
    Vocabulary,
    beam_search,
    encode_examples,
    generate_reports,
    greedy_search,
    inverse_square_root_schedule,
    lead_sentence,
    length_penalty,
    load_examples,
    position_shift,
    read_scalars,
    rouge_one,
    rouge_scores,
    sinusoidal_positions,
    smoothed_minimum,
    summarize,
    text_of,
    token_loss,
    tokens_of,
    train_summarizer,
)

F64 = torch.float64


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(seed: int = 0, *, size: int = 30, layers: int = 2, **options: Any) -> Summarizer:
    options = {"feedforward": 16, "dtype": F64} | options
    made = Summarizer(
        size, 8, 2, generator=source(seed), encoder_layers=layers, decoder_layers=layers, **options
    )
    return made.eval()


def documents(seed: int = 0, *, rows: int = 3, longest: int = 7, size: int = 30) -> Tensor:
    """Random documents of different lengths, padded at the end; the first is the longest."""
    numbers = torch.randint(4, size, (rows, longest), generator=source(seed))
    for row in range(1, rows):
        numbers[row, max(1, longest - 2 * row) :] = PADDING
    return numbers


def prefixes(seed: int = 1, *, rows: int = 3, length: int = 5, size: int = 30) -> Tensor:
    numbers = torch.randint(4, size, (rows, length), generator=source(seed))
    numbers[:, 0] = START
    return numbers


# Reports


@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize("wordings", [False, True])
def test_a_summary_says_the_facts_and_the_document_holds_them(names: bool, wordings: bool) -> None:
    reports = generate_reports(
        60, generator=source(), held_out_names=names, held_out_wordings=wordings
    )
    for report in reports:
        sentences = report.document.removesuffix(".").split(". ")
        assert len(sentences) in (4, 5)
        assert len(set(sentences)) == len(sentences)
        for fact in ("place", "event", "site", "days"):
            assert report.facts[fact] in report.summary
            assert report.facts[fact] in report.document
        for fact, word in report.facts.items():
            if fact.startswith("other"):
                assert word in report.document
                assert word not in report.summary


def test_held_out_names_and_wordings_do_not_occur_in_training() -> None:
    seen = generate_reports(800, generator=source())
    places = {fact for r in seen for name, fact in r.facts.items() if name.endswith("place")}
    held_out = generate_reports(300, generator=source(1), held_out_names=True)
    assert not places & {r.facts["place"] for r in held_out}
    pieces = {i: {tokens_of(place)[i] for place in places} for i in (0, 1)}
    assert all(len(known) == 20 for known in pieces.values())
    new = generate_reports(60, generator=source(2), held_out_wordings=True)
    texts = [text for r in seen for text in (r.document, r.summary)]
    vocabulary = Vocabulary(texts)
    for report in new:
        assert UNKNOWN not in vocabulary.numbers(report.document)
    assert not any("for" in r.document and "days nobody" in r.document for r in seen)
    assert all("days nobody" in r.document and "was struck by" in r.document for r in new)


def test_reports_repeat_with_their_generator() -> None:
    assert generate_reports(5, generator=source(3)) == generate_reports(5, generator=source(3))
    assert generate_reports(5, generator=source(3)) != generate_reports(5, generator=source(4))


def test_half_of_the_reports_begin_with_what_happened_and_more_by_chance() -> None:
    reports = generate_reports(1000, generator=source())
    lead = sum(r.facts["place"] in lead_sentence(r.document) for r in reports) / len(reports)
    assert 0.5 < lead < 0.7


# Tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("fire in Tevi.", ["fire", "in", "Te", "~vi", "."]),
        ("Berlin", ["Be", "~rl", "~in"]),
        ("Rom", ["Ro", "~m"]),
        ("Épée", ["Ép", "~ée"]),
        ("in 1987, say", ["in", "1", "~9", "~8", "~7", ",", "say"]),
        ("a-b_c", ["a", "-", "b", "_", "c"]),
        ("~", ["~"]),
        ("", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.from_regex(r"[a-z]{1,8}|[A-Z][a-z]{0,8}|[0-9]{1,4}", fullmatch=True), max_size=8)
)
def test_text_of_is_the_inverse_for_spaced_words(words: list[str]) -> None:
    text = " ".join(words)
    assert text_of(tokens_of(text)) == text


def test_reports_survive_the_round_trip() -> None:
    for report in generate_reports(40, generator=source()):
        assert text_of(tokens_of(report.document)) == report.document


def test_vocabulary() -> None:
    vocabulary = Vocabulary(["b a a.", "a c"], at_least=2)
    assert vocabulary.tokens[4:] == ("a",)
    assert vocabulary.numbers("a b") == [4, UNKNOWN]
    assert vocabulary.text([START, 4, UNKNOWN, END, PADDING]) == "a <unknown>"


def test_encoded_examples_are_padded_at_the_end_and_cut() -> None:
    examples = [Example("a b c d", "a"), Example("a", "a b")]
    pairs = encode_examples(examples, Vocabulary(["a b c d"]), max_document=3, max_summary=3)
    assert pairs.documents.tolist() == [[4, 5, 6], [4, 0, 0]]
    assert pairs.summaries.tolist() == [[START, 4, END], [START, 4, 5]]


# The loader


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"article": "A \n b.", "abstract": "é", "id": 3}, {"article": "c", "abstract": "d"}]
    text = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows) + "\n"
    path = write(tmp_path, "set.jsonl", text)
    loaded = load_examples(path, document="article", summary="abstract")
    assert [(e.document, e.summary) for e in loaded] == [("A \n b.", "é"), ("c", "d")]
    assert loaded[0].facts == {}
    assert len(load_examples(str(path), document="article", summary="abstract", limit=1)) == 1


def test_csv(tmp_path: Path) -> None:
    text = 'id,document,summary\r\n1,"two\nlines, quoted ""so""",s\r\n\r\n2,d,t\r\n'
    loaded = load_examples(write(tmp_path, "set.csv", text))
    assert loaded[0].document == 'two\nlines, quoted "so"'
    assert [e.summary for e in loaded] == ["s", "t"]


JSON_ROW = '{"document": "d", "summary": "s"}\n'
BAD_FILES: list[tuple[str, str | bytes, str]] = [
    ("a.jsonl", JSON_ROW + "{oops}\n", "line 2: not JSON"),
    ("a.jsonl", JSON_ROW + "\n[1]\n", "line 3: must hold an object, got list"),
    ("a.jsonl", JSON_ROW + '{"document": "d"}\n', "line 2: no field 'summary'; there are 'doc"),
    ("a.jsonl", '{"document": 3, "summary": "s"}\n', "line 1: 'document' must be a text, got int"),
    ("a.jsonl", '{"document": null, "summary": "s"}\n', "line 1: 'document' must be a text"),
    ("a.jsonl", JSON_ROW + '{"document": "d", "summary": " "}\n', "line 2: 'summary' is empty"),
    ("a.jsonl", JSON_ROW.encode() + b'{"document": "\xff"}\n', "line 2: not UTF-8"),
    ("a.jsonl", "", "at least one row"),
    ("a.csv", "", "at least one row"),
    ("a.csv", "document,summary\n", "at least one row"),
    ("a.csv", "document,text\nd,s\n", "line 1: the header must name 'summary' once"),
    ("a.csv", "document,summary,summary\nd,s,t\n", "line 1: the header must name 'summary' once"),
    ("a.csv", 'document,summary\n"x\ny",s\nd\n', "line 4: must hold 2 fields"),
    ("a.csv", "document,summary\nd,s,t\n", "line 2: must hold 2 fields, as the header does, got 3"),
    ("a.csv", 'document,summary\nd,s\nd,"open\n', "line 3: not CSV"),
    ("a.csv", "document,summary\nd, \n", "line 2: 'summary' is empty"),
    ("a.csv", b"document,summary\nd,s\n\xe9,s\n", "line 3: not UTF-8"),
    ("a.tsv", "document\tsummary\n", "must end in .jsonl or .csv"),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD_FILES)
def test_bad_files_are_named_by_line(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    with pytest.raises(ValueError, match=r"a\.(jsonl|csv|tsv)") as caught:
        load_examples(write(tmp_path, name, content))
    assert words in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        load_examples(tmp_path / "nothing.csv")


# Positions, smoothing, warm-up


@settings(max_examples=40, deadline=None)
@given(k=st.integers(-40, 40), pairs=st.integers(1, 8), base=st.sampled_from([2.0, 100.0, 1e4]))
def test_a_shift_is_a_rotation_wherever_it_starts(k: int, pairs: int, base: float) -> None:
    d = 2 * pairs
    shift = position_shift(k, d, base=base)
    here = sinusoidal_positions(20, d, first=40, base=base, dtype=F64)
    there = sinusoidal_positions(20, d, first=40 + k, base=base, dtype=F64)
    torch.testing.assert_close(here @ shift.T, there, atol=1e-12, rtol=0)
    torch.testing.assert_close(shift @ shift.T, torch.eye(d, dtype=F64), atol=1e-12, rtol=0)
    torch.testing.assert_close(shift @ position_shift(-k, d, base=base), torch.eye(d, dtype=F64))


def test_positions_against_the_papers_formula() -> None:
    found = sinusoidal_positions(50, 6, dtype=F64)
    for p, i in itertools.product(range(50), range(3)):
        angle = p / 10_000 ** (2 * i / 6)
        assert found[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
        assert found[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


@pytest.mark.parametrize(
    ("dtype", "off"), [(torch.float32, 1e-7), (torch.bfloat16, 4e-3), (torch.float16, 5e-4)]
)
def test_late_positions_are_rounded_only_once(dtype: torch.dtype, off: float) -> None:
    # Half a unit in the last place of numbers up to one.
    exact = sinusoidal_positions(4, 8, first=1_000_000, dtype=F64)
    rounded = sinusoidal_positions(4, 8, first=1_000_000, dtype=dtype)
    assert rounded.dtype == dtype
    assert (rounded.double() - exact).abs().max() <= off


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("classes", [2, 7, 126])
def test_the_floor_is_the_loss_at_the_target(classes: int, smoothing: float) -> None:
    target = torch.full((classes,), smoothing / classes, dtype=F64)
    target[0] += 1 - smoothing
    logits = target.clamp_min(1e-300).log()
    loss = functional.cross_entropy(logits[None], torch.tensor([0]), label_smoothing=smoothing)
    assert smoothed_minimum(classes, smoothing) == pytest.approx(loss.item(), abs=1e-9)


def test_no_smoothing_no_floor() -> None:
    assert str(smoothed_minimum(50, 0.0)) == "0.0"  # and not -0.0
    assert smoothed_minimum(50, 1.0) == pytest.approx(math.log(50))


@settings(max_examples=30, deadline=None)
@given(d=st.integers(1, 1024), warmup=st.integers(1, 3000))
def test_the_rate_peaks_at_the_end_of_the_warm_up(d: int, warmup: int) -> None:
    rate = inverse_square_root_schedule(d, warmup=warmup)
    around = [rate(step) for step in range(max(0, warmup - 3), warmup + 3)]
    assert max(around) == rate(warmup - 1) == pytest.approx((d * warmup) ** -0.5)
    assert rate(4 * warmup - 1) == pytest.approx((d * warmup) ** -0.5 / 2)


# The transformer against PyTorch's


def torchs(norm_first: bool, **options: Any) -> nn.Transformer:
    options = {"dropout": 0.0, "batch_first": True, "dtype": F64} | options
    with torch.random.fork_rng(), warnings.catch_warnings():
        # It says that its fast path is off with norm_first, which is no concern here.
        warnings.filterwarnings("ignore", message="enable_nested_tensor is True")
        torch.manual_seed(5)
        made = nn.Transformer(
            d_model=12,
            nhead=3,
            num_encoder_layers=2,
            num_decoder_layers=3,
            dim_feedforward=20,
            norm_first=norm_first,
            **options,
        )
        for parameter in made.parameters():  # no bias at 0, no norm at 1
            nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_same_as_torch_with_padding_masks(norm_first: bool) -> None:
    theirs = torchs(norm_first)
    ours = EncoderDecoder.from_torch(theirs)
    assert ours.training
    x = torch.randn(4, 7, 12, generator=source(), dtype=F64)
    y = torch.randn(4, 5, 12, generator=source(1), dtype=F64)
    x_kept = torch.arange(7) < torch.tensor([7, 3, 5, 1])[:, None]
    y_kept = torch.arange(5) < torch.tensor([5, 4, 2, 1])[:, None]
    expected = theirs(
        x,
        y,
        tgt_mask=torch.ones(5, 5, dtype=torch.bool).triu(1),
        src_key_padding_mask=~x_kept,
        tgt_key_padding_mask=~y_kept,
        memory_key_padding_mask=~x_kept,
    )
    found = ours(x, y, source_kept=x_kept, target_kept=y_kept)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    for loss in (expected.square().sum(), found.square().sum()):
        loss.backward()
    pairs = [(ours.encoder[1].linear1.weight, theirs.encoder.layers[1].linear1.weight)]
    pairs += [(ours.decoder[0].norm2.bias, theirs.decoder.layers[0].norm2.bias)]
    for mine, yours in pairs:
        assert yours.grad.abs().max() > 0
        torch.testing.assert_close(mine.grad, yours.grad, atol=1e-10, rtol=1e-8)
    theirs_rows = theirs.decoder.layers[2].multihead_attn.in_proj_weight.grad[12:24]
    torch.testing.assert_close(
        ours.decoder[2].cross_attn.k_proj.weight.grad, theirs_rows, atol=1e-10, rtol=1e-8
    )


def test_gradcheck_of_the_whole_transformer() -> None:
    model = EncoderDecoder(4, 2, feedforward=5, dtype=F64, generator=source(2))
    x = torch.randn(2, 3, 4, generator=source(3), dtype=F64, requires_grad=True)
    y = torch.randn(2, 2, 4, generator=source(4), dtype=F64, requires_grad=True)
    kept = torch.tensor([[True, True, True], [True, True, False]])
    assert torch.autograd.gradcheck(lambda a, b: model(a, b, source_kept=kept), (x, y))


def test_matrices_follow_xaviers_law_and_the_generator() -> None:
    model = EncoderDecoder(32, 4, feedforward=96, generator=source())
    weight = model.encoder[0].linear1.weight
    assert weight.abs().max() <= (6 / 128) ** 0.5
    assert weight.var().item() == pytest.approx(2 / 128, rel=0.1)
    state = torch.get_rng_state()
    again = EncoderDecoder(32, 4, feedforward=96, generator=source())
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_stays_near(dtype: torch.dtype) -> None:
    exact, rough = small(), small(dtype=dtype)
    with torch.no_grad():
        a, b = exact(documents(), prefixes()), rough(documents(), prefixes())
    assert b.dtype == dtype
    # A few roundings of numbers around 3, the logits' size, in two layers.
    assert (a - b.double()).abs().max() < 100 * torch.finfo(dtype).eps


# The summarizer


def test_padding_and_later_tokens_do_not_matter() -> None:
    model, long, start = small(), documents(), prefixes()
    with torch.no_grad():
        together = model(long, start)
        for row in range(3):
            alone = model(long[row][long[row] != PADDING][None], start[row : row + 1])
            torch.testing.assert_close(together[row], alone[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(model(long, start[:, :3]), together[:, :3], atol=1e-12, rtol=0)


def test_a_document_of_padding_alone_is_read_as_nothing() -> None:
    out = small()(torch.zeros(1, 4, dtype=torch.int64), prefixes(rows=1))
    assert out.isfinite().all()


def test_the_table_is_shared_and_the_attention_seen() -> None:
    model, seen = small(), []
    out = model(documents(), prefixes(), seen=seen)
    assert out.shape == (3, 5, 30)
    assert [tuple(w.shape) for w in seen] == [(3, 2, 5, 7)] * 2
    for weights in seen:
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 5, dtype=F64))
        assert bool((weights.movedim(-1, 1)[documents() == PADDING] == 0).all())
    names = [name for name, p in model.named_parameters() if 30 in p.shape]
    assert names == ["table"]


def test_token_loss_against_a_loop() -> None:
    model = small()
    summaries = prefixes(length=6)
    summaries[0, 4:], summaries[1, 5:] = PADDING, PADDING
    losses = []
    with torch.no_grad():
        logits = model(documents(), summaries[:, :-1]).log_softmax(-1)
        for row, place in itertools.product(range(3), range(5)):
            token = summaries[row, place + 1]
            if token != PADDING:
                losses.append(-logits[row, place, token].item())
        found = token_loss(model, Pairs(documents(), summaries))
    assert found.item() == pytest.approx(sum(losses) / len(losses))


# Training


def tiny_set(count: int = 48) -> tuple[Pairs, Vocabulary, list[Example]]:
    reports = generate_reports(count, generator=source(9))
    vocabulary = Vocabulary(text for r in reports for text in (r.document, r.summary))
    return encode_examples(reports, vocabulary), vocabulary, reports


def test_training_learns_repeats_and_logs_what_it_records(tmp_path: Path) -> None:
    pairs, vocabulary, reports = tiny_set()
    histories = []
    for folder in ("a", "b"):
        model = Summarizer(len(vocabulary), 16, 2, generator=source())
        history = train_summarizer(
            model,
            pairs,
            Pairs(pairs.documents[:8], pairs.summaries[:8]),
            generator=source(1),
            steps=40,
            batch_size=16,
            warmup=20,
            every=15,
            log_dir=tmp_path / folder,
        )
        histories.append(history)
    assert torch.equal(histories[0].losses, histories[1].losses)
    history = histories[0]
    validation = history.metrics["validation"]
    torch.testing.assert_close(validation, history.metrics["training"])  # the same eight
    assert validation[-1] < 0.6 * validation[0]
    board = read_scalars(tmp_path / "a")
    assert sorted(board) == ["loss/optimised", "loss/training", "loss/validation"]
    steps, values = zip(*board["loss/validation"], strict=True)
    assert steps == history.evaluated_at == (0, 15, 30, 40)
    assert list(values) == pytest.approx(validation.tolist(), rel=1e-6)
    steps, values = zip(*board["loss/optimised"], strict=True)
    assert steps == tuple(range(40))
    assert list(values) == pytest.approx(history.losses.tolist(), rel=1e-6)
    with pytest.raises(ValueError, match="log_dir must not hold a run yet"):
        train_summarizer(model, pairs, pairs, generator=source(), steps=1, log_dir=tmp_path / "a")
    texts = summarize(model, vocabulary, [r.document for r in reports[:3]])
    assert len(texts) == 3
    assert model.training


def test_read_scalars_of_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold a run"):
        read_scalars(tmp_path)


@pytest.mark.parametrize(
    ("hidden", "call"),
    [
        ("tensorboard", lambda path: read_scalars(path)),
        ("torch.utils.tensorboard", lambda path: _train_with_log(path)),
        ("rouge_score", lambda path: rouge_scores(["a"], ["a"])),
    ],
)
def test_a_missing_extra_is_named(
    hidden: str, call: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lazily = builtins.__import__, __import__("importlib").import_module

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith(hidden):
            raise ImportError(name)
        return real(name, *arguments, **named)

    def without_lazily(name: str, *arguments: Any) -> Any:
        if name.startswith(hidden):
            raise ImportError(name)
        return lazily(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("dlchecked.summarization.import_module", without_lazily)
    with pytest.raises(ImportError, match=r"pip install dlchecked\[summarization\]"):
        call(tmp_path)


def _train_with_log(path: Path) -> None:
    pairs, vocabulary, _ = tiny_set(4)
    model = Summarizer(len(vocabulary), 4, 2, generator=source())
    train_summarizer(
        model, pairs, pairs, generator=source(), steps=1, batch_size=2, log_dir=path / "run"
    )


# Searching


def table(rows: dict[tuple[int, ...], dict[int, float]], size: int = 8) -> PrefixDecoding:
    """A language that is a table: what follows a prefix; END follows for certain otherwise."""

    def following(prefixes: Tensor, numbers: Tensor) -> Tensor:
        out = torch.zeros(len(prefixes), size, dtype=F64)
        for row, prefix in enumerate(prefixes[:, 1:].tolist()):
            for token, probability in rows.get(tuple(prefix), {END: 1.0}).items():
                out[row, token] = probability
        return out.log()

    return PrefixDecoding(following, rows=1)


def random_language(seed: int, depth: int) -> dict[tuple[int, ...], dict[int, float]]:
    tokens = (END, 4, 5, 6)
    rows = {}
    for length in range(depth):
        for prefix in itertools.product(tokens[1:], repeat=length):
            drawn = torch.rand(4, generator=source(hash((seed, prefix)) % 2**31), dtype=F64) ** 2
            probabilities = (drawn / drawn.sum()).tolist()
            rows[prefix] = dict(zip(tokens, probabilities, strict=True))
    return rows


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_beam_with_a_seat_for_everything_finds_the_best(seed: int, alpha: float) -> None:
    rows = random_language(seed, 3)
    every = {}
    for length in range(4):
        for prefix in itertools.product((4, 5, 6), repeat=length):
            probability = math.prod(rows[prefix[:i]][t] for i, t in enumerate(prefix))
            every[(*prefix, END)] = probability * rows.get(prefix, {END: 1.0})[END]
    hypotheses = [Hypothesis(t, math.log(p)) for t, p in every.items() if p > 0]
    best = max(hypotheses, key=lambda h: h.score(alpha))
    found = beam_search(table(rows), beams=200, max_length=4, alpha=alpha)[0]
    assert found[0].tokens == best.tokens
    assert found[0].log_probability == pytest.approx(best.log_probability)
    assert {h.tokens for h in found} == set(every)


@pytest.mark.parametrize("alpha", [0.3, 2.0])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_beam_that_drops_nothing_ranks_everything(alpha: float, cut: int) -> None:
    rows = random_language(11, 4)
    every: list[Hypothesis] = []

    def follow(prefix: tuple[int, ...], probability: float) -> None:
        if len(prefix) == cut or prefix[-1:] == (END,):
            every.append(Hypothesis(prefix, math.log(probability)))
            return
        for token, share in rows[prefix].items():
            follow((*prefix, token), probability * share)

    follow((), 1.0)
    # The penalty written out, and what has ended before what was cut off.
    every.sort(
        key=lambda h: (h.tokens[-1] != END, -h.log_probability / ((5 + len(h.tokens)) / 6) ** alpha)
    )
    (found,) = beam_search(table(rows), beams=200, max_length=cut, alpha=alpha)
    assert [h.tokens for h in found] == [h.tokens for h in every]
    totals = [[h.log_probability for h in each] for each in (found, every)]
    assert totals[0] == pytest.approx(totals[1], abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_one_beam_is_greedy_and_no_more_hypotheses_than_beams(seed: int) -> None:
    rows = random_language(seed, 5)
    for cut in (2, 6):
        (greedy,) = greedy_search(table(rows), max_length=cut)
        ((one,),) = beam_search(table(rows), beams=1, max_length=cut, alpha=0.7)
        assert one.tokens == greedy.tokens
        assert one.log_probability == greedy.log_probability
        (found,) = beam_search(table(rows), beams=3, max_length=cut)
        assert len(found) <= 3
        assert all(len(h.tokens) <= cut for h in found)
        assert [h.finished for h in found] == sorted((h.finished for h in found), reverse=True)


def test_two_decisions_of_a_beam_of_two_are_never_worse_than_greedy() -> None:
    for seed in range(30):
        rows = {k: v for k, v in random_language(seed, 2).items() if len(k) < 2}
        (greedy,) = greedy_search(table(rows), max_length=3)
        (found,) = beam_search(table(rows), beams=2, max_length=3)
        assert found[0].log_probability >= greedy.log_probability


@pytest.mark.parametrize("beams", [1, 3])
def test_cached_equals_uncached(beams: int) -> None:
    model, texts = small(4), documents(rows=4)
    cached = beam_search(CachedDecoding(model, texts), beams=beams, max_length=9, alpha=0.6)
    slow = beam_search(PrefixDecoding.of(model, texts), beams=beams, max_length=9, alpha=0.6)
    for ours, theirs in zip(cached, slow, strict=True):
        assert [h.tokens for h in ours] == [h.tokens for h in theirs]
        scores = [[h.log_probability for h in each] for each in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-10)


@pytest.mark.parametrize("norm_first", [True, False])
def test_each_step_has_the_logits_of_the_whole(norm_first: bool) -> None:
    model, texts = small(7, norm_first=norm_first), documents(rows=4)
    texts[3] = PADDING  # nothing to read at all
    written = prefixes(rows=4, length=9)
    with torch.no_grad():
        whole = model(texts, written).log_softmax(-1)
        decoding = CachedDecoding(model, texts)
        for t in range(9):
            step = decoding.step(written[:, t])
            torch.testing.assert_close(step, whole[:, t], atol=1e-12, rtol=0)


def test_caches_take_the_dtype_of_autocast() -> None:
    model, texts = small(dtype=torch.float32), documents()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = model(texts, prefixes(length=1)).log_softmax(-1)[:, 0]
        step = CachedDecoding(model, texts).step(torch.full((3,), START))
    # The logits are around 3, in bfloat16; a difference of a few roundings.
    assert (step.double() - whole.double()).abs().max() < 0.1


@pytest.mark.parametrize("bad", [math.nan, -math.inf, 2.0])
@pytest.mark.parametrize("search", [greedy_search, partial(beam_search, beams=2)])
def test_searches_refuse_what_is_no_log_probability(
    bad: float, search: Callable[..., object]
) -> None:
    decoding = PrefixDecoding(lambda p, d: torch.full((len(p), 5), bad), rows=2)
    with pytest.raises(ValueError, match="log-probabilities must be at most 0"):
        search(decoding, max_length=2)


def test_a_step_costs_one_position(monkeypatch: pytest.MonkeyPatch) -> None:
    appended: list[int] = []
    append = KeyValueCache.append

    def counted(self: KeyValueCache, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        appended.append(k.shape[2])
        return append(self, k, v)

    monkeypatch.setattr(KeyValueCache, "append", counted)
    with torch.no_grad():
        decoding = CachedDecoding(small(), documents())
        assert appended == [7, 7]  # the document's keys, once for each layer
        for _ in range(3):
            decoding.step(torch.full((3,), START))
    assert appended[2:] == [1] * 6


def test_selecting_rows_moves_the_caches_with_them() -> None:
    model, texts = small(), documents()
    tokens = torch.tensor([4, 5, 6])
    with torch.no_grad():
        plain, moved = CachedDecoding(model, texts), CachedDecoding(model, texts)
        for decoding in (plain, moved):
            decoding.step(torch.full((3,), START))
            decoding.step(tokens)
        order = torch.tensor([2, 0, 0, 1])
        moved.select(order)
        assert moved.rows == 4
        a = plain.step(tokens.flip(0))
        b = moved.step(tokens.flip(0)[order])
    torch.testing.assert_close(a[order], b, atol=1e-12, rtol=0)


def test_summarize_with_beams_writes_texts() -> None:
    _, vocabulary, reports = tiny_set(8)
    model = small(size=len(vocabulary)).train()
    texts = [r.document for r in reports[:2]]
    assert len(summarize(model, vocabulary, texts, beams=2, max_length=5)) == 2
    assert model.training


def test_length_penalty_and_scores() -> None:
    assert length_penalty(1, alpha=3.0) == 1
    assert length_penalty(9, alpha=0) == 1
    assert Hypothesis((4,) * 6 + (END,), -4.0).score(1.0) == -2.0
    assert not Hypothesis((), 0.0).finished


# ROUGE


WORDS = st.lists(st.sampled_from(["a", "b", "Ab", "c3", "d."]), max_size=9).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(reference=WORDS, candidate=WORDS)
def test_rouge_one_is_the_packages(reference: str, candidate: str) -> None:
    theirs = rouge_scores([reference], [candidate])["rouge1"].item()
    assert rouge_one(reference, candidate) == pytest.approx(theirs)


def test_rouge_of_itself_and_of_nothing() -> None:
    text = "fire in Tevi closes bridge."
    for scores in rouge_scores([text, text], [text, "word"]).values():
        assert scores.tolist() == [1.0, 0.0]
    assert rouge_one("", "") == 0


@pytest.mark.parametrize(
    ("document", "lead"),
    [
        ("a b. c d.", "a b."),
        ("is it? yes.", "is it?"),
        (" only this", "only this"),
        ("v1.2 is out! now.", "v1.2 is out!"),
        ("", ""),
    ],
)
def test_lead_sentence(document: str, lead: str) -> None:
    assert lead_sentence(document) == lead


# Bad arguments


def a_model(**options: Any) -> Summarizer:
    arguments: dict[str, Any] = {"vocabulary_size": 30, "d_model": 8, "num_heads": 2} | options
    return Summarizer(**({"generator": source()} | arguments))


def trained(**options: Any) -> object:
    pairs, vocabulary, _ = tiny_set(4)
    arguments: dict[str, Any] = {"generator": source(), "steps": 1, "batch_size": 2} | options
    model = arguments.pop("model", None) or Summarizer(len(vocabulary), 4, 2, generator=source())
    validation = arguments.pop("validation", pairs)
    return train_summarizer(model, pairs, validation, **arguments)


def encoded(**options: Any) -> object:
    arguments: dict[str, Any] = {"examples": [Example("a", "b")]} | options
    return encode_examples(vocabulary=Vocabulary(["a b"]), **arguments)


CALLS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: generate_reports(0, generator=source()), ValueError, "count must be at least 1"),
    (lambda: generate_reports(3, generator=0), TypeError, "generator must be a torch.Generator"),
    (
        lambda: generate_reports(3, generator=source(), held_out_names=1),
        TypeError,
        "held_out_names must be True or False",
    ),
    (lambda: load_examples("a.csv", document=3), TypeError, "document must be the name"),
    (lambda: load_examples("a.csv", limit=0), ValueError, "limit must be at least 1"),
    (lambda: tokens_of(3), TypeError, "text must be a str"),
    (lambda: Vocabulary("abc"), TypeError, "texts must be several"),
    (lambda: Vocabulary([]), ValueError, "texts must hold at least one word"),
    (lambda: Vocabulary(["a"], at_least=0), ValueError, "at_least must be at least 1"),
    (lambda: encoded(examples=[]), ValueError, "examples must hold at least one"),
    (lambda: encoded(examples=["a"]), TypeError, "examples must hold Examples"),
    (lambda: encoded(max_summary=1), ValueError, "max_summary must be at least 2"),
    (lambda: sinusoidal_positions(3, 5), ValueError, "d_model must be even"),
    (lambda: sinusoidal_positions(0, 4), ValueError, "length must be at least 1"),
    (lambda: sinusoidal_positions(3, 4, base=1.0), ValueError, "base must be above 1"),
    (lambda: sinusoidal_positions(3, 4, dtype=torch.int64), TypeError, "dtype must be"),
    (lambda: position_shift(1.5, 4), TypeError, "distance must be an integer"),
    (lambda: smoothed_minimum(1, 0.1), ValueError, "classes must be at least 2"),
    (lambda: smoothed_minimum(5, 1.1), ValueError, "smoothing must lie between 0 and 1"),
    (lambda: smoothed_minimum(5, math.nan), ValueError, "smoothing must lie between 0 and 1"),
    (lambda: inverse_square_root_schedule(8, warmup=0), ValueError, "warmup must be at least 1"),
    (lambda: a_model(d_model=9, num_heads=3), ValueError, "d_model must be even"),
    (lambda: a_model(num_heads=3), ValueError, "num_heads must divide"),
    (lambda: a_model(vocabulary_size=4), ValueError, "vocabulary_size must be at least 5"),
    (lambda: a_model(generator=None), TypeError, "generator must be a torch.Generator"),
    (lambda: a_model(dropout=1.0), ValueError, "dropout must lie between 0 and 1"),
    (lambda: a_model(norm_first=1), TypeError, "norm_first must be True or False"),
    (lambda: a_model(encoder_layers=0), ValueError, "encoder_layers must be at least 1"),
    (lambda: a_model(feedforward=2.0), TypeError, "feedforward must be an integer"),
    (lambda: EncoderDecoder.from_torch(nn.Linear(2, 2)), TypeError, "source must be a torch.nn"),
    (
        lambda: EncoderDecoder.from_torch(torchs(False, activation="gelu")),
        ValueError,
        "source must have ReLU",
    ),
    (
        lambda: EncoderDecoder.from_torch(torchs(True, batch_first=False)),
        ValueError,
        "source must have batch_first=True",
    ),
    (
        lambda: EncoderDecoder.from_torch(torchs(True, bias=False)),
        ValueError,
        "source must have biases",
    ),
    (lambda: small()(documents().float(), prefixes()), TypeError, "documents must be of dtype"),
    (lambda: small()(documents(), prefixes()[0]), ValueError, "prefixes must be rows of tokens"),
    (lambda: small()(documents(), prefixes(rows=2)), ValueError, "prefixes must be as many"),
    (lambda: small()(documents() + 30, prefixes()), ValueError, "documents must lie from 0 to 29"),
    (lambda: small()([1], prefixes()), TypeError, "documents must be a torch.Tensor"),
    (
        lambda: small().transformer(torch.zeros(2, 3, 8), torch.zeros(2, 3, 8, dtype=F64)),
        TypeError,
        "target must have the dtype of source",
    ),
    (lambda: trained(model=nn.Linear(2, 2)), TypeError, "model must be a Summarizer"),
    (lambda: trained(rate=0.0), ValueError, "rate must be positive"),
    (lambda: trained(smoothing=2), ValueError, "smoothing must lie between 0 and 1"),
    (lambda: trained(warmup=0), ValueError, "warmup must be at least 1"),
    (lambda: trained(batch_size=9), ValueError, "batch_size must be at most 4"),
    (lambda: CachedDecoding(small().train(), documents()), ValueError, "model must be in eval"),
    (lambda: CachedDecoding(nn.Linear(2, 2), documents()), TypeError, "model must be a Summ"),
    (
        lambda: CachedDecoding(small(), documents()).step(torch.zeros(3)),
        TypeError,
        "tokens must be a torch.Tensor of int64",
    ),
    (
        lambda: CachedDecoding(small(), documents()).step(torch.zeros(2, dtype=torch.int64)),
        ValueError,
        r"tokens must have shape \(3,\)",
    ),
    (lambda: PrefixDecoding(3, rows=1), TypeError, "next_log_probabilities must be callable"),
    (lambda: PrefixDecoding(print, rows=0), ValueError, "rows must be at least 1"),
    (lambda: greedy_search(table({}), max_length=0), ValueError, "max_length must be at least 1"),
    (
        lambda: beam_search(table({}), beams=0, max_length=3),
        ValueError,
        "beams must be at least 1",
    ),
    (
        lambda: beam_search(table({}), beams=2, max_length=3, alpha=-1.0),
        ValueError,
        "alpha must be at least 0",
    ),
    (lambda: length_penalty(0, alpha=1.0), ValueError, "length must be at least 1"),
    (
        lambda: summarize(small(), Vocabulary(["a"]), []),
        ValueError,
        "documents must be a list of at least one text",
    ),
    (
        lambda: summarize(small(), Vocabulary(["a"]), ["a", " "]),
        ValueError,
        "number 1 has none",
    ),
    (
        lambda: summarize(small(), Vocabulary(["a"]), ["a"], beams=0),
        ValueError,
        "beams must be at least 1",
    ),
    (
        lambda: summarize(small(), Vocabulary(["a"]), ["a"]),
        ValueError,
        "vocabulary must hold the model's 30 tokens, got 5",
    ),
    (lambda: summarize(3, Vocabulary(["a"]), ["a"]), TypeError, "model must be a Summarizer"),
    (lambda: Vocabulary(["a"]).text([-1]), ValueError, "numbers must lie from 0 to 4, got -1"),
    (lambda: Vocabulary(["a"], at_least=2), ValueError, "at_least must leave a token"),
    (
        lambda: inverse_square_root_schedule(8, warmup=2)(-1),
        ValueError,
        "step must be at least 0",
    ),
    (
        lambda: token_loss(small(), Pairs(documents(), documents() * 0)),
        ValueError,
        "pairs.summaries must hold a token after the first",
    ),
    (
        lambda: token_loss(small(), Pairs(documents().flip(1), prefixes())),
        ValueError,
        "pairs.documents must be padded at the end",
    ),
    (
        lambda: trained(validation=Pairs(documents()[:0], prefixes()[:0])),
        ValueError,
        "validation.documents must be rows of tokens",
    ),
    (lambda: trained(validation=documents()), TypeError, "validation must be Pairs"),
    (
        lambda: trained(validation=Pairs(documents(), prefixes().float())),
        TypeError,
        "validation.summaries must be a torch.Tensor of int64",
    ),
    (
        lambda: EncoderDecoder.from_torch(torchs(True, layer_norm_eps=0.1)),
        ValueError,
        "source must have layer_norm_eps=1e-5",
    ),
    (
        lambda: small().transformer(torch.zeros(2, 3, 6), torch.zeros(2, 3, 8)),
        ValueError,
        "source must have the width d_model = 8",
    ),
    (lambda: PrefixDecoding.of(small().train(), documents()), ValueError, "model must be in eval"),
    (
        lambda: greedy_search(PrefixDecoding(lambda p, d: None, rows=1), max_length=1),
        TypeError,
        "log-probabilities must be a floating-point",
    ),
    (
        lambda: beam_search(
            PrefixDecoding(lambda p, d: torch.zeros(1, 5), rows=1), beams=2, max_length=1
        ),
        ValueError,
        r"log-probabilities must have shape \(2, V\)",
    ),
    (lambda: rouge_one(None, "a"), TypeError, "reference must be a str"),
    (lambda: rouge_scores("ab", "ab"), TypeError, "references must be a list of texts"),
    (lambda: rouge_scores(["a"], [None]), TypeError, "candidates must be a list of texts"),
    (lambda: lead_sentence(None), TypeError, "document must be a str"),
    (lambda: rouge_scores(["a"], []), ValueError, "candidates must be as many as references"),
]


@pytest.mark.parametrize(("call", "error", "words"), CALLS)
def test_bad_arguments_are_named(
    call: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()

"""The language, the two models, the scores of heads, what untrained heads do, and checkpoints."""

from __future__ import annotations

import importlib
import math
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlchecked.arguments import value_checks
from dlchecked.attention_maps import (
    CLUES,
    MASK,
    ROLES,
    SEPARATOR,
    WORDS,
    Kind,
    LanguageModel,
    Text,
    _loss,
    at_step,
    decode,
    encode,
    head_scores,
    hide_words,
    near_uniform_entropy,
    one_sided,
    pretrained_attention,
    role_accuracy,
    role_targets,
    sample_text,
    save_as_gpt2,
    score_gradient,
    score_gradients,
    sense_accuracy,
    sense_pairs,
    sense_separation,
    shared_part,
    shuffled_maps,
    train_language_model,
    uniform_score,
    untrained_maps,
    without_head,
)
from dlchecked.scaled_dot_product import softmax_entropy

PLURALS = {"himself": "king monk duke", "herself": "queen nun girl", "itself": "dog cow owl"}
PLURALS["themselves"] = "kings girls dogs"
NOUN_OF = {noun: reflexive for reflexive, nouns in PLURALS.items() for noun in nouns.split()}
SENSE_OF = dict.fromkeys(["boat", "fish", "swim", "mud", "reed"], 0)
SENSE_OF |= dict.fromkeys(["coin", "loan", "debt", "safe", "desk"], 1)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def text_of(batch: int = 64, *, length: int = 24, seed: int = 0) -> Text:
    return sample_text(batch, length=length, generator=source(seed))


def small(is_causal: bool = True, *, seed: int = 0, **sizes: int) -> LanguageModel:
    sizes = {"d_model": 16, "num_heads": 2, "hidden": 16, **sizes}
    return LanguageModel(is_causal=is_causal, generator=source(seed), **sizes)


def random_maps(*shape: int, is_causal: bool = False, seed: int = 0) -> Tensor:
    scores = torch.randn(*shape, generator=source(seed), dtype=torch.float64)
    if is_causal:
        scores = scores.masked_fill(torch.ones(shape[-2:]).triu(1).bool(), -math.inf)
    return scores.softmax(-1)


# The language


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), length=st.integers(2, 40))
def test_sentences_follow_the_grammar(seed: int, length: int) -> None:
    text = text_of(3, length=length, seed=seed)
    assert text.tokens.shape == text.kinds.shape == text.sentences.shape == (3, length)
    for tokens in text.tokens:
        words = decode(tokens).split()
        assert words[0] == "."
        span = None
        sentences = " ".join(words[1:]).split(" .")
        for sentence in [s.split() for s in sentences[:-1]]:
            if "bank" in sentence:
                senses = [SENSE_OF[word] for word in sentence if word in SENSE_OF]
                assert len(senses) == 2
                assert senses[0] == senses[1]
            elif sentence[0] in NOUN_OF:
                assert sentence[-1] == NOUN_OF[sentence[0]]
                assert 3 <= len(sentence) <= 5
            else:
                assert len(set(sentence)) == 4
                span = span or sentence
                # Once round the same names, beginning anywhere.
                begin = span.index(sentence[0])
                assert sentence == span[begin:] + span[:begin]


def test_kinds_and_links_say_what_decides_what() -> None:
    text = text_of(40)
    assert torch.equal(text.links, text.links.mT)
    assert not bool(text.links.diagonal(dim1=1, dim2=2).any())
    partners = {Kind.NOUN: Kind.REFLEXIVE, Kind.REFLEXIVE: Kind.NOUN}
    partners |= {Kind.CLUE: Kind.OBJECT, Kind.OBJECT: Kind.CLUE}
    for b, i, j in text.links.nonzero().tolist():
        first, second = Kind(int(text.kinds[b, i])), Kind(int(text.kinds[b, j]))
        if first in (Kind.NAME, Kind.FIRST_NAME):
            assert second in (Kind.NAME, Kind.FIRST_NAME)
            assert text.tokens[b, i] == text.tokens[b, j]
            assert text.sentences[b, i] != text.sentences[b, j]
        else:
            assert second == partners[first]
            assert text.sentences[b, i] == text.sentences[b, j]
    assert torch.equal(text.kinds == Kind.SEPARATOR, text.tokens == SEPARATOR)
    assert torch.equal(text.kinds == Kind.BANK, text.tokens == encode("bank").item())
    # A round of names begins anywhere: its first name may be a later one of another sentence.
    first, later = text.kinds == Kind.FIRST_NAME, text.kinds == Kind.NAME
    assert bool((text.links & first[:, :, None] & later[:, None, :]).any())
    # All kinds of words are there.
    assert set(text.kinds.unique().tolist()) == set(map(int, Kind))


def test_a_sentence_known_by_heart() -> None:
    text = sample_text(1, length=10, generator=source(54))
    assert decode(text.tokens[0]) == ". monk washed himself . queen then hurt herself ."
    assert text.links[0].nonzero().tolist() == [[1, 3], [3, 1], [5, 8], [8, 5]]
    assert text.sentences[0].tolist() == [-1, 0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_the_shares_of_the_kinds_of_sentences() -> None:
    kinds = text_of(4000, length=2).kinds[:, 1]
    for members, share in (
        ((Kind.FIRST_NAME,), 0.45),
        ((Kind.NOUN,), 0.275),
        ((Kind.CLUE, Kind.BANK), 0.275),
    ):
        found = sum((kinds == kind).double().mean().item() for kind in members)
        assert found == pytest.approx(share, abs=5 * 0.5 / 4000**0.5)


def test_words_and_tokens() -> None:
    assert decode(encode(" ".join(WORDS))) == " ".join(WORDS)
    assert len(set(WORDS)) == len(WORDS)
    assert [WORDS[token] for token in CLUES[1].tolist()] == ["coin", "loan", "debt"]
    assert WORDS[SEPARATOR] == "."
    assert WORDS[MASK] == "[mask]"


def test_hidden_words() -> None:
    tokens = text_of(200).tokens
    hidden = hide_words(tokens, share=0.25, generator=source(1))
    assert not bool(hidden.places[tokens == SEPARATOR].any())
    assert torch.equal(hidden.tokens == MASK, hidden.places)
    assert torch.equal(hidden.tokens[~hidden.places], tokens[~hidden.places])
    share = hidden.places[tokens != SEPARATOR].double().mean().item()
    assert share == pytest.approx(0.25, abs=0.04)


# The models


@pytest.mark.parametrize("is_causal", [True, False])
def test_what_a_place_sees(is_causal: bool) -> None:
    model, tokens = small(is_causal), text_of(3).tokens
    seen = model.inspect(tokens)
    assert seen.maps.shape == (2, 3, 2, 24, 24)
    torch.testing.assert_close(seen.maps.sum(-1), torch.ones(2, 3, 2, 24))
    later = seen.maps.triu(1)
    assert (later.abs().max() == 0) == is_causal
    changed = tokens.clone()
    changed[:, -1] = MASK
    logits = model(changed)
    assert torch.equal(logits[:, :-1], seen.logits[:, :-1]) == is_causal
    assert not torch.equal(logits[:, -1], seen.logits[:, -1])


@pytest.mark.parametrize("is_causal", [True, False])
def test_inspecting_and_zero_offsets_change_nothing(is_causal: bool) -> None:
    model, tokens = small(is_causal).double(), text_of(2).tokens
    plain = model(tokens)
    seen = model.inspect(tokens)
    torch.testing.assert_close(seen.logits, plain, atol=0, rtol=0)
    assert not seen.logits.requires_grad
    zero = torch.zeros(2, 1, 1, 24, 24, dtype=torch.float64)
    torch.testing.assert_close(model(tokens, offsets=zero), plain)
    assert seen.states.shape == (3, 2, 24, 16)
    assert torch.equal(model.out(model.norm(seen.states[-1])), plain)


def test_the_maps_are_those_of_the_module() -> None:
    model, tokens = small(), text_of(2).tokens
    seen = model.inspect(tokens)
    layer: Any = model.layers[1]
    z = layer.attention_norm(seen.states[1])
    weights = layer.attention(z, z, z, is_causal=True, need_weights=True)[1]
    assert torch.equal(seen.maps[1], weights)


def test_both_models_have_one_size_and_follow_their_generator() -> None:
    a, b, again = small(True), small(False), small(True)
    for (name, p), q, r in zip(
        a.named_parameters(), b.parameters(), again.parameters(), strict=True
    ):
        assert torch.equal(p, q), name
        assert torch.equal(p, r), name
    state = torch.random.get_rng_state()
    small(True, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(small(True, seed=1).words, a.words)


@pytest.mark.parametrize("hide", ["left", "right"])
def test_one_side_hidden(hide: str) -> None:
    model, tokens = small(False), text_of(2).tokens
    maps = model.inspect(tokens, offsets=one_sided(model, 24, hide=hide)).maps
    gone = maps.triu(1) if hide == "right" else maps.tril(-1)
    assert gone.abs().max() == 0
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 2, 24))
    if hide == "right":
        twin = small(True)
        torch.testing.assert_close(
            model(tokens, offsets=one_sided(model, 24, hide=hide)), twin(tokens)
        )


def test_without_a_head() -> None:
    model, tokens = small().double(), text_of(2).tokens
    whole = model.inspect(tokens)
    less = without_head(model, 1, 0).inspect(tokens)
    torch.testing.assert_close(less.maps, whole.maps)
    assert not torch.allclose(less.logits, whole.logits)
    assert torch.equal(model.inspect(tokens).logits, whole.logits)
    # What is left of the second layer is head 1: its weights, its values, its part of the map.
    second: Any = model.layers[1]
    z = second.attention_norm(whole.states[1])
    heads = whole.maps[1, :, 1] @ second.attention.v_proj(z)[..., 8:]
    projection = second.attention.out_proj
    alone = heads @ projection.weight[:, 8:].T + projection.bias
    torch.testing.assert_close(
        without_head(model, 1, 0).inspect(tokens).states[2], second.fed(whole.states[1] + alone)
    )
    # Without any head a layer adds only the bias of its map on top, whatever it looks at.
    none = without_head(without_head(model, 0, 0), 0, 1)
    first: Any = none.layers[0]
    states = none.inspect(tokens).states
    torch.testing.assert_close(states[1], first.fed(states[0] + first.attention.out_proj.bias))


@pytest.mark.parametrize("is_causal", [True, False])
def test_training_learns_and_is_reproducible(is_causal: bool) -> None:
    runs = [
        train_language_model(
            is_causal=is_causal,
            generator=source(3),
            steps=60,
            batch_size=16,
            learning_rate=0.01,
            snapshot_at=[30],
            d_model=16,
            num_heads=2,
        )
        for _ in range(2)
    ]
    (model, history), (_, again) = runs
    assert history.losses[:5].mean() > 3.5
    # Hidden words are harder than next words, and few are hidden.
    assert history.losses[-5:].mean() < (3.1 if is_causal else 3.6)
    assert torch.equal(history.losses, again.losses)
    untrained, half = at_step(model, history, 0), at_step(model, history, 30)
    assert torch.equal(untrained.words, history.snapshots[0]["words"])
    assert not torch.equal(untrained.words, half.words)
    assert not torch.equal(half.words, model.words)


def test_a_causal_model_learns_agreement() -> None:
    model, _ = train_language_model(is_causal=True, generator=source(5), steps=120, batch_size=48)
    text = text_of(100, seed=9)
    seen = model.inspect(text.tokens)
    assert role_accuracy(seen.logits, text, "agreement", is_causal=True) > 0.9
    targets = role_targets(text, "agreement", is_causal=True)
    assert head_scores(seen.maps, targets).max() > 0.4


# Scores


def test_targets_of_a_known_sentence() -> None:
    text = sample_text(1, length=10, generator=source(54))
    wanted = partial(role_targets, text)
    # The reflexives stand at 3 and 8; a causal model predicts them one place before.
    assert wanted("agreement", is_causal=True)[0].nonzero().tolist() == [[2, 1], [7, 5]]
    places = torch.zeros(1, 10, dtype=torch.bool)
    places[0, 3] = True
    masked = wanted("agreement", is_causal=False, places=places)
    assert masked[0].nonzero().tolist() == [[3, 1]]
    # A hidden noun decides nothing, and is itself decided.
    places[0, 1] = True
    assert not bool(wanted("agreement", is_causal=False, places=places).any())
    places[0, 3] = False
    assert wanted("noun", is_causal=False, places=places)[0].nonzero().tolist() == [[1, 3]]
    assert not bool(wanted("noun", is_causal=True).any())
    separators = wanted("separator", is_causal=True)[0]
    assert separators[1].nonzero().flatten().tolist() == [0]
    assert separators[9].nonzero().flatten().tolist() == [0, 4, 9]
    assert not bool(separators[0].any())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("is_causal", [True, False])
def test_targets_are_seen_and_right(role: str, is_causal: bool) -> None:
    text = text_of(30)
    places = None if is_causal else hide_words(text.tokens, generator=source(2)).places
    targets = role_targets(text, role, is_causal=is_causal, places=places)
    assert targets.shape == (30, 24, 24)
    if is_causal:
        assert not bool(targets.triu(1).any())
    if role not in ("previous", "separator") and places is not None:
        assert not bool((targets & places[:, None, :]).any())
        assert not bool((targets & ~places[:, :, None]).any())
    if role == "repeat":
        answers = text.tokens.roll(-1, 1) if is_causal else text.tokens
        b, i, j = targets.nonzero().unbind(-1)
        assert torch.equal(answers[b, i], text.tokens[b, j])


def test_scores_of_ideal_heads() -> None:
    targets = torch.rand(4, 6, 6, generator=source()) < 0.3
    ideal = targets.double() / targets.sum(-1, keepdim=True).clamp_min(1)
    blind = (~targets).double() / (~targets).sum(-1, keepdim=True)
    maps = torch.stack([ideal, blind], dim=1)[None]
    torch.testing.assert_close(
        head_scores(maps, targets), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    )


@pytest.mark.parametrize("is_causal", [True, False])
def test_the_uniform_score_is_that_of_the_uniform_map(is_causal: bool) -> None:
    text = text_of(10)
    places = None if is_causal else hide_words(text.tokens, generator=source(2)).places
    targets = role_targets(text, "repeat", is_causal=is_causal, places=places)
    maps = torch.ones(24, 24).tril() if is_causal else torch.ones(24, 24)
    maps = (maps / maps.sum(-1, keepdim=True)).expand(1, 10, 1, 24, 24)
    found = head_scores(maps, targets).item()
    assert found == pytest.approx(uniform_score(targets, is_causal=is_causal), rel=1e-5)


@pytest.mark.parametrize("is_causal", [True, False])
def test_shuffled_maps_keep_the_weights_of_a_row(is_causal: bool) -> None:
    maps = random_maps(2, 300, 2, 6, 6, is_causal=is_causal)
    dealt = shuffled_maps(maps, is_causal=is_causal, generator=source(1))
    assert torch.equal(dealt.sort(-1).values, maps.sort(-1).values)
    if is_causal:
        assert dealt.triu(1).abs().max() == 0
    # On average each visible key gets the same.
    uniform = maps.new_ones(6, 6).tril() if is_causal else maps.new_ones(6, 6)
    mean = dealt.mean(dim=(0, 1, 2))
    torch.testing.assert_close(mean, uniform / uniform.sum(-1, keepdim=True), atol=0.05, rtol=0)


def test_the_shared_part() -> None:
    fixed = random_maps(1, 1, 1, 5, 5).expand(1, 40, 1, 5, 5)
    anywhere = torch.eye(5, dtype=torch.float64)[torch.randint(5, (1, 400, 1, 5))]
    assert shared_part(fixed, is_causal=False).item() == pytest.approx(1)
    assert shared_part(anywhere, is_causal=False).item() < 0.05
    mixed = torch.cat([fixed.expand(1, 40, 1, 5, 5), random_maps(1, 40, 1, 5, 5)], dim=2)
    parts = shared_part(mixed, is_causal=False)
    assert bool(((parts >= 0) & (parts <= 1 + 1e-12)).all())
    assert parts[0, 0] > parts[0, 1]
    # By hand: second rows (1, 0) and (1/2, 1/2); their mean is (3/4, 1/4).
    two = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.5, 0.5]]])[None, :, None]
    assert shared_part(two, is_causal=True).item() == pytest.approx(1 - 0.25 / 0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_scores_keep_their_dtype(dtype: torch.dtype) -> None:
    maps = random_maps(1, 4, 2, 6, 6)
    targets = torch.eye(6, dtype=torch.bool).expand(4, 6, 6)
    for exact, rounded in (
        (head_scores(maps, targets), head_scores(maps.to(dtype), targets)),
        (shared_part(maps, is_causal=False), shared_part(maps.to(dtype), is_causal=False)),
    ):
        assert rounded.dtype == dtype
        # Summed in float32, so that only the inputs and the result are rounded.
        torch.testing.assert_close(
            rounded.double(), exact, rtol=8 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps
        )


def test_accuracy_of_models_that_know_and_guess() -> None:
    text = text_of(50)
    answers = text.tokens.roll(-1, 1)
    knows = 20 * torch.nn.functional.one_hot(answers, len(WORDS)).float()
    for role in ("repeat", "agreement", "sense", "clue"):
        assert role_accuracy(knows, text, role, is_causal=True) == 1
    # Any object of the right sense is right.
    other = {"mud": "reed", "reed": "mud", "safe": "desk", "desk": "safe"}
    swapped = answers.clone()
    for one, two in other.items():
        swapped[answers == encode(one)] = encode(two)
    logits = torch.nn.functional.one_hot(swapped, len(WORDS)).float()
    assert role_accuracy(logits, text, "sense", is_causal=True) == 1
    always = torch.zeros(50, 24, len(WORDS))
    always[..., encode("itself")] = 1.0
    assert 0.05 < role_accuracy(always, text, "agreement", is_causal=True) < 0.45


# One word, two senses


@pytest.mark.parametrize("clue", ["left", "right"])
def test_pairs_differ_in_the_clue_alone(clue: str) -> None:
    pairs = sense_pairs(text_of(60), clue=clue)
    C = len(pairs.place)
    assert pairs.tokens.shape == (C, 6, 24)
    row = torch.arange(C)
    assert bool((pairs.tokens[row, :, pairs.place] == encode("bank")).all())
    differs = (pairs.tokens != pairs.tokens[:, :1]).any(1)
    assert bool((differs.sum(-1) == 1).all())
    where = differs.int().argmax(-1)
    assert bool((where < pairs.place).all()) == (clue == "left")
    assert torch.equal(pairs.tokens[row, :, where], CLUES.flatten().expand(C, 6))
    # No object is left, unless the sequence ends before it.
    hidden = (pairs.tokens == MASK).any(-1).all(-1)
    assert bool((hidden | (pairs.place == 23)).all())


def test_separation_and_accuracy_of_made_up_vectors() -> None:
    noise = torch.randn(40, 6, 8, generator=source(), dtype=torch.float64)
    sense = torch.tensor([0.0, 0, 0, 1, 1, 1], dtype=torch.float64)[:, None]
    apart = noise + 50 * sense
    assert sense_separation(noise).item() == pytest.approx(1, abs=0.1)
    assert sense_separation(apart).item() > 10
    assert sense_accuracy(apart).item() == 1
    assert sense_accuracy(noise).item() == pytest.approx(0.5, abs=0.15)
    # A clue that tells itself from others but not its sense does not help with the third clue.
    corners = 50 * torch.eye(6, 8, dtype=torch.float64) + noise / 10
    assert sense_accuracy(corners).item() == pytest.approx(0.5, abs=0.2)
    both = torch.stack([noise, apart])
    assert sense_separation(both).shape == sense_accuracy(both).shape == (2,)


def test_a_causal_model_cannot_see_a_clue_behind() -> None:
    pairs = sense_pairs(text_of(40), clue="right")
    row = torch.arange(len(pairs.place))
    for is_causal in (True, False):
        states = small(is_causal).inspect(pairs.tokens.flatten(0, 1)).states
        vectors = states.unflatten(1, pairs.tokens.shape[:2])[:, row, :, pairs.place]
        assert (vectors == vectors[:, :, :1]).all() == is_causal


# The start, and the gradient


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), keys=st.integers(2, 40))
def test_the_entropy_near_uniform_weights(seed: int, keys: int) -> None:
    scores = torch.randn(500, keys, generator=source(seed), dtype=torch.float64) / 10
    spread = scores.var(-1, correction=0).mean().sqrt()
    # With the scores' own variance over N the expansion has no (1 - 1/N).
    own = near_uniform_entropy(spread / (1 - 1 / keys) ** 0.5, keys=keys)
    torch.testing.assert_close(softmax_entropy(scores).mean(), own, atol=2e-4, rtol=0)


def test_untrained_weights_average_to_one_over_i() -> None:
    maps = untrained_maps(torch.arange(6), draws=3000, generator=source())
    expected = torch.ones(6, 6).tril() / torch.arange(1, 7)[:, None]
    error = maps.std(0) / 3000**0.5
    assert bool(((maps.mean(0) - expected).abs() <= 5 * error + 1e-6).all())
    assert maps.triu(1).abs().max() == 0
    torch.testing.assert_close(maps.sum(-1), torch.ones(3000, 6))


def test_a_word_that_stands_alone_gets_more() -> None:
    words = torch.tensor([7, 7, 3])
    maps = untrained_maps(words, draws=3000, place_size=0.0, generator=source(), is_causal=False)
    mean = maps.mean(0)
    assert mean[:, 2].min() > 1 / 3 + 0.01
    torch.testing.assert_close(maps[..., 0], maps[..., 1])


def test_smaller_coefficients_are_nearer_to_uniform() -> None:
    draw = partial(untrained_maps, torch.arange(5), draws=200, is_causal=False)
    spreads = [
        (draw(deviation=size, generator=source()) - 0.2).abs().mean().item()
        for size in (0.05, 0.1, 0.2)
    ]
    assert spreads == sorted(spreads)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), keys=st.integers(1, 8))
def test_the_score_gradient_is_autograds(seed: int, keys: int) -> None:
    scores = torch.randn(3, keys, generator=source(seed), dtype=torch.float64).requires_grad_()
    upstream = torch.randn(3, keys, generator=source(seed + 1), dtype=torch.float64)
    weights = scores.softmax(-1)
    (expected,) = torch.autograd.grad(weights, scores, upstream)
    found = score_gradient(weights.detach(), upstream)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(-1), torch.zeros(3, dtype=torch.float64))
    assert torch.autograd.gradcheck(score_gradient, (weights.detach().requires_grad_(), upstream))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_score_gradient_in_other_dtypes(dtype: torch.dtype) -> None:
    weights, upstream = random_maps(4, 6), random_maps(4, 6, seed=1)
    found = score_gradient(weights.to(dtype), upstream.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.double(), score_gradient(weights, upstream), rtol=0, atol=4 * torch.finfo(dtype).eps
    )


def test_score_gradients_without_a_graph_around_them() -> None:
    text = text_of(2)
    counted = text.tokens > 1
    usual = score_gradients(small(), text.tokens, text.tokens, counted=counted)
    with torch.no_grad():
        found = score_gradients(small(), text.tokens, text.tokens, counted=counted)
    assert torch.equal(found, usual)


def test_training_computes_the_loss_of_the_whole_model() -> None:
    # The loss takes the vectors of the places that count, and only those, to logits.
    hidden = hide_words(text_of(8).tokens, generator=source(1))
    for is_causal in (True, False):
        model = small(is_causal).double()
        tokens = text_of(8).tokens
        places = None if is_causal else hidden.places
        shown, answers = (tokens[:, :-1], tokens[:, 1:]) if is_causal else (hidden.tokens, tokens)
        logits = model(shown)
        counted = torch.ones_like(shown, dtype=torch.bool) if places is None else places
        expected = torch.nn.functional.cross_entropy(logits[counted], answers[counted])
        torch.testing.assert_close(_loss(model, (shown, answers, places)), expected)


@pytest.mark.parametrize("is_causal", [True, False])
def test_score_gradients_are_differences_of_the_loss(is_causal: bool) -> None:
    model = small(is_causal).double()
    text = text_of(2, length=8)
    inputs, answers = text.tokens[:, :-1], text.tokens[:, 1:]
    counted = torch.zeros_like(inputs, dtype=torch.bool)
    counted[:, -2:] = True
    gradient = score_gradients(model, inputs, answers, counted=counted)
    assert gradient.shape == (2, 2, 2, 7, 7)

    def loss(offsets: Tensor) -> Tensor:
        logits = model(inputs, offsets=offsets)
        return torch.nn.functional.cross_entropy(logits[counted], answers[counted], reduction="sum")

    for index in ((0, 0, 1, 4, 2), (1, 1, 0, 6, 3), (1, 0, 1, 5, 5)):
        step = torch.zeros_like(gradient)
        step[index] = 1e-5
        difference = (loss(step) - loss(-step)).item() / 2e-5
        assert gradient[index].item() == pytest.approx(difference, abs=1e-8)
    torch.testing.assert_close(gradient.sum(-1), torch.zeros_like(gradient[..., 0]))
    assert (gradient.triu(1).abs().max() == 0) == is_causal


# Checkpoints


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise AssertionError("a test must not reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, Path]:
    folder = tmp_path_factory.mktemp("gpt2")
    model = small(seed=8, length=12)
    save_as_gpt2(model, folder)
    return model, folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = importlib.import_module("transformers")
    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "bank", "river", "##s"]
    tokenizer = transformers.BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})
    config = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=16,
        max_position_embeddings=12,
    )
    bars = transformers.utils.logging
    bars.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    bars.enable_progress_bar()
    return folder


@pytest.mark.usefixtures("offline")
def test_a_gpt2_checkpoint_gives_the_models_own_maps(gpt2: tuple[LanguageModel, Path]) -> None:
    model, folder = gpt2
    words = ". queen soon saw herself . bank"
    found = pretrained_attention(folder, words, local_files_only=True)
    own = model.inspect(encode(words)[None])
    assert found.tokens == tuple(words.split())
    assert found.is_causal
    # Two implementations of the same sums in float32.
    torch.testing.assert_close(found.maps, own.maps[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.states[:-1], own.states[:-1, 0], atol=1e-5, rtol=1e-4)
    normed = model.norm(own.states[-1, 0]).detach()
    torch.testing.assert_close(found.states[-1], normed, atol=1e-5, rtol=1e-4)
    assert not found.maps.requires_grad


@pytest.mark.usefixtures("offline")
def test_a_bert_checkpoint_looks_both_ways(bert: Path) -> None:
    found = pretrained_attention(str(bert), "the rivers bank", local_files_only=True)
    assert found.tokens == ("[CLS]", "the", "river", "##s", "bank", "[SEP]")
    assert found.maps.shape == (3, 4, 6, 6)
    assert found.states.shape == (4, 6, 16)
    assert not found.is_causal
    torch.testing.assert_close(found.maps.sum(-1), torch.ones(3, 4, 6))
    assert found.maps.triu(1).max() > 0.1
    again = pretrained_attention(bert, "the rivers bank", local_files_only=True)
    assert torch.equal(found.maps, again.maps)


@pytest.mark.usefixtures("offline")
def test_new_weights_in_the_place_of_the_stored_ones(bert: Path) -> None:
    def draw(seed: int | None) -> Tensor:
        new = None if seed is None else source(seed)
        return pretrained_attention(bert, "the bank", local_files_only=True, untrained=new).maps

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert not torch.equal(draw(1), draw(None))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = importlib.import_module

    def missing(name: str, *arguments: Any) -> Any:
        if name == "transformers":
            raise ModuleNotFoundError("No module named 'transformers'")
        return there(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", missing)
    for call in (
        lambda: pretrained_attention(tmp_path, "a"),
        lambda: save_as_gpt2(small(), tmp_path),
    ):
        with pytest.raises(ImportError, match=r"dlchecked\[pretrained\]"):
            call()


@pytest.mark.usefixtures("offline")
def test_without_the_files(gpt2: tuple[LanguageModel, Path], tmp_path: Path) -> None:
    load = partial(pretrained_attention, text=".", local_files_only=True)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load("/absent/model")
    with pytest.raises(FileNotFoundError, match="no usable config of 'no-such-model'"):
        load("no-such-model")
    with pytest.raises(FileNotFoundError, match="no usable config"):
        load(tmp_path)
    for part in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / part).write_bytes((gpt2[1] / part).read_bytes())
    with pytest.raises(FileNotFoundError, match="no usable model"):
        load(tmp_path)


@pytest.mark.usefixtures("offline")
def test_checkpoints_that_are_refused(gpt2: tuple[LanguageModel, Path], tmp_path: Path) -> None:
    transformers = importlib.import_module("transformers")
    transformers.ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="one of the families"):
        pretrained_attention(tmp_path, ".", local_files_only=True)
    for text in ("", ". " * 13):
        with pytest.raises(ValueError, match="text must give 1 to 12 pieces"):
            pretrained_attention(gpt2[1], text, local_files_only=True)


# What is refused

G = source()
T = text_of(3)
P = torch.zeros(3, 24, dtype=torch.bool)
M = small()
MAPS = torch.zeros(1, 3, 2, 24, 24)
NAN = MAPS.clone().index_fill_(1, torch.tensor([0]), math.nan)
TARGETS = torch.ones(3, 24, 24, dtype=torch.bool)
V = torch.zeros(4, 6, 5)
LOGITS = torch.zeros(3, 24, len(WORDS))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: encode(3), TypeError, "text must be a str, got int"),
        (lambda: encode("ann zoe"), ValueError, r"text must be made of .* got \['zoe'\]"),
        (lambda: encode(" "), ValueError, "text must be made of the language's words"),
        (lambda: decode(T.tokens), ValueError, "tokens must have one dimension"),
        (lambda: decode(torch.tensor([99])), ValueError, "tokens must be tokens from 0"),
        (lambda: sample_text(0, generator=G), ValueError, "batch must be at least 1"),
        (lambda: sample_text(2, length=1, generator=G), ValueError, "length must be at least 2"),
        (lambda: sample_text(2, generator=0), TypeError, "generator must be"),
        (lambda: hide_words(T.tokens.int(), generator=G), TypeError, "tokens must be .* int64"),
        (lambda: hide_words(T.tokens, share=1.0, generator=G), ValueError, "share must be below"),
        (lambda: hide_words(T.tokens, share=0, generator=G), ValueError, "share must be positive"),
        (lambda: LanguageModel(is_causal=1, generator=G), TypeError, "is_causal must be True"),
        (lambda: small(d_model=7), ValueError, "d_model must be even"),
        (lambda: small(num_heads=3), ValueError, "num_heads must divide"),
        (lambda: M(T.tokens[0]), ValueError, r"tokens must be \(B, N\)"),
        (lambda: M(T.tokens.repeat(1, 2)), ValueError, "N from 1 to 24"),
        (lambda: M(T.tokens, offsets=MAPS), ValueError, "offsets must be .* L = 2"),
        (lambda: M(T.tokens, offsets=MAPS.double()), TypeError, "offsets must have the dtype"),
        (
            lambda: train_language_model(is_causal=True, generator=G, steps=0),
            ValueError,
            "steps must be at least 1",
        ),
        (
            lambda: train_language_model(is_causal=True, generator=G, learning_rate=-1),
            ValueError,
            "learning_rate must be positive",
        ),
        (lambda: without_head(M, 2, 0), ValueError, "layer must be below 2, got 2"),
        (lambda: without_head(M, 0, 2), ValueError, "head must be below 2, got 2"),
        (lambda: without_head(torch.nn.ReLU(), 0, 0), TypeError, "model must be a LanguageModel"),
        (lambda: one_sided(M, 4, hide="both"), ValueError, "hide must be 'left' or 'right'"),
        (lambda: role_targets(T, "first", is_causal=True), ValueError, "role must be one of"),
        (lambda: role_targets(T, "noun", is_causal=False), ValueError, "places must be given"),
        (
            lambda: role_targets(T, "noun", is_causal=True, places=P),
            ValueError,
            "places must be given for a masked model, and only",
        ),
        (
            lambda: role_targets(T, "noun", is_causal=False, places=P[:, 1:]),
            ValueError,
            "places must be boolean and of the shape",
        ),
        (lambda: head_scores(MAPS[0], TARGETS), ValueError, "maps must have 5 dimensions"),
        (lambda: head_scores(MAPS, TARGETS.float()), TypeError, "targets must be a boolean"),
        (lambda: head_scores(MAPS, TARGETS[:2]), ValueError, "maps must be .* B = 2"),
        (lambda: head_scores(MAPS, ~TARGETS), ValueError, "targets must hold at least one query"),
        (lambda: head_scores(NAN, TARGETS), ValueError, "maps must be finite"),
        (
            lambda: head_scores(MAPS.to("meta"), TARGETS),
            ValueError,
            "targets must be on the device",
        ),
        (
            lambda: shuffled_maps(NAN, is_causal=True, generator=G),
            ValueError,
            "maps must be finite",
        ),
        (lambda: shared_part(NAN, is_causal=True), ValueError, "maps must be finite"),
        (lambda: shared_part(MAPS[:, :, :0], is_causal=True), ValueError, "square and not empty"),
        (lambda: uniform_score(TARGETS, is_causal=True), ValueError, "targets must not lie behind"),
        (lambda: M(T.tokens.to("meta")), ValueError, "tokens must be on the device"),
        (
            lambda: M(T.tokens, offsets=torch.zeros(2, 1, 1, 23, 24)),
            ValueError,
            r"offsets must be .* got \(2, 1, 1, 23, 24\)",
        ),
        (lambda: one_sided(3, 4, hide="left"), TypeError, "model must be a LanguageModel"),
        (
            lambda: role_targets(T.tokens, "repeat", is_causal=True),
            TypeError,
            "text must come from sample_text",
        ),
        (
            lambda: role_accuracy(LOGITS * math.nan, T, "repeat", is_causal=True),
            ValueError,
            "logits must be finite",
        ),
        (lambda: sense_pairs(3, clue="left"), TypeError, "text must come from sample_text"),
        (lambda: sense_separation(V * math.nan), ValueError, "vectors must be finite"),
        (lambda: sense_separation(V[:0]), ValueError, "and not empty"),
        (lambda: sense_accuracy(V / 0), ValueError, "vectors must be finite"),
        (lambda: near_uniform_entropy(torch.tensor(math.inf), keys=3), ValueError, "finite"),
        (
            lambda: untrained_maps(torch.arange(0), draws=2, generator=G),
            ValueError,
            "words must be .* not empty",
        ),
        (
            lambda: untrained_maps(torch.arange(2), draws=2, generator=G, place_size=math.nan),
            ValueError,
            "place_size must be positive",
        ),
        (lambda: score_gradient(V * math.nan, V), ValueError, "weights must be finite"),
        (
            lambda: score_gradients(3, T.tokens, T.tokens, counted=P),
            TypeError,
            "model must be a LanguageModel",
        ),
        (lambda: uniform_score(TARGETS, is_causal=0), TypeError, "is_causal must be True"),
        (
            lambda: shuffled_maps(MAPS[..., 1:], is_causal=True, generator=G),
            ValueError,
            "maps must be square",
        ),
        (lambda: shared_part(MAPS[:, :1], is_causal=True), ValueError, "at least two sequences"),
        (
            lambda: role_accuracy(LOGITS, T, "previous", is_causal=True),
            ValueError,
            "role must be one of",
        ),
        (
            lambda: role_accuracy(LOGITS[:2], T, "repeat", is_causal=True),
            ValueError,
            "logits must be",
        ),
        (lambda: sense_pairs(T, clue="up"), ValueError, "clue must be 'left' or 'right'"),
        (
            lambda: sense_pairs(sample_text(1, length=4, generator=source(2)), clue="left"),
            ValueError,
            "text must hold a sentence",
        ),
        (lambda: sense_separation(V[:, :5]), ValueError, r"vectors must be \(..., C, 6, d\)"),
        (lambda: sense_accuracy(V[:1]), ValueError, "at least two contexts"),
        (lambda: near_uniform_entropy(torch.tensor(-1.0), keys=3), ValueError, "deviation must"),
        (lambda: near_uniform_entropy(torch.tensor(1.0), keys=0), ValueError, "keys must be"),
        (lambda: untrained_maps(V, draws=2, generator=G), TypeError, "words must be"),
        (
            lambda: untrained_maps(torch.arange(3), draws=2, generator=G, deviation=0),
            ValueError,
            "deviation must be positive",
        ),
        (lambda: score_gradient(V, V[:2]), ValueError, "upstream must have the shape"),
        (lambda: score_gradient(V, V.double()), TypeError, "upstream must have the dtype"),
        (
            lambda: score_gradients(M, T.tokens, T.tokens, counted=P),
            ValueError,
            "counted must be .* not all False",
        ),
        (
            lambda: score_gradients(M, T.tokens, T.tokens[:, 1:], counted=P),
            ValueError,
            "answers must be",
        ),
        (lambda: pretrained_attention("", "a"), TypeError, "name_or_path must be a name"),
        (lambda: pretrained_attention("gpt2", 3), TypeError, "text must be a str"),
        (
            lambda: pretrained_attention("gpt2", "a", local_files_only=1),
            TypeError,
            "local_files_only must be True or False",
        ),
        (lambda: pretrained_attention("gpt2", "a", untrained=3), TypeError, "untrained must be"),
        (lambda: save_as_gpt2(small(False), "x"), ValueError, "model must be causal"),
        (lambda: save_as_gpt2(3, "x"), TypeError, "model must be a LanguageModel"),
    ],
)
def test_bad_input(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_snapshot_that_was_not_taken() -> None:
    model, history = train_language_model(
        is_causal=True, generator=source(), steps=1, batch_size=2, d_model=8, hidden=4
    )
    with pytest.raises(ValueError, match=r"step must be one of \[0\], got 5"):
        at_step(model, history, 5)


def test_values_need_not_be_read() -> None:
    with value_checks(False):
        assert near_uniform_entropy(torch.tensor(-1.0), keys=2).item() == pytest.approx(
            math.log(2) - 0.25
        )

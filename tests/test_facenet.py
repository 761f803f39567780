"""FaceNet's networks against its tables; harmonic embeddings, bytes and clusters."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor, nn
from torch.nn import functional

from dlchecked.counting import cost_of
from dlchecked.facenet import (
    FACENET,
    LINKAGES,
    NN2_BLOCKS,
    Bytes,
    FaceNet,
    Inception,
    InceptionSizes,
    L2Pool,
    Maxout,
    Measured,
    as_printed,
    cluster,
    cross_pairs,
    error_reduction,
    fewer_images,
    from_bytes,
    harmonic_loss,
    lit,
    nn1,
    nn2,
    row_costs,
    small_faces,
    standard_score,
    to_bytes,
    train_harmonic,
    turned_identities,
    validation_rate,
)
from dlchecked.triplet_loss import (
    all_triplets,
    batch_semi_hard_loss,
    embedding_network,
    identity_digits,
    labelled_pairs,
    semi_hard,
    train_embedding,
    triplet_loss,
    verification,
)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=source(seed), dtype=torch.float64).to(dtype)


def sphere(*shape: int, seed: int = 0) -> Tensor:
    return functional.normalize(numbers(*shape, seed=seed), dim=-1)


def size_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# The networks against the tables


@pytest.mark.parametrize(("name", "make"), [("nn1", nn1), ("nn2", nn2)])
def test_the_rows_are_those_of_the_table(name: str, make: Any) -> None:
    printed, counted = getattr(FACENET, name), row_costs(make(device="meta"))
    assert [row.name for row in counted] == [row.name for row in printed]
    for row, cost in zip(printed, counted, strict=True):
        h, w, c = row.shape
        flat = h * w * c
        assert cost.shape == (c, h, w) or (cost.shape == (flat,) and cost.parameters + flat > 0)
        if row.parameters and row.name != "inception 4a":
            assert as_printed(cost.parameters, row.parameters) == row.parameters
        if row.multiply_adds:
            total = cost.multiply_adds + cost.bias_additions
            assert as_printed(total, row.multiply_adds) == row.multiply_adds
    total = sum(cost.parameters for cost in counted)
    assert as_printed(total, FACENET.totals[name.upper()][0]) == FACENET.totals[name.upper()][0]


def test_the_one_row_that_differs() -> None:
    (row,) = (row for row in row_costs(nn2(device="meta")) if row.name == "inception 4a")
    assert (row.parameters, row.biases) == (545_536, 768)


def test_exact_sizes() -> None:
    assert size_of(nn1(device="meta")) == 140_025_664
    assert size_of(nn2(device="meta")) == 7_456_304
    assert sum(row.multiply_adds for row in row_costs(nn1(device="meta"))) == 1_605_944_064
    assert sum(row.multiply_adds for row in row_costs(nn2(device="meta"))) == 1_596_530_688


def inception_by_hand(inputs: int, sizes: InceptionSizes, side: int) -> tuple[int, int]:
    """Parameters, and multiply-adds without those of biases, from the definition."""
    out = -(-side // sizes.stride)
    convolutions = [
        (inputs, sizes.ones, 1, side),
        (inputs, sizes.reduce3, 1, side),
        (sizes.reduce3, sizes.threes, 3, out),
        (inputs, sizes.reduce5, 1, side),
        (sizes.reduce5, sizes.fives, 5, out),
        (inputs, sizes.projection, 1, out),
    ]
    weights = [(i * o * k * k, o, at) for i, o, k, at in convolutions]
    return sum(w + o for w, o, _ in weights), sum(w * at * at for w, _, at in weights)


@pytest.mark.parametrize("name", NN2_BLOCKS)
@pytest.mark.parametrize("side", [14, 7])
def test_inception_blocks_counted_by_hand(name: str, side: int) -> None:
    sizes = NN2_BLOCKS[name]
    block = Inception(48, sizes, device="meta")
    x = torch.empty(1, 48, side, side, device="meta")
    with torch.no_grad():
        counted = cost_of(block, x).multiply_adds
        shape = tuple(block(x).shape)
    # The pooling of table 2 has no parameters, and L2 pooling no products of ours.
    assert (size_of(block), counted) == inception_by_hand(48, sizes, side)
    assert shape == (1, block.outputs, -(-side // sizes.stride), -(-side // sizes.stride))


@pytest.mark.parametrize("make", [nn1, nn2])
def test_biases_and_their_additions(make: Any) -> None:
    for row in row_costs(make(device="meta", shrink=16)):
        assert (row.biases == 0) == (row.parameters == 0) == (row.bias_additions == 0)


@pytest.mark.parametrize("side", [224, 160, 96, 32])
def test_no_parameter_of_nn2_depends_on_the_side(side: int) -> None:
    model = nn2(device="meta", side=side)
    assert size_of(model) == 7_456_304
    by_area = sum(row.multiply_adds for row in row_costs(model)[:-2]) / side**2
    assert by_area == pytest.approx(1_596_399_616 / 224**2, rel=1e-12)


@pytest.mark.parametrize(("make", "shrink"), [(nn1, 16), (nn2, 16)])
@pytest.mark.parametrize("side", [32, 37])
def test_a_small_one_runs(make: Any, shrink: int, side: int) -> None:
    model = make(side=side, shrink=shrink, dims=5, generator=source(), dtype=torch.float64)
    out = model(numbers(3, 3, side, side))
    assert out.shape == (3, 5)
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(3, dtype=torch.float64))
    out[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert len({tuple(row.tolist()) for row in out}) == 3


def test_the_real_nn2_runs_on_a_small_image() -> None:
    model = nn2(side=32, generator=source())
    with torch.no_grad():
        assert model(numbers(1, 3, 32, 32, dtype=torch.float32)).shape == (1, 128)


@pytest.mark.parametrize("make", [nn1, nn2])
def test_the_same_generator_gives_the_same_weights(make: Any) -> None:
    options = {"side": 32, "shrink": 16}
    first, second, other = (make(generator=source(seed), **options) for seed in (0, 0, 1))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [nn1, nn2])
def test_dtypes(make: Any, dtype: torch.dtype) -> None:
    options = {"side": 32, "shrink": 16, "generator": source()}
    out = make(dtype=dtype, **options)(numbers(2, 3, 32, 32, dtype=dtype))
    exact = make(dtype=torch.float64, **options | {"generator": source()})(numbers(2, 3, 32, 32))
    assert out.dtype == dtype
    # Coordinates of unit vectors; bfloat16 keeps 8 bits through some twenty layers.
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=tolerance)


# Parts of the networks


def test_maxout_takes_the_larger_of_two_maps() -> None:
    layer = Maxout(3, 4, generator=source(), dtype=torch.float64)
    x = numbers(5, 3)
    both = functional.linear(x, layer.linear.weight, layer.linear.bias)
    assert torch.equal(layer(x), torch.maximum(both[:, 0::2], both[:, 1::2]))
    assert torch.autograd.gradcheck(layer, (x.requires_grad_(),))


@pytest.mark.parametrize("stride", [1, 2])
def test_l2_pooling_agrees_with_torch(stride: int) -> None:
    x = numbers(2, 3, 6, 5)
    padded = functional.pad(x, (1, 1, 1, 1))
    torch.testing.assert_close(L2Pool(stride=stride)(x), functional.lp_pool2d(padded, 2, 3, stride))
    assert torch.autograd.gradcheck(L2Pool(stride=stride), (x[:1, :1].requires_grad_(),))


def test_l2_pooling_of_nothing_has_a_gradient_of_zero() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    out = L2Pool()(x)
    assert not out.any()
    out.sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


def test_l2_pooling_squares_16_bit_numbers_wide() -> None:
    x = torch.full((1, 1, 3, 3), 300.0, dtype=torch.float16)
    assert L2Pool()(x)[0, 0, 1, 1].item() == 900


@pytest.mark.parametrize("make", [nn1, nn2])
def test_rows_cost_the_same_with_numbers_as_without(make: Any) -> None:
    with_numbers = make(side=32, shrink=16, generator=source())
    assert row_costs(with_numbers) == row_costs(make(side=32, shrink=16, device="meta"))


def test_a_network_without_parameters_costs_nothing() -> None:
    (row,) = row_costs(FaceNet({"flat": nn.Flatten()}, side=2))
    assert row[1:] == ((12,), 0, 0, 0, 0)


def test_an_inception_block_is_its_branches_side_by_side() -> None:
    sizes = InceptionSizes(2, 3, 4, 3, 2, "L2", 3)
    block = Inception(5, sizes, generator=source(), dtype=torch.float64)
    x = numbers(2, 5, 6, 6)
    out = block(x)
    assert block.outputs == out.shape[1] == 2 + 4 + 2 + 3
    for name, channels in (("ones", slice(0, 2)), ("threes", slice(2, 6)), ("pool", slice(8, 11))):
        assert torch.equal(out[:, channels], block.branches[name](x))


@pytest.mark.parametrize("name", ["5b", "3a"])
def test_a_block_can_lose_its_fives(name: str) -> None:
    lost = Inception(1024, NN2_BLOCKS[name]).outputs
    model = nn2(device="meta", without_fives=(name,))
    (shape,) = (row.shape for row in row_costs(model) if row.name == f"inception {name}")
    assert shape[0] == lost - NN2_BLOCKS[name].fives


# As printed


@pytest.mark.parametrize(
    ("number", "like", "text"),
    [
        (9472, "9K", "9K"),
        (499, "0K", "0K"),
        (500, "0K", "1K"),
        (1_588_464, "1.6M", "1.6M"),
        (1_550_000, "1.6M", "1.6M"),
        (1_549_999, "1.6M", "1.5M"),
        (131_200, "0.1M", "0.1M"),
        (1_608_287_104, "1.6B", "1.6B"),
        (7, "0", "7"),
        (140_025_664, "140M", "140M"),
        (10**30 + 5 * 10**7, "1.0B", "1" + 21 * "0" + ".1B"),
        (0, "0.00M", "0.00M"),
    ],
)
def test_as_printed(number: int, like: str, text: str) -> None:
    assert as_printed(number, like) == text


@settings(max_examples=100, deadline=None)
@given(number=st.integers(0, 10**12), decimals=st.integers(0, 3), unit=st.sampled_from(" KMB"))
def test_as_printed_is_within_half_a_unit(number: int, decimals: int, unit: str) -> None:
    unit = unit.strip()
    like = ("1." + "0" * decimals if decimals else "1") + unit
    shown = as_printed(number, like)
    power = 10 ** {"": 0, "K": 3, "M": 6, "B": 9}[unit]
    if power >= 10**decimals:
        off = abs(
            round(float(shown.removesuffix(unit)) * 10**decimals) * power - number * 10**decimals
        )
        assert 2 * off <= power or number > 10**15


def test_the_papers_tables_name_the_same_networks() -> None:
    assert set(FACENET.models) == set(FACENET.val)
    assert FACENET.val["NN1"] == FACENET.embedding_size[128]


# Statistics


def test_standard_scores() -> None:
    a, b = Measured(5.0, 3.0), Measured(0.0, 4.0)
    assert standard_score(a, b) == pytest.approx(1)
    assert standard_score(a, b) == -standard_score(b, a)


def test_error_reduction() -> None:
    assert error_reduction(80, 95) == pytest.approx(0.75)
    assert error_reduction(50, 50) == 0
    assert error_reduction(0, 100) == 1
    assert error_reduction(90, 80) == pytest.approx(-1)


# Two networks


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), classes=st.integers(1, 4))
def test_the_harmonic_loss_is_that_of_its_triplets(seed: int, classes: int) -> None:
    new, old = sphere(6, 3, seed=seed), sphere(6, 3, seed=seed + 1)
    labels = torch.randint(classes, (6,), generator=source(seed))
    both, names = torch.cat([new, old]), torch.cat([labels, labels])
    triplets = semi_hard(both, names)
    expected = triplet_loss(*(both[part] for part in triplets))
    torch.testing.assert_close(harmonic_loss(new, old, labels), expected, rtol=1e-9, atol=1e-12)


def test_the_old_embeddings_get_no_gradient() -> None:
    new, old = sphere(6, 3).requires_grad_(), sphere(6, 3, seed=1).requires_grad_()
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    harmonic_loss(new, old, labels).backward()
    assert new.grad is not None
    assert new.grad.any()
    assert old.grad is None


def test_the_gradient_of_the_harmonic_loss() -> None:
    old, labels = sphere(6, 3, seed=1), torch.tensor([0, 0, 0, 1, 1, 1])
    new = sphere(6, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: harmonic_loss(x, old, labels), (new,))


def test_one_identity_has_no_triplet() -> None:
    new = sphere(4, 3).requires_grad_()
    loss = harmonic_loss(new, sphere(4, 3, seed=1), torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert new.grad is not None
    assert not new.grad.any()


def test_mixed_triplets_are_eight_times_as_many_and_more() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1])
    alone = len(all_triplets(labels).anchors)
    mixed = len(all_triplets(torch.cat([labels, labels])).anchors)
    # 2n (2n - 1) (2B - 2n): an image and its other embedding are a pair, too.
    assert alone == 2 * 1 * 3 + 3 * 2 * 2
    assert mixed == 4 * 3 * 6 + 6 * 5 * 4 > 8 * alone


def test_cross_pairs_leave_out_an_image_with_itself() -> None:
    first, second = sphere(5, 3), sphere(5, 3, seed=1)
    labels = torch.tensor([0, 0, 1, 1, 2])
    pairs = cross_pairs(first, second, labels, squared=False)
    expected = [
        ((first[i] - second[j]).norm().item(), bool(labels[i] == labels[j]))
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    assert pairs.same.tolist() == [same for _, same in expected]
    np.testing.assert_allclose(pairs.distances.numpy(), [d for d, _ in expected], rtol=1e-9)
    assert verification(*pairs).val[-1] == 1


# Bytes


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16), bits=st.integers(2, 8), size=st.integers(1, 20))
def test_a_coordinate_moves_by_half_a_step_at_most(seed: int, bits: int, size: int) -> None:
    x = sphere(4, size, seed=seed)
    stored = to_bytes(x, bits=bits)
    assert stored.codes.dtype == torch.int8
    assert stored.codes.int().abs().amax() < 2 ** (bits - 1)
    off = (from_bytes(stored, dtype=torch.float64) - x).abs().amax()
    assert off <= stored.step / 2 * (1 + 1e-9)
    # What was stored is stored again as it is.
    assert torch.equal(to_bytes(from_bytes(stored), bits=bits).codes, stored.codes)


def test_what_is_beyond_the_limit_is_clipped() -> None:
    stored = to_bytes(torch.tensor([[3.0, -3.0, 0.1]]), limit=0.5)
    assert stored.codes.tolist() == [[127, -127, 25]]
    assert from_bytes(stored)[0, :2].tolist() == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_bytes_of_every_dtype(dtype: torch.dtype) -> None:
    x = sphere(3, 8).to(dtype)
    stored = to_bytes(x)
    assert torch.equal(stored.codes, to_bytes(x.double()).codes)
    assert from_bytes(stored, dtype=dtype).dtype == dtype


def test_a_face_takes_128_bytes() -> None:
    codes = to_bytes(sphere(7, 128)).codes
    assert codes.element_size() * codes.numel() == 7 * 128


# Clusters


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("options", [{"clusters": 3}, {"threshold": 0.9}])
def test_clusters_are_those_of_scikit_learn(options: dict[str, Any], linkage: str) -> None:
    x = sphere(20, 4)
    theirs = AgglomerativeClustering(
        n_clusters=options.get("clusters"),
        distance_threshold=options.get("threshold"),
        linkage=linkage,
    ).fit_predict(x.numpy())
    assert cluster(x, linkage=linkage, **options).tolist() == theirs.tolist()


def test_well_separated_groups_are_found() -> None:
    centres = 10 * torch.eye(4, dtype=torch.float64)
    labels = torch.arange(4).repeat_interleave(6)
    x = centres[labels] + 0.1 * numbers(24, 4)
    for options in ({"clusters": 4}, {"threshold": 5.0}):
        found = cluster(x, **options)  # type: ignore[arg-type]
        assert len({(a, b) for a, b in zip(found.tolist(), labels.tolist(), strict=True)}) == 4


# Faces in miniature


def test_light_adds_a_plane_and_scales() -> None:
    x = numbers(200, 8, 8, seed=3)
    out = lit(x, generator=source(), strength=0.5)
    rows, columns = torch.meshgrid(
        *[torch.linspace(-1, 1, 8, dtype=torch.float64)] * 2, indexing="ij"
    )
    plane = torch.stack([torch.ones(64), rows.flatten(), columns.flatten()], 1)
    assert plane.shape == (64, 3)
    factors, weights = [], []
    for before, after in zip(x, out, strict=True):
        basis = torch.cat([before.flatten()[:, None], plane], 1)
        found = torch.linalg.lstsq(basis, after.flatten()[:, None]).solution[:, 0]
        torch.testing.assert_close(basis @ found, after.flatten())
        factors.append(found[0].item())
        weights.append(found[1:])
    assert min(factors) > 0.5
    assert max(factors) < 1.5
    # 600 normal numbers: their deviation is known to 3 %.
    assert torch.stack(weights).std().item() == pytest.approx(0.5, rel=0.12)


def test_light_has_no_effect_on_what_is_given() -> None:
    x = numbers(2, 4, 4)
    before = x.clone()
    assert not torch.equal(lit(x, generator=source()), x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_light_of_every_dtype(dtype: torch.dtype) -> None:
    x = numbers(3, 8, 8, dtype=dtype)
    out = lit(x, generator=source())
    assert out.dtype == dtype
    if dtype == torch.bfloat16:
        exact = lit(x.float(), generator=source())
        torch.testing.assert_close(out.float(), exact, rtol=2**-8, atol=2**-9)


def test_eight_positions_of_a_square() -> None:
    corner = torch.zeros(1, 3, 3)
    corner[0, 0, 1] = corner[0, 0, 2] = 1.0  # no symmetry of a square keeps these two
    images, labels = turned_identities(corner, torch.tensor([5]))
    assert labels.tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert len({tuple(image.flatten().tolist()) for image in images}) == 8
    assert torch.equal(images[0], corner[0])


def test_what_is_not_turned_stays_alone() -> None:
    images, labels = turned_identities(numbers(3, 4, 4), torch.tensor([0, 5, 8]), which=(5,))
    assert labels.tolist() == [0, 5, 8, 15, 25, 35, 45, 55, 65, 75]
    assert torch.equal(images[:3], numbers(3, 4, 4))
    assert turned_identities(numbers(2, 4, 4), torch.tensor([0, 1]))[1].tolist() == [0, 1]


@pytest.mark.parametrize(("turned", "identities"), [(True, 35), (False, 7)])
def test_small_faces_keep_identities_apart(turned: bool, identities: int) -> None:
    data = small_faces(generator=source(), turned=turned)
    assert len(data.seen_labels.unique()) == identities
    assert not set((data.seen_labels % 10).tolist()) & set(data.unseen_labels.tolist())
    assert len(data.seen_images) == len(data.seen_labels)
    assert torch.equal(data.unseen_images, small_faces(generator=source(), turned=turned)[2])


def test_fewer_images_keeps_so_many_of_each() -> None:
    labels = torch.tensor([4, 1, 1, 4, 4, 2])
    images = torch.arange(6.0)[:, None]
    kept, names = fewer_images(images, labels, images_each=2, generator=source())
    assert names.tolist() == [1, 1, 2, 4, 4]
    assert torch.equal(labels[kept[:, 0].long()], names)
    assert len(kept.unique()) == 5
    empty = fewer_images(images[:0], labels[:0], images_each=2, generator=source())
    assert len(empty[0]) == 0


def test_a_harmonic_network_is_compatible_and_its_parents_are_untouched() -> None:
    data = small_faces(generator=source(), turned=False)
    seen = data.seen_images[:400], data.seen_labels[:400]
    old, new = (
        train_embedding(
            batch_semi_hard_loss,
            *seen,
            generator=source(seed),
            size=8,
            hidden=32,
            steps=60,
            images_each=6,
        )[0]
        for seed in (1, 2)
    )
    before = [p.clone() for net in (old, new) for p in net.parameters()]
    harmonic = train_harmonic(
        new,
        old,
        *seen,
        generator=source(3),
        identities=7,
        images_each=6,
        head_steps=60,
        steps=60,
        learning_rate=5e-3,
    )
    after = [p for net in (old, new) for p in net.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    with torch.no_grad():
        first, second, third = (net(seen[0]) for net in (old, new, harmonic))
    apart = validation_rate(cross_pairs(second, first, seen[1]), far=0.1)
    together = validation_rate(cross_pairs(third, first, seen[1]), far=0.1)
    assert together > 2 * apart


def test_the_old_network_is_run_as_in_use_and_left_as_it_was() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        old, new = (
            nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 4))
            for _ in range(2)
        )
    old[2].eval()
    before, stored = copy.deepcopy(old.state_dict()), []
    old.register_forward_hook(lambda part, x, y: stored.append(part.training))
    train_harmonic(
        new, old, *identity_digits()[:2], generator=source(), identities=4, head_steps=2, steps=1
    )
    assert stored == 3 * [False]
    assert all(torch.equal(before[name], value) for name, value in old.state_dict().items())
    assert [part.training for part in old] == [True, True, False, True]
    assert old.training


def test_the_first_phase_trains_the_last_layer_only() -> None:
    data = identity_digits()
    old, new = (embedding_network(generator=source(s), hidden=8, size=4) for s in (0, 1))
    harmonic = train_harmonic(
        new, old, *data[:2], generator=source(2), identities=4, head_steps=2, steps=0
    )
    moved = [
        name
        for (name, a), (_, b) in zip(
            new.named_parameters(), harmonic.named_parameters(), strict=True
        )
        if not torch.equal(a, b)
    ]
    assert moved == ["3.weight", "3.bias"]


def test_a_validation_rate() -> None:
    pairs = labelled_pairs(torch.tensor([[0.0], [0.1], [5.0], [5.2]]), torch.tensor([0, 0, 1, 1]))
    assert validation_rate(pairs) == 1


# Bad inputs

N = source()
IMAGES, NAMES = torch.rand(6, 4, 4, generator=N), torch.tensor([0, 0, 1, 1, 2, 2])
NET = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
X, L = sphere(4, 3), torch.tensor([0, 0, 1, 1])
NAN = torch.full((4, 3), math.nan, dtype=torch.float64)
SIZES = InceptionSizes(2, 3, 4, 3, 2, "L2", 3)

BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "printed: a word": (lambda: as_printed(5, "many"), ValueError, "like"),
    "printed: no str": (lambda: as_printed(5, 9), TypeError, "like"),  # type: ignore[arg-type]
    "printed: a point and no decimals": (lambda: as_printed(5, "9.K"), ValueError, "like"),
    "printed: a fraction": (lambda: as_printed(0.5, "9K"), TypeError, "number"),  # type: ignore[arg-type]
    "printed: negative": (lambda: as_printed(-5, "9K"), ValueError, "number"),
    "printed: digits of another script": (lambda: as_printed(5, "1.\u0663M"), ValueError, "like"),
    "pool: integers": (lambda: L2Pool()(torch.ones(1, 1, 3, 3).int()), TypeError, "x"),
    "pool: a matrix": (lambda: L2Pool()(torch.ones(3, 3)), ValueError, "x"),
    "maxout: pieces": (lambda: Maxout(3, 4, pieces=0), ValueError, "pieces"),
    "pool: stride": (lambda: L2Pool(stride=0), ValueError, "stride"),
    "inception: sizes": (lambda: Inception(4, (1, 2)), TypeError, "sizes"),  # type: ignore[arg-type]
    "inception: pool": (lambda: Inception(4, SIZES._replace(pool="avg")), ValueError, "pool"),
    "inception: negative": (lambda: Inception(4, SIZES._replace(ones=-1)), ValueError, "ones"),
    "inception: no reduction": (
        lambda: Inception(4, SIZES._replace(reduce3=0)),
        ValueError,
        "reduce3",
    ),
    "inception: nothing": (
        lambda: Inception(4, InceptionSizes(0, 0, 0, 0, 0, "", 0)),
        ValueError,
        "branch",
    ),
    "inception: ones with a stride": (
        lambda: Inception(4, SIZES._replace(stride=2)),
        ValueError,
        "ones",
    ),
    "nn1: shrink": (lambda: nn1(shrink=3), ValueError, "shrink"),
    "nn1: dims": (lambda: nn1(dims=0), ValueError, "dims"),
    "nn1: dtype": (lambda: nn1(dtype=torch.int8), TypeError, "dtype"),
    "nn2: side": (lambda: nn2(side=0), ValueError, "side"),
    "nn2: generator": (lambda: nn2(generator=3), TypeError, "generator"),  # type: ignore[arg-type]
    "nn2: shrink": (lambda: nn2(shrink=32), ValueError, "shrink"),
    "nn2: an unknown block": (lambda: nn2(without_fives=("6a",)), ValueError, "without_fives"),
    "nn2: a str of blocks": (lambda: nn2(without_fives="5a"), ValueError, "without_fives"),
    "nn2: a number of blocks": (lambda: nn2(without_fives=3), TypeError, "without_fives"),  # type: ignore[arg-type]
    "facenet: a row of numbers": (lambda: FaceNet({"a": 3}, side=4), TypeError, "rows"),  # type: ignore[dict-item]
    "facenet: no rows": (lambda: FaceNet({}, side=4), ValueError, "rows"),
    "facenet: a list": (lambda: FaceNet([], side=4), TypeError, "rows"),  # type: ignore[arg-type]
    "facenet: another side": (
        lambda: nn2(side=32, shrink=16)(torch.zeros(1, 3, 33, 32)),
        ValueError,
        "x must have shape",
    ),
    "facenet: integers": (
        lambda: nn2(side=32, shrink=16)(torch.zeros(1, 3, 32, 32, dtype=torch.int64)),
        TypeError,
        "x",
    ),
    "rows: of something else": (lambda: row_costs(nn.Linear(2, 2)), TypeError, "model"),  # type: ignore[arg-type]
    "score: a pair": (lambda: standard_score((1, 2), Measured(1, 2)), TypeError, "first"),  # type: ignore[arg-type]
    "score: no error": (
        lambda: standard_score(Measured(1, 2), Measured(1, 0)),
        ValueError,
        "second.error",
    ),
    "reduction: above 100": (lambda: error_reduction(50, 101), ValueError, "after"),
    "reduction: no error": (lambda: error_reduction(100, 100), ValueError, "before"),
    "reduction: a str": (lambda: error_reduction("50", 60), TypeError, "before"),  # type: ignore[arg-type]
    "harmonic: shapes": (lambda: harmonic_loss(X, X[:, :2], L), ValueError, "old"),
    "harmonic: dtypes": (lambda: harmonic_loss(X, X.float(), L), TypeError, "old"),
    "harmonic: labels of another length": (
        lambda: harmonic_loss(X, X, L[:3]),
        ValueError,
        "labels",
    ),
    "harmonic: labels as a list": (lambda: harmonic_loss(X, X, [0, 0, 1, 1]), TypeError, "labels"),  # type: ignore[arg-type]
    "harmonic: one label": (lambda: harmonic_loss(X, X, L[0]), ValueError, "labels"),
    "harmonic: labels elsewhere": (lambda: harmonic_loss(X, X, L.to("meta")), ValueError, "device"),
    "harmonic: NaN": (lambda: harmonic_loss(NAN, X, L), ValueError, "new must be finite"),
    "harmonic: NaN in store": (lambda: harmonic_loss(X, NAN, L), ValueError, "old must be finite"),
    "harmonic: margin": (lambda: harmonic_loss(X, X, L, margin=-0.2), ValueError, "margin"),
    "cross: labels": (lambda: cross_pairs(X, X, L[:3]), ValueError, "labels"),
    "cross: labels of floats": (lambda: cross_pairs(X, X, L.double()), TypeError, "labels"),
    "cross: NaN": (lambda: cross_pairs(X, NAN, L), ValueError, "second must be finite"),
    "cross: labels elsewhere": (lambda: cross_pairs(X, X, L.to("meta")), ValueError, "device"),
    "light: NaN": (lambda: lit(IMAGES * math.nan, generator=N), ValueError, "images"),
    "turned: which": (lambda: turned_identities(IMAGES, NAMES, which=(12,)), ValueError, "which"),
    "turned: half of one": (
        lambda: turned_identities(IMAGES, NAMES, which=(0.5,)),  # type: ignore[arg-type]
        TypeError,
        "which",
    ),
    "bytes: codes of floats": (lambda: from_bytes(Bytes(X, 0.1)), TypeError, "codes"),
    "bytes: step": (
        lambda: from_bytes(Bytes(torch.zeros(1, 1, dtype=torch.int8), math.nan)),
        ValueError,
        "step",
    ),
    "light: two dimensions": (lambda: lit(X, generator=N), ValueError, "images"),
    "light: strength": (lambda: lit(IMAGES, generator=N, strength=0.0), ValueError, "strength"),
    "light: generator": (lambda: lit(IMAGES, generator=7), TypeError, "generator"),  # type: ignore[arg-type]
    "turned: not square": (lambda: turned_identities(IMAGES[:, :3], NAMES), ValueError, "square"),
    "turned: labels": (lambda: turned_identities(IMAGES, NAMES + 9), ValueError, "labels"),
    "turned: fewer labels": (lambda: turned_identities(IMAGES, NAMES[1:]), ValueError, "labels"),
    "faces: turned": (lambda: small_faces(generator=N, turned=1), TypeError, "turned"),  # type: ignore[arg-type]
    "faces: unseen": (lambda: small_faces(generator=N, unseen=(11,)), ValueError, "unseen"),
    "fewer: none": (
        lambda: fewer_images(IMAGES, NAMES, images_each=0, generator=N),
        ValueError,
        "images_each",
    ),
    "train: no network": (
        lambda: train_harmonic(3, NET, IMAGES, NAMES, generator=N),  # type: ignore[arg-type]
        TypeError,
        "network",
    ),
    "train: no old network": (
        lambda: train_harmonic(NET, None, IMAGES, NAMES, generator=N),  # type: ignore[arg-type]
        TypeError,
        "old",
    ),
    "train: no parameters": (
        lambda: train_harmonic(
            nn.Flatten(), NET, IMAGES, NAMES, generator=N, identities=2, images_each=2
        ),
        ValueError,
        "parameters",
    ),
    "train: too many identities": (
        lambda: train_harmonic(NET, NET, IMAGES, NAMES, generator=N),
        ValueError,
        "identities",
    ),
    "rate: a tuple": (lambda: validation_rate((X[:, 0], L > 0)), TypeError, "pairs"),  # type: ignore[arg-type]
    "bytes: NaN": (lambda: to_bytes(NAN), ValueError, "embeddings"),
    "bytes: one row": (lambda: to_bytes(X[0]), ValueError, "embeddings"),
    "bytes: bits": (lambda: to_bytes(X, bits=1), ValueError, "bits"),
    "bytes: too many bits": (lambda: to_bytes(X, bits=9), ValueError, "bits"),
    "bytes: limit": (lambda: to_bytes(X, limit=0.0), ValueError, "limit"),
    "bytes: a tensor": (lambda: from_bytes(X), TypeError, "stored"),  # type: ignore[arg-type]
    "bytes: dtype": (
        lambda: from_bytes(Bytes(torch.zeros(1, 1, dtype=torch.int8), 0.1), dtype=torch.int32),
        TypeError,
        "dtype",
    ),
    "cluster: both": (lambda: cluster(X, clusters=2, threshold=1.0), ValueError, "clusters"),
    "cluster: none": (lambda: cluster(X), ValueError, "clusters"),
    "cluster: too many": (lambda: cluster(X, clusters=5), ValueError, "clusters"),
    "cluster: one row": (lambda: cluster(X[:1], clusters=1), ValueError, "embeddings"),
    "cluster: threshold": (lambda: cluster(X, threshold=-1.0), ValueError, "threshold"),
    "cluster: linkage": (lambda: cluster(X, clusters=2, linkage="single"), ValueError, "linkage"),
    "cluster: NaN": (lambda: cluster(NAN, clusters=2), ValueError, "embeddings"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_inputs_are_named(case: str) -> None:
    run, error, name = BAD[case]
    with pytest.raises(error, match=name):
        run()

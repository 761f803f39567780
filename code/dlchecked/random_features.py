r"""Softmax attention in linear time by random features of its kernel (hw10 1(a)(ii)).

A *projection* is a random vector :math:`w` with independent standard normal coordinates. With
:math:`a = \lvert q - k \rvert^2 / \sigma^2` and :math:`b = \lvert q + k \rvert^2 / \sigma^2`,

.. math::

   \mathbb E \cos\frac{w \cdot (q - k)}{\sigma} = e^{-a/2}, \qquad
   \mathbb E\, e^{w \cdot (q + k) / \sigma} = e^{b/2} ,

and both sides of each split into a function of q times a function of k. The first gives
:class:`RandomFourierFeatures`, the second :class:`PositiveRandomFeatures`.

Queries are the rows of ``q`` of shape ``(..., N, D)``, keys those of ``k`` of shape
``(..., S, D)``. Every function computes in float32 or better.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from scipy import special
from torch import Tensor, nn

from dlchecked.arguments import (
    attention_inputs,
    finite,
    flag,
    floating,
    floating_dtype,
    integer,
    positive,
    random_generator,
    shape_of,
    values_are_checked,
    widened,
)
from dlchecked.counting import Cost
from dlchecked.gaussian_kernel import softmax_width
from dlchecked.kernel_attention import linear_attention

__all__ = [
    "NegativeDenominatorError",
    "PositiveRandomFeatures",
    "RandomFourierFeatures",
    "draw_projection",
    "feature_denominators",
    "fourier_variance",
    "orthogonal_covariance",
    "positive_relative_variance",
    "predicted_negative_share",
    "random_feature_attention",
    "random_feature_cost",
]

_FORMS = ("pair", "offset")


class NegativeDenominatorError(ValueError):
    """An estimated sum of similarities came out negative, so that no average can be taken."""


def draw_projection(
    dimension: int,
    projections: int,
    *,
    generator: torch.Generator,
    orthogonal: bool = False,
) -> Tensor:
    r"""Draw R random vectors of D coordinates, each standard normal taken alone.

    Parameters
    ----------
    dimension
        The size D of a query or key.
    projections
        Their number R.
    generator
        Where the randomness comes from; the result lies on its device.
    orthogonal
        Make the vectors within each block of D orthogonal to each other: uniformly distributed
        directions, times independent lengths with the law of a normal vector's norm. Blocks are
        independent; if D does not divide R the last one is cut.

    Returns
    -------
    Tensor
        ``(R, D)``, float64.

    Raises
    ------
    TypeError, ValueError
        If a size is no integer of at least 1, `generator` no generator, or `orthogonal` no bool.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.random_features import draw_projection
    >>> w = draw_projection(4, 4, generator=torch.Generator(), orthogonal=True)
    >>> bool((w @ w.mT).fill_diagonal_(0).abs().max() < 1e-12)
    True
    """
    size = integer("dimension", dimension, at_least=1)
    rows = integer("projections", projections, at_least=1)
    random_generator("generator", generator)
    kind: dict[str, Any] = {
        "generator": generator,
        "dtype": torch.float64,
        "device": generator.device,
    }
    if not flag("orthogonal", orthogonal):
        return torch.randn(rows, size, **kind)
    blocks = torch.randn(-(-rows // size), size, size, **kind)
    directions, triangle = torch.linalg.qr(blocks)
    # Without these signs the directions are not uniform: the factorisation's own choice shows.
    signs = torch.where(triangle.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    directions = (directions * signs.unsqueeze(-2)).mT.reshape(-1, size)[:rows]
    lengths = torch.randn(rows, size, **kind).norm(dim=-1, keepdim=True)
    drawn: Tensor = directions * lengths
    return drawn


class _RandomFeatures(nn.Module):
    """What both kinds share: a fixed projection, its width, and the door."""

    projection: Tensor

    def __init__(
        self,
        dimension: int,
        projections: int,
        *,
        generator: torch.Generator,
        sigma: float | None,
        orthogonal: bool,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> None:
        super().__init__()
        drawn = draw_projection(dimension, projections, generator=generator, orthogonal=orthogonal)
        self.dimension, self.projections = int(dimension), int(projections)
        self.sigma = softmax_width(dimension) if sigma is None else positive("sigma", sigma)
        self.orthogonal = orthogonal
        kind = torch.get_default_dtype() if dtype is None else floating_dtype("dtype", dtype)
        home = torch.device("cpu") if device is None else torch.device(device)
        self.register_buffer("projection", drawn.to(dtype=kind, device=home))

    @property
    def feature_dimension(self) -> int:
        """Length r of a feature vector."""
        raise NotImplementedError

    @property
    def _block(self) -> int | None:
        """The size within which projections are orthogonal; in one dimension there is none."""
        return self.dimension if self.orthogonal and self.dimension > 1 else None

    def extra_repr(self) -> str:
        """Name what a feature vector depends on."""
        return ", ".join(f"{name}={value!r}" for name, value in self.get_extra_state().items())

    def get_extra_state(self) -> dict[str, Any]:
        """What the buffers do not tell; it goes into the ``state_dict``."""
        return {
            "dimension": self.dimension,
            "projections": self.projections,
            "sigma": self.sigma,
            "orthogonal": self.orthogonal,
        }

    def set_extra_state(self, state: Any) -> None:
        """Refuse the state of features of another kind or width.

        Raises
        ------
        ValueError
            If it is not of this kind: its projections would give another kernel here.
        """
        mine = self.get_extra_state()
        if state != mine:
            raise ValueError(f"state_dict must be of the same features, {mine}, got {state}")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # PyTorch judges the extra state last, when the buffers are already overwritten.
        if (state := state_dict.get(f"{prefix}_extra_state")) is not None:
            self.set_extra_state(state)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def redraw(self, generator: torch.Generator) -> None:
        """Draw a new projection in the place of the old one.

        Parameters
        ----------
        generator
            Where the randomness comes from.
        """
        drawn = draw_projection(
            self.dimension, self.projections, generator=generator, orthogonal=self.orthogonal
        )
        self.projection.copy_(drawn)

    def _scaled(self, x: Tensor) -> Tensor:
        """Check x and bring it to the unit of the width, in float32 or better."""
        x = floating("x", x)
        if x.shape[-1] != self.dimension:
            raise ValueError(
                f"x must have the size of the features, D = {self.dimension}, "
                f"got shape {shape_of(x)}"
            )
        if x.device != self.projection.device:
            raise ValueError(
                f"x must be on the device of the features, {self.projection.device}, got {x.device}"
            )
        finite("x", x)
        return self._in_widths(x)

    def _in_widths(self, x: Tensor) -> Tensor:
        return widened(x) / self.sigma

    def _projected(self, scaled: Tensor) -> Tensor:
        with _full_precision(scaled):
            return scaled @ self.projection.to(scaled.dtype).mT


class RandomFourierFeatures(_RandomFeatures):
    r"""Sines and cosines whose products estimate the Gaussian kernel without bias.

    Of x the pair form takes :math:`\frac{1}{\sqrt R} (\sin \frac{w_i \cdot x}{\sigma},
    \cos \frac{w_i \cdot x}{\sigma})_{i \le R}`, as hw10 1(a)(ii) does, and the offset form
    :math:`\sqrt{\frac{2}{R}} (\cos(\frac{w_i \cdot x}{\sigma} + \beta_i))_{i \le R}` with
    :math:`\beta_i` uniform between 0 and :math:`2\pi`. The :math:`w_i` are standard normal, so that
    :math:`w_i / \sigma` has the variance :math:`1 / \sigma^2` in each coordinate.

    Parameters
    ----------
    dimension
        The size D of a query or key.
    projections
        The number R of random vectors. A feature vector has r = 2R entries in the pair form and
        r = R in the offset form.
    generator
        Where the randomness comes from. Numbers are drawn in float64, so that modules of several
        dtypes drawn from one seed hold the same projection.
    sigma
        The kernel's width; by default that of softmax attention,
        :func:`dlchecked.gaussian_kernel.softmax_width`.
    orthogonal
        Draw orthogonal blocks, see :func:`draw_projection`.
    form
        ``"pair"`` or ``"offset"``.
    dtype, device
        Of the buffers. Features are computed in float32 or better all the same: rounding the
        projection changes it a little, once, for queries and keys alike.

    Attributes
    ----------
    projection : Tensor
        ``(R, D)``, a buffer: it is saved, moves with the module, and is not trained.
    offset : Tensor or None
        ``(R,)``, a buffer of the offset form.

    Raises
    ------
    TypeError, ValueError
        For a size below 1, a width that is not positive, an unknown form, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.random_features import RandomFourierFeatures
    >>> features = RandomFourierFeatures(2, 4096, sigma=5.0, generator=torch.Generator())
    >>> q, k = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    >>> bool((features(q) @ features(k).mT - 0.6065).abs() < 0.05)
    True
    """

    offset: Tensor | None

    def __init__(
        self,
        dimension: int,
        projections: int,
        *,
        generator: torch.Generator,
        sigma: float | None = None,
        orthogonal: bool = False,
        form: str = "pair",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            dimension,
            projections,
            generator=generator,
            sigma=sigma,
            orthogonal=orthogonal,
            dtype=dtype,
            device=device,
        )
        self.form = _one_of_the_forms(form)
        offset = None if form == "pair" else self._draw_offset(generator).to(self.projection)
        self.register_buffer("offset", offset)

    @property
    def feature_dimension(self) -> int:
        """Length r of a feature vector, which is 2R in the pair form and R in the offset form."""
        return self.projections * (2 if self.form == "pair" else 1)

    def get_extra_state(self) -> dict[str, Any]:
        """What the buffers do not tell; it goes into the ``state_dict``."""
        return {**super().get_extra_state(), "form": self.form}

    @torch.no_grad()
    def redraw(self, generator: torch.Generator) -> None:
        """Draw a new projection, and new offsets, in the place of the old ones.

        Parameters
        ----------
        generator
            Where the randomness comes from.
        """
        super().redraw(generator)
        if self.offset is not None:
            self.offset.copy_(self._draw_offset(generator))

    def forward(self, x: Tensor) -> Tensor:
        r"""Map queries or keys to features of the Gaussian kernel.

        Parameters
        ----------
        x
            ``(..., D)``.

        Returns
        -------
        Tensor
            ``(..., r)`` in the dtype of `x`; each entry at most :math:`1/\sqrt R` in size, or
            :math:`\sqrt{2/R}` in the offset form.

        Raises
        ------
        TypeError, ValueError
            If `x` is no floating-point tensor of the features' D and device, or not finite.
        """
        return self._features(self._scaled(x)).to(x.dtype)

    def softmax_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Map queries or keys to features of the softmax kernel and a logarithmic factor.

        Parameters
        ----------
        x
            ``(..., D)``.

        Returns
        -------
        phi : Tensor
            ``(..., r)``, in the dtype of `x`: the features of the Gaussian kernel.
        log_scale : Tensor
            ``(...,)``, in float32 or better: :math:`\lvert x \rvert^2 / 2\sigma^2`. The products
            :math:`\phi \cdot \phi' \, e^{c + c'}` estimate :math:`e^{q \cdot k / \sigma^2}`.

        Raises
        ------
        TypeError, ValueError
            As :meth:`forward` does.
        """
        scaled = self._scaled(x)
        phi, log_scale = self._softmax_features(scaled)
        return phi.to(x.dtype), log_scale

    def relative_variance(self, q: Tensor, k: Tensor) -> Tensor:
        r"""Compute the variance of each pair's estimate, over the square of what it estimates.

        It is the same for the Gaussian and the softmax kernel, which differ by a fixed factor.

        Parameters
        ----------
        q
            Queries, ``(..., N, D)``.
        k
            Keys, ``(..., S, D)``.

        Returns
        -------
        Tensor
            ``(..., N, S)``, in float32 or better; see :func:`fourier_variance`.

        Raises
        ------
        TypeError, ValueError
            If `q` and `k` do not fit each other or the features.
        """
        a = _squared_distances(self._scaled(q), self._scaled(k))
        return fourier_variance(
            a,
            projections=self.projections,
            form=self.form,
            orthogonal_dimension=self._block,
            relative=True,
        )

    def _softmax_features(self, scaled: Tensor, name: str = "x") -> tuple[Tensor, Tensor]:
        return self._features(scaled, name), _in_range(scaled.square().sum(-1) / 2, name)

    def _features(self, scaled: Tensor, name: str = "x") -> Tensor:
        angles = _in_range(self._projected(scaled), name)
        if self.offset is None:
            both = torch.cat([angles.sin(), angles.cos()], -1)
            return both * math.sqrt(1 / self.projections)
        return (angles + self.offset.to(angles.dtype)).cos() * math.sqrt(2 / self.projections)

    def _draw_offset(self, generator: torch.Generator) -> Tensor:
        kind: dict[str, Any] = {"dtype": torch.float64, "device": generator.device}
        return 2 * math.pi * torch.rand(self.projections, generator=generator, **kind)


class PositiveRandomFeatures(_RandomFeatures):
    r"""Positive features whose products estimate the Gaussian and the softmax kernel without bias.

    Of x they are :math:`\frac{1}{\sqrt R} \exp(\frac{w_i \cdot x}{\sigma} -
    \frac{\lvert x \rvert^2}{\sigma^2})` for the Gaussian kernel, and with
    :math:`\frac{\lvert x \rvert^2}{2\sigma^2}` subtracted for the softmax kernel, with standard
    normal :math:`w_i` (Choromanski et al. 2021).

    Parameters
    ----------
    dimension
        The size D of a query or key.
    projections
        The number R of random vectors.
    generator
        Where the randomness comes from. Numbers are drawn in float64, so that modules of several
        dtypes drawn from one seed hold the same projection.
    sigma
        The kernel's width; by default that of softmax attention,
        :func:`dlchecked.gaussian_kernel.softmax_width`.
    orthogonal
        Draw orthogonal blocks, see :func:`draw_projection`.
    hyperbolic
        Use :math:`w_i` and :math:`-w_i`: then r = 2R, from the same R products.
    dtype, device
        Of the buffer. Features are computed in float32 or better all the same.

    Attributes
    ----------
    projection : Tensor
        ``(R, D)``, a buffer: it is saved, moves with the module, and is not trained.

    Raises
    ------
    TypeError, ValueError
        For a size below 1, a width that is not positive, a flag that is no bool, or no generator.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.random_features import PositiveRandomFeatures
    >>> features = PositiveRandomFeatures(2, 4096, sigma=5.0, generator=torch.Generator())
    >>> q, k = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    >>> bool((features(q) @ features(k).mT - 0.6065).abs() < 0.05)
    True
    """

    def __init__(
        self,
        dimension: int,
        projections: int,
        *,
        generator: torch.Generator,
        sigma: float | None = None,
        orthogonal: bool = False,
        hyperbolic: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            dimension,
            projections,
            generator=generator,
            sigma=sigma,
            orthogonal=orthogonal,
            dtype=dtype,
            device=device,
        )
        self.hyperbolic = flag("hyperbolic", hyperbolic)

    @property
    def feature_dimension(self) -> int:
        """Length r of a feature vector, which is R, or 2R where both signs are used."""
        return self.projections * (2 if self.hyperbolic else 1)

    def get_extra_state(self) -> dict[str, Any]:
        """What the buffers do not tell; it goes into the ``state_dict``."""
        return {**super().get_extra_state(), "hyperbolic": self.hyperbolic}

    def forward(self, x: Tensor) -> Tensor:
        r"""Map queries or keys to features of the Gaussian kernel.

        Parameters
        ----------
        x
            ``(..., D)``.

        Returns
        -------
        Tensor
            ``(..., r)`` in the dtype of `x`. They underflow to 0 for a long x; attention does
            better with :meth:`softmax_features` or :meth:`log_softmax_features`.

        Raises
        ------
        TypeError, ValueError
            If `x` is no floating-point tensor of the features' D and device, or not finite, or if
            a feature is too large for its dtype (see
            :func:`dlchecked.arguments.value_checks`).
        """
        scaled = self._scaled(x)
        penalty = scaled.square().sum(-1, keepdim=True) / 2
        features = (self._logarithms(scaled) - penalty).exp().to(x.dtype)
        if values_are_checked() and bool(features.isinf().any()):
            raise ValueError(
                "x must have features that its dtype can hold, but some overflow: "
                "use softmax_features"
            )
        return features

    def log_softmax_features(self, x: Tensor) -> Tensor:
        r"""Compute the logarithms of the softmax kernel's features.

        Parameters
        ----------
        x
            ``(..., D)``.

        Returns
        -------
        Tensor
            ``(..., r)``, in float32 or better: :math:`\frac{w_i \cdot x}{\sigma} -
            \frac{\lvert x \rvert^2}{2\sigma^2} - \frac12 \log r`.

        Raises
        ------
        TypeError, ValueError
            As :meth:`softmax_features` does.
        """
        return self._logarithms(self._scaled(x))

    def softmax_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Map queries or keys to features of the softmax kernel and a logarithmic factor.

        Parameters
        ----------
        x
            ``(..., D)``.

        Returns
        -------
        phi : Tensor
            ``(..., r)``, in the dtype of `x`: from 0 to 1, and 1 in at least one place.
        log_scale : Tensor
            ``(...,)``, in float32 or better: the logarithm of what they were divided by. The
            products :math:`\phi \cdot \phi' \, e^{c + c'}` estimate
            :math:`e^{q \cdot k / \sigma^2}`.

        Raises
        ------
        TypeError, ValueError
            If `x` is no floating-point tensor of the features' D and device, or not finite, or so
            long that the logarithms are not finite.
        """
        phi, log_scale = self._softmax_features(self._scaled(x))
        return phi.to(x.dtype), log_scale

    def relative_variance(self, q: Tensor, k: Tensor) -> Tensor:
        r"""Compute the variance of each pair's estimate, over the square of what it estimates.

        It is the same for the Gaussian and the softmax kernel, which differ by a fixed factor.

        Parameters
        ----------
        q
            Queries, ``(..., N, D)``.
        k
            Keys, ``(..., S, D)``.

        Returns
        -------
        Tensor
            ``(..., N, S)``, in float32 or better; see :func:`positive_relative_variance`.

        Raises
        ------
        TypeError, ValueError
            If `q` and `k` do not fit each other or the features.
        """
        b = _squared_distances(self._scaled(q), -self._scaled(k))
        return positive_relative_variance(
            b,
            projections=self.projections,
            hyperbolic=self.hyperbolic,
            orthogonal_dimension=self._block,
        )

    def _softmax_features(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        logarithms = self._logarithms(scaled)
        # Any number would do: it is divided out here and handed on. So it needs no derivative.
        log_scale = logarithms.detach().amax(-1)
        return (logarithms - log_scale.unsqueeze(-1)).exp(), log_scale

    def _logarithms(self, scaled: Tensor, name: str = "x") -> Tensor:
        exponents = self._projected(scaled)
        if self.hyperbolic:
            exponents = torch.cat([exponents, -exponents], -1)
        norm = scaled.square().sum(-1, keepdim=True) / 2 + math.log(self.feature_dimension) / 2
        return _in_range(exponents - norm, name)


RandomFeatures = RandomFourierFeatures | PositiveRandomFeatures


def random_feature_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    features: RandomFeatures,
    key_mask: Tensor | None = None,
    allow_negative: bool = False,
) -> Tensor:
    r"""Estimate softmax attention of the scale :math:`1/\sigma^2` in time linear in N and S.

    The query's factor cancels and is never computed; the key's stays (hw10 1(a)(ii)). All factors
    are kept as logarithms until they can do no harm: with positive features every denominator is
    at least 1, whatever the norms; with sines and cosines a long key cannot overflow, but the
    estimate of a denominator can be negative.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`; at least one.
    v
        Values, ``(..., S, M)``, one row for each key.
    features
        :class:`RandomFourierFeatures` or :class:`PositiveRandomFeatures` of the size D. Their
        width decides the scale.
    key_mask
        Bool, ``(..., S)``: ``True`` where a key takes part. The others must be finite, too.
    allow_negative
        Return what negative denominators give instead of raising. Such rows are no averages.

    Returns
    -------
    Tensor
        ``(..., N, M)``, in the dtype of `q`.

    Raises
    ------
    TypeError, ValueError
        For inputs that do not fit each other or the features, or are not finite.
    NegativeDenominatorError
        If a denominator is negative, unless allowed (see
        :func:`dlchecked.arguments.value_checks`).
    dlchecked.kernel_attention.ZeroDenominatorError
        If a denominator is zero.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.random_features import PositiveRandomFeatures, random_feature_attention
    >>> features = PositiveRandomFeatures(4, 8, generator=torch.Generator())
    >>> q, k = torch.full((1, 4), 50.0), torch.full((3, 4), -50.0)
    >>> random_feature_attention(q, k, torch.ones(3, 1), features=features)
    tensor([[1.]])
    """
    flag("allow_negative", allow_negative)
    phi_q, phi_k, log_scale_k = _attention_features(q, k, v, features, key_mask)
    with _full_precision(q):
        if log_scale_k is not None and values_are_checked() and not allow_negative:
            _demand_positive(_denominators(phi_q, phi_k, log_scale_k, key_mask), features)
        out = linear_attention(phi_q, phi_k, widened(v), log_scale_k=log_scale_k, key_mask=key_mask)
    out = out.to(q.dtype)
    if q.dtype == torch.float16:
        finite("the output", out.detach())
    return out


def feature_denominators(
    q: Tensor,
    k: Tensor,
    *,
    features: RandomFeatures,
    key_mask: Tensor | None = None,
) -> Tensor:
    r"""Compute the denominators of :func:`random_feature_attention`, to see how they fare.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`; at least one.
    features
        The features.
    key_mask
        Bool, ``(..., S)``: ``True`` where a key takes part.

    Returns
    -------
    Tensor
        ``(..., N)``, in float32 or better: each row's denominator up to a positive factor that
        cancels in attention.

    Raises
    ------
    TypeError, ValueError
        As :func:`random_feature_attention` does.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.random_features import RandomFourierFeatures, feature_denominators
    >>> features = RandomFourierFeatures(4, 8, generator=torch.Generator())
    >>> feature_denominators(torch.zeros(1, 4), torch.zeros(3, 4), features=features)
    tensor([3.0000])
    """
    phi_q, phi_k, log_scale_k = _attention_features(q, k, k, features, key_mask)
    with _full_precision(q):
        return _denominators(phi_q, phi_k, log_scale_k, key_mask)


def fourier_variance(
    a: Tensor,
    *,
    projections: int,
    form: str = "pair",
    orthogonal_dimension: int | None = None,
    relative: bool = False,
) -> Tensor:
    r"""Compute the variance of the Gaussian kernel's estimate by sines and cosines.

    It is :math:`(1 - e^{-a})^2 / 2R` for pairs, :math:`1 / 2R` more for random offsets, and with
    orthogonal draws less or more by a covariance, see :func:`orthogonal_covariance`.

    Parameters
    ----------
    a
        :math:`\lvert q - k \rvert^2 / \sigma^2`, any shape, none negative.
    projections
        The number R of random vectors.
    form
        ``"pair"`` or ``"offset"``.
    orthogonal_dimension
        The D of orthogonal draws; ``None`` for independent ones.
    relative
        Divide by the squared kernel :math:`e^{-a}`; for independent pairs that gives
        :math:`(\cosh a - 1) / R`.

    Returns
    -------
    Tensor
        In the shape of `a`, in float32 or better.

    Raises
    ------
    TypeError, ValueError
        If `a` is no floating-point tensor or negative somewhere, or a parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.random_features import fourier_variance
    >>> fourier_variance(torch.tensor([0.0, 100.0]), projections=8)
    tensor([0.0000, 0.0625])
    """
    a = _not_negative("a", a)
    rows = integer("projections", projections, at_least=1)
    one = torch.expm1(-a).square() / 2
    if _one_of_the_forms(form) == "offset":
        one = one + 0.5
    if orthogonal_dimension is not None:
        others = _others_in_block(rows, orthogonal_dimension)
        one = one + others * orthogonal_covariance(a, dimension=orthogonal_dimension)
    return (one * torch.exp(a) if flag("relative", relative) else one) / rows


def positive_relative_variance(
    b: Tensor,
    *,
    projections: int,
    hyperbolic: bool = False,
    orthogonal_dimension: int | None = None,
) -> Tensor:
    r"""Compute the variance of an estimate by positive features, over the squared kernel.

    It is :math:`(e^b - 1) / R`, or :math:`(\cosh b - 1) / R` where both signs of each projection
    are used; orthogonal draws make it less, see :func:`orthogonal_covariance`.

    Parameters
    ----------
    b
        :math:`\lvert q + k \rvert^2 / \sigma^2`, any shape, none negative.
    projections
        The number R of random vectors.
    hyperbolic
        Whether both signs are used.
    orthogonal_dimension
        The D of orthogonal draws; ``None`` for independent ones.

    Returns
    -------
    Tensor
        In the shape of `b`, in float32 or better; infinite where it is beyond the dtype.

    Raises
    ------
    TypeError, ValueError
        If `b` is no floating-point tensor or negative somewhere, or a parameter is out of range.

    Examples
    --------
    >>> import math, torch
    >>> from dlchecked.random_features import positive_relative_variance
    >>> positive_relative_variance(torch.tensor([math.log(5)]), projections=8)
    tensor([0.5000])
    """
    b = _not_negative("b", b)
    rows = integer("projections", projections, at_least=1)
    one = torch.expm1(b)
    if flag("hyperbolic", hyperbolic):
        one = 2 * torch.sinh(b / 2).square()
    if orthogonal_dimension is not None:
        others = _others_in_block(rows, orthogonal_dimension)
        covariance = orthogonal_covariance(b, dimension=orthogonal_dimension, of="exponentials")
        one = one + others * covariance
    return one / rows


def orthogonal_covariance(a: Tensor, *, dimension: int, of: str = "cosines") -> Tensor:
    r"""Compute the covariance of two terms whose projections are orthogonal to each other.

    For :math:`\cos(w \cdot z)` with :math:`\lvert z \rvert^2 = a` it is
    :math:`{}_1F_1(D; \tfrac D2; -\tfrac a2) - e^{-a}`. For :math:`e^{w \cdot z - a/2}`, whose mean
    is 1, it is :math:`e^{-a}\, {}_1F_1(D; \tfrac D2; \tfrac a2) - 1`, which is never positive.

    Parameters
    ----------
    a
        The squared length, in widths: of q - k, or for positive features of q + k. Any shape.
    dimension
        The size D; at least 2, as there is nothing orthogonal in one dimension.
    of
        ``"cosines"`` or ``"exponentials"``, the terms of positive features.

    Returns
    -------
    Tensor
        In the shape of `a`, in float32 or better. Computed by SciPy, on the CPU, in float64, and
        without a derivative: going backward through it raises NotImplementedError. Beyond a = 1400
        it is the limit, 0 for cosines (off by less than 2e-9) and -1 for exponentials.

    Raises
    ------
    TypeError, ValueError
        If `a` is no floating-point tensor or negative somewhere, `dimension` below 2, or `of`
        something else.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.random_features import orthogonal_covariance
    >>> orthogonal_covariance(torch.tensor([0.0, 2.0]), dimension=2)
    tensor([ 0.0000, -0.1353])
    """
    a = _not_negative("a", a)
    size = integer("dimension", dimension, at_least=2)
    half = a.detach().double().cpu() / 2
    x = half.clamp(max=700.0)
    if of not in ("cosines", "exponentials"):
        raise ValueError(f"of must be 'cosines' or 'exponentials', got {of!r}")
    cosines = of == "cosines"
    sign, damping = (-1.0, torch.ones_like(x)) if cosines else (1.0, torch.exp(-2 * x))
    # Near 0 the two terms cancel, and what is left of them matters: there, their series.
    series = _covariance_series(sign * x, size) * damping
    # Kummer's transformation of 1F1(D; D/2; ±x), times what keeps it finite.
    regular = torch.as_tensor(special.hyp1f1(-size / 2, size / 2, -sign * x.numpy()))
    direct = regular * torch.exp(-x) - (torch.exp(-2 * x) if cosines else 1.0)
    covariance = torch.where(x < 0.05, series, direct)
    # Further out SciPy's function overflows, or takes for ever.
    covariance = torch.where(half > 700.0, 0.0 if cosines else -1.0, covariance).to(a)
    if a.requires_grad:
        covariance = _WithoutDerivative.apply(a, covariance)  # type: ignore[no-untyped-call]
    return covariance


def predicted_negative_share(
    q: Tensor, k: Tensor, *, projections: int, sigma: float | None = None
) -> Tensor:
    r"""Predict how often a query's denominator is negative with pairs of sines and cosines.

    The estimate of the denominator is a mean over R independent projections. Its mean and its
    variance are known exactly, for the covariance of the estimates of two keys is

    .. math::

       \frac1{2R} \left( e^{-\lvert k_j - k_l \rvert^2 / 2 \sigma^2}
       + e^{-\lvert 2q - k_j - k_l \rvert^2 / 2 \sigma^2} \right)
       - \frac1R \mathcal K(q, k_j) \, \mathcal K(q, k_l) ,

    and if R is large it is nearly normal.

    Parameters
    ----------
    q
        Queries, ``(..., N, D)``.
    k
        Keys, ``(..., S, D)``, with the leading dimensions of `q`; at least one.
    projections
        The number R of random vectors.
    sigma
        The kernel's width; by default that of softmax attention.

    Returns
    -------
    Tensor
        ``(..., N)``, from 0 to 1/2, in the dtype of `q`. It takes memory of N times S times S.

    Raises
    ------
    TypeError, ValueError
        If `q` and `k` do not fit each other, or a parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> from dlchecked.random_features import predicted_negative_share
    >>> far = torch.tensor([[9.0, 0.0, 0.0, 0.0]])
    >>> predicted_negative_share(far, -far, projections=8)
    tensor([0.5000])
    """
    q, k, _ = attention_inputs(q, k, k)
    finite("q", q)
    finite("k", k)
    rows = integer("projections", projections, at_least=1)
    width = softmax_width(q.shape[-1]) if sigma is None else positive("sigma", sigma)
    difference = (widened(q).unsqueeze(-2) - widened(k).unsqueeze(-3)) / width
    scale = _in_range((widened(k) / width).square().sum(-1) / 2, "k")
    scale = torch.exp(scale - scale.amax(-1, keepdim=True)).unsqueeze(-2)
    kernel = torch.exp(-difference.square().sum(-1) / 2)
    between = [_squared_distances(difference, sign * difference) for sign in (1, -1)]
    second = (torch.exp(-between[0] / 2) + torch.exp(-between[1] / 2)) / 2
    covariance = second - kernel.unsqueeze(-1) * kernel.unsqueeze(-2)
    mean = (kernel * scale).sum(-1)
    variance = (
        torch.einsum(
            "...j,...jl,...l->...", scale.expand_as(kernel), covariance, scale.expand_as(kernel)
        )
        / rows
    )
    share: Tensor = torch.special.ndtr(-mean / variance.clamp(min=0).sqrt())
    return share.to(q.dtype)


def random_feature_cost(
    *, N: int, S: int, D: int, M: int, projections: int, kind: str = "pair"
) -> dict[str, Cost]:
    r"""Count the cost of :func:`random_feature_attention` for one head, step by step.

    Parameters
    ----------
    N, S
        The numbers of queries and of keys.
    D, M
        The sizes of a query and of a value.
    projections
        The number R of random vectors.
    kind
        ``"pair"`` or ``"offset"`` of :class:`RandomFourierFeatures`, ``"positive"`` or
        ``"hyperbolic"`` of :class:`PositiveRandomFeatures`.

    Returns
    -------
    dict of str to Cost
        What :mod:`dlchecked.counting` counts in each step, with value checks off. The
        multiply-adds add up to :math:`(N + S)(D R + M r) + N r`, and :math:`S r` more where
        the keys have a factor of their own.

    Raises
    ------
    TypeError, ValueError
        If a size is no integer of at least 1, or the kind is unknown.

    Examples
    --------
    >>> from dlchecked.counting import Cost
    >>> from dlchecked.random_features import random_feature_cost
    >>> steps = random_feature_cost(N=100, S=100, D=64, M=64, projections=128)
    >>> steps["projections"].multiply_adds, sum(steps.values(), Cost()).multiply_adds
    (1638400, 4966400)
    """
    sizes = {"N": N, "S": S, "D": D, "M": M, "projections": projections}
    N, S, D, M, R = (integer(name, size, at_least=1) for name, size in sizes.items())
    if kind not in ("pair", "offset", "positive", "hyperbolic"):
        raise ValueError(f"kind must be pair, offset, positive or hyperbolic, got {kind!r}")
    r = 2 * R if kind in ("pair", "hyperbolic") else R
    both = N + S
    steps = {"x / sigma": Cost(0, both * D), "projections": Cost(both * D * R)}
    if kind in _FORMS:
        shift = both * R if kind == "offset" else 0
        steps["features"] = Cost(0, both * r + shift, both * r)
        steps["keys' factors"] = Cost(0, 2 * S * D + S + 2 * S + 2 + S * M, S)
        normaliser = Cost(S * r)
    else:
        signs = both * R if kind == "hyperbolic" else 0
        norms = both * (2 * D + 2)
        steps["features"] = Cost(0, signs + norms + both * r, both * r)
        steps["stabilisers"] = Cost(0, 2 * S * r + 3 * N * r)
        normaliser = Cost(0, S * r)
    steps["sum of features"] = normaliser
    steps["features times values"] = Cost(S * r * M)
    steps["numerators"] = Cost(N * r * M)
    steps["denominators"] = Cost(N * r)
    steps["division"] = Cost(0, N * M)
    return steps


def _attention_features(
    q: Tensor, k: Tensor, v: Tensor, features: RandomFeatures, key_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check everything; then features of queries and keys, and the keys' logarithmic factors."""
    q, k, v = attention_inputs(q, k, v)
    if not isinstance(features, RandomFourierFeatures | PositiveRandomFeatures):
        raise TypeError(
            "features must be RandomFourierFeatures or PositiveRandomFeatures, "
            f"got {type(features).__name__}"
        )
    if features.dimension != q.shape[-1]:
        raise ValueError(
            f"features must have the size of q, D = {q.shape[-1]}, got {features.dimension}"
        )
    _check_mask(key_mask, k)
    finite("q", q)
    finite("k", k)
    if features.projection.device != q.device:
        raise ValueError(
            f"features must be on the device of q, {q.device}, got {features.projection.device}"
        )
    scaled_q, scaled_k = features._in_widths(q), features._in_widths(k)
    if isinstance(features, PositiveRandomFeatures):
        logarithms = features._logarithms(scaled_q, "q"), features._logarithms(scaled_k, "k")
        return *_balanced(*logarithms, key_mask), None
    return features._features(scaled_q, "q"), *features._softmax_features(scaled_k, "k")


def _balanced(log_q: Tensor, log_k: Tensor, key_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Exponentials of log features, no larger than 1, whose denominators are at least 1.

    A number for each feature may go from the keys to the queries, and one for each query may go
    altogether. So each feature's largest key becomes 1, and then each query's largest entry.
    """
    if key_mask is not None:
        log_k = log_k.masked_fill(~key_mask.unsqueeze(-1), -math.inf)
    largest = log_k.detach().amax(-2, keepdim=True)
    if key_mask is not None:
        largest = largest.nan_to_num(neginf=0.0)
    log_q = log_q + largest
    return (log_q - log_q.detach().amax(-1, keepdim=True)).exp(), (log_k - largest).exp()


def _denominators(
    phi_q: Tensor, phi_k: Tensor, log_scale_k: Tensor | None, key_mask: Tensor | None
) -> Tensor:
    if log_scale_k is None:
        return (phi_q @ phi_k.sum(-2).unsqueeze(-1)).squeeze(-1)
    if key_mask is not None:
        log_scale_k = log_scale_k.masked_fill(~key_mask, -math.inf)
    largest = log_scale_k.amax(-1, keepdim=True).nan_to_num(neginf=0.0)
    scale = (log_scale_k - largest).exp().unsqueeze(-1)
    return (phi_q @ (phi_k.mT @ scale)).squeeze(-1)


def _demand_positive(denominators: Tensor, features: RandomFeatures) -> None:
    negative = int((denominators < 0).sum())
    if negative:
        raise NegativeDenominatorError(
            f"features must give positive denominators, but {negative} of {denominators.numel()} "
            f"are negative with {features.projections} projections: take PositiveRandomFeatures, "
            "or more projections, or allow_negative=True"
        )


def _check_mask(key_mask: object, k: Tensor) -> None:
    if key_mask is None:
        return
    if not isinstance(key_mask, Tensor) or key_mask.dtype != torch.bool:
        kind = key_mask.dtype if isinstance(key_mask, Tensor) else type(key_mask).__name__
        raise TypeError(f"key_mask must be a boolean tensor, got {kind}")
    if key_mask.shape != k.shape[:-1]:
        raise ValueError(
            f"key_mask must have one entry for each key, {tuple(k.shape[:-1])}, "
            f"got shape {shape_of(key_mask)}"
        )
    if key_mask.device != k.device:
        raise ValueError(f"key_mask must be on the device of k, {k.device}, got {key_mask.device}")


class _WithoutDerivative(torch.autograd.Function):
    """Hand on a number computed from `a` outside of autograd, and refuse to go backward."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, computed: Tensor) -> Tensor:
        return computed.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError(
            "orthogonal_covariance has no derivative: use it under torch.no_grad()"
        )


def _covariance_series(x: Tensor, size: int) -> Tensor:
    """Sum :math:`x^m / m! ((D)_m / (D/2)_m - 2^m)` from m = 2 on, for small x."""
    total, power, ratio = torch.zeros_like(x), x, 2.0
    for m in range(2, 13):
        power = power * x / m
        ratio *= 2 * (size + m - 1) / (size + 2 * (m - 1))
        total = total + power * (ratio - 2.0**m)
    return total


def _others_in_block(rows: int, size: int) -> float:
    """How many other projections of its block one has, on average over all R."""
    size = integer("orthogonal_dimension", size, at_least=2)
    blocks, rest = divmod(rows, size)
    return (blocks * size * (size - 1) + rest * (rest - 1)) / rows


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    # PyTorch would expand the square above 25 rows, and lose the digits of small distances.
    mode = "donot_use_mm_for_euclid_dist"
    distances: Tensor = torch.cdist(x, y, compute_mode=mode)
    return distances.square()


def _not_negative(name: str, value: object) -> Tensor:
    tensor = floating(name, value, at_least=0)
    if values_are_checked() and not bool((tensor >= 0).all()):
        raise ValueError(f"{name} must be at least 0 everywhere")
    return widened(tensor)


def _one_of_the_forms(form: object) -> str:
    if form not in _FORMS:
        raise ValueError(f"form must be one of {_FORMS}, got {form!r}")
    return str(form)


def _in_range(tensor: Tensor, name: str) -> Tensor:
    """Demand that what came from finite vectors is finite: a very long one overflows."""
    if values_are_checked() and not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} must be short enough for its squared norm to be finite")
    return tensor


def _full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Keep ``torch.autocast`` from rounding products of float32 to 16 bits."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()

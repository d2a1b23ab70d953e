r"""A test and intervals that stay valid however often one looks, and whenever one stops.

The difference :math:`d` of two means, divided by its variance :math:`V`, moves like a Brownian
motion whose clock is the information :math:`1/V` (the canonical joint distribution of sequential
tests: Jennison & Turnbull, *Group Sequential Methods*, 1999, section 3.1; Scharfstein, Tsiatis &
Robins, JASA 1997). The two-sided normal mixture of Robbins (*Annals of Mathematical Statistics*
1970; Howard, Ramdas, McAuliffe & Sekhon, *Annals of Statistics* 2021, eq. 14) bounds such a motion
at all times at once with probability :math:`1 - \alpha`:

.. math:: z^2 = d^2 / V \;\le\; (1 + \rho/v)\,\log\frac{v + \rho}{\rho\,\alpha^2}

where :math:`v` is the information in units of one list's. It is the mixture sequential probability
ratio test of A/B testing (mSPRT: Johari, Koomen, Pekelis & Walsh, *Operations Research* 2022) and,
with an estimated variance, an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy
& Ramdas, *Annals of Statistics* 2024): asymptotic, hence :data:`MIN_PERSONS`.

Means are per list, not per person: sums per person grow with time, so their information would not.
Variances are those of a ratio whose units are persons, because the lists of one person are not
independent (delta method: Deng, Knoblich & Lu, KDD 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

METHOD = "normal mixture confidence sequence (mSPRT) over lists, variance by person"
MIN_PERSONS = 50  # of each variant, before anything is said
TUNED_FOR = 10_000  # lists at which intervals are tightest; they are valid at any number


@dataclass(frozen=True)
class ListMean:
    """The mean outcome of the lists that one variant showed.

    Attributes:
        value: per list.
        variance: of ``value``, with persons as independent units.
        list_variance: of one list's outcome.
        lists, persons: that it is of.
    """

    value: float
    variance: float
    list_variance: float
    lists: int
    persons: int

    @property
    def is_enough(self) -> bool:
        """Whether an interval can be given."""
        return self.persons >= MIN_PERSONS and self.variance > 0


@dataclass(frozen=True)
class Comparison:
    """A variant against the control.

    Attributes:
        difference: of the means.
        interval: of the difference, valid at all looks together.
        p_value: likewise; the smallest of all looks so far may be taken.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float


def list_mean(outcome: np.ndarray, person: np.ndarray) -> ListMean:
    """The mean of outcomes of lists.

    Args:
        outcome: float ``[lists]``.
        person: int ``[lists]``, who saw each, numbers from 0.

    >>> list_mean(np.array([1.0, 0.0, 0.0, 1.0]), np.array([0, 0, 1, 1])).value
    0.5
    """
    lists = len(outcome)
    seen = np.bincount(person) if lists else np.zeros(0)
    total = np.bincount(person, outcome) if lists else np.zeros(0)
    return mean_by_person(total[seen > 0], seen[seen > 0], float(np.square(outcome).sum()))


def mean_by_person(total: np.ndarray, seen: np.ndarray, squares: float) -> ListMean:
    """:func:`list_mean` from sums.

    Args:
        total: float ``[persons]``, sum of the outcomes of each person's lists.
        seen: int ``[persons]``, how many lists each saw, at least one.
        squares: sum of the squared outcomes of all lists.
    """
    persons, lists = len(seen), int(seen.sum())
    if not lists:
        return ListMean(0.0, 0.0, 0.0, 0, 0)
    value = float(total.sum()) / lists
    spread = float(np.square(total - value * seen).sum())
    variance = spread / lists**2 * persons / max(1, persons - 1)
    return ListMean(value, variance, max(0.0, squares / lists - value**2), lists, persons)


def mean_interval(
    mean: ListMean, alpha: float = 0.05, tuned_for: int = TUNED_FOR
) -> tuple[float, float] | None:
    """Where a mean is, valid at all looks together; None while too few persons are there.

    Args:
        alpha: probability that it is ever wrong.
        tuned_for: lists of the whole experiment at which it is tightest.
    """
    if not mean.is_enough:
        return None
    information = mean.list_variance / mean.variance
    width = math.sqrt(mean.variance) * critical_z(information, alpha, tuned_for / 2)
    return mean.value - width, mean.value + width


def compare(
    control: ListMean, variant: ListMean, alpha: float = 0.05, tuned_for: int = TUNED_FOR
) -> Comparison | None:
    """A variant against the control; None while too few persons are there.

    Args:
        alpha, tuned_for: as for :func:`mean_interval`.
    """
    if not (control.is_enough and variant.is_enough):
        return None
    lists = control.lists + variant.lists
    scale = control.list_variance * control.lists + variant.list_variance * variant.lists
    variance = control.variance + variant.variance
    information, usual = scale / lists / variance, tuned_for / 4  # 4: of two equal halves
    difference = variant.value - control.value
    width = math.sqrt(variance) * critical_z(information, alpha, usual)
    p_value = always_valid_p(difference**2 / variance, information, alpha, usual)
    return Comparison(difference, (difference - width, difference + width), p_value)


def critical_z(information: float, alpha: float, usual: float) -> float:
    """The number of standard errors that a true mean never leaves, but with probability alpha.

    Args:
        information: at this look, in units of one list's.
        usual: information at which the number is smallest.
    """
    rho = mixture_rho(usual, alpha)
    ratio = (information + rho) / rho
    return math.sqrt((1 + rho / information) * (math.log(ratio) - 2 * math.log(alpha)))


def always_valid_p(z_squared: float, information: float, alpha: float, usual: float) -> float:
    """One over the mixture likelihood ratio: below alpha exactly where :func:`critical_z` is left.

    Args:
        z_squared: squared number of standard errors.
        information, alpha, usual: as for :func:`critical_z`; alpha decides rho alone.
    """
    rho = mixture_rho(usual, alpha)
    half = 0.5 * z_squared * information / (information + rho)
    return min(1.0, math.sqrt((information + rho) / rho) * math.exp(-min(half, 700.0)))


def mixture_rho(information: float, alpha: float) -> float:
    """The rho whose boundary is tightest at an information (Howard et al. 2021, Proposition 3).

    >>> round(mixture_rho(100.0, 0.05), 2)
    12.18
    """
    target = 1 - 2 * math.log(alpha)
    w = target
    for _ in range(50):  # w - log w = target: the lower branch of Lambert's function
        w = target + math.log(w)
    return information / (w - 1)

"""Did each variant get its share of the people? If not, nothing else of an experiment holds.

The test is the ratio of a Dirichlet-multinomial to the multinomial of the shares (Lindon & Malek,
*Anytime-valid inference for multinomial count data*, NeurIPS 2022): exact, and valid however often
one looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ALPHA = 0.001  # as is usual for this check: it stops an experiment
_CONCENTRATION = 100.0  # of the mixture: it expects shares to be wrong by some percent


@dataclass(frozen=True)
class SampleRatio:
    """Persons by variant against what the shares say.

    Attributes:
        counts: persons.
        expected: persons by the shares.
        p_value: always valid.
    """

    counts: tuple[int, ...]
    expected: tuple[float, ...]
    p_value: float

    @property
    def is_mismatch(self) -> bool:
        """Whether the persons were not split as they should be."""
        return self.p_value < ALPHA


def sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> SampleRatio:
    """Check counts of persons.

    Args:
        counts: persons of each variant.
        shares: of the variants, which make 1; somebody in a variant of share 0 is a mismatch.

    >>> sample_ratio([5012, 4988], [0.5, 0.5]).is_mismatch
    False
    >>> sample_ratio([5300, 4700], [0.5, 0.5]).is_mismatch
    True
    """
    total = sum(counts)
    expected = tuple(total * share for share in shares)
    if any(count and not share for count, share in zip(counts, shares, strict=True)):
        return SampleRatio(tuple(counts), expected, 0.0)
    log_ratio = math.lgamma(_CONCENTRATION) - math.lgamma(_CONCENTRATION + total)
    for count, share in zip(counts, shares, strict=True):
        if share:
            prior = _CONCENTRATION * share
            log_ratio += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return SampleRatio(tuple(counts), expected, math.exp(min(0.0, max(-700.0, -log_ratio))))

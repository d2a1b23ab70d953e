"""Which variant a person gets: by a salted hash, so nothing has to be remembered.

A person keeps the variant for as long as name and shares of the experiment stay, on every replica
and after every restart. The name of the experiment is the salt, so assignments of two experiments
are independent of each other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from llmrec.errors import ConfigError

_BITS = 53  # that a float holds exactly
_TOLERANCE = 1e-6  # of the sum of shares, for thirds as people write them


def place(salt: str, person: str) -> float:
    """A person's place in [0, 1), uniform over persons.

    >>> place("summer", "anna") == place("summer", "anna") != place("winter", "anna")
    True
    """
    digest = hashlib.sha256(f"{salt}\0{person}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / (1 << _BITS)


def assign(salt: str, person: str, shares: Sequence[float]) -> int:
    """The number of a person's variant.

    Args:
        salt: name of the experiment.
        shares: of the variants, as :func:`check_shares` takes them.

    >>> [assign("summer", name, [0.5, 0.5]) for name in ("anna", "ben", "eve")]
    [1, 0, 1]
    """
    at, above, last = place(salt, person), 0.0, 0
    for number, share in enumerate(shares):
        above += share
        if share > 0:
            last = number
            if at < above:
                return number
    return last  # the sum may be a rounding error below 1


def check_shares(shares: Sequence[float], where: str) -> None:
    """Check that shares are at least 0 and make 1 together.

    Args:
        where: what they are of, for the message.

    Raises:
        ConfigError: if they do not.
    """
    wrong = [share for share in shares if not 0 <= share <= 1]  # NaN is not
    if wrong:
        raise ConfigError(f"{where}: a share is between 0 and 1, not {wrong[0]:g}")
    total = math.fsum(shares)
    if abs(total - 1) > _TOLERANCE:
        parts = " + ".join(f"{share:g}" for share in shares)
        raise ConfigError(f"{where}: the shares make {parts} = {total:g}; they must make 1")

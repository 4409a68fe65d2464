"""How much looking for faces all sessions of an engine may do together.

Detection comes in lumps of milliseconds; tracking a face between two of them costs less than
one. So that a lump never lands on another in the middle of a hop, sessions draw their searches
on one account. It counts work, not time: each picture of each of n sessions pays in an n-th of
an interval's allowance, and a search starts when that much is there. A session that is refused
coasts on optical flow and comes first the next time.
"""

from __future__ import annotations

import weakref
from typing import Final

# Pixels over scales: a search near a face, or a third of a full one, by the cascade.
INTERVAL_COST: Final = 20_000
STALE_PICTURES: Final = 32  # of each session: who has not asked again by then has lost its turn


class BudgetShare:
    """One session's access to the account; it leaves when nobody holds it any more."""

    __slots__ = ("__weakref__", "_asked", "_budget", "_since")

    def __init__(self, budget: DetectorBudget) -> None:
        self._budget = budget
        self._since: int | None = None
        self._asked = 0

    def picture(self) -> None:
        """Another picture of this session has come."""
        self._budget.pay_in()

    def take(self, cost: int) -> bool:
        """Whether a search may be made now; if not, this session waits for its turn."""
        budget = self._budget
        self._asked = budget.pictures
        if self._since is None:
            self._since = budget.pictures
        if not budget.spend(self, cost):
            return False
        self._since = None
        return True

    def before(self, other: BudgetShare) -> bool:
        """Whether this session still waits, and has for longer than `other`."""
        budget = self._budget
        limit = STALE_PICTURES * budget.sessions
        if self._since is None or budget.pictures - self._asked > limit:
            return False
        return other._since is None or self._since < other._since


class DetectorBudget:
    """The account of one engine.

    Args:
        interval_cost: allowance for one interval of pictures, in a detector's `cost`.

    Attributes:
        pictures: of all sessions so far.
        granted, refused: searches.
    """

    def __init__(self, interval_cost: int = INTERVAL_COST) -> None:
        self.pictures = 0
        self.granted = 0
        self.refused = 0
        self._interval_cost = interval_cost
        self._credit = float(interval_cost)
        self._shares: weakref.WeakSet[BudgetShare] = weakref.WeakSet()

    @property
    def sessions(self) -> int:
        return len(self._shares)

    def join(self) -> BudgetShare:
        """A session's share."""
        share = BudgetShare(self)
        self._shares.add(share)
        return share

    def pay_in(self) -> None:
        """Counts a picture of one of the sessions."""
        self.pictures += 1
        credit = self._credit + self._interval_cost / max(self.sessions, 1)
        self._credit = min(credit, float(self._interval_cost))

    def spend(self, share: BudgetShare, cost: int) -> bool:
        """Takes `cost` unless the account is short of it or another's turn comes first.

        What costs more than an interval's allowance may start on a full account, and leaves debt.
        """
        short = self._credit < min(cost, self._interval_cost)
        if short or any(other.before(share) for other in self._shares):
            self.refused += 1
            return False
        self._credit -= cost
        self.granted += 1
        return True

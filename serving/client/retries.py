"""When a call that failed is made again: on named codes, after a random pause, never past the search's deadline."""

import dataclasses
from collections.abc import Callable

import grpc


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential pauses with full jitter.

    The n-th pause is drawn evenly from 0 to `first_pause * 2 ** (n - 1)`, at most to `longest_pause`: callers that
    failed together do not come back together.

    Attributes:
        max_attempts: Calls at the most, the first included.
        first_pause: Seconds.
        longest_pause: Seconds.
        codes: What is worth another attempt: the server is not there, or has too much to do. A search changes nothing,
            so it may be asked twice.
    """

    max_attempts: int = 3
    first_pause: float = 0.1
    longest_pause: float = 2.0
    codes: frozenset[grpc.StatusCode] = frozenset(
        {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
    )


class Attempts:
    """The attempts of one search, and the time that is left for them.

    Attributes:
        timeout: Seconds that there were in the beginning.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        timeout: float,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """Starts the clock.

        Args:
            policy: When to try again.
            timeout: Seconds for all attempts and the pauses between them.
            clock: Seconds, of any origin.
            random: From 0 to 1.
        """
        self._policy, self._clock, self._random = policy, clock, random
        self.timeout, self._deadline = timeout, clock() + timeout
        self._num_failed = 0

    def remaining(self) -> float:
        """Seconds until the deadline."""
        return max(self._deadline - self._clock(), 0.0)

    def pause_after(self, code: grpc.StatusCode) -> float | None:
        """Seconds to wait before the next attempt, after one that failed; None if there is none."""
        self._num_failed += 1
        policy = self._policy
        if code not in policy.codes or self._num_failed >= policy.max_attempts:
            return None
        longest = policy.first_pause * 2 ** (self._num_failed - 1)
        pause = self._random() * min(longest, policy.longest_pause)
        return pause if pause < self.remaining() else None

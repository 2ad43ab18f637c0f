"""Who asks what and when: users with tastes and habits, who come in sessions."""

import dataclasses

import numpy as np

from beam.shop import behaviour
from beam.shop.catalogue import PERIOD, START
from beam.shop.queries import Intents, Queries, draw_query

_REQUESTS_PER_USER = 6
_LAST_OF_SESSION = 0.7  # probability that a request is its session's last; further ones reword the same intent
_RETURNING = (
    0.3  # probability that a session resumes what the user's session before was about
)
_DAY = 24 * 3600
# Relative number of sessions that start in each hour of the day.
_HOURS = np.array(
    (4, 2, 1, 1, 1, 2, 4, 7, 9, 10, 10, 10, 11, 10, 9, 9, 10, 12, 14, 16, 18, 17, 13, 8)
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Users:
    """The shop's users, as columns of equal length U.

    Attributes:
        activity: [U] float64 relative number of sessions.
        thrift: [U] float64, one of `behaviour.THRIFT`.
        patience: [U] float64 in (0, 1), the probability of looking at the next item (gamma).
    """

    activity: np.ndarray
    thrift: np.ndarray
    patience: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requests:
    """Search requests in the order of time, as int64 columns of equal length R.

    Attributes:
        time: Seconds.
        user: Index of the user.
        intent: Index of the intent.
        query: Index of the query string.
    """

    time: np.ndarray
    user: np.ndarray
    intent: np.ndarray
    query: np.ndarray


def make_users(rng: np.random.Generator, num_requests: int) -> Users:
    """Invents users: few come often, most seldom."""
    num_users = max(1, num_requests // _REQUESTS_PER_USER)
    return Users(
        activity=np.exp(rng.normal(0, 1, num_users)),
        thrift=rng.choice(behaviour.THRIFT, num_users, p=behaviour.THRIFT_SHARE),
        patience=rng.beta(*behaviour.PATIENCE, num_users),
    )


def make_requests(
    rng: np.random.Generator,
    num_requests: int,
    *,
    users: Users,
    intents: Intents,
    queries: Queries,
) -> Requests:
    """Draws exactly `num_requests` requests over the period.

    A session has one user and one intent. Its user may take up again the intent of the session before, otherwise
    the intent is drawn by frequency from those that have come up by then.
    """
    length = rng.geometric(_LAST_OF_SESSION, num_requests)
    length = length[: np.searchsorted(np.cumsum(length), num_requests) + 1]
    length[-1] -= length.sum() - num_requests
    num_sessions = len(length)

    user = rng.choice(
        len(users.activity), num_sessions, p=users.activity / users.activity.sum()
    )
    time = _session_times(rng, num_sessions)
    order = np.lexsort((time, user))
    user, time = user[order], time[order]
    intent = draw_intents(rng, intents, time)
    returning = (rng.random(num_sessions) < _RETURNING) & (user == np.roll(user, 1))
    returning[0] = False
    intent = intent[_latest(~returning)]

    session = np.repeat(np.arange(num_sessions), length)
    step = np.arange(num_requests) - np.repeat(np.cumsum(length) - length, length)
    pause = np.where(step == 0, 0, rng.integers(20, 240, num_requests))
    elapsed = np.cumsum(pause)
    elapsed -= elapsed[np.cumsum(length) - length][session]
    when = time[session] + elapsed
    order = np.argsort(when, kind="stable")
    session = session[order]
    query = draw_query(rng, queries, intent[session])
    return Requests(
        time=when[order], user=user[session], intent=intent[session], query=query
    )


def draw_intents(
    rng: np.random.Generator, intents: Intents, time: np.ndarray
) -> np.ndarray:
    """Draws an intent for each time ([B] int64 seconds) by frequency among those born by then: [B] int64."""
    probability = intents.weight / intents.weight.sum()
    drawn = rng.choice(len(intents), len(time), p=probability)
    while len(unborn := np.flatnonzero(intents.birth[drawn] > time)):
        drawn[unborn] = rng.choice(len(intents), len(unborn), p=probability)
    return drawn


def _session_times(rng: np.random.Generator, num_sessions: int) -> np.ndarray:
    day = rng.integers(PERIOD // _DAY, size=num_sessions)
    hour = rng.choice(len(_HOURS), num_sessions, p=_HOURS / _HOURS.sum())
    return START + day * _DAY + hour * 3600 + rng.integers(3600, size=num_sessions)


def _latest(mark: np.ndarray) -> np.ndarray:
    """For each place the latest one, itself included, that is marked; the first is: [B] bool -> [B] int64."""
    return np.maximum.accumulate(np.where(mark, np.arange(len(mark)), 0))

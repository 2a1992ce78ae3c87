"""Lesson 7: from the instants at which tokens came to the numbers people compare."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

from ..checker import Case, Exercise

# Instants are sums of eighths of a second, so that what is right is right to the last digit

EVEN = [0.75, 1.0, 1.25, 1.5]
UNEVEN = [0.75, 1.0, 1.75, 1.875]

# ttft


def ttft(arrivals: list[float]) -> float | None:
    """The time to the first token, in seconds; None when no token came.

    `arrivals` are the instants of the tokens, in seconds since the request was sent, in order.

    >>> ttft([0.5, 0.75, 1.0])
    0.5
    """
    return arrivals[0] if arrivals else None


first_token = Exercise(
    ttft,
    cases=[
        Case([1.25, 1.5, 1.75, 2.0], note="four tokens"),
        Case(UNEVEN, note="tokens at an uneven pace"),
        Case([2.0], note="a single token"),
        Case([], note="a stream without a token"),
        Case([0.5, 0.5, 0.5], note="three tokens at one instant"),
        Case([0.0, 0.25], note="a token that is there at once, from a cache"),
        Case([45.0, 45.25], note="a server with a long queue"),
    ],
    hints=(
        "The clock of `arrivals` starts with the request. Is there anything left to subtract?",
        "It is one of the numbers in the list. And which number would be true of a stream that brought nothing?",
        "The answer is `arrivals[0]`. An empty list has no such element: ask first, and return `None` for it.",
    ),
)


@first_token.right
def asked_first(arrivals: list[float]) -> float | None:
    if len(arrivals) == 0:
        return None
    return arrivals[0]


@first_token.right
def next_or_none(arrivals: list[float]) -> float | None:
    return next(iter(arrivals), None)


@first_token.right
def the_smallest(arrivals: list[float]) -> float | None:
    return min(arrivals, default=None)


@first_token.right
def by_pattern(arrivals: list[float]) -> float | None:
    match arrivals:
        case [first, *_]:
            return first
    return None


@first_token.mistake(
    "A stream can end without a token: refused, cut, or with nothing but a tool call. Then there is no first element. "
    "Ask whether there is one before you take it."
)
def no_guard_for_an_empty_stream(arrivals: list[float]) -> float | None:
    return arrivals[0]


@first_token.mistake(
    "0 seconds is the best time there is, and you give it to a stream that brought nothing: in a table of servers the "
    "broken one wins. What was not measured is `None`."
)
def zero_for_nothing(arrivals: list[float]) -> float | None:
    return arrivals[0] if arrivals else 0.0


@first_token.mistake(
    "`inf` is a number that nobody measured: one such stream, and every mean is infinite. What was not measured is `None`."
)
def infinity_for_nothing(arrivals: list[float]) -> float | None:
    return arrivals[0] if arrivals else math.inf


@first_token.mistake(
    "That is the time between the first token and the second. The time to the first one has passed before: it starts "
    "with the request, at 0."
)
def first_gap(arrivals: list[float]) -> float | None:
    return arrivals[1] - arrivals[0] if len(arrivals) > 1 else None


@first_token.mistake(
    "That is when the last token came: how long the whole answer took. Which one came first?"
)
def the_last(arrivals: list[float]) -> float | None:
    return arrivals[-1] if arrivals else None


@first_token.mistake(
    "That is the mean instant of all tokens. One element of the list is asked for, and no arithmetic at all."
)
def mean_of_all(arrivals: list[float]) -> float | None:
    return sum(arrivals) / len(arrivals) if arrivals else None


@first_token.mistake(
    "0.0 counts as false, so a token that is there at once becomes no token at all. Ask whether the list is empty, not "
    "whether its first number is zero."
)
def zero_taken_for_nothing(arrivals: list[float]) -> float | None:
    return (arrivals[0] or None) if arrivals else None


@first_token.mistake(
    "`x and y` gives `x` itself when `x` is empty: you return the empty list. Write `arrivals[0] if arrivals else None`."
)
def gives_the_empty_list(arrivals: list[float]) -> float | list[float]:
    return arrivals and arrivals[0]


@first_token.mistake("One token is enough: the first. Only where there is none at all, there is no time.")
def wants_two_tokens(arrivals: list[float]) -> float | None:
    return arrivals[0] if len(arrivals) > 1 else None


@first_token.mistake("Those are milliseconds. Here times are in seconds, as the clock gives them.")
def in_milliseconds(arrivals: list[float]) -> float | None:
    return arrivals[0] * 1000 if arrivals else None


@first_token.mistake(
    "You subtract an instant from itself. The instants already count from the request: nothing is to be subtracted."
)
def counts_from_the_first_token(arrivals: list[float]) -> float | None:
    start = arrivals[0] if arrivals else None
    return None if start is None else arrivals[0] - start


# inter_token_latencies


def inter_token_latencies(arrivals: list[float]) -> list[float]:
    """The times between one token and the next, in seconds.

    `arrivals` are the instants of the tokens, in seconds since the request was sent, in order. Three tokens
    have two times between them.

    >>> inter_token_latencies([0.5, 0.75, 1.0])
    [0.25, 0.25]
    """
    return [arrivals[n] - arrivals[n - 1] for n in range(1, len(arrivals))]


gaps = Exercise(
    inter_token_latencies,
    cases=[
        Case(EVEN, note="four tokens at an even pace"),
        Case(UNEVEN, note="tokens at an uneven pace"),
        Case([0.5, 3.0], note="two tokens"),
        Case([0.5, 0.5, 0.75], note="two tokens that come together"),
        Case([0.5, 0.75, 0.75, 1.0, 1.25, 1.25], note="the same gap many times"),
        Case([0.5], note="a single token"),
        Case([], note="a stream without a token"),
    ],
    hints=(
        "Write four instants in a row and the times between them underneath. How many are there? Does the request count?",
        "Each token but the first has one before it. Subtract that one.",
        "`itertools.pairwise(arrivals)` gives each token with the next one. For every pair, later minus earlier.",
    ),
)


@gaps.right
def with_pairwise(arrivals: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(arrivals)]


@gaps.right
def with_zip(arrivals: list[float]) -> list[float]:
    befores, afters = arrivals[:-1], arrivals[1:]
    return [after - before for before, after in zip(befores, afters, strict=True)]


@gaps.right
def remembering_the_last(arrivals: list[float]) -> list[float]:
    found = []
    before = None
    for at in arrivals:
        if before is not None:
            found.append(at - before)
        before = at
    return found


@gaps.right
def with_numpy(arrivals: list[float]) -> list[float]:
    import numpy

    return list(numpy.diff(arrivals).tolist())


@gaps.mistake(
    "The first of your times is the time to the first token: the whole wait in the queue, counted as if it were pace. It "
    "has a name of its own, `ttft`. Begin with the second token."
)
def time_to_first_token_included(arrivals: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise([0.0, *arrivals])]


@gaps.mistake(
    "You subtract the first token from each one. Between one token and the next: subtract the one just before."
)
def since_the_first_token(arrivals: list[float]) -> list[float]:
    return [at - arrivals[0] for at in arrivals[1:]]


@gaps.mistake(
    "That is one number, the mean. It hides what a reader feels most: the one long pause. Return every gap."
)
def the_mean(arrivals: list[float]) -> float:
    between = [later - earlier for earlier, later in pairwise(arrivals)]
    return sum(between) / len(between) if between else 0.0


@gaps.mistake("Time runs forwards: later minus earlier. Yours are negative.")
def earlier_minus_later(arrivals: list[float]) -> list[float]:
    return [earlier - later for earlier, later in pairwise(arrivals)]


@gaps.mistake(
    "The last token has none after it: `arrivals[n + 1]` goes beyond the end. There is one gap fewer than tokens."
)
def one_index_too_many(arrivals: list[float]) -> list[float]:
    return [arrivals[n + 1] - arrivals[n] for n in range(len(arrivals))]


@gaps.mistake(
    "Before the first token there is none, and `arrivals[-1]` is the last one, so your first time is negative. Begin "
    "with `n = 1`."
)
def around_the_end(arrivals: list[float]) -> list[float]:
    return [arrivals[n] - arrivals[n - 1] for n in range(len(arrivals))]


@gaps.mistake(
    "Tokens that came together are 0.0 apart, and you leave that out. A server that sends in bursts then looks slow and "
    "even."
)
def leaves_out_zeros(arrivals: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(arrivals) if later > earlier]


@gaps.mistake("You return the pairs. The time between two tokens is their difference.")
def the_pairs(arrivals: list[float]) -> list[tuple[float, float]]:
    return list(pairwise(arrivals))


@gaps.mistake(
    "A single token has nothing after it, so there is no time between. The list of these times is empty: `[]`."
)
def a_zero_for_one_token(arrivals: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(arrivals)] or [0.0]


@gaps.mistake(
    "A single token, or none at all, has no time after it. No times are still a list, an empty one: `[]`."
)
def none_where_there_is_no_gap(arrivals: list[float]) -> list[float] | None:
    return [later - earlier for earlier, later in pairwise(arrivals)] or None


@gaps.mistake(
    "Your first time is 0.0, from the first token to itself. There is one time fewer than tokens: begin with the second token."
)
def from_the_first_to_itself(arrivals: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise([*arrivals[:1], *arrivals])]


@gaps.mistake("The last of the times is missing: three tokens have two between them, and four have three.")
def leaves_out_the_last(arrivals: list[float]) -> list[float]:
    return [arrivals[n + 1] - arrivals[n] for n in range(len(arrivals) - 2)]


@gaps.mistake("Each gap once: you made a set, or looked whether you had it. Gaps that are equal all count.")
def each_gap_once(arrivals: list[float]) -> list[float]:
    return list(dict.fromkeys(later - earlier for earlier, later in pairwise(arrivals)))


@gaps.mistake("You sort them. A gap belongs to its place in the answer: leave the order as it is.")
def sorted_gaps(arrivals: list[float]) -> list[float]:
    return sorted(later - earlier for earlier, later in pairwise(arrivals))


# throughput


def throughput(arrivals: list[float]) -> float | None:
    """The tokens per second of one stream, from the request to its last token.

    `arrivals` are the instants of the tokens, in seconds since the request was sent, in order. None when no
    token came, or when no time has passed.

    >>> throughput([0.5, 0.75, 1.0])
    3.0
    """
    return len(arrivals) / arrivals[-1] if arrivals and arrivals[-1] else None


rate = Exercise(
    throughput,
    cases=[
        Case([0.5, 0.75, 1.0, 2.0], note="four tokens in two seconds"),
        Case(EVEN, note="an even pace"),
        Case([3.0, 3.25, 3.5, 3.75, 4.0], note="a long wait for the first token"),
        Case([0.5, 2.0, 3.5], note="a slow stream, less than one token a second"),
        Case([0.5], note="a single token"),
        Case([0.5, 0.5, 0.5], note="three tokens at one instant"),
        Case([], note="a stream without a token"),
        Case([0.0, 0.0], note="no time has passed"),
        Case([0.0, 0.5, 1.0], note="the first token is there at once"),
    ],
    hints=(
        "How many tokens, in how many seconds? Begin counting the seconds where your reader begins to wait.",
        "The number of tokens is the length of the list. The seconds are one element of it: which?",
        "`len(arrivals) / arrivals[-1]`, and `None` where that cannot be divided: an empty list, or a last instant of 0.",
    ),
)


@rate.right
def step_by_step(arrivals: list[float]) -> float | None:
    if not arrivals:
        return None
    seconds = arrivals[-1]
    if seconds == 0:
        return None
    return len(arrivals) / seconds


@rate.right
def asking_forgiveness(arrivals: list[float]) -> float | None:
    try:
        return len(arrivals) / arrivals[-1]
    except (IndexError, ZeroDivisionError):
        return None


@rate.right
def with_max(arrivals: list[float]) -> float | None:
    seconds = max(arrivals, default=0.0)
    return len(arrivals) / seconds if seconds > 0 else None


@rate.right
def from_the_sum_of_gaps(arrivals: list[float]) -> float | None:
    seconds = math.fsum(later - earlier for earlier, later in pairwise([0.0, *arrivals]))
    return sum(1 for _ in arrivals) / seconds if seconds else None


@rate.mistake(
    "That is the **output rate**: how fast tokens come once they come. It leaves out the wait for the first, and a server "
    "with a long queue looks fast. Throughput counts from the request on."
)
def output_rate(arrivals: list[float]) -> float | None:
    if not arrivals or not arrivals[-1]:
        return None
    streaming = arrivals[-1] - arrivals[0]
    return (len(arrivals) - 1) / streaming if streaming else None


@rate.mistake(
    "You count all tokens, and only the seconds after the first one. The two do not belong together: the time until the "
    "first token made a token, too. Count the seconds from the request on."
)
def all_tokens_in_the_time_after_the_first(arrivals: list[float]) -> float | None:
    if len(arrivals) < 2 or arrivals[-1] == arrivals[0]:
        return None
    return len(arrivals) / (arrivals[-1] - arrivals[0])


@rate.mistake(
    "One token fewer is right for the times *between* tokens. From the request on, every token counts: there is one wait "
    "for each."
)
def one_token_fewer(arrivals: list[float]) -> float | None:
    return (len(arrivals) - 1) / arrivals[-1] if arrivals and arrivals[-1] else None


@rate.mistake("Those are seconds per token. Tokens per second is the other way round.")
def seconds_per_token(arrivals: list[float]) -> float | None:
    return arrivals[-1] / len(arrivals) if arrivals and arrivals[-1] else None


@rate.mistake(
    "You divide by the sum of all instants. They are not durations: each one already counts from the request. The time "
    "that passed is the last of them."
)
def by_the_sum_of_instants(arrivals: list[float]) -> float | None:
    return len(arrivals) / sum(arrivals) if sum(arrivals) else None


@rate.mistake("That is a rate up to the first token. The seconds that passed are those up to the last one.")
def up_to_the_first_token(arrivals: list[float]) -> float | None:
    return len(arrivals) / arrivals[0] if arrivals and arrivals[0] else None


@rate.mistake(
    "An empty list has no last element. A stream without a token has no throughput: ask first, and return `None`."
)
def no_guard_for_an_empty_list(arrivals: list[float]) -> float | None:
    return len(arrivals) / arrivals[-1]


@rate.mistake(
    "Division by zero: when no time has passed there is no rate. Ask whether the last instant is 0, and return `None`."
)
def no_guard_for_zero_seconds(arrivals: list[float]) -> float | None:
    return len(arrivals) / arrivals[-1] if arrivals else None


@rate.mistake(
    "0 tokens per second would be a measurement, of a server that stands still. Nothing was measured here: `None`."
)
def zero_for_no_tokens(arrivals: list[float]) -> float | None:
    return len(arrivals) / arrivals[-1] if arrivals and arrivals[-1] else 0.0


@rate.mistake(
    "Infinitely many tokens per second is nothing that anybody measured. When no time has passed there is no rate: `None`."
)
def infinity_for_no_time(arrivals: list[float]) -> float | None:
    if not arrivals:
        return None
    return len(arrivals) / arrivals[-1] if arrivals[-1] else math.inf


@rate.mistake(
    "You take the mean of the rates of single gaps. A mean of rates gives short gaps too much weight. Divide once: all "
    "tokens by all seconds."
)
def mean_of_rates(arrivals: list[float]) -> float | None:
    rates = [1 / (later - earlier) for earlier, later in pairwise([0.0, *arrivals]) if later > earlier]
    return sum(rates) / len(rates) if rates else None


@rate.mistake(
    "A single token has a rate, too: it took the time since the request. Only a rate *between* tokens needs two of them."
)
def wants_two_tokens_for_a_rate(arrivals: list[float]) -> float | None:
    return len(arrivals) / arrivals[-1] if len(arrivals) > 1 and arrivals[-1] else None


@rate.mistake(
    "You ask whether the first instant is 0, and divide by the last. A first token that is there at once is no reason to "
    "give up: look at the number you divide by."
)
def asks_about_the_first_instant(arrivals: list[float]) -> float | None:
    return len(arrivals) / arrivals[-1] if arrivals and arrivals[0] else None


@rate.mistake("A rate need not be a whole number: `//` and `int` cut off the rest. Divide with `/`.")
def whole_numbers(arrivals: list[float]) -> float | None:
    return len(arrivals) // arrivals[-1] if arrivals and arrivals[-1] else None


# percentile


def percentile(values: list[float], q: float) -> float | None:
    """The value that `q` percent of `values` do not exceed; None when there are no values.

    Sort the values (the list itself stays as it is) and give them places: 0 for the least, `len(values) - 1`
    for the greatest. The percentile stands at `q` percent of the way, and between two values in proportion,
    as `numpy.percentile` has it.

    >>> percentile([4.0, 1.0, 2.0], 50)
    2.0
    >>> percentile([4.0, 1.0, 2.0], 75)
    3.0
    """
    ordered = sorted(values)
    if not ordered:
        return None
    place = (len(ordered) - 1) * q / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


percentiles = Exercise(
    percentile,
    cases=[
        Case([1.0, 2.0, 3.0, 4.0, 12.0], 50, note="the middle of five values"),
        Case([1.0, 2.0, 3.0, 4.0, 12.0], 75, note="three quarters of the way, at a value"),
        Case([12.0, 1.0, 4.0, 2.0, 3.0], 25, note="values in any order"),
        Case([1.0, 2.0, 4.0], 75, note="between two values"),
        Case([0.2, 0.25, 0.3, 9.0], 50, note="the middle of four values, one far away"),
        Case([float(value) for value in range(0, 22, 2)], 99, note="q=99, eleven values"),
        Case([0.5, 1.5, 2.5], 100, note="q=100"),
        Case([2.5, 0.5, 1.5], 0, note="q=0"),
        Case([100.0, 0.0], 99.9, note="q=99.9"),
        Case([0.0, 200.0], 0.5, note="half a percent"),
        Case([7.0], 99, note="a single value"),
        Case([], 50, note="no values"),
        Case([2.0, 2.0, 2.0, 8.0], 60, note="values that are equal"),
        Case([1.0, 2.0, 4.0, 8.0], 20, note="a fifth of the way"),
        Case([3.0, -1.0, -2.0], 25, note="negative values"),
    ],
    hints=(
        "Draw three values on a line, at the places 0, 1 and 2. Where is 50 percent of the way? And 75?",
        "The place is `(len(values) - 1) * q / 100`. Its whole part tells which value is below, what is left tells how far to go "
        "towards the next one. `values` come in any order, and belong to the caller.",
        "With `ordered = sorted(values)`, `below = int(place)` and `share = place - below`: from `ordered[below]` go `share` of the way to "
        "the next value. At the very end there is no next one; and an empty list has no percentile at all.",
    ),
)


@percentiles.right
def by_numpy(values: list[float], q: float) -> float | None:
    import numpy

    return float(numpy.percentile(values, q)) if values else None


@percentiles.right
def weighted_floor_and_ceiling(values: list[float], q: float) -> float | None:
    if len(values) == 0:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * (q / 100)
    below, above = math.floor(place), math.ceil(place)
    if below == above:
        return ordered[below]
    return ordered[below] * (above - place) + ordered[above] * (place - below)


@percentiles.right
def with_divmod(values: list[float], q: float) -> float | None:
    ordered = [*values]
    ordered.sort()
    match ordered:
        case []:
            return None
        case [only]:
            return only
    below, share = divmod((len(ordered) - 1) * q, 100)
    pair = ordered[int(below) : int(below) + 2]
    return pair[0] + (pair[-1] - pair[0]) * share / 100


@percentiles.mistake(
    "That is the mean. One stream that took a minute moves it for everybody; a percentile says what so many of a hundred "
    "readers saw."
)
def the_mean_instead(values: list[float], q: float) -> float | None:
    return sum(values) / len(values) if values else None


@percentiles.mistake("That is always the median. Which percentage is asked for stands in `q`.")
def always_the_median(values: list[float], q: float) -> float | None:
    return statistics.median(values) if values else None


@percentiles.mistake(
    "The values come in any order, as the streams ended. Sort them before you look for a place among them."
)
def takes_them_for_sorted(values: list[float], q: float) -> float | None:
    if not values:
        return None
    place = (len(values) - 1) * q / 100
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


@percentiles.mistake(
    "`values.sort()` sorts the caller's own list: who comes after you finds the streams in another order. `sorted(values)` "
    "gives a new list."
)
def sorts_the_callers_list(values: list[float], q: float) -> float | None:
    values.sort()
    return percentile(values, q)


@percentiles.mistake(
    "`q` is a percentage: 99 means 99 of a hundred. You take it for a share of 1, and look far beyond the end of the list."
)
def takes_q_for_a_share(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    place = (len(ordered) - 1) * q
    below = int(place)
    return ordered[below] + (ordered[below + 1] - ordered[below]) * (place - below)


@percentiles.mistake(
    "The places go from 0 to `len(values) - 1`, so the way is one shorter than the list: `(len(values) - 1) * q / 100`. "
    "With `len(values)` every percentile lies too high."
)
def n_instead_of_n_minus_one(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    place = len(ordered) * q / 100
    below = int(place)
    if below >= len(ordered) - 1:
        return ordered[-1]
    return ordered[below] + (ordered[below + 1] - ordered[below]) * (place - below)


@percentiles.mistake(
    "You count places in the whole list, from 0 up to its length, and take the value you come to. The greatest value "
    "stands at `len(values) - 1`; and between two values go in proportion."
)
def whole_list_and_no_proportion(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q / 100), len(ordered) - 1)] if ordered else None


@percentiles.mistake(
    "You take the value below and stop there. The place has a part behind the point: go that far towards the next value."
)
def takes_the_value_below(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[int((len(ordered) - 1) * q / 100)] if ordered else None


@percentiles.mistake(
    "You round to the nearest place. The place has a part behind the point: go that far towards the next value."
)
def takes_the_nearest_value(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[round((len(ordered) - 1) * q / 100)] if ordered else None


@percentiles.mistake(
    "You take the value above. The place has a part behind the point: start at the value below, and go that far towards the "
    "next one."
)
def takes_the_value_above(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[math.ceil((len(ordered) - 1) * q / 100)] if ordered else None


@percentiles.mistake(
    "This is the rule of the nearest rank: a value out of the list, none in between. It is a percentile, too, but another "
    "one: here it is in proportion, as in numpy, so that two people's numbers can be compared."
)
def nearest_rank(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * q / 100), 1) - 1] if ordered else None


@percentiles.mistake(
    "You go half of the way between the two values, always. How far to go is what the place has behind the point."
)
def always_half_way(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    place = (len(ordered) - 1) * q / 100
    return (ordered[math.floor(place)] + ordered[math.ceil(place)]) / 2


@percentiles.mistake(
    "At the greatest value there is no next one, and you ask for it. `q=100` and a list of one value both lead there."
)
def beyond_the_end(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    place = (len(ordered) - 1) * q / 100
    below = int(place)
    return ordered[below] + (ordered[below + 1] - ordered[below]) * (place - below)


@percentiles.mistake(
    "Of no values there is no percentile, and you look for one. Ask first whether the list is empty, and return `None`."
)
def no_guard_for_no_values(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    place = (len(ordered) - 1) * q / 100
    below, above = math.floor(place), math.ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@percentiles.mistake(
    "0 would be the best value of all, and nothing was measured. Of no values the percentile is `None`."
)
def zero_of_nothing(values: list[float], q: float) -> float | None:
    return percentile(values, q) if values else 0.0


@percentiles.mistake(
    "That is another definition, the one of `statistics.quantiles`: it takes the values for a sample of something greater, "
    "and the places for 1 to `len(values)`. Here they go from 0 to `len(values) - 1`."
)
def quantiles_of_a_sample(values: list[float], q: float) -> float | None:
    return statistics.quantiles(values, n=100)[int(q) - 1]


@percentiles.mistake(
    '`method="inclusive"` is the right definition. But it gives 99 values, for 1 to 99 percent: there is none for 0, for 100 '
    "and for 99.9, and none at all of a single value. Write it yourself, or ask numpy."
)
def quantiles_inclusive(values: list[float], q: float) -> float | None:
    return statistics.quantiles(values, n=100, method="inclusive")[int(q) - 1] if values else None


@percentiles.mistake(
    "You have the two shares the wrong way round: the nearer the place is to a value, the more that value counts."
)
def shares_the_wrong_way_round(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    place = (len(ordered) - 1) * q / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] * (place - below) + ordered[above] * (below + 1 - place)


@percentiles.mistake(
    "`list.sort()` sorts the list where it is, and gives `None` back. `sorted(values)` gives a new list, and leaves the "
    "caller's as it was."
)
def takes_what_sort_gives(values: list[float], q: float) -> float | None:
    ordered: list[float] = values.sort()  # type: ignore[assignment]
    return ordered[int((len(ordered) - 1) * q / 100)]


@percentiles.mistake(
    "The place is a float, and a list has only whole ones. `int(place)` is the one below; what is left of the place tells "
    "how far to go towards the next."
)
def takes_a_float_for_a_place(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) * q / 100] if ordered else None  # type: ignore[call-overload]


@percentiles.mistake(
    "You go from the least value to the greatest, and look at none in between: one slow stream moves it for everybody. Go "
    "along the *places* of the values."
)
def from_the_least_to_the_greatest(values: list[float], q: float) -> float | None:
    return min(values) + (max(values) - min(values)) * q / 100 if values else None


@percentiles.mistake("You sort downwards: 0 percent is the least value, 100 percent the greatest.")
def sorts_downwards(values: list[float], q: float) -> float | None:
    ordered = sorted(values, reverse=True)
    if not ordered:
        return None
    place = (len(ordered) - 1) * q / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@percentiles.mistake("`q` need not be a whole number: you cut 99.9 down to 99.")
def whole_percentages_only(values: list[float], q: float) -> float | None:
    return percentile(values, int(q))


@percentiles.mistake("Values that are equal all count: a set keeps one of each.")
def each_value_once(values: list[float], q: float) -> float | None:
    return percentile(list(set(values)), q)


@percentiles.mistake(
    "It is the share of the greatest value, not of the values: `max` tells nothing of how many lie below. Sort them, and "
    "look at a place in the row."
)
def share_of_the_greatest(values: list[float], q: float) -> float | None:
    return max(values) * q / 100 if values else None


# concurrency_for


def concurrency_for(rate: float, latency: float) -> float:
    """How many streams are open at once, on average.

    `rate` streams begin each second, and each one takes `latency` seconds. ValueError when one of them is
    negative.

    >>> concurrency_for(rate=4, latency=2.5)
    10.0
    """
    if rate < 0 or latency < 0:
        raise ValueError("neither the rate nor the latency can be negative")
    return rate * latency


littles_law = Exercise(
    concurrency_for,
    cases=[
        Case(4.0, 2.5, note="four a second, two and a half seconds each"),
        Case(0.5, 60.0, note="one every other second, a minute each"),
        Case(3.0, 0.5, note="half a second each: the mean is no whole number"),
        Case(0.25, 2.0, note="rare and short: most of the time none is open"),
        Case(100.0, 10.0, note="a hundred a second"),
        Case(5.0, 0.0, note="answers that take no time"),
        Case(0.0, 3.0, note="nobody asks"),
        Case(-1.0, 2.0, note="a negative rate"),
        Case(2.0, -1.0, note="a negative latency"),
        Case(-2.0, -3.0, note="both negative"),
    ],
    hints=(
        "Four streams begin each second and each stays open for 2.5 s. Draw ten of them as bars on a time axis, then count how "
        "many bars cross one instant.",
        "All that began within the last `latency` seconds are still open. How many begin in so many seconds?",
        "`rate` a second, for `latency` seconds: multiply. First look whether one of them is below 0, and `raise ValueError(…)`.",
    ),
)


@littles_law.right
def the_other_way_round(rate: float, latency: float) -> float:
    if min(rate, latency) >= 0:
        return latency * rate
    raise ValueError("a rate and a latency are zero or more")


@littles_law.right
def with_a_loop(rate: float, latency: float) -> float:
    for name, value in (("rate", rate), ("latency", latency)):
        if value < 0:
            raise ValueError(f"{name} is {value}")
    return math.prod((rate, latency))


@littles_law.right
def by_the_time_between_two(rate: float, latency: float) -> float:
    if rate < 0 or latency < 0:
        raise ValueError(rate, latency)
    return latency / (1 / rate) if rate else 0.0


@littles_law.mistake(
    "You divide. The longer each stream takes, the more of them are open at once: with twice the latency yours become fewer."
)
def rate_by_latency(rate: float, latency: float) -> float:
    if rate < 0 or latency < 0:
        raise ValueError("negative")
    return rate / latency


@littles_law.mistake(
    "You divide. The more streams begin each second, the more are open at once: with twice the rate yours become fewer."
)
def latency_by_rate(rate: float, latency: float) -> float:
    if rate < 0 or latency < 0:
        raise ValueError("negative")
    return latency / rate


@littles_law.mistake(
    "You add seconds to streams per second. Count instead how many begin in the time that one of them takes."
)
def adds_them(rate: float, latency: float) -> float:
    if rate < 0 or latency < 0:
        raise ValueError("negative")
    return rate + latency


@littles_law.mistake(
    "You round. At one instant there is a whole number of streams; on average over time there need not be."
)
def rounds_up(rate: float, latency: float) -> float:
    if rate < 0 or latency < 0:
        raise ValueError("negative")
    return math.ceil(rate * latency)


@littles_law.mistake(
    "You cut off what is behind the point. At one instant there is a whole number of streams; on average over time there "
    "need not be."
)
def rounds_down(rate: float, latency: float) -> float:
    if rate < 0 or latency < 0:
        raise ValueError("negative")
    return int(rate * latency)


@littles_law.mistake(
    "You say that one stream at least is open. Where streams are rare and short, none is open most of the time: the average "
    "is less than 1."
)
def at_least_one(rate: float, latency: float) -> float:
    if rate < 0 or latency < 0:
        raise ValueError("negative")
    return max(1.0, rate * latency)


@littles_law.mistake(
    "A negative rate or latency is a bug of the caller, and your answer hides it. `raise ValueError(…)`, and say what you got."
)
def takes_anything(rate: float, latency: float) -> float:
    return rate * latency


@littles_law.mistake(
    "A negative number is a bug of the caller, and you turn it into 0 without a word. `raise ValueError(…)`, and say what "
    "you got."
)
def makes_negative_zero(rate: float, latency: float) -> float:
    return max(rate, 0.0) * max(latency, 0.0)


@littles_law.mistake(
    "Two negative numbers have a positive product, and so they slip through. Ask about each of the two, before you multiply."
)
def looks_at_the_product(rate: float, latency: float) -> float:
    if rate * latency < 0:
        raise ValueError("negative")
    return rate * latency


@littles_law.mistake("You refuse them only when both are negative. One is enough: `or` in place of `and`.")
def both_must_be_negative(rate: float, latency: float) -> float:
    if rate < 0 and latency < 0:
        raise ValueError("negative")
    return rate * latency


@littles_law.mistake(
    "You leave the sign away: a negative number is a bug of the caller, and nobody learns of it. `raise ValueError(…)`."
)
def leaves_the_sign_away(rate: float, latency: float) -> float:
    return abs(rate * latency)


@littles_law.mistake("You look at the rate alone. The latency can be wrong, too.")
def looks_at_the_rate_alone(rate: float, latency: float) -> float:
    if rate < 0:
        raise ValueError("negative")
    return rate * latency


@littles_law.mistake("You look at the latency alone. The rate can be wrong, too.")
def looks_at_the_latency_alone(rate: float, latency: float) -> float:
    if latency < 0:
        raise ValueError("negative")
    return rate * latency


@littles_law.mistake(
    "`None` is easily overlooked. Where the arguments cannot be right, `raise ValueError(…)`."
)
def none_for_negative(rate: float, latency: float) -> float | None:
    return None if rate < 0 or latency < 0 else rate * latency


@littles_law.mistake(
    "`assert` is for what can only be wrong by a bug of your own (and `python -O` leaves it out). Arguments come from others: "
    "`raise ValueError(…)`."
)
def asserts_it(rate: float, latency: float) -> float:
    assert rate >= 0 and latency >= 0, "negative"
    return rate * latency


@littles_law.mistake(
    "0 is allowed: nobody asks, so no stream is open. Only below 0 there is something wrong."
)
def refuses_zero(rate: float, latency: float) -> float:
    if rate <= 0 or latency <= 0:
        raise ValueError("not positive")
    return rate * latency

"""What the server thinks of its client: the requests it has seen -> a report (lessons 5, 6, 8 and 10).

A server sees when each request came and with which words, what it answered, and when the connection ended.
So it knows for certain that a client came back too early, repeated a request that cannot succeed, or left a
stream open. What the client did with the tokens it cannot see: whether half an answer was taken for a whole
one, or shown twice, it only suspects, from what was asked next. ``Check.sure`` tells the two apart.

A request that comes after a failed one with the same body, from the same client, is its retry, unless a
minute has gone by or the faults have been set anew meanwhile, which begins another scene. The header
``X-Sim-Client`` tells several clients apart; without it they are one. Asking the same again after a whole
answer is nobody's mistake, and is not looked at.

The rules go back to those of the package llmock 0.2.2, whose verdict knows eight.
"""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zlib import crc32

from .model import Message

if TYPE_CHECKING:
    from ..card import Card

MANY = 10  # attempts at one answer: more is a storm
SILENCE = 10.0  # seconds without a token that nobody should sit through
LONGEST_WAIT = 120.0  # seconds; told to wait longer, a client may give up
AT_ONCE = 0.05  # seconds: no wait at all
HERD = 5  # clients that come back together
LATEST = 60.0  # seconds after the time it was told to wait: who comes later asks for something else

HOPELESS = frozenset({400, 401, 403, 404, 405, 413, 422})
PASSING = frozenset({408, 409, 429})  # and what begins with 5
BROKEN = frozenset({"cut-after", "cut-mid-event", "error-event", "stall-after", "truncate-after"})
EARLIER_MESSAGES = 4  # a continuation adds the answer so far and a word or two: no more than three messages


@dataclass(slots=True)
class Exchange:
    """One request to the model and what became of it. Times are seconds on the clock of whoever sent it."""

    number: int = 0
    client: str = ""
    asked: int = 0  # a checksum of path and body
    scene: int = 0  # counts how often faults were set
    heads: tuple[int, ...] = ()  # checksums of the messages: all, without the last, without the last two, …
    status: int | None = 200  # None: the connection was closed without an answer
    retry_after: float | None = None  # seconds, as the answer said
    fault: str = ""  # what was to happen within the answer
    stream: bool = False
    made: int = 0  # tokens
    delivered: int = 0
    at: float = 0.0
    silent_since: float | None = None
    ended: float | None = None  # None: still open
    finished: bool = False  # the server came to the end of what it had to send; else the client left

    @property
    def broken(self) -> bool:
        """The answer stopped in the middle, and not because the client left."""
        return self.fault in BROKEN and (self.finished or self.silent_since is not None)

    @property
    def who(self) -> tuple[str, int]:
        return self.client, self.scene

    @property
    def failed(self) -> bool:
        return self.status is None or self.status >= 400 or self.broken

    @property
    def passing(self) -> bool:
        """It failed in a way that another attempt may mend."""
        status = self.status
        return status is None or status in PASSING or status >= 500 or self.broken


Call = Sequence[Exchange]  # one request of the client's own, and its retries


def heads_of(messages: Sequence[Message]) -> tuple[int, ...]:
    """Checksums by which a later conversation is known to continue this one.

    An answer that is to be continued stands last. It grows from one attempt to the next, so its words do not
    count.
    """
    sums, last = [], 0
    for left, message in zip(range(len(messages), 0, -1), messages, strict=True):
        text = "" if left == 1 and message.role == "assistant" else message.text
        last = crc32(f"{message.role}\0{text}\0".encode("utf-8", "surrogatepass"), last)
        sums.append(last)
    return tuple(sums[: -EARLIER_MESSAGES - 1 : -1])


# --- the report ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """One rule and how the client kept it: ``count`` times not, of ``met`` times that put it to the test."""

    id: str
    sure: bool  # seen; else suspected, from what a server can see
    met: int
    requests: tuple[int, ...]  # the numbers of the requests that broke it
    what: str  # one sentence
    mend: str

    @property
    def count(self) -> int:
        return len(self.requests)


@dataclass(frozen=True, slots=True)
class ClientReport:
    """What the embedded model says about a client: a card in a notebook, the same as text elsewhere."""

    client: str
    requests: int
    answers: int  # requests without their retries
    failures: int  # requests that got an error or a broken answer
    tokens_made: int
    tokens_delivered: int
    checks: tuple[Check, ...]  # the rules that were put to the test
    known: bool = True  # else nobody has kept a record

    @property
    def findings(self) -> tuple[Check, ...]:
        """The checks that were not kept, certain ones first."""
        return tuple(
            sorted((check for check in self.checks if check.count), key=lambda check: not check.sure)
        )

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the findings."""
        return frozenset(check.id for check in self.findings)

    @property
    def passed(self) -> bool:
        """Nothing certain was found; what is only suspected does not count."""
        return not any(check.sure for check in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        checks = [{**asdict(check), "count": check.count} for check in self.checks]
        findings = [{**asdict(check), "count": check.count} for check in self.findings]
        return {**asdict(self), "passed": self.passed, "checks": checks, "findings": findings}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ClientReport:
        """The report that ``as_dict`` wrote."""
        checks = tuple(
            Check(c["id"], c["sure"], c["met"], tuple(c["requests"]), c["what"], c["mend"])
            for c in data["checks"]
        )
        return cls(
            data["client"],
            data["requests"],
            data["answers"],
            data["failures"],
            data["tokens_made"],
            data["tokens_delivered"],
            checks,
        )

    def card(self) -> Card:
        from ..card import Card, Text  # here: a server has no use for it

        who = f"client `{self.client}`" if self.client else "your client"
        certain = sum(check.sure for check in self.findings)
        suspected = len(self.findings) - certain
        if not self.known:
            return Card("Only the embedded model says what it thinks of a client", "neutral", [])
        if not self.requests:
            return Card(f"The server has seen no request of {who}", "neutral", [])
        if self.findings:
            found = counted(certain, "mistake") if certain else "no mistake"
            doubts = f", {counted(suspected, 'doubt')}" if suspected else ""
            heading = f"What the server saw of {who}: {found}{doubts}"
        else:
            heading = f"The server has no complaint about {who}"
        told = (
            f"{counted(self.requests, 'request')}, {self.failures} of them failed, "
            f"for {counted(self.answers, 'answer')}; "
            f"{counted(self.tokens_made, 'token')} made, {self.tokens_delivered} delivered."
        )
        kept = [check for check in self.checks if not check.count]
        rows = [Text(told)]
        rows += [Text(f"{'✗' if check.sure else '?'} {check.what} {check.mend}") for check in self.findings]
        rows += [Text(f"✓ {check.what}") for check in kept]
        return Card(heading, "bad" if certain else "neutral" if suspected else "good", rows)

    def __repr__(self) -> str:
        return repr(self.card())

    def _repr_html_(self) -> str:
        return self.card()._repr_html_()


def counted(n: int, what: str) -> str:
    """``1 request``, ``2 requests``."""
    return f"{n} {what}{'' if n == 1 else 's'}"


UNKNOWN = ClientReport("", 0, 0, 0, 0, 0, (), known=False)


# --- the rules -------------------------------------------------------------------------------------

# What a rule looks at: an exchange that put it to the test, and what was wrong, "" when nothing was.
Occasion = tuple[Exchange, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: what a client that keeps it does, and what one does that does not."""

    id: str
    sure: bool
    kept: str
    broken: str
    mend: str
    look: Callable[[Sequence[Call]], Iterator[Occasion]]


def retries(calls: Iterable[Call]) -> Iterator[tuple[Exchange, Exchange, float]]:
    """Each failed attempt, the one after it, and the seconds between them."""
    for call in calls:
        for before, again in pairwise(call):
            if before.failed and before.ended is not None:
                yield before, again, again.at - before.ended


def name(exchange: Exchange) -> str:
    """How the exchange failed, in a few words."""
    if exchange.status is None:
        return "a closed connection"
    return f"a {exchange.status}" if exchange.status >= 400 else f"an answer with {exchange.fault}"


def waits(calls: Sequence[Call]) -> Iterator[Occasion]:
    for before, again, gap in retries(calls):
        if before.retry_after is not None:
            early = gap < before.retry_after * 0.95 - AT_ONCE  # clocks are coarse
            told = f"Request {again.number} came {gap:.2f} s after {name(before)} that said "
            yield again, f"{told}{before.retry_after:g} s." if early else ""


def gives_up_hopeless(calls: Sequence[Call]) -> Iterator[Occasion]:
    for call in calls:
        for i, exchange in enumerate(call):
            if exchange.status in HOPELESS:
                repeated = i + 1 < len(call)
                told = f"Request {exchange.number} got {name(exchange)} and came again unchanged."
                yield exchange, told if repeated else ""


def stops_sometime(calls: Sequence[Call]) -> Iterator[Occasion]:
    for call in calls:
        if len(call) > 1:
            told = f"One answer was asked for {len(call)} times."
            yield call[-1], told if len(call) > MANY else ""


def own_waits(call: Call) -> list[float]:
    """The waits that the client chose itself."""
    return [gap for before, _, gap in retries([call]) if before.retry_after is None]


def waits_at_all(calls: Sequence[Call]) -> Iterator[Occasion]:
    for call in calls:
        if gaps := own_waits(call):
            told = f"Request {call[0].number} was repeated {len(gaps)} times without a pause."
            yield call[-1], told if len(gaps) > 1 and max(gaps) < AT_ONCE else ""


def waits_longer(calls: Sequence[Call]) -> Iterator[Occasion]:
    for call in calls:
        gaps = own_waits(call)
        if len(gaps) > 1 and max(gaps) >= AT_ONCE:
            same = max(gaps) - min(gaps) < 0.05 * max(gaps) + 0.01
            told = f"Request {call[0].number} was repeated every {gaps[0]:.2f} s."
            yield call[-1], told if same else ""


def spreads_out(calls: Sequence[Call]) -> Iterator[Occasion]:
    """Requests that fail within a second and come back after the same wait come back together."""
    groups: list[list[tuple[Exchange, Exchange, float]]] = []
    firsts = [retry for call in calls for retry in list(retries([call]))[:1]]
    for retry in sorted(firsts, key=lambda retry: retry[0].at):
        if not groups or retry[0].at - groups[-1][0][0].at > 1.0:
            groups.append([])
        groups[-1].append(retry)
    for group in groups:
        gaps = [gap for _, _, gap in group]
        if len(group) >= HERD:
            together = max(gaps) < AT_ONCE or max(gaps) - min(gaps) < 0.1 * max(gaps) + 0.01
            told = f"{len(group)} requests failed together and came back together, {gaps[0]:.2f} s later."
            yield group[0][1], told if together else ""


def tries_again(calls: Sequence[Call]) -> Iterator[Occasion]:
    mentioned = mentions(calls)
    for call in calls:
        last = call[-1]
        too_long = last.retry_after is not None and last.retry_after > LONGEST_WAIT
        if any(exchange.passing and exchange.fault != "truncate-after" for exchange in call) and not too_long:
            alone = len(call) == 1 and not taken_up(last, mentioned)
            wait = f" that said to wait {last.retry_after:g} s" if last.retry_after is not None else ""
            told = f"Request {last.number} got {name(last)}{wait}, and nothing came after it."
            yield last, told if alone else ""


def notices_the_end(calls: Sequence[Call]) -> Iterator[Occasion]:
    mentioned = mentions(calls)
    for call in calls:
        for i, exchange in enumerate(call):
            if exchange.fault == "truncate-after" and exchange.broken:
                missed = i + 1 == len(call) and not taken_up(exchange, mentioned)
                told = (
                    f"Answer {exchange.number} ended after {counted(exchange.delivered, 'token')} without a "
                    "finish reason, and nobody asked again or for the rest."
                )
                yield exchange, told if missed else ""


def notices_bad_json(calls: Sequence[Call]) -> Iterator[Occasion]:
    mentioned = mentions(calls)
    for call in calls:
        for i, exchange in enumerate(call):
            if exchange.fault == "bad-json" and exchange.status == 200:
                missed = exchange.finished and i + 1 == len(call) and not taken_up(exchange, mentioned)
                yield exchange, f"Answer {exchange.number} was read on past it." if missed else ""


def has_a_timeout(calls: Sequence[Call]) -> Iterator[Occasion]:
    for call in calls:
        for exchange in call:
            if exchange.silent_since is not None and exchange.ended is not None:
                silence = exchange.ended - exchange.silent_since
                told = f"Answer {exchange.number} was silent for {silence:.0f} s before the client left."
                yield exchange, told if silence >= SILENCE else ""


def closes(calls: Sequence[Call]) -> Iterator[Occasion]:
    """A stream is left open when it is open now, or was still when its silence had led to a retry."""
    times: defaultdict[object, list[float]] = defaultdict(list)
    for exchange in every(calls):
        times[exchange.who, exchange.asked].append(exchange.at)
    for exchange in every(calls):
        if not exchange.stream or exchange.finished or exchange.status != 200:
            continue
        if exchange.ended is None:
            yield exchange, f"Answer {exchange.number} is still open."
            continue
        since, until = exchange.silent_since, exchange.ended - 0.5
        again = times[exchange.who, exchange.asked]
        kept = since is not None and any(since < at < until for at in again)
        yield exchange, f"Answer {exchange.number} was open while it was asked for again." if kept else ""


def reads_what_it_pays(calls: Sequence[Call]) -> Iterator[Occasion]:
    for exchange in every(calls):
        if exchange.status == 200 and exchange.ended is not None and not exchange.finished and exchange.made:
            lost = exchange.made - exchange.delivered
            told = (
                f"Request {exchange.number} was left when {counted(lost, 'token')} had been made for nobody."
            )
            yield exchange, told if lost > 0 else ""


def resumes(calls: Sequence[Call]) -> Iterator[Occasion]:
    continued = mentions(calls, longer=True)
    for call in calls:
        for i, exchange in enumerate(call):
            if not (exchange.stream and exchange.broken and exchange.delivered):
                continue
            rest = taken_up(exchange, continued)
            again = call[i + 1] if i + 1 < len(call) else None
            if rest and (again is None or rest < again.number):
                yield exchange, ""  # who asks from the start after that wants another answer
            elif again:
                told = f"Answer {exchange.number} broke after {counted(exchange.delivered, 'token')}."
                yield exchange, told


def every(calls: Iterable[Call]) -> list[Exchange]:
    return sorted((exchange for call in calls for exchange in call), key=lambda exchange: exchange.number)


def mentions(calls: Iterable[Call], longer: bool = False) -> dict[object, list[int]]:
    """For every conversation the requests that have it or, being longer, begin with it: their numbers."""
    numbers: defaultdict[object, list[int]] = defaultdict(list)
    for exchange in every(calls):
        for head in exchange.heads[longer:]:
            numbers[exchange.who, head].append(exchange.number)
    return numbers


def taken_up(exchange: Exchange, mentioned: Mapping[object, list[int]]) -> int | None:
    """The number of the first request by which the client came back for this answer."""
    numbers = mentioned.get((exchange.who, exchange.heads[0]), []) if exchange.heads else []
    at = bisect(numbers, exchange.number)
    return numbers[at] if at < len(numbers) else None


RULES = (
    Rule(
        "retry-after-ignored",
        True,
        "Waited as long as Retry-After said",
        "Came back before the time that Retry-After said",
        "Who comes early meets the same limit again: wait at least as long.",
        waits,
    ),
    Rule(
        "retried-for-nothing",
        True,
        "Left alone what no retry can mend",
        "Repeated a request that fails however often it is sent",
        "Retry 408, 409, 429, 5xx and broken connections; tell the caller about the rest.",
        gives_up_hopeless,
    ),
    Rule(
        "retry-storm",
        True,
        "Stopped retrying in time",
        "Did not stop retrying",
        f"Give up after a few attempts; more than {MANY} keep an ill server ill.",
        stops_sometime,
    ),
    Rule(
        "no-delay",
        True,
        "Paused before a retry",
        "Retried without any pause",
        "Wait between attempts, longer each time.",
        waits_at_all,
    ),
    Rule(
        "no-backoff",
        False,
        "Waited longer from retry to retry, or by chance",
        "Retried at a constant interval",
        "Double the wait each time, and draw it at random below that.",
        waits_longer,
    ),
    Rule(
        "herd",
        False,
        "Retries that failed together came back apart",
        "Retries came back all at the same instant",
        "Add a random part to every wait, also to the one that Retry-After names.",
        spreads_out,
    ),
    Rule(
        "gave-up",
        False,
        "Tried again, or went on, after a failure that passes",
        "Gave up after one failure that may pass",
        "Allow a retry or two, or tell the reader that the answer failed.",
        tries_again,
    ),
    Rule(
        "truncated-accepted",
        False,
        "Noticed an answer that ended too early",
        "May have taken half an answer for a whole one",
        "A stream without a finish reason has not ended: raise, ask again, or ask for the rest.",
        notices_the_end,
    ),
    Rule(
        "bad-chunk-skipped",
        False,
        "Noticed an event with broken JSON",
        "May have skipped an event with broken JSON",
        "An event that cannot be read is text that is missing.",
        notices_bad_json,
    ),
    Rule(
        "no-timeout",
        False,
        "Left a stream that had fallen silent",
        "Sat through a silence",
        "Limit the time between two tokens.",
        has_a_timeout,
    ),
    Rule(
        "left-open",
        True,
        "Closed the streams that it left",
        "Left a stream open",
        "Leave a stream with `async with`, or close it: a `break` alone lets the model go on.",
        closes,
    ),
    Rule(
        "paid-unread",
        True,
        "Paid for no token that it did not get",
        "Paid for tokens that nobody read",
        "Stream what may be given up: a blocking answer is paid for from the first token on.",
        reads_what_it_pays,
    ),
    Rule(
        "asked-twice",
        False,
        "Asked for the rest of a broken answer",
        "Asked from the start for an answer that had begun to arrive",
        "The beginning is paid twice, and shown twice where it was shown: resume instead.",
        resumes,
    ),
)


# --- from requests to the report -------------------------------------------------------------------


def judge(exchanges: Iterable[Exchange], client: str | None = None) -> ClientReport:
    """The report about ``client``, or about all clients together."""
    seen = [exchange for exchange in exchanges if client is None or exchange.client == client]
    calls = group(seen)
    checks = []
    for rule in RULES:
        occasions = list(rule.look(calls))
        if not occasions:
            continue
        wrong = [(exchange.number, told) for exchange, told in occasions if told]
        times = f" ({len(wrong)} of {len(occasions)} times)" if len(occasions) > 1 else ""
        what = f"{rule.broken}{times}. {wrong[0][1]}" if wrong else f"{rule.kept}."
        numbers = tuple(number for number, _ in wrong)
        checks.append(Check(rule.id, rule.sure, len(occasions), numbers, what, rule.mend))
    return ClientReport(
        client=client or "",
        requests=len(seen),
        answers=len(calls),
        failures=sum(exchange.failed for exchange in seen),
        tokens_made=sum(exchange.made for exchange in seen),
        tokens_delivered=sum(exchange.delivered for exchange in seen),
        checks=tuple(checks),
    )


def may_follow(failed: Exchange, retry: Exchange) -> bool:
    if failed.ended is None:
        return False
    return failed.ended <= retry.at <= failed.ended + (failed.retry_after or 0.0) + LATEST


def group(exchanges: Iterable[Exchange]) -> list[Call]:
    """Requests with their retries. A client cannot retry what it has not seen fail: requests with the same
    words that run at the same time are separate calls."""
    calls: list[list[Exchange]] = []
    failed: defaultdict[object, list[list[Exchange]]] = defaultdict(list)
    for exchange in sorted(exchanges, key=lambda exchange: exchange.number):
        waiting = failed[exchange.who, exchange.asked]
        over = [call for call in waiting if may_follow(call[-1], exchange)]
        if over:
            call = max(over, key=lambda call: call[-1].ended or 0.0)
            waiting[:] = [other for other in waiting if other is not call]
            call.append(exchange)
        else:
            call = [exchange]
            calls.append(call)
        if exchange.failed:
            waiting.append(call)
    return list(calls)

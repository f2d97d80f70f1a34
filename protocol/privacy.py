"""The floors that an OWNER's node enforces, whatever publisher, recipient or attester say.

Adversary: the recipient is curious and lies; up to t of the m members pool what they see; the
publisher writes whatever suits it; accounts are free to make. The floors answer attacks that
were tried on real data: a recipient that knew 30 rows of two owners recovered WHOLE other rows
from eight noiseless numbers each. They are floors against known attacks, not a proof; the
(epsilon, delta) of what is opened is computed and shown beside them.

An owner's terms may be stricter and never laxer, but for `leakage = "accept"`, by which the
owner itself takes the noise floor away.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from protocol import terms
from protocol.manifest import MIN_BATCH_ROWS, Parameters
from protocol.terms import Finding, Terms

MIN_MEMBERS = 3
MIN_CONTRIBUTORS = 2
NOISE_FLOOR = 0.3
MIN_COHORT_ROWS = 100

NUMBERS_CAP = 8
"""How many numbers may be opened about a row where the terms set no bound."""

TESTED_WINDOW_DAYS = 30
TESTED_WINDOW_S = TESTED_WINDOW_DAYS * 86_400.0
TESTED_FOR_EACH_ROW = 32
TESTED_LEAST = 10_000
"""How many ids a counterparty may test in the window where the terms set no bound: 32 for each of
the owner's own rows, so that lists as long as its own can be aligned daily, and never fewer than
`TESTED_LEAST`, which enumerate no space of ids that is worth the name."""

BATCH_ROWS = terms.PARAMETER + "batch_rows"
THRESHOLD = "cdt:threshold"
FLOORS = (THRESHOLD,)
"""What only floors speak of, and no terms."""


@dataclass(frozen=True, slots=True)
class Committee:
    """Who computes and who receives, as operators of the owner's OWN configuration.

    An operator of None is an account that the owner does not know: it counts as the recipient's.
    `members` is the whole pool while nobody has been drawn for the `seats`: what holds for all of
    them holds for every draw.
    """

    members: tuple[str | None, ...]
    contributors: tuple[str | None, ...]
    recipient: str | None
    threshold: int
    seats: int


def floors(
    committee: Committee,
    parameters: Parameters,
    *,
    cohort_floor: int,
    numeric_columns: int,
    labels_consented: bool,
    leakage_accepted: bool,
) -> tuple[Finding, ...]:
    """One finding for each floor that can be judged before rows are aligned.

    `numeric_columns` counts the owner's numeric SOURCE columns, never the encoded width.
    """
    return (
        *committee_floor(committee),
        _contributors_floor(committee),
        *_opening_floors(parameters, numeric_columns, leakage_accepted=leakage_accepted),
        _finding(
            BATCH_ROWS,
            parameters.batch_rows,
            f"at least {MIN_BATCH_ROWS}",
            passed=parameters.batch_rows >= MIN_BATCH_ROWS,
        ),
        _finding(
            terms.COHORT_SIZE,
            cohort_floor,
            f"at least {MIN_COHORT_ROWS}",
            passed=cohort_floor >= MIN_COHORT_ROWS,
        ),
        _finding(
            terms.LABELS,
            "seen by owners" if labels_consented else "hidden",
            "seen by owners, by the recipient's written consent, where gradients flow",
            passed=labels_consented or parameters.epochs == 0,
        ),
    )


def numbers_cap(policy: Terms) -> int:
    """How many numbers may ever be opened about one row, all sessions together."""
    most = terms.most(policy, terms.OPENINGS)
    return NUMBERS_CAP if most == inf else int(most)


def tested_cap(said: float, own_rows: int) -> int:
    """How many ids one counterparty may test in the window; `said` is infinity in silent terms."""
    return int(said) if said < inf else max(TESTED_LEAST, TESTED_FOR_EACH_ROW * own_rows)


def over_tested(operator: str, tested: int, more: int, cap: int) -> str:
    """Floor 12's question: what is wrong if `operator` tests `more` ids, or nothing."""
    if tested + more <= cap:
        return ""
    return (
        f"{operator} has tested {tested} ids against these rows in {TESTED_WINDOW_DAYS} days and "
        f"brings {more} more: at most {cap} are allowed"
    )


def committee_floor(committee: Committee) -> tuple[Finding, ...]:
    """Floor 1: m >= 3, t >= 1, 2 t < m, distinct operators, no t+1 under the recipient."""
    m, t = committee.seats, committee.threshold
    seats = Counter(_as_operator(member, committee) for member in committee.members)
    most = max(seats.values(), default=0)
    recipients = seats[_as_operator(committee.recipient, committee)]
    return (
        _finding(terms.COMMITTEE_SIZE, m, f"at least {MIN_MEMBERS}", passed=m >= MIN_MEMBERS),
        _finding(THRESHOLD, t, f"1 <= t and 2 t < m = {m}", passed=t >= 1 and 2 * t < m),
        _finding(
            terms.OPERATORS,
            f"{most} members of one operator, {recipients} of the recipient's or unknown",
            f"one of each operator, at most {t} of the recipient's or unknown",
            passed=most <= 1 and recipients <= t,
        ),
    )


def _contributors_floor(committee: Committee) -> Finding:
    """Floor 2: contributors other than the recipient; one operator counts once."""
    theirs = _as_operator(committee.recipient, committee)
    others = {_as_operator(owner, committee) for owner in committee.contributors} - {theirs}
    return _finding(
        terms.CONTRIBUTORS,
        len(others),
        f"at least {MIN_CONTRIBUTORS}",
        passed=len(others) >= MIN_CONTRIBUTORS,
    )


def _opening_floors(
    parameters: Parameters, numeric_columns: int, *, leakage_accepted: bool
) -> tuple[Finding, ...]:
    """Floor 3: noise on every opening, unless so few numbers are opened that none is needed."""
    numbers = parameters.numbers_per_row
    opens = numbers > 0  # a plan that opens nothing reserves nothing, whatever is asked later
    noisy = parameters.noise >= NOISE_FLOOR
    few = numbers < numeric_columns
    return (
        _finding(terms.OPENINGS, numbers, "at least 1", passed=opens),
        _finding(
            terms.NOISE,
            parameters.noise,
            f"at least {NOISE_FLOOR} (or fewer than {numeric_columns} numbers for each row)",
            passed=noisy or (opens and few) or leakage_accepted,
        ),
    )


def _as_operator(operator: str | None, committee: Committee) -> str | None:
    """Unknown accounts and the recipient's are one: the worst case for the owner."""
    return None if operator == committee.recipient else operator


def _finding(operand: str, asked: object, allowed: str, *, passed: bool) -> Finding:
    return Finding(operand, str(asked), allowed, passed=passed)


@dataclass(frozen=True, slots=True)
class Overdrawn:
    """How many rows would have had more numbers opened than their budget allows."""

    rows: int
    cap: int
    numbers: int

    @property
    def sentence(self) -> str:
        """What is over, by how much, and what the cap is."""
        return (
            f"{self.rows} of the common rows have no budget left for {self.numbers} more numbers: "
            f"at most {self.cap} may be opened about a row"
        )


def overdrawn(
    row_keys: Iterable[bytes], spent: Mapping[bytes, int], numbers: int, cap: int
) -> Overdrawn | None:
    """Floor 4's question: which rows cannot bear `numbers` more openings under `cap`.

    `spent` holds what the ledger already counts for each row key, over ALL recipients, so that
    neither a second CDT, a second version nor a second account begins anew.
    """
    over = sum(1 for key in row_keys if spent.get(key, 0) + numbers > cap)
    return Overdrawn(rows=over, cap=cap, numbers=numbers) if over else None

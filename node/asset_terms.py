"""What an asset's document offers: words to find it by, and whether this node could meet its terms.

Of the published terms, some speak of who asks: the counterparty, who opens the result, the
attester, the decider, the purpose, the operation, the time. What this node would answer there is
known before anything is asked. The others (widths, noise, cohort) are for who composes to keep to.

What is found here promises nothing: the owner's node decides, by its own terms of that day.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Final

from mpc import operations
from node import asset_words
from node.config import Config
from protocol import terms
from protocol.documents import Metadata
from protocol.ids import hexadecimal
from protocol.terms import Constraint, Scalar, Terms

MOST_WORDS: Final = 4_096
MOST_VALUES: Final = 256
LISTED: Final = (terms.COUNTERPARTY, terms.PURPOSE, terms.ATTESTER)
"""Operands by which an index tells most terms apart; each more makes every search slower."""

Offer = Mapping[str, tuple[Scalar, ...]]
"""operand -> every value that this node could state for it."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """One operand of published terms: what this node would state, and whether that is allowed.

    `met` is None where it depends on what is composed.
    """

    operand: str
    ours: str
    allowed: str
    met: bool | None


def words(metadata: Metadata) -> str:
    """What a document is found by besides its name: description, purposes, columns, operations."""
    parts = [metadata.description, *metadata.extra.values()]
    if metadata.schema is not None:
        parts += [column.name for column in metadata.schema.columns]
    if metadata.algorithm is not None:
        parts.append(metadata.algorithm.purpose)
        parts += [step.operation for step in metadata.algorithm.workflow]
    for operand in (terms.PURPOSE, terms.OPERATION):
        parts += [str(value) for value in _listed(_terms_of(metadata), operand) or ()]
    return asset_words.spelled(" ".join(parts)[:MOST_WORDS])


def tokens(metadata: Metadata) -> str:
    """The tokens by which `could_be_met` finds the terms of this document."""
    found: list[str] = []
    for operand in LISTED:
        values = _listed(_terms_of(metadata), operand)
        if values is None or len(values) > MOST_VALUES:
            found.append(asset_words.open_token(operand))
        else:
            found += [asset_words.term_token(operand, str(value)) for value in values]
    return " ".join(found)


def offer_of(config: Config, account: bytes, now: float, purpose: str | None = None) -> Offer:
    """What a node of this configuration and account could state; any purpose if none is named."""
    installed = _installed()
    offer: dict[str, tuple[Scalar, ...]] = {
        terms.COUNTERPARTY: (hexadecimal(account),),
        terms.OUTPUT_RECIPIENT: (hexadecimal(account),),
        terms.ATTESTER: tuple(sorted(map(hexadecimal, config.attesters()))),
        terms.DECIDER: (hexadecimal(config.trust.decider),) if config.trust.decider else (),
        terms.OPERATION: tuple(each.name for each in installed),
        terms.CODE: tuple(hexadecimal(each.code) for each in installed),
        terms.EXPIRY: (int(now) + 1,),
    }
    return offer | ({terms.PURPOSE: (purpose,)} if purpose else {})


def could_be_met(offer: Offer) -> list[list[str]]:
    """For each listed operand the tokens of which one must stand in terms that `offer` meets."""
    return [
        [
            asset_words.open_token(operand),
            *(asset_words.term_token(operand, str(value)) for value in offer[operand]),
        ]
        for operand in LISTED
        if operand in offer
    ]


def prospects(metadata: Metadata, offer: Offer) -> list[Prospect]:
    """What the published terms say to `offer`, operand by operand; nothing where none stand."""
    published = _terms_of(metadata)
    if published is None:
        return []
    found = []
    for operand in _spoken(published):
        allowing, forbidding = _about(published, operand)
        texts = [*map(terms.allowed, allowing), *map(terms.forbidden, forbidding)]
        ours = ", ".join(map(str, offer[operand])) or "nothing" if operand in offer else None
        met = _is_met(published, operand, offer)
        allowed = "; ".join(texts) or "nothing"
        found.append(Prospect(operand, ours or "as composed", allowed, met))
    return found


def is_met(metadata: Metadata, offer: Offer) -> bool:
    """True if terms are published and nothing that speaks of who asks forbids this node."""
    published = _terms_of(metadata)
    return published is not None and all(
        _is_met(published, operand, offer) is not False for operand in _spoken(published)
    )


def _is_met(published: Terms, operand: str, offer: Offer) -> bool | None:
    """Whether some value of the offer passes; None if the offer does not speak of it."""
    allowing, forbidding = _about(published, operand)
    if operand in terms.REQUIRED and not allowing:
        return False
    if operand not in offer:
        return None
    return any(
        all(terms.holds(each, value) for each in allowing)
        and not any(terms.holds(each, value) for each in forbidding)
        for value in offer[operand]
    )


def _spoken(published: Terms) -> Iterable[str]:
    constraints = (*published.permission, *published.duty, *published.prohibition)
    return dict.fromkeys([*(each.leftOperand for each in constraints), *terms.REQUIRED])


def _about(published: Terms, operand: str) -> tuple[list[Constraint], list[Constraint]]:
    """What allows and what forbids values of `operand`."""
    allowing = [e for e in (*published.permission, *published.duty) if e.leftOperand == operand]
    return allowing, [e for e in published.prohibition if e.leftOperand == operand]


@cache
def _installed() -> tuple[operations.Operation, ...]:
    """Every operation that a package brings; the packages do not change under a running node."""
    brought = [operations.installed(each.name) for each in entry_points(group=operations.GROUP)]
    return (*operations.BUILT_IN, *(each for each in brought if each is not None))


def _terms_of(metadata: Metadata) -> Terms | None:
    return metadata.services[0].terms if metadata.services else None


def _listed(published: Terms | None, operand: str) -> tuple[Scalar, ...] | None:
    """The values that terms allow for `operand`; None if one list does not tell."""
    if published is None:
        return ()
    if any(each.leftOperand == operand for each in published.prohibition):
        return None
    found: list[Constraint] = [e for e in published.permission if e.leftOperand == operand]
    if len(found) > 1 or any(each.operator not in ("isAnyOf", "eq") for each in found):
        return None
    values = [each.rightOperand for each in found]
    return tuple(v for value in values for v in (value if isinstance(value, tuple) else (value,)))

"""What two nodes say to each other to bring their announcements to one state.

Each message is one request or one answer on a stream of RECONCILE_PROTOCOL. The asking side leads:
it asks for ranges until it knows the difference (`protocol.reconciliation`), asks for the
announcements that it misses, and gives those that the other side misses and wants.
"""

from typing import Annotated

import msgspec

from protocol.codec import U31, Wire

RECONCILE_PROTOCOL = "/northbund/reconcile/1"

ENTRY_BYTES = 32
FINGERPRINT_BYTES = 32
FAN_OUT = 16
LEAF_MOST = 32
"""A range of at most so many entries is answered by naming them."""

RANGES_PER_QUESTION = 128
ENTRIES_PER_MESSAGE = 1_024
BATCH_BYTES = 196_608
"""Announcements are put into one message until they are so many bytes together."""

Prefix = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{0,63}\Z")]
Entries = Annotated[bytes, msgspec.Meta(max_length=ENTRY_BYTES * ENTRIES_PER_MESSAGE)]
"""Entries one after another, rising."""

Bodies = Annotated[
    tuple[Annotated[bytes, msgspec.Meta(max_length=16_384)], ...],
    msgspec.Meta(max_length=ENTRIES_PER_MESSAGE),
]
"""Announcements as they travel by gossip."""


class RangesQuestion(Wire, frozen=True, tag="ranges-question"):
    """What do you hold in these ranges?"""

    prefixes: Annotated[
        tuple[Prefix, ...], msgspec.Meta(min_length=1, max_length=RANGES_PER_QUESTION)
    ]


class RangeSplit(Wire, frozen=True, tag="range-split"):
    """More than LEAF_MOST entries: the fingerprints of the sixteen ranges below."""

    fingerprints: Annotated[
        bytes,
        msgspec.Meta(
            min_length=FAN_OUT * FINGERPRINT_BYTES, max_length=FAN_OUT * FINGERPRINT_BYTES
        ),
    ]


class RangeEntries(Wire, frozen=True, tag="range-entries"):
    """All entries of the range."""

    entries: Annotated[bytes, msgspec.Meta(max_length=ENTRY_BYTES * LEAF_MOST)]


class RangesAnswer(Wire, frozen=True, tag="ranges"):
    """For each range of the question, in its order, what it holds."""

    ranges: Annotated[
        tuple[RangeSplit | RangeEntries, ...],
        msgspec.Meta(min_length=1, max_length=RANGES_PER_QUESTION),
    ]


class AnnouncementsRequest(Wire, frozen=True, tag="announcements-request"):
    """The announcements with these entries, please."""

    entries: Entries


class AnnouncementsAnswer(Wire, frozen=True, tag="announcements"):
    """Those of the first `reached` entries asked for that are still held: a message is bounded."""

    bodies: Bodies
    reached: U31


class EntriesOffer(Wire, frozen=True, tag="entries-offer"):
    """You did not name these entries; which of their announcements do you want?"""

    entries: Entries


class EntriesWanted(Wire, frozen=True, tag="entries-wanted"):
    """These ones of the offer."""

    entries: Entries


class AnnouncementsGiven(Wire, frozen=True, tag="announcements-given"):
    """Announcements that were wanted."""

    bodies: Bodies


class AnnouncementsTaken(Wire, frozen=True, tag="announcements-taken"):
    """So many of those given were news."""

    news: U31

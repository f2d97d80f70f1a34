"""Along a composition terms only narrow: what holds for a use is what every leaf below allows.

A composite (data made of data, an algorithm over other assets) may say terms of its own. They come
on top of its children's and never in their place: whoever is granted the composite needs what each
leaf allows too. So a composite whose own terms are laxer than a child's promises what it cannot
give, and its composer is told so, with the child, before anything is published.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from protocol import operands, terms
from protocol.errors import RemoteProtocolError
from protocol.terms import Constraint, Finding, Scalar, Terms, evaluate

MAX_HEIGHT = 4
"""Edges between a composite and its deepest leaf."""


@dataclass(frozen=True, slots=True)
class Composed:
    """An asset with what is below it; `terms` is None where it says nothing of its own."""

    name: str
    terms: Terms | None
    children: tuple["Composed", ...] = ()

    @property
    def height(self) -> int:
        """0 for a leaf."""
        return 1 + max(each.height for each in self.children) if self.children else 0


@dataclass(frozen=True, slots=True)
class Located:
    """A finding and the asset whose terms it comes from, as a path of names from the top."""

    path: tuple[str, ...]
    finding: Finding

    @property
    def sentence(self) -> str:
        """For instance: `all-branches > branch-2: parameter width: 8 was asked, …`."""
        return f"{' > '.join(self.path)}: {self.finding.sentence}"


def spoken(asset: Composed, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Terms]]:
    """Each asset that says terms, with its path, the top first.

    A leaf that says none says that nobody may. RemoteProtocolError above the height.
    """
    path = (*above, asset.name)
    if len(path) > MAX_HEIGHT + 1:
        raise RemoteProtocolError(f"{' > '.join(path)} is higher than {MAX_HEIGHT}")
    if asset.terms is not None:
        yield path, asset.terms
    elif not asset.children:
        yield path, Terms(permission=())
    for child in asset.children:
        yield from spoken(child, path)


def effective(asset: Composed) -> Terms:
    """The terms that hold for a use of the asset: its own and those of everything below it.

    Equal constraints stand there once. `leakage` is accepted only where all accept it.
    """
    parts = [found for _, found in spoken(asset)]
    return Terms(
        permission=_union(each.permission for each in parts),
        prohibition=_union(each.prohibition for each in parts),
        duty=_union(each.duty for each in parts),
        leakage="accept" if all(each.leakage == "accept" for each in parts) else "noise",
    )


def judge(asset: Composed, facts: Mapping[str, Scalar]) -> tuple[Located, ...]:
    """A finding for each constraint of the asset and of everything below it, and whose it is."""
    return tuple(
        Located(path, finding)
        for path, found in spoken(asset)
        for finding in evaluate(found, facts).findings
    )


def laxer(asset: Composed) -> tuple[Located, ...]:
    """Where the asset's own terms allow what something below it does not.

    One failed finding for each constraint below that the asset's own terms do not imply: `asked`
    is what they allow. Nothing if the asset says no terms: then it promises nothing.
    """
    if asset.terms is None:
        return ()
    own = asset.terms
    return tuple(
        Located(path, finding)
        for child in asset.children
        for path, found in spoken(child, (asset.name,))
        for finding in _promised(own, found)
    )


def _promised(own: Terms, below: Terms) -> Iterator[Finding]:
    for each, forbids in _sides(below):
        if each.leftOperand not in _DONE_TO_EACH and not implied(own, each, forbids=forbids):
            yield _laxer(own, each, forbids=forbids)
    for name in terms.REQUIRED:
        silent = name not in _DONE_TO_EACH and not operands.on(below, name)
        if silent and operands.on(own, name) and operands.allows_some(own, name):
            yield Finding(name, _said(own, name), "nothing", passed=False)


_DONE_TO_EACH = (terms.OPERATION, terms.CODE)
"""What is done to a composite is another thing than what is done to each of its children."""


def implied(own: Terms, constraint: Constraint, *, forbids: bool = False) -> bool:
    """Whether all that `own` allows fulfils `constraint`, or none of it where that `forbids`.

    Exact: what could break the constraint would do so at a bound or a listed value of either, or
    next to one. Where `own` is silent about what all terms must speak of, it allows nothing.
    """
    name = constraint.leftOperand
    if name in terms.REQUIRED and not operands.on(own, name):
        return True
    values = Terms(
        permission=(*own.permission, constraint), prohibition=own.prohibition, duty=own.duty
    )
    return all(
        terms.holds(constraint, value) != forbids
        for value in operands.candidates(values, name)
        if operands.allows(own, name, value)
    )


def _sides(found: Terms) -> Iterator[tuple[Constraint, bool]]:
    """Each constraint, and whether it forbids."""
    yield from ((each, False) for each in (*found.permission, *found.duty))
    yield from ((each, True) for each in found.prohibition)


def _laxer(own: Terms, constraint: Constraint, *, forbids: bool) -> Finding:
    words = terms.forbidden(constraint) if forbids else terms.allowed(constraint)
    name = constraint.leftOperand
    return Finding(name, _said(own, name), words, passed=False)


def _said(own: Terms, name: str) -> str:
    said = [terms.allowed(each) for each in operands.on(own, name)]
    said += [terms.forbidden(each) for each in own.prohibition if each.leftOperand == name]
    return " and ".join(said) or "anything"


def _union(parts: Iterator[tuple[Constraint, ...]]) -> tuple[Constraint, ...]:
    return tuple(dict.fromkeys(each for part in parts for each in part))

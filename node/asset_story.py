"""An asset's trace in plain lines: who asked, who was granted it, what ran, who vouched and paid.

The words are for a person; `traces.asset` has the same as values.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from protocol.ids import hexadecimal

UNITS = ("edge", "row", "opening")


def lines(trace: dict[str, Any]) -> list[str]:
    """The story of one trace, each line one fact, in the order in which things happened."""
    told = [
        f"{trace['name']} ({trace['type']}, {_short(trace['cdt'])}) belongs to {trace['owner']}"
    ]
    told += [_request(each) for each in trace["requests"]]
    told += [_grant(each) for each in trace["grants"]]
    for each in trace["uses"]:
        told.append(_use(each))
        told += [f"  {line}" for line in _sessions(each["sessions"])]
    if not trace["uses"]:
        told.append("no task has used it")
    return told + [_price(each) for each in trace["prices"]]


def _request(each: dict[str, Any]) -> str:
    reasons = [each["sentence"]] if each["sentence"] else []
    reasons += [f"{no['what']}: {no['asked']}, allowed {no['allowed']}" for no in each["failed"]]
    reason = f" ({'; '.join(reasons)})" if reasons else ""
    return f"{each['by']} asked for it under {_parent(each)}: {each['state']}{reason}"


def _grant(each: dict[str, Any]) -> str:
    left = "not on chain" if each["uses_left"] is None else f"{each['uses_left']} left on chain"
    gone = ", revoked" if each["revoked"] else ", given up by it" if each["given_up"] else ""
    gone += f", a person waived {', '.join(each['waived'])}" if each["waived"] else ""
    return (
        f"{each['owner']} granted it to {each['consumer']} under {_parent(each)}: "
        f"{each['price']} for each {each['unit']}, {_uses(each['uses'])} until "
        f"{_time(each['expires'])}, {each['uses_counted']} counted here, {left}{gone}"
    )


def _use(each: dict[str, Any]) -> str:
    amount = "nothing yet" if each["amount"] is None else each["amount"]
    when = f" at {_time(each['at'])}" if each["at"] else ""
    return (
        f"task {_short(each['task'])} of {each['consumer']}, {each['operation']} for "
        f"{each['purpose']} under {_parent(each)}, result to {each['recipient']}: vouched for by "
        f"{each['attester']} in block {each['block']}{when}; {each['state']}, "
        f"{each['owner']} got {amount}"
    )


def _sessions(sessions: list[dict[str, Any]]) -> Iterator[str]:
    for each in sessions:
        opened = (
            f", {each['numbers_per_row']} numbers reserved about each of {each['rows']} rows"
            if each["rows"] is not None
            else ""
        )
        reason = f" ({each['reason']})" if each["reason"] else ""
        what = f"session {_short(each['session'])} at {_time(each['at'])}"
        yield f"{what}: {each['state']}{reason}{opened}"


def _price(each: dict[str, Any]) -> str:
    what = f"{each['type']} by {each['operation']}" if each["operation"] else each["type"]
    return (
        f"{_uses(each['uses'], 'settled ')} of {what} anywhere, priced by {each['unit']}: "
        f"{each['least']} to {each['most']} paid, {each['median']} in the middle"
    )


def _parent(each: dict[str, Any]) -> str:
    return f"{each['parent_name'] or 'an asset unknown here'} ({_short(each['parent'])})"


def _uses(count: int, which: str = "") -> str:
    return f"{count} {which}use{'' if count == 1 else 's'}"


def _short(identifier: bytes) -> str:
    return hexadecimal(identifier)[:10] + "…"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(min(seconds, 253402300799), UTC).strftime("%Y-%m-%d %H:%M:%S")

"""The file of an administrator's own examples, and what it says.

[request]                       # what each example asks for unless it says otherwise
dataset = "applicants-a"        # or: compute = true
operation = "shared-features"
consumer = "fintech-c"
...

[[examples]]
name = "twice as wide"
expect = "refuse"
fails = ["parameters.width"]
request.parameters.width = 8
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from node.config_reading import sentence_of
from node.errors import Fault
from protocol import terms_policy
from protocol.judgement import Verdict

MOST_EXAMPLES = 1000


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; its fields are the known keys."""


class Request(Table, frozen=True, kw_only=True):
    """What is asked, for a dataset of this configuration or for its compute asset.

    Organisations by name or account. `members` are those who compute, `contributors` those whose
    rows enter; `seats` of the members sit, all of them if it is left out.
    """

    dataset: str = ""
    compute: bool = False
    operation: str
    code: Annotated[str, msgspec.Meta(pattern=r"\A0x[0-9a-f]{64}\Z")] | None = None
    consumer: str
    recipient: str
    purpose: str
    attester: str
    decider: str
    members: tuple[str, ...]
    contributors: tuple[str, ...]
    seats: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    threshold: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    cohort: Annotated[int, msgspec.Meta(ge=1)]
    labels: Literal["seen-by-owners", "hidden"] = "hidden"
    price: Annotated[int, msgspec.Meta(ge=0)] = 0
    uses: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] = 1
    days: Annotated[float, msgspec.Meta(gt=0, le=36_500)] = 1
    waived: tuple[str, ...] = ()
    parameters: dict[str, Any] | None = None


class Example(Table, frozen=True, kw_only=True):
    """One request with the verdict that its author expects, and which terms are to fail.

    `fails` lists members of the terms table, or operands; all that fail are to be listed, unless
    it is left out.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    expect: Verdict
    fails: tuple[str, ...] | None = None
    request: dict[str, Any] = {}


class ExampleFile(Table, frozen=True, kw_only=True):
    """The whole file."""

    request: dict[str, Any] = {}
    examples: Annotated[tuple[Example, ...], msgspec.Meta(min_length=1, max_length=MOST_EXAMPLES)]


def read(table: Mapping[str, Any], source: str) -> ExampleFile:
    """The examples; Fault `input-invalid` with what is wrong and where."""
    try:
        found = msgspec.convert(dict(table), ExampleFile)
    except msgspec.ValidationError as error:
        raise Fault("input-invalid", f"{source}: {sentence_of(error)}") from None
    for example in found.examples:
        for member in example.fails or ():
            if not terms_policy.is_spoken_of(terms_policy.operand_of(member)):
                where = f"{source}, example {example.name!r}, fails"
                raise Fault("input-invalid", f"{where}: no terms speak of {member!r:.80}")
    return found


def merged(usual: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`usual` with `changes`; of tables inside the members that are named, no more."""
    found = dict(usual)
    for key, value in changes.items():
        before = found.get(key)
        both = isinstance(value, dict) and isinstance(before, dict)
        found[key] = merged(before or {}, value) if both else value
    return found

"""Every decoder of the repository, in one table for both fuzzers.

hypothesis runs it in the tests, atheris under `make fuzz`. A decoder without a target is found by
`test_every_reader_has_a_target`.
"""

from functools import cache

from tests.fuzz import (
    chain_targets,
    frame_targets,
    library_targets,
    local_targets,
    text_targets,
    wire_targets,
)
from tests.fuzz.target import Target


@cache
def targets() -> dict[str, Target]:
    """name -> target."""
    table = [
        *wire_targets.wire(),
        *wire_targets.signed(),
        *text_targets.texts(),
        *frame_targets.frames(),
        *frame_targets.workers(),
        *library_targets.library(),
        *chain_targets.chain_answers(),
        *local_targets.local(),
    ]
    return {target.name: target for target in table}

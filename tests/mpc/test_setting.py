"""When sharings are checked, and how a long opening is cut into segments."""

import pytest
from nacl.signing import SigningKey

from mpc.field import M31, M61
from mpc.setting import Setting


def setting(field=M61, width=64, owners=3, every=64) -> Setting:
    return Setting(
        mesh=None,
        key=SigningKey(bytes(32)),
        recipient="r",
        recipient_key=bytes(32),
        contributors={f"o{i}": bytes(32) for i in range(owners)},
        members={name: bytes(32) for name in "xyz"},
        threshold=1,
        field=field,
        width=width,
        manifest=bytes(32),
        attempt=1,
        check_every=every,
        deadline_s=1.0,
        answers_needed=3,
    )


def test_the_first_round_every_so_many_and_all_large_ones_are_checked():
    rules = setting(every=3)
    assert [n for n in range(1, 10) if rules.checked("train", n, 64)] == [1, 4, 7]
    assert rules.checked("train", 2, rules.chunk_elements + 64)
    assert not rules.checked("train", 2, rules.chunk_elements)
    assert rules.checked("evaluate", 2, 64)
    assert not setting(every=0).checked("evaluate", 1, 1 << 30)


@pytest.mark.parametrize(("field", "width", "owners"), [(M61, 64, 3), (M31, 7, 2), (M61, 3, 60)])
def test_what_a_member_keeps_for_a_check_is_bounded(field, width, owners):
    rules = setting(field, width, owners)
    elements = rules.chunk_elements * (3 * rules.segment_chunks + 1) + width
    sizes, kept, ends = list(rules.chunks(elements)), 0, 0
    assert sum(sizes) == elements
    for place, size in enumerate(sizes):
        kept += size * field.word_bytes * owners
        assert kept <= max(1 << 25, rules.chunk_bytes * owners)
        if rules.ends_segment(place, elements):
            kept, ends = 0, ends + 1
    assert kept == 0
    assert ends == -(-len(sizes) // rules.segment_chunks)

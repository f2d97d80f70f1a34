"""Every wire type: one encoding, golden bytes, and only RemoteProtocolError for anything else."""

import json
import string
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from protocol import codec, manifest
from protocol.codec import Wire
from protocol.errors import LocalProtocolError, RemoteProtocolError
from tests.fuzz import wire_kinds

VECTORS = Path(__file__).parent.parent / "vectors" / "messages.json"
KINDS = wire_kinds.kinds()
SPELLINGS = {  # one text for each pattern that a field demands
    r"\A[\x21-\x7e]+\Z": "bank-a",
    r"\A[1-9A-Za-z]*\Z": "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
    r"\A[0-9a-f]{0,63}\Z": "0a",
    r"\A[1-9A-Za-z]+\Z": "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
    r"\A(0|[1-9][0-9]{0,28})\Z": "1000000000000000000",
    r"\A\S+:[0-9]{1,5}\Z": "127.0.0.1:4001",
    r"\A[a-z0-9]+\Z": "bafkreigh2akiscaildc",
    r"\A(data|compute|algorithm)\Z": "data",
}


def example(kind: inspect.Type) -> Any:
    """A value of `kind` that is the same in every run."""
    match kind:
        case inspect.BytesType():
            size = kind.min_length if kind.min_length is not None else min(kind.max_length or 3, 3)
            return bytes(number % 256 for number in range(1, size + 1))
        case inspect.StrType():
            return SPELLINGS[kind.pattern] if kind.pattern else "text"[: kind.max_length or 4]
        case inspect.IntType():
            return max(kind.ge or 0, (kind.gt or -1) + 1) + 1
        case inspect.FloatType():
            return max(kind.ge or 0.0, kind.gt or 0.0) + 0.5
        case inspect.BoolType():
            return True
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.VarTupleType():
            return (example(kind.item_type),) * max(kind.min_length or 1, 1)
        case inspect.TupleType():
            return tuple(example(each) for each in kind.item_types)
        case inspect.UnionType():
            return example(kind.types[0])
        case inspect.StructType():
            return kind.cls(**{field.name: example(field.type) for field in kind.fields})
        case inspect.NoneType():
            return None
    raise NotImplementedError(str(kind))


def strategy(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of `kind`, as hypothesis draws them."""
    match kind:
        case inspect.BytesType():
            most = min(kind.max_length if kind.max_length is not None else 64, 64)
            least = kind.min_length or 0
            return st.binary(min_size=least, max_size=max(most, least))
        case inspect.StrType():
            if kind.pattern:
                return st.just(SPELLINGS[kind.pattern])
            letters = st.text(string.printable, max_size=min(kind.max_length or 32, 32))
            return letters.filter(lambda text: len(text) >= (kind.min_length or 0))
        case inspect.IntType():
            least = kind.ge if kind.ge is not None else (kind.gt + 1 if kind.gt is not None else 0)
            most = kind.le if kind.le is not None else (kind.lt or 2**53) - 1
            return st.integers(least, most)
        case inspect.FloatType():
            least = max(kind.ge or 0.0, kind.gt or 0.0)
            most = kind.le if kind.le is not None else (kind.lt or 1e6)
            return st.floats(
                least, most, exclude_min=kind.gt is not None, exclude_max=kind.lt is not None
            )
        case inspect.BoolType():
            return st.booleans()
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.VarTupleType():
            least = kind.min_length or 0
            most = min(kind.max_length or 4, 4)
            return st.lists(
                strategy(kind.item_type), min_size=least, max_size=max(most, least)
            ).map(tuple)
        case inspect.TupleType():
            return st.tuples(*(strategy(each) for each in kind.item_types))
        case inspect.UnionType():
            return st.one_of(*(strategy(each) for each in kind.types))
        case inspect.StructType():
            return st.fixed_dictionaries(
                {field.name: strategy(field.type) for field in kind.fields}
            ).map(lambda members: kind.cls(**members))
        case inspect.NoneType():
            return st.none()
    raise NotImplementedError(str(kind))


def values() -> st.SearchStrategy[Wire]:
    return st.sampled_from(sorted(KINDS)).flatmap(
        lambda tag: strategy(inspect.type_info(KINDS[tag]))
    )


def vectors() -> dict[str, str]:
    return dict(json.loads(VECTORS.read_text("utf-8")))


def test_every_wire_type_has_a_golden_vector() -> None:
    assert sorted(vectors()) == sorted(KINDS)


@pytest.mark.parametrize("tag", sorted(KINDS))
def test_golden_bytes(tag: str) -> None:
    value = example(inspect.type_info(KINDS[tag]))
    assert codec.encode(value).hex() == vectors()[tag]
    assert codec.decode(bytes.fromhex(vectors()[tag]), KINDS[tag]) == value


@given(values())
def test_decode_undoes_encode(value: Wire) -> None:
    assert codec.decode(codec.encode(value), type(value)) == value


@given(values(), st.data())
def test_a_changed_byte_is_refused_or_is_another_value(value: Wire, data: st.DataObject) -> None:
    encoded = bytearray(codec.encode(value))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        other = codec.decode(bytes(encoded), type(value))
    except RemoteProtocolError:
        return
    assert other != value
    assert codec.encode(other) == bytes(encoded)


@given(st.binary(max_size=512))
def test_garbage_is_only_ever_a_remote_protocol_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        codec.decode(data, *KINDS.values())


@given(values())
def test_another_order_of_the_map_is_refused(value: Wire) -> None:
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    turned = msgspec.msgpack.encode(dict(sorted(plain.items(), reverse=True)))
    if turned != codec.encode(value):
        with pytest.raises(RemoteProtocolError, match=r"canonical|not"):
            codec.decode(turned, type(value))


def test_too_long_a_message_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteProtocolError, match="at most 10"):
        codec.decode(bytes(11), manifest.RoundHeader, limit=10)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        codec.decode(b"\x91" * 100_000, manifest.RoundHeader)


def test_encoding_a_wrong_field_is_our_own_fault() -> None:
    header = example(inspect.type_info(manifest.RoundHeader))
    with pytest.raises(LocalProtocolError, match="manifest"):
        codec.encode(msgspec.structs.replace(header, manifest=b"short"))


def test_not_a_number_is_no_parameter() -> None:
    parameters = example(inspect.type_info(manifest.Parameters))
    with pytest.raises(LocalProtocolError):
        codec.encode(msgspec.structs.replace(parameters, noise=float("nan")))


def test_the_kinds_cover_every_request_that_a_session_serves() -> None:
    from node.sessions import REQUESTS  # noqa: PLC0415

    assert {str(kind.__struct_config__.tag) for kind in REQUESTS} <= set(KINDS)
    assert get_args(manifest.Role) == ("contributor", "member", "recipient")

"""What the right-looking parts of a northbund.toml say against each other.

The types have been checked before; here are the rules that need two places of the file: names
that must be unique, organisations that must be known, columns that may stand only once, and the
terms of use, each key of which must be one that the terms know.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from node.config_network import network_problems
from node.config_reading import prepare, sentence_of
from node.errors import Fault, nearest
from protocol import terms_policy, terms_table
from protocol.ids import Account
from protocol.peers import is_peer_id
from protocol.terms_table import TermsTable

if TYPE_CHECKING:
    from node.config import Config, Dataset, Organisation

_PARTIES = ("counterparties", "recipients", "attesters", "deciders")


def check(config: "Config", base: Path, source: str) -> None:
    """Nothing in `config` contradicts anything else; Fault `config-invalid` with the first."""
    problem = next(_problems(config), None)
    if problem is not None:
        raise Fault("config-invalid", f"{source}: {problem}", file=source)
    for where, terms in _terms(config):
        _check_terms(terms, where, config, base, source)


def _problems(config: "Config") -> Iterator[str]:
    organisations = config.organisations
    yield from network_problems(config.listen, config.peers)
    yield from _repeated("organisations", "name", [each.name for each in organisations])
    accounts = ["0x" + each.account.hex() for each in organisations]
    yield from _repeated("organisations", "account", accounts)
    yield from _repeated("organisations", "peer_id", [each.peer_id for each in organisations])
    yield from _repeated("datasets", "name", [each.name for each in config.datasets])
    for each in organisations:
        yield from _peer(each)
    if config.name in {each.name for each in organisations}:
        yield f"[[organisations]] lists the others, but {config.name!r} is this node's own name"
    if config.name in config.trust.attesters:  # its account stands in the keystore, not here
        yield f"trust, attesters: write this node's own account in place of {config.name!r}"
    yield from _strangers("trust, attesters", config.trust.attesters, config)
    if config.attester is not None:
        yield from _strangers("attester, recipients", config.attester.recipients, config)
    for dataset in config.datasets:
        yield from _columns(dataset)


def _repeated(table: str, key: str, values: list[str]) -> Iterator[str]:
    for value in values:
        if values.count(value) > 1:
            yield f"two entries of [[{table}]] have the {key} {value!r}"


def _peer(organisation: "Organisation") -> Iterator[str]:
    """An organisation's peer id, and addresses that lead to that peer."""
    where = f"organisation {organisation.name!r}"
    peer_id = organisation.peer_id
    if not is_peer_id(peer_id):
        yield f"{where}, peer_id: {peer_id!r} is no peer id of an Ed25519 key, like 12D3KooW…"
    for address in organisation.addresses:
        named = address.rpartition("/p2p-circuit")[2].partition("/p2p/")[2]
        if named and named != peer_id:
            yield f"{where}, addresses: {address!r} names another peer than {peer_id}"


def _strangers(where: str, entries: tuple[str, ...], config: "Config") -> Iterator[str]:
    names = [config.name, *(each.name for each in config.organisations)]
    for entry in entries:
        if entry in names or re.fullmatch(r"0x[0-9a-fA-F]{40}", entry):
            continue
        near = nearest(entry, names)
        hint = f"; did you mean {near!r}?" if near else ""
        yield f"{where}: {entry!r} is neither an organisation nor an account{hint}"


def _columns(dataset: "Dataset") -> Iterator[str]:
    columns = [dataset.id_column, *(each.name for each in dataset.features)]
    columns += [dataset.label] if dataset.label else []
    for column in columns:
        if columns.count(column) > 1:
            yield f"dataset {dataset.name!r} uses the column {column!r} twice"
    if not dataset.features and not dataset.label:
        yield f"dataset {dataset.name!r} has neither features nor a label"


def _terms(config: "Config") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every table of terms that is filled in. An empty one permits nothing and is complete."""
    for number, dataset in enumerate(config.datasets, start=1):
        if dataset.terms:
            yield f"datasets number {number}, terms", dataset.terms
    if config.compute is not None and config.compute.terms:
        yield "compute, terms", config.compute.terms


def _check_terms(
    table: Mapping[str, Any], where: str, config: "Config", base: Path, source: str
) -> None:
    prepare(table, TermsTable, base, source, where)
    place = f"{source}, {where}"
    try:
        terms = msgspec.convert(terms_table.plain(table), TermsTable)
    except msgspec.ValidationError as error:
        raise Fault("config-invalid", f"{place}: {sentence_of(error)}", file=source) from None
    for member in _PARTIES:
        stranger = next(_strangers(f"{where}, {member}", getattr(terms, member), config), None)
        if stranger is not None:
            raise Fault("config-invalid", f"{source}: {stranger}", file=source)
    data = where.startswith("datasets")
    build = terms_policy.for_data if data else terms_policy.for_compute
    try:
        read = terms_table.read(table, data=data)
        build(read, _accounts(config), terms_table.until(read, _ANY_TIME))
    except terms_table.TermsTableError as error:
        raise Fault("config-invalid", f"{place}, {error}", file=source) from None


_ANY_TIME = 0.0
"""What terms mean does not hang on when they are published."""


def _accounts(config: "Config") -> dict[str, Account]:
    """name -> account. This node's own stands in the keystore: here any account does for it."""
    return {each.name: each.account for each in config.organisations} | {
        config.name: Account(bytes(20))
    }

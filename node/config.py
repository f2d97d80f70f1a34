"""northbund.toml as frozen types: what an administrator says a node is and allows.

Read once at the start. A key that is not known is refused, with the nearest known one and where it
stands: a misspelt constraint must never be a constraint that is silently absent. Relative paths
are resolved against the node's folder, accounts are bytes from here on.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from node.config_checks import check
from node.config_network import Listen, PeerAddress, Peers
from node.config_reading import Section, prepare, sentence_of
from node.errors import Fault
from node.folder import Folder, open_folder
from protocol.codec import Name
from protocol.identifiers import IdentifierRule
from protocol.ids import Account, PeerId

Url = Annotated[str, msgspec.Meta(pattern=r"\Ahttps?://[^\s]+\Z")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Rpc(Section, frozen=True):
    """The local JSON-RPC; port 0 takes any free port, rpc.cookie tells which."""

    port: Port = 0


class Chain(Section, frozen=True):
    """The EVM chain and the contracts on it; `block` is where the contracts were created.

    `urls` are further endpoints of the same chain, asked when the first does not answer, and
    compared with it. The node never pays more than `fee_cap_gwei` for a unit of gas.
    """

    url: Url
    chain_id: Annotated[int, msgspec.Meta(ge=1)]
    registry: Account
    market: Account
    token: Account
    urls: tuple[Url, ...] = ()
    block: Annotated[int, msgspec.Meta(ge=0)] = 0
    confirmations: Annotated[int, msgspec.Meta(ge=0)] | Literal["finalized"] = 1
    poll_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 1.0
    fee_cap_gwei: Annotated[int, msgspec.Meta(ge=1, le=10**6)] = 500


class OutsideSigner(Section, frozen=True):
    """A process that holds the key of this node's account and signs for it over JSON-RPC."""

    url: Url
    account: Account


class Organisation(Section, frozen=True):
    """Another organisation, as this node's administrator knows it.

    `operator` says who runs its machines; organisations of one operator count as one party.
    """

    name: Name
    account: Account
    peer_id: PeerId
    addresses: tuple[PeerAddress, ...] = ()
    operator: str = ""

    def __post_init__(self) -> None:
        if not self.operator:
            msgspec.structs.force_setattr(self, "operator", self.name)


class Trust(Section, frozen=True):
    """Whose attestation this node accepts: names of organisations, or accounts.

    `decider` is the account that this node proposes for disputes when it opens tasks.
    """

    attesters: tuple[str, ...] = ()
    decider: Account | None = None


class Feature(Section, frozen=True):
    """One column that may enter a computation."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    kind: Literal["number", "category"]


class Dataset(Section, frozen=True):
    """Rows of this node's own: where they are, what they mean, on which terms they are used."""

    name: Name
    path: Path
    id_column: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="id")
    id_rule: IdentifierRule = "exact"
    description: str = ""
    features: tuple[Feature, ...] = ()
    label: str = ""
    terms: dict[str, Any] = msgspec.field(default_factory=dict)


class Compute(Section, frozen=True):
    """The compute asset of this node: it lends a member to committees, on these terms."""

    name: Name
    description: str = ""
    terms: dict[str, Any] = msgspec.field(default_factory=dict)


class Attester(Section, frozen=True):
    """For whose computations this node vouches; whatever is not listed is refused."""

    operations: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()


class Log(Section, frozen=True):
    """How much the daemon writes to its log file, and how it prints to its standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    console: Literal["auto", "json", "readable"] = "auto"


class Config(Section, frozen=True):
    """The whole of northbund.toml."""

    name: Name
    network: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
    listen: Listen = Listen()
    peers: Peers = Peers()
    rpc: Rpc = Rpc()
    chain: Chain | None = None
    signer: OutsideSigner | None = None
    organisations: tuple[Organisation, ...] = ()
    trust: Trust = Trust()
    datasets: tuple[Dataset, ...] = ()
    compute: Compute | None = None
    attester: Attester | None = None
    log: Log = Log()

    def organisation(self, name: str) -> Organisation | None:
        """The organisation of that name, or None."""
        return next((each for each in self.organisations if each.name == name), None)

    def dataset(self, name: str) -> Dataset:
        """The dataset of that name; Fault `dataset-unknown`."""
        for each in self.datasets:
            if each.name == name:
                return each
        raise Fault("dataset-unknown", f"northbund.toml has no dataset {name!r}", dataset=name)

    def attesters(self) -> frozenset[Account]:
        """The accounts whose attestation counts, names resolved."""
        named = {each.name: each.account for each in self.organisations}
        return frozenset(
            named[entry] if entry in named else Account(bytes.fromhex(entry.removeprefix("0x")))
            for entry in self.trust.attesters
        )


@dataclass(frozen=True, slots=True)
class FolderConfig:
    """A node's folder and what its northbund.toml says."""

    folder: Folder
    config: Config


def load(path: Path) -> FolderConfig:
    """The configuration of the node in the folder `path`.

    Fault `config-missing`, `folder-unsafe`, or `config-invalid` with the place in the file.
    """
    folder = open_folder(path)
    try:
        text = folder.config_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Fault("config-invalid", f"{folder.config_file} cannot be read: {why}") from None
    return FolderConfig(folder, parse(text, folder.path, str(folder.config_file)))


def parse(text: str, base: Path, source: str) -> Config:
    """The configuration that the TOML `text` says, paths relative to `base`.

    `source` names the text in a fault's sentence. Fault `config-invalid`.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Fault("config-invalid", f"{source} is not TOML: {error}", file=source) from None
    except RecursionError:
        raise Fault("config-invalid", f"{source} is nested too deeply", file=source) from None
    return from_table(table, base, source)


def from_table(table: Mapping[str, Any], base: Path, source: str) -> Config:
    """As `parse`, from a table that was read already."""
    prepared = prepare(table, Config, base, source)
    try:
        config = msgspec.convert(prepared, Config, builtin_types=(bytes,), dec_hook=_as_it_is)
    except msgspec.ValidationError as error:
        sentence = sentence_of(error, Config)
        raise Fault("config-invalid", f"{source}: {sentence}", file=source) from None
    check(config, base, source)
    return msgspec.structs.replace(config, datasets=tuple(map(_with_id_rule, config.datasets)))


def _with_id_rule(dataset: Dataset) -> Dataset:
    """The dataset with its rule of ids in its terms: who matches by another one is refused there.

    Terms that speak of the rule by themselves stay as they are.
    """
    parameters = dataset.terms.get("parameters", {})
    if not dataset.terms or "id_rule" in parameters:
        return dataset
    parameters = {**parameters, "id_rule": {"any_of": [dataset.id_rule]}}
    terms = {**dataset.terms, "parameters": parameters}
    return msgspec.structs.replace(dataset, terms=terms)


def _as_it_is(kind: type, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    raise NotImplementedError(f"northbund.toml has no values of type {kind}")


def changed_beside_terms(old: Config, new: Config) -> tuple[str, ...]:
    """The keys and tables at the top of `new` that are not as in `old`, terms of use apart."""

    def bare(config: Config) -> Config:
        compute = config.compute
        return msgspec.structs.replace(
            config,
            datasets=tuple(msgspec.structs.replace(each, terms={}) for each in config.datasets),
            compute=msgspec.structs.replace(compute, terms={}) if compute else None,
        )

    before, after = bare(old), bare(new)
    names = Config.__struct_fields__
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))

"""The four organisations of the demo as folders: made by `northbund init`, configured in TOML."""

import json
import secrets
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.client import Client
from node.demo.applicants import (
    BANK_A,
    BANK_B,
    CATEGORIES,
    COLUMNS,
    FINTECH_C,
    LABEL,
    ORGANISATIONS,
    REGULATOR_D,
)
from node.demo.processes import northbund
from node.errors import Fault

NETWORK = "demo"
PURPOSE = "credit-risk-model"
OPERATION = "shared-features"
MEMBER_OPERATION = "committee-member"
ARBITER = "0x" + "a7b17e50" * 5
"""Who would decide a dispute: an account of none of the four, as the contract demands."""

TOKEN_UNIT = 10**18
PRICES = {
    BANK_A: (TOKEN_UNIT // 1000, "row"),
    BANK_B: (TOKEN_UNIT // 4000, "opening"),
    "compute": (TOKEN_UNIT // 2, "edge"),
}
WIDTH_MAX = 4
NOISE_MIN = 0.3
NUMBERS_MAX = 8
COHORT_MIN = 1000


@dataclass(frozen=True, slots=True)
class Organisation:
    """One organisation's node: its folder, and who it is to the others."""

    name: str
    folder: Path
    account: str
    peer_id: str
    port: int

    @property
    def multiaddr(self) -> str:
        """Where its daemon listens for the others."""
        return f"/ip4/127.0.0.1/tcp/{self.port}"

    def call(self, method: str, **parameters: Any) -> Any:
        """The daemon's answer; the Fault that it tells."""
        return Client(self.folder).call(method, **parameters)


def found(folder: Path, password_file: Path) -> dict[str, Organisation]:
    """The four folders with their keys, each made by `northbund init`, two at a time."""
    password_file.touch(mode=0o600)
    password_file.write_text(secrets.token_urlsafe(24) + "\n")
    making = {}
    for name in ORGANISATIONS:
        port = _free_port()
        arguments = ["-d", str(folder / name), "init", "--name", name, "--network", NETWORK]
        arguments += ["--listen", f"/ip4/127.0.0.1/tcp/{port}", "--light-kdf", "--json"]
        arguments += ["--password-file", str(password_file)]
        making[name] = (
            port,
            subprocess.Popen(
                northbund(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ),
        )
    made = {}
    for name, (port, process) in making.items():
        told, error = process.communicate()
        if process.returncode:
            raise Fault("demo-failed", f"northbund init of {name} failed: {error.strip()}")
        answer = json.loads(told)
        made[name] = Organisation(name, folder / name, answer["account"], answer["peer_id"], port)
    return made


def configure(organisations: Mapping[str, Organisation], chain: Mapping[str, Any]) -> None:
    """Afterwards each folder's northbund.toml knows the chain, the others and its own assets."""
    for organisation in organisations.values():
        text = configuration(organisation, organisations, chain)
        file = organisation.folder / "northbund.toml"
        file.write_text(text, encoding="utf-8")  # it keeps the mode that init gave it


def configuration(
    own: Organisation, organisations: Mapping[str, Organisation], chain: Mapping[str, Any]
) -> str:
    """The northbund.toml of one organisation."""
    regulator = organisations[REGULATOR_D].account
    tables: list[tuple[str, Mapping[str, Any]]] = [
        ("", {"name": own.name, "network": NETWORK}),
        ("[listen]", {"libp2p": own.multiaddr, "data_host": "127.0.0.1"}),
        (
            "[chain]",
            {key: chain[key] for key in ("url", "chain_id", "registry", "market", "token")}
            | {"confirmations": 0, "poll_s": 0.1},
        ),
        ("[trust]", {"attesters": [regulator], "decider": ARBITER}),
    ]
    for other in organisations.values():
        if other.name != own.name:
            tables.append(
                (
                    "[[organisations]]",
                    {
                        "name": other.name,
                        "account": other.account,
                        "peer_id": other.peer_id,
                        "addresses": [other.multiaddr],
                        "operator": other.name,
                    },
                )
            )
    tables += _assets(own)
    return "\n".join(f"{head}\n{_lines(table)}" for head, table in tables)


def _assets(own: Organisation) -> list[tuple[str, Mapping[str, Any]]]:
    tables: list[tuple[str, Mapping[str, Any]]] = []
    if own.name in COLUMNS:
        tables += _bank(own.name)
    if own.name == FINTECH_C:
        dataset = {"name": "outcomes", "path": "outcomes.csv", "id": "id", "label": LABEL}
        tables.append(("[[datasets]]", dataset | {"description": "who defaulted"}))
    else:
        price, unit = PRICES["compute"]
        compute = {"name": f"compute-{own.name}", "description": "one seat in a committee"}
        tables += [
            ("[compute]", compute),
            (
                "[compute.terms]",
                _parties(MEMBER_OPERATION) | {"price": price, "price_unit": unit},
            ),
        ]
    if own.name == REGULATOR_D:
        vouches = {"operations": [OPERATION], "purposes": [PURPOSE], "recipients": [FINTECH_C]}
        tables.append(("[attester]", vouches))
    return tables


def _bank(name: str) -> list[tuple[str, Mapping[str, Any]]]:
    price, unit = PRICES[name]
    features = [
        {"name": column, "kind": "category" if column in CATEGORIES else "number"}
        for column in COLUMNS[name]
    ]
    limits = {
        "price": price,
        "price_unit": unit,
        "noise_min": NOISE_MIN,
        "numbers_per_row_max": NUMBERS_MAX,
        "cohort_min": COHORT_MIN,
    }
    dataset = {"name": f"applicants-{name[-1]}", "path": "applicants.csv", "id": "id"}
    return [
        ("[[datasets]]", dataset | {"description": f"what {name} knows", "features": features}),
        ("[datasets.terms]", _parties(OPERATION) | limits),
        ("[datasets.terms.parameters]", {"width": {"max": WIDTH_MAX}}),
    ]


def _parties(operation: str) -> dict[str, Any]:
    return {
        "operations": [operation],
        "counterparties": [FINTECH_C],
        "recipients": [FINTECH_C],
        "purposes": [PURPOSE],
        "attesters": [REGULATOR_D],
        "deciders": [ARBITER],
        "valid_for_days": 30,
        "uses": 5,
    }


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)  # numbers and plain strings are written alike in TOML


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

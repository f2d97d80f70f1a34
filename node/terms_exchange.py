"""Terms between northbund.toml and ODRL, for other software and other organisations to read."""

from typing import Any

from node.config import Config
from node.errors import Fault
from protocol import odrl, terms_policy, terms_table, terms_toml
from protocol.ids import Account, hexadecimal


def exported(config: Config, own: Account, name: str, now: float) -> dict[str, Any]:
    """The terms of the dataset or compute asset `name`, as if it were published at `now`.

    Fault `dataset-unknown`, or `terms-invalid` with what is wrong.
    """
    data = config.compute is None or config.compute.name != name
    table = config.dataset(name).terms if data else config.compute.terms if config.compute else {}
    accounts = {each.name: each.account for each in config.organisations} | {config.name: own}
    build = terms_policy.for_data if data else terms_policy.for_compute
    try:
        read = terms_table.read(table, data=data)
        built = build(read, accounts, terms_table.until(read, now))
    except terms_table.TermsTableError as error:
        raise Fault("terms-invalid", f"northbund.toml, {name}, {error}") from error
    token = hexadecimal(config.chain.token) if config.chain else "unknown"
    return odrl.write(
        odrl.Policy(
            target=f"urn:northbund:asset:{config.name}:{name}",
            terms=built,
            price_unit=read.price_unit,
            currency=f"urn:northbund:token:{token}",
        )
    )


def imported(found: dict[str, Any], source: str, *, data: bool) -> str:
    """The TOML table that says no more than the ODRL policy `found`.

    Fault `terms-invalid` names what the subset does not know, and where it stands.
    """
    try:
        policy = odrl.read(found)
        return terms_toml.table_of(policy.terms, policy.price_unit, data=data)
    except (odrl.OdrlError, terms_table.TermsTableError) as error:
        raise Fault("terms-invalid", f"{source}: {error}") from error

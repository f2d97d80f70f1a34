"""A key outside the node: anvil's own unlocked accounts sign, and liars are found out."""

import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import trio
from eth_account import Account as EthAccount

from chain import contracts, views
from chain.abi import read
from chain.errors import ChainRefused, ChainUnreachable
from chain.external import ExternalSigner
from chain.sender import Sender
from node.errors import Fault
from node.signer import Signer
from protocol import typed_data
from protocol.ids import Account
from protocol.typed_data import Attestation, Bind, Grant

OTHER = EthAccount.from_key(b"\x07" * 32)


async def first_account(chain, number=3):
    answer = await chain.provider.ask("eth_accounts")
    return Account(bytes.fromhex(answer[number][2:]))


@pytest.fixture
def liar():
    """A signer over HTTP that answers each request by what it is told to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.asked.append(request["method"])
            body = json.dumps({"jsonrpc": "2.0", "id": request["id"]} | served.answer(request))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_args):
            pass

    served = HTTPServer(("127.0.0.1", 0), Handler)
    served.asked = []
    thread = Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def url_of(served):
    return f"http://127.0.0.1:{served.server_port}"


async def test_typed_messages_are_signed_outside(chain):
    account, d = await first_account(chain), chain.deployment
    signer = Signer(ExternalSigner(chain.url, account), d.registry_domain, d.market_domain)
    grant = Grant(
        child=b"\x01" * 32, parent=b"\x02" * 32, terms_hash=b"\x03" * 32, owner=account,
        consumer=account, market=d.market, token=d.token, decider=Account(b"\x05" * 20), price=5,
        price_unit=0, max_uses=1, expiry=2**39, seq=1,
    )  # fmt: skip
    for message in (grant, Attestation(b"\x01" * 32, b"\x02" * 32, 5), Bind(account, b"x", 9, 1)):
        digest = typed_data.digest(d.registry_domain, message)
        assert typed_data.recover(digest, signer.sign(d.registry_domain, message)) == account
    assert signer.account == account


async def test_the_outbox_sends_what_is_signed_outside(chain, nursery):
    account, d = await first_account(chain), chain.deployment
    sender = Sender(chain.database(), chain.provider, ExternalSigner(chain.url, account), 31337)
    nursery.start_soon(sender.run)
    for name in ("a", "b", "c"):
        assert sender.enqueue(
            name, "trust", d.registry, contracts.trust(OTHER_ACCOUNT, name != "b")
        )
    with trio.fail_after(10):
        for name in ("a", "b", "c"):
            await sender.confirmed(name)
    assert sender.address == account
    assert await read(chain.provider, d.registry, views.trusts(account, OTHER_ACCOUNT))
    nursery.cancel_scope.cancel()


OTHER_ACCOUNT = Account(bytes.fromhex(OTHER.address[2:]))


def signed_by_other(request, **changes):
    wanted = {name: value for name, value in request["params"][0].items() if name != "from"}
    made = OTHER.sign_transaction(wanted | {"to": bytes.fromhex(wanted["to"][2:])} | changes)
    return "0x" + made.raw_transaction.hex()


def another_key(request):
    return {"result": signed_by_other(request)}


def another_nonce(request):
    return {"result": {"raw": signed_by_other(request, nonce=9)}}


@pytest.mark.parametrize(
    ("answer", "account", "words"),
    [
        (another_key, Account(b"\x09" * 20), "another key"),
        (another_nonce, OTHER_ACCOUNT, "another nonce"),
        (lambda _: {"error": {"code": -32000, "message": "denied"}}, OTHER_ACCOUNT, "denied"),
        (lambda _: {"result": "0x00"}, OTHER_ACCOUNT, "no signed transaction"),
        (lambda _: {"result": None}, OTHER_ACCOUNT, "no signed transaction"),
    ],
    ids=["another key", "another nonce", "denied", "short", "nothing"],
)
async def test_a_signer_that_refuses_or_lies_sends_nothing(chain, liar, answer, account, words):
    liar.answer = answer
    sender = Sender(chain.database(), chain.provider, ExternalSigner(url_of(liar), account), 31337)
    await chain.provider.ask("anvil_setBalance", "0x" + account.hex(), hex(10**18))
    sender.enqueue("k", "trust", chain.deployment.registry, contracts.trust(OTHER_ACCOUNT, True))
    await sender.step()
    with trio.fail_after(5), pytest.raises(ChainRefused, match=words):
        await sender.confirmed("k")
    counted = await chain.provider.ask("eth_getTransactionCount", "0x" + account.hex(), "pending")
    assert counted == "0x0"


async def test_what_is_withdrawn_while_the_signer_is_asked_is_not_sent(chain, liar):
    db = chain.database()
    liar.answer = another_key
    sender = Sender(db, chain.provider, ExternalSigner(url_of(liar), OTHER_ACCOUNT), 31337)
    await chain.provider.ask("anvil_setBalance", OTHER.address, hex(10**18))
    sender.enqueue("k", "trust", chain.deployment.registry, contracts.trust(OTHER_ACCOUNT, True))
    real = sender._account.sign_transaction

    async def withdrawn_meanwhile(transaction):
        raw = await real(transaction)
        assert sender.withdraw("k")
        return raw

    sender._account.sign_transaction = withdrawn_meanwhile
    await sender.step()
    assert db.execute("SELECT count(*) FROM chain_attempts").fetchone() == (0,)
    assert await chain.provider.ask("eth_getTransactionCount", OTHER.address, "pending") == "0x0"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _: {"result": "0x" + "11" * 65}, "no signature|another key"),
        (lambda _: {"result": "0x11"}, "no signature"),
        (lambda _: {"result": None}, "no signature"),
        (lambda _: {"error": {"code": 1, "message": "denied"}}, "denied"),
        (lambda _: {"error": "nonsense"}, "refuses"),
    ],
)
def test_a_wrong_typed_signature_is_a_fault(liar, answer, words):
    liar.answer = answer
    domain = typed_data.market_domain(1, Account(bytes(20)))
    signer = Signer(ExternalSigner(url_of(liar), OTHER_ACCOUNT), domain, domain)
    with pytest.raises(Fault, match=words) as failed:
        signer.sign(domain, Attestation(bytes(32), bytes(32), 1))
    assert failed.value.kind == "signer-failed"


def test_a_silent_signer_does_not_hold_up_the_node():
    now = [100.0]
    signer = ExternalSigner("http://127.0.0.1:1", OTHER_ACCOUNT, clock=lambda: now[0])
    domain, message = typed_data.market_domain(1, Account(bytes(20))), Attestation(b"", b"", 1)
    with pytest.raises(ChainUnreachable, match="does not answer"):
        signer.sign_typed(domain, message)
    began = time.monotonic()
    with pytest.raises(ChainUnreachable, match="a moment ago"):
        signer.sign_typed(domain, message)
    assert time.monotonic() - began < 0.1
    now[0] += 31
    with pytest.raises(ChainUnreachable, match="does not answer"):
        signer.sign_typed(domain, message)
    assert OTHER.key.hex() not in repr(signer)

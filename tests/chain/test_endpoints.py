"""Endpoints compared: down, behind, stale, of another chain, telling another story."""

import pytest

from chain import endpoints
from chain.errors import ChainUnreachable
from chain.provider import TrioProvider
from node.endpoint_watch import EndpointWatch

NOW = 10_000.0


class Endpoint:
    """One chain as an endpoint shows it: block n has the time 1000 + 12 n."""

    def __init__(self, head=700, branch="a", chain_id=1, delay_s=0):
        self.head, self.branch, self.chain_id, self.delay_s = head, branch, chain_id, delay_s

    def answer(self, method, params):
        if method == "eth_chainId":
            return hex(self.chain_id)
        number = self.head if params[0] == "latest" else int(params[0], 16)
        if number > self.head:
            return None
        timestamp = int(NOW) - 12 * (self.head - number) - self.delay_s
        return {
            "number": hex(number),
            "hash": f"{self.branch}{number}",
            "timestamp": hex(timestamp),
        }


class Endpoints:
    """Stands in for a provider with several endpoints; None is one that is down."""

    def __init__(self, *endpoints):
        self.all = {f"url{i}": endpoint for i, endpoint in enumerate(endpoints)}
        self.urls = tuple(self.all)

    async def ask_at(self, url, method, *params):
        if self.all[url] is None:
            raise ChainUnreachable(f"{url} does not answer")
        return self.all[url].answer(method, params)


class Garbage(Endpoint):
    def answer(self, method, params):
        return hex(1) if method == "eth_chainId" else ["what"]


@pytest.mark.parametrize(
    ("several", "words"),
    [
        ([Endpoint()], [""]),
        ([Endpoint(), Endpoint(head=698)], ["", ""]),
        ([Endpoint(), Endpoint(head=600)], ["", "is 100 blocks behind"]),
        ([Endpoint(), None], ["", "url1 does not answer"]),
        ([None, None], ["url0 does not answer", "url1 does not answer"]),
        ([Endpoint(), Endpoint(chain_id=5)], ["", "serves chain 5 instead of 1"]),
        ([Endpoint(delay_s=5000)], ["has had no new block for 5000 s"]),
        (
            [Endpoint(), Endpoint(branch="b"), Endpoint()],
            ["", "has another block 688 than the others", ""],
        ),
        ([Endpoint(), Endpoint(branch="b")], ["has another block 688 than the others"] * 2),
        ([Endpoint(), Garbage()], ["", "url1 answers with no block"]),
        ([Endpoint(head=3)], [""]),
    ],
)
async def test_what_is_wrong_with_each(several, words):
    reports = await endpoints.compare(Endpoints(*several), 1, NOW)
    assert [report.trouble for report in reports] == words


@pytest.mark.parametrize(
    ("several", "asked", "troubled"),
    [
        ([Endpoint(chain_id=5), Endpoint()], ["http://b"], [True, False]),
        ([Endpoint(chain_id=5)], ["http://a"], [True]),
        (
            [Endpoint(branch="b"), Endpoint(), Endpoint()],
            ["http://b", "http://c", "http://a"],
            [True, False, False],
        ),
        ([Endpoint(), Endpoint()], ["http://a", "http://b"], [False, False]),
    ],
)
async def test_a_foreign_one_is_left_out_and_a_lonely_one_asked_last(
    monkeypatch, several, asked, troubled
):
    urls = ["http://a", "http://b", "http://c"][: len(several)]
    behind = Endpoints(*several)
    behind.all = dict(zip(urls, several, strict=True))
    provider = TrioProvider(*urls)
    monkeypatch.setattr(provider, "ask_at", behind.ask_at)
    watch = EndpointWatch(provider, 1, lambda: NOW)
    assert watch.reports == ()
    for _ in range(2):
        await watch.look()
        assert list(provider.urls) == asked
        assert [each.url for each in watch.reports] == urls
        assert [bool(each.trouble) for each in watch.reports] == troubled
    await provider.aclose()

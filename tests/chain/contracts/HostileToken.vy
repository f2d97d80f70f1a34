# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice A token that misbehaves: says nothing, says false, keeps a fee, or calls back.
"""

QUIET: constant(uint256) = 0
LIES: constant(uint256) = 1
FEE: constant(uint256) = 2
REENTER: constant(uint256) = 3

mode: public(uint256)
balances: HashMap[address, uint256]
target: address
data: Bytes[4096]
reentered: public(bool)


@deploy
def __init__(mode: uint256):
    self.mode = mode
    self.balances[msg.sender] = 10**30


@external
@view
def balanceOf(who: address) -> uint256:
    return self.balances[who]


@external
def arm(target: address, data: Bytes[4096]):
    self.target = target
    self.data = data


@external
def give(to: address, amount: uint256):
    self.balances[msg.sender] -= amount
    self.balances[to] += amount


@internal
def _move(source: address, to: address, amount: uint256):
    self.balances[source] -= amount
    self.balances[to] += amount - (amount // 100 if self.mode == FEE else 0)
    if self.mode == REENTER and self.target != empty(address):
        self.reentered = raw_call(self.target, self.data, revert_on_failure=False)


@external
@raw_return
def transferFrom(source: address, to: address, amount: uint256) -> Bytes[32]:
    self._move(source, to, amount)
    if self.mode == QUIET:
        return b""
    return abi_encode(self.mode != LIES)


@external
@raw_return
def transfer(to: address, amount: uint256) -> Bytes[32]:
    self._move(msg.sender, to, amount)
    if self.mode == QUIET:
        return b""
    return abi_encode(self.mode != LIES)

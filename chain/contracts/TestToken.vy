# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Test token
@license Apache-2.0
@notice A plain ERC-20 with a fixed supply, for development chains and tests.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256


event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256


name: public(constant(String[16])) = "Northbund Test"
symbol: public(constant(String[4])) = "NBT"
decimals: public(constant(uint8)) = 18
totalSupply: public(immutable(uint256))
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(supply: uint256):
    """
    @notice The whole supply belongs to the deployer; none is ever made again.
    """
    totalSupply = supply
    self.balanceOf[msg.sender] = supply
    log Transfer(sender=empty(address), receiver=msg.sender, value=supply)


@internal
def _move(source: address, to: address, amount: uint256):
    assert to != empty(address), "no receiver"
    assert self.balanceOf[source] >= amount, "balance too small"
    self.balanceOf[source] -= amount
    self.balanceOf[to] += amount
    log Transfer(sender=source, receiver=to, value=amount)


@external
def transfer(to: address, amount: uint256) -> bool:
    """
    @notice Moves the sender's tokens.
    """
    self._move(msg.sender, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Lets another account move up to this much of the sender's tokens.
    """
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def transferFrom(source: address, to: address, amount: uint256) -> bool:
    """
    @notice Moves tokens that their owner has approved.
    """
    assert self.allowance[source][msg.sender] >= amount, "not approved"
    self.allowance[source][msg.sender] -= amount
    self._move(source, to, amount)
    return True

# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice A wallet that does not answer as EIP-1271 says: it burns gas, reverts, or answers wrongly.
"""

BURN: constant(uint256) = 1
REVERT: constant(uint256) = 2
WRONG: constant(uint256) = 3
LONG: constant(uint256) = 4
mode: uint256


@deploy
def __init__(mode: uint256):
    self.mode = mode


@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[1040]) -> Bytes[4096]:
    mode: uint256 = self.mode
    assert mode != REVERT, "never"
    if mode == BURN:
        sink: bytes32 = digest
        for i: uint256 in range(1_000_000):
            sink = keccak256(sink)
    if mode == LONG:
        return abi_encode(empty(uint256[128]))
    return b"\x01"


@external
def execute(to: address, data: Bytes[4096]):
    raw_call(to, data)

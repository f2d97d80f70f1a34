# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice A wallet of several owners (EIP-1271): each part of 65 bytes is one owner's signature.
"""

MAX_OWNERS: constant(uint256) = 8
owners: public(DynArray[address, MAX_OWNERS])


@deploy
def __init__(owners: DynArray[address, MAX_OWNERS]):
    self.owners = owners


@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[520]) -> bytes4:
    if len(signature) != 65 * len(self.owners):
        return 0xffffffff
    for i: uint256 in range(len(self.owners), bound=MAX_OWNERS):
        part: Bytes[65] = slice(signature, 65 * i, 65)
        signer: address = ecrecover(
            digest,
            convert(slice(part, 64, 1), uint256),
            convert(slice(part, 0, 32), uint256),
            convert(slice(part, 32, 32), uint256),
        )
        if signer != self.owners[i]:
            return 0xffffffff
    return 0x1626ba7e


@external
def execute(to: address, data: Bytes[4096]) -> Bytes[64]:
    assert msg.sender == self.owners[0]
    return raw_call(to, data, max_outsize=64)

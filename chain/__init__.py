"""The EVM chain: contracts, provider, follower, sender."""

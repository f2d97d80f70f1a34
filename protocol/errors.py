"""Whose fault an error is: ours, or that of whoever sent the bytes."""


class LocalProtocolError(Exception):
    """Our own code asked for something that the protocol forbids: a bug, not a peer's doing."""


class RemoteProtocolError(Exception):
    """Bytes from outside broke a rule. The text says which; the stream ends, the daemon lives."""

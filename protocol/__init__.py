"""What Northbund's nodes say to each other and how they decide: plain functions over frozen data.

Nothing here reads a clock, draws randomness, opens a socket or a file, or runs an event loop:
time and random bytes are arguments.
"""

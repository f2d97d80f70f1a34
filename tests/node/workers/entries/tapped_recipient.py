"""The recipient's worker with a tap before its TLS."""

import tap

from node.workers.recipient import main

tap.install("recipient")
main()

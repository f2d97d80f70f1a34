"""The member's worker with a tap before its TLS."""

import tap

from node.workers.member import main

tap.install("member")
main()

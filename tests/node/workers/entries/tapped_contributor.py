"""The contributor's worker with a tap before its TLS."""

import tap

from node.workers.contributor import main

tap.install("contributor")
main()

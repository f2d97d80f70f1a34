"""The command `northbund`: importing the package is free, the commands load what they use."""


def main() -> None:
    """Runs the command that the process's arguments name, and ends the process with its status."""
    from node.cli.program import run  # noqa: PLC0415  so that `import node.cli` stays free

    run()

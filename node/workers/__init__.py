"""Entry points of the worker processes, the only place where an owner's rows are read."""

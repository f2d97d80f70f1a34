"""The daemon: the only package that holds keys, the database and the network."""

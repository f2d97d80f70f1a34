"""What worker processes compute: shares, rounds, features, private set intersection."""

"""One command per number that the README states."""

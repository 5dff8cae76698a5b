"""`make demo`: one real job over HTTP on this machine, from an empty folder to a result table."""

"""Server commands that plug into the `ladapress` command line."""

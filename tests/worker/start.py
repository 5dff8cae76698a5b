"""`python -m worker` with the fake engine: the same program, another child."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from worker import pool

pool.ENGINE = (sys.executable, "-I", str(Path(__file__).with_name("fake_engine.py")))

if __name__ == "__main__":
    from worker.__main__ import main

    sys.exit(main(command=(sys.executable, __file__)))

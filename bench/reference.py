"""r: CPU-seconds of one teacher forward + backward at 32 x 64 tokens; the yardstick of every CPU-second in a row.

`python -m bench.reference TEACHER` measures r on this machine and prints it; with `--fix` it becomes r0 in
`bench/reference.json`. A row's CPU-seconds are scaled by r0 / r, so that rows of two machines can be compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch

from core.measure import hardware
from core.model import load
from core.progress import cpu_seconds

FILE = Path(__file__).with_name("reference.json")
ROWS, TOKENS, REPEATS = 32, 64, 11


def measure(teacher: Path) -> float:
    """Median over REPEATS after two warm-up rounds; one thread, fixed token ids, gradients of every parameter."""
    torch.set_num_threads(1)
    loaded = load(teacher)
    generator = torch.Generator().manual_seed(0)
    vocabulary = loaded.model.get_parameter(f"{loaded.family.embedding}.weight").shape[0]
    ids = torch.randint(5, vocabulary, (ROWS, TOKENS), generator=generator)
    labels = torch.zeros(ROWS, dtype=torch.long)
    seconds = []
    for _ in range(REPEATS + 2):
        start = cpu_seconds()
        loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss.backward()
        loaded.model.zero_grad()
        seconds.append(cpu_seconds() - start)
    return statistics.median(seconds[2:])


def r0() -> float:
    """The fixed reference."""
    return float(json.loads(FILE.read_text(encoding="utf-8"))["r0_cpu_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--fix", action="store_true", help="write bench/reference.json")
    given = parser.parse_args()
    found = {
        "r0_cpu_s": measure(given.teacher),
        "what": f"one forward + backward, {ROWS} x {TOKENS} tokens, median of {REPEATS}",
        "teacher": given.teacher.name,
        "hardware": hardware(device="cpu", threads=1).model_dump(mode="json"),
    }
    text = json.dumps(found, indent=1) + "\n"
    if given.fix:
        FILE.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()

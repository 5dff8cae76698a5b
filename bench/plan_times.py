"""`python -m bench.plan_times --data F --teacher F`: how long POST /v1/plans takes once the profile is stored.

A real service, over HTTP: the profile is made by its dry run, then plans of one point are asked for one after the
other, each with another target. One JSON in `bench/results/plans/`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ladapress.client import Client

from bench import rows
from bench.systems import ROWS, prepare
from core.measure import hardware
from demo.service import embedded

ASKED = 60
TARGETS: dict[str, list[dict[str, float]]] = {
    "fast": [{"latency_ratio": 1.5 + place / 10} for place in range(ASKED // 2)]
    + [{"min_retention": 0.999 - place / 400} for place in range(ASKED // 2)],
    "small": [{"bytes_ratio": 4 + place / 2} for place in range(ASKED // 2)]
    + [{"min_retention": 0.999 - place / 400} for place in range(ASKED // 2)],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plan_times", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    given = parser.parse_args()
    row: dict[str, object] = {"git_sha": rows.git_sha(), "asked": ASKED}
    with TemporaryDirectory(prefix="bench-") as folder:
        task = prepare(given.data, Path(folder), 0, ROWS)
        with embedded(Path(folder) / "service", {"LADAPRESS_THREADS": "1"}) as url, Client(url) as client:
            model = client.models.upload(given.teacher).id
            data = {name: client.datasets.upload(getattr(task, name)).id for name in ("train", "eval")}
            for preset, targets in TARGETS.items():
                request = {"model": model, "data": data, "preset": preset}
                client.plans.make({**request, "target": targets[0]})
                seconds = []
                for target in targets:
                    begun = time.perf_counter()
                    plan = client.plans.ask({**request, "target": target})
                    seconds.append(time.perf_counter() - begun)
                    if not plan.points:
                        raise RuntimeError(f"nothing was timed: {plan}")
                quantiles = {f"ms_p{share}": 1e3 * float(np.percentile(seconds, share)) for share in (50, 95, 100)}
                row[preset] = quantiles
                print(preset, {name: round(ms) for name, ms in quantiles.items()}, flush=True)
    row["hardware"] = hardware(device="cpu", threads=1).model_dump(mode="json")
    rows.write(rows.RESULTS / "plans" / f"{given.data.name}.json", row)


if __name__ == "__main__":
    main()

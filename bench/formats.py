"""`python -m bench.formats`: what low-bit weights cost in stock ONNX Runtime, format by format.

A stack of one model's weights (embedding, then every linear of each layer; random values, no attention) is written in
each format and loaded in a process of its own: bytes of the file, seconds to load, memory after loading and at the
peak, bytes of weights in the graph that really runs, milliseconds of a batch, and how far the outputs are from those
of the same rounded weights in fp32. One JSON file in `bench/results/`; decision 0007 stands on it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench import rows
from bench.packings import (
    Codes,
    Contrib,
    Graph,
    Standard,
    dequantize_linear,
    digits,
    packed,
    plain,
    planes,
    quantized,
    tables,
)
from core.measure import hardware

SHAPES = {"minilm-l6": (30_522, 384, 1_536, 6), "bert-base": (30_522, 768, 3_072, 12)}


def sizes(shape: str) -> list[tuple[str, tuple[int, int]]]:
    """The matrices of one model by name, embedding first."""
    vocabulary, width, inner, layers = SHAPES[shape]
    found = [("embedding", (vocabulary, width))]
    for layer in range(layers):
        found += [(f"{layer}.{name}", (width, width)) for name in ("query", "key", "value", "output")]
        found += [(f"{layer}.up", (inner, width)), (f"{layer}.down", (width, inner))]
    return found


def stack(shape: str, levels: int, density: float) -> Iterator[tuple[str, Codes]]:
    """Random matrices, quantised by groups: the same values for every form of as many levels."""
    rng = np.random.default_rng(0)
    for name, size in sizes(shape):
        weight = rng.standard_normal(size, dtype=np.float32) / np.sqrt(size[1])
        yield name, quantized(weight, levels, rng.random(size) < density if density < 1 else None)


@dataclass(frozen=True)
class Form:
    """One way to store one number of levels; `density`: share of entries that a mask leaves."""

    name: str
    levels: int
    way: Standard | Contrib
    density: float = 1.0


SHAPELESS = Standard(plain)
FORMS = (
    Form("fp32", 255, SHAPELESS),
    Form("8 bits, DequantizeLinear", 255, Standard(dequantize_linear(8))),
    Form("4 bits, DequantizeLinear", 15, Standard(dequantize_linear(4))),
    *(
        Form(f"{bits} bits, MatMulNBits level {level}", 2**bits - 1, Contrib(bits, level))
        for bits, level in itertools.product((8, 4, 2), (0, 4))
    ),
    Form("8 bits, packed", 255, Standard(packed(digits(256, 1)))),
    Form("4 bits, packed as digits", 15, Standard(packed(digits(16, 2)))),
    Form("4 bits, packed as planes", 15, Standard(packed(planes(4)))),
    Form("3 bits, packed as planes", 7, Standard(packed(planes(3)))),
    Form("2 bits, packed as digits", 4, Standard(packed(digits(4, 4)))),
    Form("2 bits, packed as planes", 4, Standard(packed(planes(2)))),
    Form("1.6 bits, packed as digits", 3, Standard(packed(digits(3, 5)))),
    Form("1 bit, packed as planes", 2, Standard(packed(planes(1)))),
    Form("4 bits, by table", 15, Standard(packed(tables((16, 2))))),
    Form("3 bits, by tables of 2 and 1 bits", 7, Standard(packed(tables((4, 4), (2, 8))))),
    Form("2 bits, by table", 4, Standard(packed(tables((4, 4))))),
    Form("1.6 bits, by table", 3, Standard(packed(tables((3, 5))))),
    Form("1 bit, by table", 2, Standard(packed(tables((2, 8))))),
    Form("4 bits, planes, a quarter kept", 15, Standard(packed(planes(4))), 0.25),
    Form("4 bits, by table, a quarter kept", 15, Standard(packed(tables((16, 2)))), 0.25),
    Form("3 bits, by tables, a quarter kept", 7, Standard(packed(tables((4, 4), (2, 8)))), 0.25),
    Form("1.6 bits, by table, a quarter kept", 3, Standard(packed(tables((3, 5)))), 0.25),
)


def write(path: Path, shape: str, form: Form, *, as_fp32: bool = False) -> None:
    """The whole stack in one form; `as_fp32`: the same rounded values as plain initializers."""
    graph, way = Graph(), SHAPELESS if as_fp32 else form.way
    current = ""
    for name, given in stack(shape, form.levels, form.density):
        if name == "embedding":
            current = way.embedding(graph, name, given)
        else:
            current = graph.add("Tanh", [way.linear(graph, name, given, current)])
    graph.add("Identity", [current])
    graph.save(path, SHAPES[shape][1])


def load(path: Path) -> None:
    """In a process of its own: load, run, and print the figures. The outputs go beside the file."""
    import onnxruntime as ort

    def resident(line: str = "VmRSS:") -> int:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.partition(line)[2].split()[0])

    def session(**entries: str) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if "weights" in entries:
            options.optimized_model_filepath = entries["graph"]
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_file_name", entries["weights"]
            )
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "64")
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    before, start = resident(), time.perf_counter()
    model = session()
    seconds, after = time.perf_counter() - start, resident()
    peak = resident("VmHWM:")
    ids = np.random.default_rng(1).integers(0, 30_000, (1, 128))
    output = model.run(None, {"ids": ids})[0]
    np.save(path.with_suffix(".npy"), output)
    times = []
    for _ in range(23):
        begun = time.perf_counter()
        model.run(None, {"ids": ids})
        times.append(time.perf_counter() - begun)
    session(graph=str(path.with_suffix(".graph")), weights="weights")
    found = {
        "load_s": seconds,
        "resident_bytes": after - before,
        "peak_bytes": peak - before,
        "weights_in_memory": (path.parent / "weights").stat().st_size,
        "ms_1x128": 1e3 * float(np.median(times[2:])),
    }
    print(json.dumps(found))


def measured(shape: str, form: Form, folder: Path) -> rows.Row:
    """One line of the table."""
    folder.mkdir()
    files = [folder / "packed.onnx", folder / "plain.onnx"]
    found: list[rows.Row] = []
    for path, as_fp32 in zip(files, (False, True), strict=True):
        write(path, shape, form, as_fp32=as_fp32)
        command = [sys.executable, "-m", "bench.formats", "--load", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"shape": shape, "form": form.name, "refused": done.stderr.strip().splitlines()[-1][-300:]}
        found.append(json.loads(done.stdout))
    ours, theirs = (np.load(path.with_suffix(".npy")) for path in files)
    return {
        "shape": shape,
        "form": form.name,
        "file_bytes": files[0].stat().st_size,
        "bits_a_weight": 8 * files[0].stat().st_size / sum(math.prod(s) for _, s in sizes(shape)),
        **found[0],
        "ms_1x128_fp32": found[1]["ms_1x128"],
        "largest_difference": float(np.abs(ours - theirs).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.formats", description=__doc__)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES], default=["minilm-l6"])
    given = parser.parse_args()
    if given.load:
        load(given.load)
        return
    found = []
    for shape, form in itertools.product(given.shapes, FORMS):
        with TemporaryDirectory() as scratch:
            found.append(measured(shape, form, Path(scratch) / "one"))
        print(json.dumps(found[-1]), flush=True)
    stamp = {"git_sha": rows.git_sha(), "hardware": hardware(device="cpu", threads=1).model_dump(mode="json")}
    rows.write(rows.RESULTS / "formats" / "onnxruntime.json", {**stamp, "rows": found})


if __name__ == "__main__":
    main()

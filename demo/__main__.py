"""`python -m demo`: the whole path on this machine, from nothing to a smaller model that proves itself.

Writes labelled text, fine-tunes a small public model on it, starts the service, compresses over HTTP, and runs what
came back in a process that cannot import this project. Exit status 0 only if the student keeps 97 % of its teacher's
accuracy in at most 1/2.2 of the bytes. The last line of stdout is the JSON of `ladapress compress --json`.
Whatever happens, also Ctrl-C, nothing is left running, and no file that `--keep` does not ask for.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from demo import service, text
from demo.teacher import TRAIN_ROWS

RETENTION, BYTES_RATIO = 0.97, 2.2  # what the demo promises
# Bitmaps and what is not pruned weigh, too: 2.4 times fewer parameters are 2.26 times fewer bytes.
OPTIONS = (
    "--preset",
    "ladabert-1",
    "--target",
    "parameter_ratio=2.4",
    "--target",
    f"min_retention={RETENTION}",
    "--no-cache",
)
STOP_S = 40.0  # `ladapress compress` cancels its job and waits for its end when it is interrupted


class DemoError(RuntimeError):
    """A step failed; the message says which."""


def main() -> int:
    """Run the demo; give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--celery", action="store_true", help="with PostgreSQL, Redis and two Celery workers")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave data, teacher and student in DIR")
    given = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with _folder(given.keep) as folder:
            result, promises = run(folder, with_celery=given.celery)
    except KeyboardInterrupt:
        print("demo: interrupted; everything that was started has ended", file=sys.stderr)
        return 130
    except (DemoError, service.ServiceError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    broken = [text for text, kept in promises.items() if not kept]
    for promise in broken:
        print(f"demo: not kept: {promise}", file=sys.stderr)
    print(json.dumps(result, allow_nan=False), flush=True)
    return 1 if broken else 0


def run(folder: Path, *, with_celery: bool) -> tuple[dict[str, Any], dict[str, bool]]:
    """Every step; gives the client's result and what was promised -> whether it was kept."""
    whole = time.monotonic()
    with _step(f"write {text.ROWS['train']:,} training and {text.ROWS['eval']:,} evaluation rows"):
        data = text.write(folder)
    with _step(f"fine-tune all-MiniLM-L6-v2 on {TRAIN_ROWS:,} of them"):
        _call("demo.teacher", data["train"], folder / "teacher")
    start = service.celery if with_celery else service.embedded
    out = folder / "student"
    with ExitStack() as running:
        with _step("start the service"):
            home = running.enter_context(_folder(None))
            url = running.enter_context(start(home))
        with _step("compress over HTTP"):
            files = ("--train", data["train"], "--eval", data["eval"], "--out", out)
            # Its exit status 3 is a missed target: the figures below say by how much.
            answer = _call(
                "ladapress", "compress", folder / "teacher", *files, *OPTIONS, "--json",
                settings={"LADAPRESS_URL": url}, accepted=(0, 3),
            )  # fmt: skip
            result: dict[str, Any] = json.loads(answer.splitlines()[-1])
        with _step("stop the service"):
            running.close()
    with _step("run model.onnx where this project cannot be imported"):
        alone = json.loads(_run(_stranger(out, data["eval"])))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    for said in alone["refused"].values():
        print(f"    {said}")
    print(f"    {alone['right']} of {alone['rows']} evaluation rows right")
    print(f"{time.monotonic() - whole:7.1f} s  in all\n")
    size = (out / "model.onnx").stat().st_size
    print(table(report["point"], size, alone["right"] / alone["rows"]))
    return result, kept(result, report["point"], size, alone["right"] / alone["rows"])


def kept(result: dict[str, Any], point: dict[str, Any], size_bytes: int, accuracy: float) -> dict[str, bool]:
    """Each promise in words -> whether it was kept, by the figures of the service and by ours."""
    ours = {
        "retention": accuracy / point["teacher"],
        "bytes_ratio": 4 * point["sizes_teacher"]["parameters"] / size_bytes,
    }
    promises = {f"status succeeded (it is {result['status']})": result["status"] == "succeeded"}
    promises["trained here, not taken from an equal job"] = result["cache_hit"] is False
    for name, least in (("retention", RETENTION), ("bytes_ratio", BYTES_RATIO)):
        promises[f"{name} {result[name]:.4f} >= {least}"] = result[name] >= least
        promises[f"{name} {ours[name]:.4f} >= {least}, measured here"] = ours[name] >= least
    return promises


def table(point: dict[str, Any], size_bytes: int, accuracy: float) -> str:
    """Teacher against student, as plain text."""
    teacher, student = point["sizes_teacher"], point["sizes"]
    megabytes = 4 * teacher["parameters"] / 1e6, size_bytes / 1e6
    lines = [
        f"{'':<34}{'teacher':>12}{'student':>12}{'ratio':>10}",
        f"{'weights, MB':<34}{megabytes[0]:>12.1f}{megabytes[1]:>12.1f}{megabytes[0] / megabytes[1]:>9.2f}x",
        f"{'non-zero parameters, million':<34}{teacher['nonzero'] / 1e6:>12.2f}{student['nonzero'] / 1e6:>12.2f}"
        f"{teacher['nonzero'] / student['nonzero']:>9.2f}x",
        f"{'accuracy, ' + str(text.ROWS['eval']) + ' evaluation rows':<34}{point['teacher']:>12.4f}{accuracy:>12.4f}"
        f"{accuracy / point['teacher']:>9.1%} ",
    ]
    for row in point["latency"]:
        what = f"ms, {row['batch']} x {row['tokens']} tokens, {row['threads']} thread"
        lines.append(f"{what:<34}{row['teacher_ms_p50']:>12.2f}{row['student_ms_p50']:>12.2f}{row['ratio']:>9.2f}x")
    return "\n".join(lines) + "\n"


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """`keep`, which has to be empty or new and stays, or a folder that is removed at the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ladapress-demo-") as name:
            yield Path(name)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise DemoError(f"--keep {keep}: must be a new or empty folder")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


@contextmanager
def _step(what: str) -> Iterator[None]:
    """Print what is done before, and seconds after; streams in between belong to the step."""
    print(f"           {what} ...", flush=True)
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:7.1f} s  {what}", flush=True)


def _call(module: str, *arguments: str | Path, **options: Any) -> str:
    return _run([sys.executable, "-m", module, *map(str, arguments)], **options)


def _stranger(artifact: Path, eval_csv: Path) -> list[str]:
    script = Path(__file__).with_name("stranger.py")
    return [sys.executable, "-I", "-S", *map(str, (script, sysconfig.get_path("purelib"), artifact, eval_csv))]


def _run(command: Sequence[str], *, settings: dict[str, str] | None = None, accepted: tuple[int, ...] = (0,)) -> str:
    """Run a program to its end; give its stdout. Its stderr is ours, so that progress is seen as it comes.

    It has a session of its own, so that Ctrl-C reaches this process alone, which then ends it in good order.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=service.environment({"OMP_WAIT_POLICY": "PASSIVE", **(settings or {})}),
        start_new_session=True,
    )
    try:
        out, _ = process.communicate()
    except BaseException:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if process.returncode not in accepted:
        raise DemoError(f"{' '.join(command[1:5])} ... ended with status {process.returncode}\n{out}")
    return out


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

"""Where nothing but the data folder and /tmp can be written, as in our containers (D29): a real job from end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.conftest import ROOT, free_port

INSIDE = """
import errno, os, subprocess, sys, time, urllib.request
from pathlib import Path

from tests import tiny
import ladapress

for path in (sys.argv[1], str(Path.home()), "/var/tmp", "/usr"):
    try:
        Path(path, "written").touch()
        sys.exit(f"{path} can be written")
    except OSError as error:
        assert error.errno in (errno.EROFS, errno.ENOENT), error
folder = Path("/tmp/inputs")
folder.mkdir()
tiny.write_model(folder / "model", steps=40)
for name, count in (("train", 300), ("eval", 100)):
    tiny.write_csv(folder / f"{name}.csv", tiny.sentences(count, len(name)))
up = subprocess.Popen([sys.executable, "-m", "ladapress", "up"], cwd="/tmp")
url = f"http://127.0.0.1:{os.environ['LADAPRESS_PORT']}"
try:
    while up.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
        except OSError:
            time.sleep(0.3)
        else:
            break
    done = subprocess.run(
        [sys.executable, "-m", "ladapress", "compress", str(folder / "model"), "--train", str(folder / "train.csv"),
         "--eval", str(folder / "eval.csv"), "--preset", "ladabert-1", "--target", "parameter_ratio=1.5", "--json",
         "--out", "/tmp/smaller"],
        env={**os.environ, "LADAPRESS_URL": url}, cwd="/tmp",
    )
finally:
    up.terminate()
    up.wait(60)
sys.exit(done.returncode or not Path("/tmp/smaller/model.onnx").exists())
"""
# Every file system but those of the kernel read-only, in a mount namespace that ends with its process.
WALLED = """
mount --make-rprivate / && mount -t tmpfs tmpfs /tmp && mkdir /tmp/data || exit 77
awk '$2 != "/tmp" && $3 !~ /^(proc|sysfs|devtmpfs|devpts|cgroup.*|mqueue|debugfs|tracefs|securityfs|bpf)$/ {print $2}' \
    /proc/mounts | sort -r | while read -r place; do mount -o remount,bind,ro "$place" 2>/dev/null; done
mount -t tmpfs tmpfs /dev/shm 2>/dev/null
exec "$@"
"""


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_service_needs_no_place_to_write_but_its_folder_and_tmp() -> None:
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(Path.home()), "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1", "LADAPRESS_DATA_DIR": "/tmp/data", "LADAPRESS_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1", "LADAPRESS_THREADS": "1", "LADAPRESS_LOG_LEVEL": "WARNING",
    }  # fmt: skip
    command = ["unshare", "--mount", "sh", "-c", WALLED, "sh", sys.executable, "-c", INSIDE, str(ROOT)]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)
    if ran.returncode == 77 or "unshare:" in ran.stderr:
        pytest.skip("this host lets nobody make a mount namespace")
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4_000:]

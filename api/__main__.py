"""`python -m api`: serve by the settings in the environment, in one process or several.

Several share one socket under uvicorn's own supervisor, which starts one anew that died, ends all of them on SIGTERM,
and on SIGHUP replaces one after the other, so that somebody answers all the time. They know nothing of each other:
what they agree on is in the database.
"""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory

import uvicorn
from uvicorn.supervisors import Multiprocess

from api.process import FIGURES, configure
from jobs.settings import Settings

SHUTDOWN_S = 8  # for answers that are under way; streams end by themselves before
SILENT_S = 30  # so long a process may be silent, or a new one take to start, until it counts as hung


def main() -> None:
    """Serve until told to stop. Exit code 3 where the app cannot start; several wait for a database that is away."""
    settings = Settings()
    configure(settings)
    config = uvicorn.Config(
        "api.process:app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.api_processes,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_worker_healthcheck=SILENT_S,
        server_header=False,
        access_log=False,  # `api.observed` writes it
        log_config=None,
        h11_max_incomplete_event_size=64 << 10,
    )
    if settings.api_processes == 1:
        uvicorn.Server(config).run()
        return
    with TemporaryDirectory(prefix="ladapress-figures-") as folder:
        os.environ[FIGURES] = folder
        supervisor = Multiprocess(config, [config.bind_socket()])
        supervisor.run()
    if not all(process.exitcode is not None and process.exitcode <= 0 for process in supervisor.processes):
        raise SystemExit(uvicorn.config.STARTUP_FAILURE)


if __name__ == "__main__":
    main()

"""`python -m api`: serve by the settings in the environment."""

from __future__ import annotations

from types import FrameType

import uvicorn

from api.app import create_app
from api.context import Context
from jobs import logs, traces
from jobs.settings import Settings

SHUTDOWN_S = 8  # for answers that are under way; streams end by themselves before


class Server(uvicorn.Server):
    """Tells the streams that the end has come, so that they close and clients reconnect elsewhere."""

    context: Context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.context.closing = True
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve until told to stop. Exit code 3 where the app cannot start."""
    settings = Settings()
    logs.configure(
        "api",
        form=settings.log_format,
        level=settings.log_level,
        secrets=logs.passwords(settings.database_url, settings.broker_url),
    )
    traces.configure("api")
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=SHUTDOWN_S,
        server_header=False,
        access_log=False,  # `api.observed` writes it
        log_config=None,
        h11_max_incomplete_event_size=64 << 10,
    )
    server = Server(config)
    server.context = app.state.context
    server.run()
    traces.flush()
    if not server.started:
        raise SystemExit(3)


if __name__ == "__main__":
    main()

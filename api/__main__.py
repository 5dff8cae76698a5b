"""`python -m api`: serve by the settings in the environment."""

from __future__ import annotations

import socket
from types import FrameType

import uvicorn
from anyio.to_thread import run_sync

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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Spans that wait go out here: uvicorn raises the signal again when it is done, and nothing follows."""
        await super().shutdown(sockets)
        await run_sync(traces.flush)


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
    if not server.started:
        raise SystemExit(3)


if __name__ == "__main__":
    main()

"""Settings of the service: environment variables with the prefix `LADAPRESS_`, nothing else.

Reading them has no side effect: folders are made and connections opened by whoever uses them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(gt=0, lt=65_536)]
PATHS = (
    "data_dir", "store_dir", "work_dir", "signing_key_file", "registries_file", "webhook_key_file", "metrics_token_file",
)  # fmt: skip
Bytes = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    """One process' view of the service. Frozen; `Settings()` reads the environment."""

    model_config = SettingsConfigDict(env_prefix="LADAPRESS_", frozen=True, extra="ignore", allow_inf_nan=False)

    data_dir: Path = Field(Path("ladapress-data"), description="Home of everything that has no setting of its own.")
    database_url: str = Field(
        default_factory=lambda values: f"sqlite:///{values['data_dir'] / 'ladapress.db'}",
        repr=False,  # may hold a password
        description="SQLAlchemy URL: sqlite:///file or postgresql://...; the truth about every job.",
    )
    broker_url: str | None = Field(
        None, repr=False, description="Celery broker (redis://...). None = embedded mode: workers poll the table."
    )
    store_dir: Path = Field(
        default_factory=lambda values: values["data_dir"] / "store", description="Uploads and artifacts, by sha256."
    )
    work_dir: Path = Field(
        default_factory=lambda values: values["data_dir"] / "work", description="Scratch folders of running jobs."
    )

    host: str = Field("127.0.0.1", description="Address that the API binds.")
    port: int = Field(8642, ge=0, le=65535, description="Port that the API binds.")
    bootstrap_key_file: Path | None = Field(
        None, description="File with the first API key; written with a fresh one where it does not exist."
    )

    signing_key_file: Path = Field(
        default_factory=lambda values: values["data_dir"] / "signing-key.pem",
        description="Private key that signs artifacts; written with a fresh one where it does not exist.",
    )

    registries_file: Path | None = Field(
        None, description="TOML file that names the registries which artifacts may be pushed to."
    )
    push_retry_s: Seconds = Field(10, description="Pause after the first failed attempt of a push; it doubles.")
    push_give_up_s: Seconds = Field(86_400, description="Age from which a push that fails is not tried again.")

    webhooks: bool = Field(True, description="This worker delivers webhooks; false where it has no way out.")
    webhook_key_file: Path = Field(
        default_factory=lambda values: values["data_dir"] / "webhook-key",
        description="Keys that encrypt the secrets of webhooks; the API writes a fresh one where it does not exist.",
    )
    webhook_http: bool = Field(False, description="Webhooks may go to http:// addresses, too.")
    webhook_ports: tuple[Port, ...] = Field((443, 8443), description="Ports that webhooks may go to.")
    webhook_allow: tuple[str, ...] = Field(
        (), description="Host names and networks that webhooks may go to though they are not public, at any port."
    )
    webhook_deny: tuple[str, ...] = Field((), description="Networks that webhooks never go to, though public.")
    webhook_timeout_s: Seconds = Field(15, description="Longest wait for the answer to a webhook, all in all.")
    webhook_retry_s: tuple[Seconds, ...] = Field(
        (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="Pauses after the attempts of a webhook that failed; after the last one it is given up.",
    )
    webhook_give_up_s: Seconds = Field(432_000, description="An endpoint that only fails for so long is disabled.")
    webhook_keep_s: Seconds = Field(2_592_000, description="Age from which deliveries are forgotten.")

    lease_s: Seconds = Field(60, description="A worker that is silent for so long has lost its job.")
    tick_s: Seconds = Field(2, description="Pause between two runs of the reconciler.")
    keep_uploads_s: Seconds | None = Field(None, description="Age at which models and datasets go; None = never.")
    keep_artifacts_s: Seconds | None = Field(None, description="Age at which files of artifacts go; None = never.")
    keep_chatter_s: Seconds = Field(
        30 * 86_400, description="Progress, metrics and log lines of a job go so long after its end."
    )
    hint_after_s: Seconds = Field(30, description="A waiting job is announced again after this time.")
    poll_s: Seconds = Field(15, description="Pause between two looks of an idle worker at the table.")
    max_attempts: int = Field(3, ge=1, le=3, description="Starts of one job that may be lost before it fails.")
    device_slots: int = Field(1, ge=1, le=64, description="Jobs that one worker runs at once.")
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="Threads of one child.")
    checkpoint_s: Seconds = Field(120, description="Pause between two checkpoints of a running job.")
    kill_grace_s: Seconds = Field(3, description="Time between SIGTERM and SIGKILL of a child's group.")

    inspect_wait_s: float = Field(2.5, ge=0, description="Longest wait of POST /v1/jobs for the verdict.")
    inspect_cpu_s: Seconds = Field(30, description="CPU limit of an inspection.")
    inspect_memory_bytes: Bytes = Field(2 * 2**30, description="Address space limit of an inspection.")

    max_model_bytes: Bytes = Field(8 * 2**30, description="Largest model, all files together.")
    max_dataset_bytes: Bytes = Field(2 * 2**30, description="Largest dataset.")
    max_json_bytes: Bytes = Field(2**20, description="Largest JSON body.")
    log_format: Literal["json", "console"] | None = Field(
        None, description="Form of log lines; where it is not set, console on a terminal and json elsewhere."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    metrics_token_file: Path | None = Field(
        None, description="File with the token that GET /metrics asks for; without it, callers on this machine only."
    )
    celery_prefix: str = Field("", pattern=r"^[\w.:-]*$", description="Before queue names and Redis keys.")

    @field_validator(*PATHS)
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """The service's processes may start in different folders; they must mean the same one."""
        return value and value.absolute()

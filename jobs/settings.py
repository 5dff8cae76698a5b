"""Settings of the service: environment variables with the prefix `LADAPRESS_`, nothing else.

Reading them has no side effect: folders are made and connections opened by whoever uses them.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(gt=0, lt=65_536)]
PATHS = (
    "data_dir", "store_dir", "work_dir", "upload_dir",
    "signing_key_file", "registries_file", "webhook_key_file", "metrics_token_file",
)  # fmt: skip
Bytes = Annotated[int, Field(gt=0)]
Rate = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}/(second|minute|hour)$")]
Quota = Annotated[int | None, Field(ge=0, lt=2**63)]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


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
        default_factory=lambda values: values["data_dir"] / "store",
        description="Uploads and artifacts, by sha256; with store_url s3://..., only what is on its way there.",
    )
    store_url: str | None = Field(
        None, description="Another store than store_dir: file:///FOLDER or s3://BUCKET[/PREFIX]; see docs/stores.md."
    )
    store_endpoint: str | None = Field(None, description="Address of an S3-compatible store; Amazon's where absent.")
    store_public_endpoint: str | None = Field(
        None, description="The same store as clients reach it, for the addresses of downloads."
    )
    store_region: str | None = Field(None, description="Region of the bucket; AWS_REGION where absent.")
    store_access_key_id: SecretStr | None = Field(
        None, repr=False, description="Credentials of the bucket; AWS_ACCESS_KEY_ID, or the machine's role, if absent."
    )
    store_secret_access_key: SecretStr | None = Field(None, repr=False, description="The secret of that key.")
    store_redirect_s: int = Field(
        300, ge=0, le=900, description="Life of the addresses that downloads are sent to; 0 streams through the API."
    )
    hub_endpoint: str = Field("https://huggingface.co", description="The hub that sources hf://... are asked of.")
    hub_token: SecretStr | None = Field(None, repr=False, description="Read token for that hub; none asks as anybody.")
    sources: str = Field(
        "",
        description="Places that uploads may be taken from instead: file:///FOLDER,s3://BUCKET[/PREFIX].",
    )
    upload_dir: Path = Field(
        default_factory=lambda values: values["data_dir"] / "uploads",
        description="Resumable uploads that are not whole yet; one folder for all API processes.",
    )
    upload_ttl_s: Seconds = Field(86_400, description="A resumable upload that gets no byte for so long is dropped.")
    max_uploads: int = Field(100, ge=1, description="Resumable uploads that a project may have open at once.")
    work_dir: Path = Field(
        default_factory=lambda values: values["data_dir"] / "work", description="Scratch folders of running jobs."
    )

    host: str = Field("127.0.0.1", description="Address that the API binds.")
    port: int = Field(8642, ge=0, le=65535, description="Port that the API binds.")
    api_processes: int = Field(
        1, ge=1, le=64, description="API processes that share the port; SIGHUP replaces one after the other."
    )
    bootstrap_key_file: Path | None = Field(
        None, description="File with the first API key; written with a fresh one where it does not exist."
    )

    rate_limits: bool = Field(True, description="Whether requests are counted and, past the rates below, refused.")
    rate_read: Rate = Field("12000/minute", description="GET and HEAD requests of one key (one address without keys).")
    rate_write: Rate = Field("1800/minute", description="All other requests of one key (one address without keys).")
    rate_failures: Rate = Field("60/minute", description="Wrong keys and tokens that one address may send.")

    quota_queued_jobs: Quota = Field(None, description="Jobs of one project that wait, paused ones too.")
    quota_running_jobs: Quota = Field(None, description="Jobs of one project that workers hold at once.")
    quota_stored_bytes: Quota = Field(None, description="Bytes of one project's models, datasets and artifacts.")
    quota_gpu_minutes: Quota = Field(None, description="Minutes a month for which one project's jobs hold GPUs.")
    quota_cpu_minutes: Quota = Field(None, description="Minutes a month for which its jobs run without a GPU.")

    oidc_issuer: str | None = Field(None, description="URL of the issuer whose tokens are let in; none = keys only.")
    oidc_audience: str | None = Field(None, description="What `aud` of a token must hold.")
    oidc_jwks_url: str | None = Field(None, description="Its keys; found by discovery where this is absent.")
    oidc_algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1, description="Signatures that are taken; never none or HMAC."
    )
    oidc_project_claim: str = Field("ladapress_project", min_length=1, description="Claim that names the project.")
    oidc_projects: dict[str, str] = Field(
        {}, description="Value of that claim -> project id. Empty: the claim holds project ids."
    )
    oidc_scopes_claim: str | None = Field(None, description="Claim that lists scopes; else every token has the next.")
    oidc_scopes: tuple[str, ...] = Field(("read", "write"), description="Scopes of a token without a scopes claim.")

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
    max_attempts: int = Field(3, ge=1, le=20, description="Starts of one job that may be lost before it fails.")
    device_slots: int = Field(1, ge=1, le=64, description="Jobs that one worker runs at once.")
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="Threads of one child.")
    checkpoint_s: Seconds = Field(120, description="Pause between two checkpoints of a running job.")
    kill_grace_s: Seconds = Field(3, description="Time between SIGTERM and SIGKILL of a child's group.")

    job_memory_bytes: Bytes | None = Field(
        None, description="Memory of a job without GPU; None: nine tenths of what there is, in parts for all slots."
    )

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

    @field_validator("oidc_issuer", "oidc_jwks_url")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        """Whoever can change what comes from there can let himself in."""
        url = urlsplit(value or "https://absent")
        near = url.scheme == "http" and url.hostname in ("127.0.0.1", "localhost", "::1")
        if (near or url.scheme == "https") and url.hostname and not (url.query or url.fragment or "@" in url.netloc):
            return value
        raise ValueError("must be https://... without a query (http:// on this machine only)")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("oidc_issuer and oidc_audience go together: a token for another service must not do here")
        return self

    @property
    def quotas(self) -> dict[str, int | None]:
        """What a project may have where `ladapress projects quota` says nothing else, by the name of the quota."""
        return {name: getattr(self, f"quota_{name}") for name in QUOTAS}

    def environment(self) -> dict[str, str]:
        """Variables under which another process has these settings; what is None stays out."""
        shown = self.model_dump(mode="json", exclude_none=True)
        secrets = {name: value for name, value in self if isinstance(value, SecretStr)}
        return {
            f"LADAPRESS_{name.upper()}": value.get_secret_value()
            if (value := secrets.get(name))
            else (text if isinstance(text, str) else json.dumps(text))
            for name, text in shown.items()
        }

    def source_places(self) -> tuple[str, ...]:
        """The entries of `sources`."""
        return tuple(one.strip() for one in self.sources.split(",") if one.strip())

    @field_validator("sources")
    @classmethod
    def _sources(cls, value: str) -> str:
        for one in value.split(","):
            if one.strip().startswith("hf:"):
                if not re.fullmatch(r"hf://(datasets/)?[\w.-]+(/[\w.-]+)?/?", one.strip()):
                    raise ValueError(f"{one!r}: legal: hf://OWNER[/NAME] or hf://datasets/OWNER[/NAME]")
            elif one.strip():
                cls._store(one.strip())
                if urlsplit(one.strip()).path.strip("/") == "" and one.strip().startswith("file:"):
                    raise ValueError(f"{one!r} would open the whole machine; name a folder")
        return value

    @field_validator("store_url")
    @classmethod
    def _store(cls, value: str | None) -> str | None:
        """No credentials in it: it is printed in logs."""
        parts = urlsplit("file:///" if value is None else value)
        folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
        bucket = parts.scheme == "s3" and re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc)
        if not (folder or bucket) or parts.query or parts.fragment:
            raise ValueError(f"{value!r}: legal: file:///FOLDER or s3://BUCKET[/PREFIX]")
        return value

    @field_validator("store_endpoint", "store_public_endpoint", "hub_endpoint")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://none")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError(f"{value!r}: legal: http://HOST[:PORT] or https://HOST[:PORT]")
        return value and value.rstrip("/")


QUOTAS = tuple(name.removeprefix("quota_") for name in Settings.model_fields if name.startswith("quota_"))

"""Bodies of uploads, and answers about resumable ones."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator, model_validator

from api.schemas import Answer, Page
from core.method import Closed
from jobs.requests import Text


class FileDeclared(Closed):
    """A file that will be sent. Size and sha256 are checked where they are given."""

    path: str = Field(min_length=1, max_length=255, description="Bare file name, such as model.safetensors.")
    size: int | None = Field(None, ge=0, lt=2**53)
    sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{64}$")


class ModelCreate(Closed):
    """Body of POST /v1/models. The bytes follow, one PUT per file; or they are taken from `source`."""

    name: Text | None = None
    files: tuple[FileDeclared, ...] = Field((), max_length=200)
    source: Text | None = Field(None, description="Instead of files: a folder or prefix below an open source.")

    @field_validator("files")
    @classmethod
    def _some(cls, files: tuple[FileDeclared, ...]) -> tuple[FileDeclared, ...]:
        if not files:
            raise ValueError("name at least one file; or leave files out and name a source")
        return files

    @model_validator(mode="after")
    def _one_way(self) -> ModelCreate:
        if bool(self.files) == (self.source is not None):
            raise ValueError("legal: either files or source")
        return self


class Upload(Answer):
    """A resumable upload. When `status` is complete, `dataset_id` or `model_id` is what it has become."""

    id: str
    object: Literal["upload"] = "upload"
    purpose: Literal["dataset", "model_file"]
    status: Literal["open", "complete"]
    size_bytes: int = Field(description="Of the whole.")
    received_bytes: int = Field(description="Where to go on: the tus offset.")
    sha256: str = Field(description="Of the whole, as it was announced.")
    name: str | None = Field(description="Of the dataset.")
    format: str | None = Field(description="Of the dataset.")
    dataset_id: str | None
    model_id: str | None
    path: str | None = Field(description="Of the file in the model.")
    created_at: datetime
    expires_at: datetime = Field(description="When it is forgotten unless bytes come.")


class UploadList(Page[Upload]):
    """Resumable uploads of the project."""

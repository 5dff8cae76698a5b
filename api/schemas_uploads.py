"""Answers about resumable uploads."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from api.schemas import Answer, Page


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

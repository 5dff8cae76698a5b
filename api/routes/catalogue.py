"""What can be asked for: methods and presets."""

from __future__ import annotations

from fastapi import APIRouter

from api import schemas
from api.auth import Reader
from core.catalogue import METHODS
from core.recipe import PRESETS

router = APIRouter(tags=["catalogue"])


@router.get("/v1/methods")
def list_methods(_scope: Reader) -> schemas.MethodList:
    """Every mechanism, with its card and the schema of its step."""
    return schemas.MethodList(
        data=[
            schemas.Method(
                name=name,
                family=method.family(),
                version=method.version,
                card=method.card(),
                trains=method.trains,
                needs_training=method.needs_training,
                step_schema=method.model_json_schema(),
            )
            for name, method in METHODS.items()
        ]
    )


@router.get("/v1/presets")
def list_presets(_scope: Reader) -> schemas.PresetList:
    """Recipes with names."""
    return schemas.PresetList(data=list(PRESETS.values()))

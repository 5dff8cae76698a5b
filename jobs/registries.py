"""The registries that artifacts may be pushed to. The operator names them in a file; users name one of them.

No user gives an address or a token, so there is none to be lured by or to be leaked: a row, an event or a request holds
a registry's name. The tokens lie in files of their own, which only the process that pushes opens.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.problem import Refused, refuse
from jobs.requests import PushRequest, TrackRequest
from jobs.settings import Settings

Kind = Literal["huggingface", "mlflow"]
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
BRANCH = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
MODEL = re.compile(r"[A-Za-z0-9_][\w .-]{0,199}", re.ASCII)  # MLflow forbids "/" and ":"
ALIAS = re.compile(r"(?!latest$|v\d+$)[A-Za-z_][\w-]{0,99}", re.ASCII)  # those two mean versions


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("legal: http://HOST[:PORT][/PATH] or https://...")
    if parts.username or parts.password:
        raise ValueError("a user name or password does not belong into an address; use token_file (and username)")
    return url.rstrip("/")


class Registry(BaseModel):
    """One table of the file. Nothing in it is a secret: `token_file` names the file that holds one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    url: Annotated[str, AfterValidator(_address)]
    token_file: Path | None = None
    username: str | None = Field(None, description="MLflow: the token is this user's password (HTTP Basic).")
    prefixes: tuple[str, ...] = Field((), description="Beginnings of the names that may be pushed to.")
    projects: tuple[str, ...] | None = Field(None, description="Projects that may push; every one where absent.")
    private: bool = Field(True, description="Hugging Face: whether a repository that a push makes is private.")
    experiment: str = Field("ladapress", description="MLflow: the experiment that holds the runs.")

    @model_validator(mode="after")
    def _bounded(self) -> Registry:
        if self.kind == "huggingface" and not (self.prefixes and all(prefix.find("/") > 0 for prefix in self.prefixes)):
            raise ValueError('prefixes: name at least one namespace, with its slash, such as ["acme/"]')
        return self

    def check(self, asked: PushRequest, at: str = "") -> None:
        """Raises Refused (request_invalid) where the name, the branch or the alias is none that may be pushed to."""
        hub = self.kind == "huggingface"
        odd = hub and ("--" in asked.to or ".." in asked.to or asked.to.endswith((".git", ".", "-")))
        if odd or not (REPOSITORY if hub else MODEL).fullmatch(asked.to):
            legal = "NAMESPACE/NAME of letters, digits, . _ -" if hub else "a name without / and :"
            raise _illegal(f"{at}/to", asked.to, legal)
        if self.prefixes and not asked.to.startswith(self.prefixes):
            raise _illegal(f"{at}/to", asked.to, f"beginning with {' or '.join(self.prefixes)}")
        for field, value, mine, form, legal in (
            ("revision", asked.revision, hub, BRANCH, "letters, digits, . _ -, and no two dots"),
            ("alias", asked.alias, not hub, ALIAS, "letters, digits, _ -, and neither latest nor v1, v2 ..."),
        ):
            if value is not None and not mine:
                raise _illegal(f"{at}/{field}", value, f"no {field}: a registry of kind {self.kind} has none")
            if value is not None and (not form.fullmatch(value) or ".." in value):
                raise _illegal(f"{at}/{field}", value, legal)

    def check_experiment(self, name: str | None, at: str = "") -> None:
        """Raises Refused (request_invalid) where a job may not be tracked in this experiment."""
        if name is None or name == self.experiment:
            return
        if not MODEL.fullmatch(name):
            raise _illegal(f"{at}/experiment", name, "a name of letters, digits, space, . _ -")
        if self.prefixes and not name.startswith(self.prefixes):
            raise _illegal(
                f"{at}/experiment", name, f"{self.experiment}, or beginning with {' or '.join(self.prefixes)}"
            )


@dataclass(frozen=True)
class Registries:
    """Every registry by name."""

    named: Mapping[str, Registry]

    @classmethod
    def load(cls, settings: Settings) -> Registries:
        """What the settings' file names; nothing where there is none.

        Raises:
            ValueError: the file cannot be read or says something illegal; the message names file and field.
        """
        path = settings.registries_file
        if path is None:
            return cls({})
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls({name: _table(name, table) for name, table in tables.items()})
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None

    def of(self, project_id: str) -> dict[str, Registry]:
        """Those that a project may push to, by name."""
        return {
            name: one for name, one in self.named.items() if one.projects is None or project_id in one.projects
        }  # fmt: skip

    def find(self, project_id: str, asked: PushRequest, at: str = "") -> Registry:
        """The registry of a request.

        Args:
            at: JSON pointer of the request in the body, for refusals.

        Raises:
            Refused: registry_unknown, the same for one of other projects; request_invalid.
        """
        open_to = self.of(project_id)
        if (found := open_to.get(asked.registry)) is None:
            legal = ", ".join(sorted(open_to)) or "none: the operator has named no registry for this project"
            detail = f"no registry {asked.registry!r} is open to this project; legal: {legal}"
            raise refuse("registry_unknown", detail, param=f"{at}/registry")
        found.check(asked, at)
        return found

    def tracker(self, project_id: str, asked: TrackRequest, at: str = "") -> Registry:
        """The registry of a request to track a job, as `find`; only an MLflow server can."""
        open_to = {name: one for name, one in self.of(project_id).items() if one.kind == "mlflow"}
        if (found := open_to.get(asked.registry)) is None:
            legal = ", ".join(sorted(open_to)) or "none: the operator has named no MLflow server for this project"
            detail = f"no MLflow server {asked.registry!r} is open to this project; legal: {legal}"
            raise refuse("registry_unknown", detail, param=f"{at}/registry")
        found.check_experiment(asked.experiment, at)
        return found


def _table(name: str, table: object) -> Registry:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a registry's name is of a-z, 0-9 and -")
    try:
        return Registry.model_validate(table)
    except ValidationError as error:
        # Not pydantic's own text: it quotes values, and a token may stand in the wrong place.
        found = "; ".join(f"{'.'.join([name, *map(str, one['loc'])])}: {one['msg']}" for one in error.errors())
        raise ValueError(f"{found}; a table has: {', '.join(Registry.model_fields)}") from None


def _illegal(param: str, value: str, legal: str) -> Refused:
    return refuse("request_invalid", f"{param}: {value!r} cannot be used; legal: {legal}", param=param)

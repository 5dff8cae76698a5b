"""What an operator may write into the file of registries, and what a user may ask of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.problem import Problem, Refused
from jobs.registries import Registries
from jobs.requests import PushRequest
from jobs.scope import DEFAULT_PROJECT
from jobs.settings import Settings

OTHER = "proj_" + 26 * "1"
HUB = 'kind = "huggingface"\nurl = "https://hub.example/"\nprefixes = ["acme/", "acme-labs/small-"]\n'
MLFLOW = 'kind = "mlflow"\nurl = "http://mlflow.example:5000"\n'


def load(folder: Path, text: str) -> Registries:
    file = folder / "registries.toml"
    file.write_text(text)
    return Registries.load(Settings(registries_file=file))


def refusal(registries: Registries, project: str = DEFAULT_PROJECT, **asked: str) -> Problem:
    with pytest.raises(Refused) as refused:
        registries.find(project, PushRequest.model_validate(asked))
    return refused.value.problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hub]\n" + HUB.replace("huggingface", "docker"), "hub.kind"),
        ("[hub]\n" + HUB.replace('prefixes = ["acme/", "acme-labs/small-"]', ""), "at least one namespace"),
        ("[hub]\n" + HUB.replace('"acme/"', '"acme"'), "at least one namespace"),
        ("[hub]\n" + HUB.replace("https://", "https://me:secret@"), "token_file"),
        ("[hub]\n" + HUB.replace("https://", "file://"), "http://HOST"),
        ("[hub]\n" + HUB + 'token = "secret"\n', "hub.token"),
        ("[Hub]\n" + HUB, "'Hub'"),
        ('kind = "mlflow"\n', "kind"),
        ("[hub", "end of document"),
    ],
)
def test_an_operators_slip_is_named_with_file_and_field_and_without_what_he_wrote(
    tmp_path: Path, text: str, said: str
) -> None:
    """A token in the wrong place must not be repeated in a log."""
    with pytest.raises(ValueError, match=said) as error:
        load(tmp_path, text)
    assert "registries.toml" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_file_that_is_not_there_is_an_error_and_no_setting_is_no_registry(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.toml"):
        Registries.load(Settings(registries_file=tmp_path / "absent.toml"))
    problem = refusal(Registries.load(Settings()), registry="hub", to="acme/x")
    assert (problem.code, problem.status) == ("registry_unknown", 422)


def test_another_projects_registry_is_as_unknown_as_an_absent_one(tmp_path: Path) -> None:
    """And the answer lists those of the asker only."""
    made = load(tmp_path, f'[ours]\n{HUB}\n[theirs]\n{MLFLOW}projects = ["{OTHER}"]\n')
    for name in ("theirs", "absent"):
        problem = refusal(made, registry=name, to="x")
        assert (problem.code, problem.param) == ("registry_unknown", "/registry")
        assert problem.detail == f"no registry '{name}' is open to this project; legal: ours"
    assert set(made.of(OTHER)) == {"ours", "theirs"}
    assert made.find(OTHER, PushRequest(registry="theirs", to="x")).kind == "mlflow"


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("to", {"registry": "hub", "to": "small"}),
        ("to", {"registry": "hub", "to": "acme-evil/small"}),
        ("to", {"registry": "hub", "to": "acme/../evil"}),
        ("to", {"registry": "hub", "to": "acme/.."}),
        ("to", {"registry": "hub", "to": "acme/a--b"}),
        ("to", {"registry": "hub", "to": "acme/x.git"}),
        ("to", {"registry": "hub", "to": "acme/x?y"}),
        ("to", {"registry": "hub", "to": "acme/x\n"}),
        ("to", {"registry": "hub", "to": "acme-labs/large"}),
        ("to", {"registry": "mlflow", "to": "a/b"}),
        ("to", {"registry": "mlflow", "to": "a'b"}),
        ("revision", {"registry": "hub", "to": "acme/x", "revision": "refs/pr/1"}),
        ("revision", {"registry": "hub", "to": "acme/x", "revision": "a..b"}),
        ("revision", {"registry": "mlflow", "to": "x", "revision": "main"}),
        ("alias", {"registry": "hub", "to": "acme/x", "alias": "champion"}),
        ("alias", {"registry": "mlflow", "to": "x", "alias": "latest"}),
        ("alias", {"registry": "mlflow", "to": "x", "alias": "v7"}),
    ],
)
def test_a_name_that_may_not_be_pushed_to_is_refused_with_the_legal_form(
    tmp_path: Path, field: str, asked: dict[str, str]
) -> None:
    made = load(tmp_path, f"[hub]\n{HUB}\n[mlflow]\n{MLFLOW}")
    problem = refusal(made, **asked)
    assert (problem.code, problem.status, problem.param) == ("request_invalid", 422, f"/{field}")
    assert "legal: " in problem.detail


def test_legal_names_pass(tmp_path: Path) -> None:
    made = load(tmp_path, f"[hub]\n{HUB}\n[mlflow]\n{MLFLOW}")
    assert made.named["hub"].url == "https://hub.example"
    for asked in (
        {"registry": "hub", "to": "acme/x"},
        {"registry": "hub", "to": "acme/bert-small_2.0", "revision": "v1.0"},
        {"registry": "hub", "to": "acme-labs/small-1"},
        {"registry": "mlflow", "to": "sentiment small", "alias": "champion"},
    ):
        assert made.find(DEFAULT_PROJECT, PushRequest.model_validate(asked))

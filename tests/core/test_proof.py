"""What a delivered folder says of itself, and proves by itself."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ladapress.errors import LadapressError
from ladapress.measure import measure

from core.data import Columns, Data
from core.export.card import card
from core.export.page import page
from core.manifest import Manifest
from core.pipeline import Result, compress
from core.recipe import Recipe, Target
from core.report import Flip, Report
from core.schemas import SCHEMAS, schema
from core.verify import shipped

DOCS = Path(__file__).parents[2] / "docs"
STEPS = [{"method": "weighted_svd", "keep": 0.6}, {"method": "gptq", "bits": 4}, {"method": "distill", "epochs": 2}]


@pytest.fixture(scope="module")
def result(teacher: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Result:
    recipe = Recipe.model_validate({"steps": STEPS})
    data = Data(rows["train"], rows["eval"], columns=Columns(text="text"))
    return compress(
        teacher, recipe, data, target=Target(latency_ratio=9), out=tmp_path_factory.mktemp("out"), threads=1
    )


@pytest.fixture
def copy(result: Result, tmp_path: Path) -> Path:
    """Of the folder, to be spoilt."""
    return Path(shutil.copytree(result.folder, tmp_path / "copy"))


def verify(folder: Path, *arguments: str) -> tuple[int, str]:
    """As its user runs it: another process, another folder, none of ours on the path."""
    command = [sys.executable, "-I", "-B", str(folder / "verify.py"), *arguments]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def listed_again(folder: Path, *names: str) -> None:
    """Make the manifest agree with files that were changed."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in names:
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest))


def test_verify_repeats_the_report_to_the_digit(result: Result, rows: dict[str, Path]) -> None:
    code, said = verify(result.folder, "--eval", str(rows["eval"]))
    assert code == 0, said
    assert said.startswith("This shows that the folder agrees with itself, not who made it")
    for form, value in result.report.point.student_by_file.items():
        assert f"ok      {form}: accuracy {value:.6f} on 120 rows; report.json says {value:.6f}\n" in said
        assert f"ok      {form}: answers differ by " in said


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_bit_that_flips_anywhere_is_found(copy: Path, data: st.DataObject) -> None:
    files = json.loads((copy / "manifest.json").read_text())["files"]
    name = data.draw(st.sampled_from(sorted(files)))
    place = data.draw(st.integers(0, files[name]["size"] - 1))
    path = copy / name
    content = path.read_bytes()
    path.write_bytes(
        content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :]
    )
    try:
        assert [line.partition(":")[0] for line in shipped.damage(copy)] == [name]
    finally:
        path.write_bytes(content)


def test_files_that_are_missing_added_cut_or_linked_are_found(copy: Path) -> None:
    assert shipped.damage(copy) == []
    for path in (".gitattributes", ".git/HEAD", ".cache/huggingface/x"):  # a hub and its clients leave these
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text("")
    assert shipped.damage(copy) == []
    (copy / "tokenizer.json").unlink()
    (copy / "pytorch/more.py").write_text("")
    (copy / "report.html").write_text("cut")
    (copy / "parity.json").rename(copy.parent / "elsewhere")
    (copy / "parity.json").symlink_to(copy.parent / "elsewhere")
    found = dict(line.split(": ", 1) for line in shipped.damage(copy))
    assert set(found) == {"tokenizer.json", "pytorch/more.py", "report.html", "parity.json"}
    code, said = verify(copy)
    assert (code, said.count("WRONG")) == (1, 4)
    assert "answers" not in said, "files that are not what they were are not run"


def test_a_file_that_answers_otherwise_is_found_though_the_manifest_agrees(copy: Path) -> None:
    known = json.loads((copy / "parity.json").read_text())
    known["logits"][3][1] += 0.01
    (copy / "parity.json").write_text(json.dumps(known))
    listed_again(copy, "parity.json")
    code, said = verify(copy)
    assert code == 1
    assert "WRONG   model.onnx: answers differ by 0.01 " in said
    assert "WRONG   pytorch: answers differ by 0.01 " in said


def test_an_accuracy_that_is_not_so_is_found(copy: Path, rows: dict[str, Path]) -> None:
    report = json.loads((copy / "report.json").read_text())
    report["point"]["student_by_file"]["model.onnx"] -= 0.1
    (copy / "report.json").write_text(json.dumps(report))
    listed_again(copy, "report.json")
    code, said = verify(copy, "--eval", str(rows["eval"]))
    assert code == 1
    assert "WRONG   model.onnx: accuracy" in said
    assert "ok      pytorch: accuracy" in said


def test_the_manifest_says_what_the_folder_was_made_of(result: Result, teacher: Path, rows: dict[str, Path]) -> None:
    manifest = Manifest.model_validate_json((result.folder / "manifest.json").read_bytes())
    report = result.report
    given_ = {f"model/{path.name}": path for path in teacher.iterdir()} | rows
    assert manifest.input_hashes == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in given_.items()
    }
    assert (manifest.recipe, manifest.seed, manifest.columns) == (report.recipe, 0, {"text": "text"})
    assert set(manifest.needs) == {"model.onnx", "pytorch"}
    assert not [entry for needs in manifest.needs.values() for entry in needs if "ladapress" in entry]
    assert re.fullmatch("[0-9a-f]{64}", manifest.weights_sha256)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schemas_are_those_of_the_code_and_hold(result: Result, name: str) -> None:
    text = (DOCS / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    assert text == schema(name), "run: python -m core.schemas docs/schemas"
    content = json.loads((result.folder / f"{name}.json").read_text())
    jsonschema.validate(content, json.loads(text))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"more": 1}, json.loads(text))


def test_the_report_page_asks_for_nothing_and_escapes_what_users_wrote(result: Result) -> None:
    report = result.report
    assert report.evidence is not None
    evil = Flip(row=1, text="<script>alert(1)</script>", label="a", teacher="a", student="<b>")
    comparison = report.evidence.comparison.model_copy(update={"flips": (evil,)})
    evidence = report.evidence.model_copy(update={"comparison": comparison})
    html = page(report.model_copy(update={"evidence": evidence, "warnings": ("<i>w</i>",)}))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert not re.search(r"<script|<b>|<i>w|<link|<img|@import|url\(http|(?:src|href)=\"(?!#)", html)
    assert html == page(report.model_copy(update={"evidence": evidence, "warnings": ("<i>w</i>",)}))


def test_the_report_page_says_what_the_report_says(result: Result) -> None:
    html, point = (result.folder / "report.html").read_text(), result.report.point
    assert f"keeps {100 * point.retention:.1f} % of accuracy: target missed (latency_ratio" in html
    assert "no_runtime_gain_expected" in html
    for layer in (result.report.evidence or pytest.fail("no evidence")).layers:
        assert f'<td class="n">{layer.bytes:,}</td>' in html
    before = page(Report.model_validate(result.report.model_dump() | {"evidence": None}))
    assert before.count("<svg") == len(point.latency)


@pytest.mark.parametrize("packed", [True, False])
def test_the_lines_of_the_model_card_run(result: Result, tmp_path: Path, packed: bool) -> None:
    """Both ways to load give the same class, where only what pip is told to install is at hand."""
    folder = Path(shutil.copytree(result.folder, tmp_path / "artifact"))
    if not packed:
        (folder / "pytorch/load.py").unlink()
        assert 'AutoModelForSequenceClassification.from_pretrained("pytorch"' in card(result.report, folder)
        return
    text = (folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    said = []
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-I", "-c", block], cwd=folder, capture_output=True, text=True, check=True
        )
        said.append(re.findall(r"\d+", done.stdout))
    assert said[0] == said[1] != []
    assert text.startswith("---\nlibrary_name: onnx\npipeline_tag: text-classification\n")
    assert 'pip install "onnxruntime==' in text


def test_the_client_measures_what_the_report_says(result: Result, rows: dict[str, Path], copy: Path) -> None:
    found = measure(result.folder, rows["eval"], {})
    value = result.report.point.student_by_file["model.onnx"]
    assert (found["metric"], found["rows"], found["reported"]) == ("accuracy", 120, value)
    assert found["to_the_digit"]
    with pytest.raises(LadapressError, match="KeyError: 'nowhere'"):
        measure(result.folder, rows["eval"], {"label": "nowhere"})
    report = json.loads((copy / "report.json").read_text())
    report["point"]["student_by_file"]["model.onnx"] -= 0.1
    (copy / "report.json").write_text(json.dumps(report))
    with pytest.raises(LadapressError, match="accuracy is"):
        measure(copy, rows["eval"], {})
    report["point"]["student_by_file"]["model.onnx"] = float("nan")
    (copy / "report.json").write_text(json.dumps(report))
    with pytest.raises(LadapressError, match=r"report\.json says nan"):
        measure(copy, rows["eval"], {})


def test_rows_that_cannot_be_read_are_said_in_a_line(result: Result, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,class\nfine,1\n")
    code, lines = verify(result.folder, "--eval", str(tmp_path / "rows.csv"))
    assert code == 1
    assert "WRONG" in lines
    assert "KeyError: 'label'" in lines


def test_a_label_cannot_leave_its_place_in_the_card(result: Result) -> None:
    labels = ("a`b <script>alert(1)</script>", "x\n## Injected\n|", "`" * 5, "y" * 3000)
    text = card(result.report.model_copy(update={"labels": labels}), result.folder)
    (line,) = (line for line in text.splitlines() if line.startswith("Measured on"))
    assert "`` a`b <script>alert(1)</script> ``, `x ## Injected |`, `````` ````` ``````, `yyy" in line
    assert len(line) < 400


def test_a_budget_of_minutes_has_no_verdict_in_the_page(result: Result) -> None:
    html = page(result.report.model_copy(update={"target": {"max_minutes": 1.0, "latency_ratio": 9.0}}))
    assert '<th scope="row">latency_ratio</th>' in html
    assert '<th scope="row">max_minutes</th>' not in html

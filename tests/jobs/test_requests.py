"""The task and the metric of a request belong together."""

import pytest
from pydantic import ValidationError

from core.task import TASKS
from jobs.requests import InspectionRequest, JobRequest, PlanRequest

BODY = {"model": "mdl_1", "data": {"train": "dst_1", "eval": "dst_2"}}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", [InspectionRequest, PlanRequest, JobRequest])
def test_the_metric_is_the_tasks_first_where_none_is_given(kind: type[PlanRequest], task: str) -> None:
    assert kind.model_validate({**BODY, "task": task}).metric == TASKS[task].metrics[0]
    assert kind.model_validate({**BODY, "task": task, "metric": TASKS[task].metrics[-1]}).task == task
    assert kind.model_validate(BODY).metric == "accuracy"


@pytest.mark.parametrize(
    ("given", "place", "says"),
    [
        ({"task": "regression", "metric": "f1"}, "metric", "not a metric of task 'regression'; legal: spearman"),
        ({"metric": "spearman"}, "metric", "not a metric of task 'classification'; legal: accuracy, macro_f1, f1, mcc"),
        ({"task": "translation"}, "task", "Input should be 'classification', 'multi_label', "),
        ({"task": ["regression"]}, "task", "Input should be 'classification'"),
        ({"metric": "bleu"}, "metric", "Input should be 'accuracy'"),
    ],
)
def test_another_tasks_metric_is_refused_in_its_place(given: dict[str, object], place: str, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        PlanRequest.model_validate({**BODY, **given})
    (error,) = refused.value.errors()
    assert error["loc"] == (place,)
    assert says in error["msg"]

"""The program has every name that others rely on, and none that is still planned."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator

import pytest
import typer

import app
from app.cli.main import app as command_line
from app.domain.errors import ApiError
from app.settings.environment import FILE_VARIABLES, SECRET_VARIABLES, VARIABLES
from app.telemetry.exposition import render
from app.telemetry.histogram import HistogramReading
from app.telemetry.metrics import Gauges, Metrics
from tests import contract_names
from tests.contract_names import names


def commands() -> set[str]:
    def below(command: object, words: tuple[str, ...] = ()) -> Iterator[str]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield " ".join(words)
            return
        for name, one in inner.items():
            yield from below(one, (*words, name))

    return set(below(typer.main.get_command(command_line)))


def errors() -> set[str]:
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if module.name.startswith(("app.domain", "app.gateway", "app.web")):
            importlib.import_module(module.name)
    found, todo = set[str](), [ApiError]
    while todo:
        kind = todo.pop()
        found.add(f"{kind.status} {kind.error_type}")
        todo += kind.__subclasses__()
    return found


def variables() -> set[str]:
    return {*VARIABLES, *SECRET_VARIABLES, *FILE_VARIABLES}


def metrics() -> set[str]:
    owned = Gauges(
        ledger_queue_depth=int,
        ledger_commit_seconds=lambda: HistogramReading.of((0.1,), (0, 0), 0),
        ledger_spooled=int,
        unsettled_records=int,
        upstream_connections=dict,
    )
    page = render(Metrics(lambda _: True, owned))[0].decode()
    return set(re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE))


@pytest.mark.parametrize(
    ("existing", "promised", "planned"),
    [
        pytest.param(commands, contract_names.COMMANDS, contract_names.PLANNED_COMMANDS, id="commands"),
        pytest.param(errors, contract_names.ERRORS, contract_names.PLANNED_ERRORS, id="errors"),
        pytest.param(metrics, contract_names.METRICS, contract_names.PLANNED_METRICS, id="metrics"),
        pytest.param(variables, contract_names.VARIABLES, "", id="variables"),
    ],
)
def test_names_that_others_rely_on_exist_and_planned_ones_do_not_yet(
    existing: Callable[[], set[str]], promised: str, planned: str
) -> None:
    there = existing()
    assert names(promised) - there == set(), "a name that others rely on is gone"
    assert names(planned) & there == set(), "this name is no longer planned: list it as promised"

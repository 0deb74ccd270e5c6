import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import ApiError
from app.domain.records import Outcome, Record
from app.telemetry.labels import MOST_MODELS, OTHER, OUTCOMES, ROUTES, ModelLabels, reasons, route_of


def call(requested: str | None, served: str | None = None, outcome: Outcome = Outcome.COMPLETED) -> Record:
    return Record(
        "req", 0, "c", "k", "u", "/responses", model_requested=requested, model_served=served, outcome=outcome
    )


@pytest.mark.parametrize("base", ["", "/v1", "/api/v1"])
@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/responses", "/responses"),
        ("/responses/compact", "/responses/compact"),
        ("/responses/input_tokens?x=1", "/responses/input_tokens"),
        ("/responses/resp_1?include=a/b", "/responses/{id}"),
        ("/responses/resp_1/cancel", "/responses/{id}/cancel"),
        ("/responses/resp_1/input_items", "/responses/{id}/input_items"),
        ("/responses/", OTHER),
        ("/responses//cancel", OTHER),
        ("/responses/resp_1/else", OTHER),
        ("/models", OTHER),
        ("", OTHER),
    ],
)
def test_paths_become_templates(base: str, path: str, route: str) -> None:
    assert route_of(base + path) == route


@given(path=st.text() | st.from_regex(r"(/api)?/v1/responses/[^/]*(/\w*)?"))
def test_no_path_leaves_the_set(path: str) -> None:
    assert route_of(path) in ROUTES


def test_reasons_are_the_error_tree() -> None:
    for kind in ApiError.__subclasses__():
        assert kind.error_type in reasons()
    assert {"internal_error", "upstream_timeout", "insufficient_quota", OTHER} <= set(reasons())
    assert len(set(reasons())) == len(reasons())


def test_an_open_call_is_no_outcome() -> None:
    assert set(OUTCOMES) == set(Outcome) - {Outcome.IN_PROGRESS}


def test_the_model_served_goes_before_the_model_asked_for() -> None:
    labels = ModelLabels(lambda name: name.startswith("known"))
    assert labels.of(call("known-alias", "known-dated")) == "known-dated"
    assert labels.of(call("known-alias")) == OTHER, "nobody has served it"
    assert labels.of(call("x", "known-alias")) == "known-alias"
    assert labels.of(call("known-alias")) == "known-alias"
    assert labels.of(call("known-alias", "nobody's")) == OTHER
    assert labels.of(call(None)) == OTHER


@pytest.mark.parametrize("name", ["x" * 257, "a\nb", "a\x00"])
def test_odd_names_are_other_however_well_known(name: str) -> None:
    assert ModelLabels(lambda name: True).of(call(name, name)) == OTHER


def test_a_price_book_that_knows_everything_does_not_make_labels_without_end() -> None:
    labels = ModelLabels(lambda name: True)
    seen = {labels.of(call("x", f"gpt-{number}")) for number in range(10_000)}
    assert len(seen) == MOST_MODELS + 1
    assert labels.of(call("gpt-0")) == "gpt-0"


def test_made_up_names_leave_room_for_those_that_are_served() -> None:
    labels = ModelLabels(lambda name: True)
    for number in range(1000):
        assert labels.of(call(f"gpt-{number}", outcome=Outcome.UPSTREAM_ERROR)) == OTHER
        assert labels.of(call("x", f"gpt-{number}", Outcome.FAILED)) == OTHER
    assert labels.of(call("gpt", "gpt-5")) == "gpt-5"


def test_a_label_that_is_taken_stays() -> None:
    labels = ModelLabels(lambda name: True)
    for number in range(MOST_MODELS):
        labels.of(call("x", f"gpt-{number}"))
    assert labels.of(call("gpt-9999")) == OTHER

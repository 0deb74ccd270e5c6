import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mock.faults import CATALOGUE, BadFault, FaultCounter, MockFault, parse_faults
from app.mock.options import BadOption, MockOptions
from app.mock.pace import BadPace, Pace


def test_names_are_unique() -> None:
    assert len({kind.name for kind in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.name)
def test_examples_parse(kind: object) -> None:
    example, name = kind.example, kind.name  # type: ignore[attr-defined]
    assert name in {fault.name for fault in parse_faults(example)}


def test_values_have_units() -> None:
    spec = "stall@5=250ms, slow-first-byte=1.5m,big-terminal=3KB,split=7,status=529,stall@2"
    assert [(fault.name, fault.event, fault.value) for fault in parse_faults(spec)] == [
        ("stall", 5, 0.25),
        ("slow-first-byte", 0, 90.0),
        ("big-terminal", 0, 3_000),
        ("split", 0, 7),
        ("status", 0, 529),
        ("stall", 2, None),
    ]


@pytest.mark.parametrize(
    "spec",
    [
        "nonsense",
        "truncate",  # where?
        "truncate@x",
        "crlf@3",  # nothing happens at an event
        "crlf=1",
        "status",
        "status=200",
        "status=429s",
        "stall@1=soon",
        "split=0",
        "big-terminal=900GB",
        "big-terminal=900000MB",
        "failed:many",
    ],
)
def test_what_does_not_parse_is_named(spec: str) -> None:
    with pytest.raises(BadFault) as caught:
        parse_faults(f"bom,{spec}")
    assert spec.partition("=")[0].partition("@")[0].partition(":")[0] in str(caught.value)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-@=:,. ", max_size=40))
def test_no_spec_raises_anything_else(spec: str) -> None:
    try:
        faults = parse_faults(spec)
    except BadFault:
        return
    assert len(faults) <= spec.count(",") + 1


def test_first_calls_only() -> None:
    counter, faults = FaultCounter(), parse_faults("status=429:2,crlf")
    seen = [sorted(counter.due(faults)) for _ in range(4)]
    assert seen == [["crlf", "status"], ["crlf", "status"], ["crlf"], ["crlf"]]
    counter.reset()
    assert "status" in counter.due([MockFault("status", value=429, first_calls=2)])


def test_options_are_checked_when_made() -> None:
    with pytest.raises(BadOption, match="openrouter-legacy"):
        MockOptions(dialect="klingon")
    with pytest.raises(BadFault):
        MockOptions(faults="truncate")
    assert "secret" not in repr(MockOptions(key="secret"))


def test_paces() -> None:
    assert Pace.parse("0") == Pace(0, 0)
    assert Pace.parse("50:1.5") == Pace(50, 1.5)
    assert Pace.parse("50").planned(100) == pytest.approx(2.3)
    for wrong in ("", "fast", "-1", "nan", "10:-1", "inf"):
        with pytest.raises(BadPace):
            Pace.parse(wrong)

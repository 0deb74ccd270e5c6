"""A key's label is listed, kept when the key is rotated, and is never a key (contract.md, `keys create --label`)."""

import pytest

from tests.e2e.program import Gateway


def made(gateway: Gateway, label: str) -> dict[str, str]:
    answer = gateway.admin("POST", "/keys", {"client": "labelled", "label": label})
    assert answer.status == 201
    gateway.secrets[f"key of {label}"] = answer.json["key"]
    return dict(answer.json)


def test_a_label_is_listed_and_outlives_a_rotation(gateway: Gateway) -> None:
    first = made(gateway, "laptop")
    second = gateway.admin("POST", f"/keys/{first['key_id']}/rotate", {}).json
    gateway.secrets["rotated key"] = second["key"]
    labels = {key["key_id"]: key["label"] for key in gateway.admin("GET", "/keys").json["keys"]}
    assert [labels[key["key_id"]] for key in (first, second)] == ["laptop", "laptop"]


@pytest.mark.parametrize("label", ["", "x" * 65, "a\nb", "sk-wb-" + "0" * 20])
def test_a_label_fits_a_line_and_is_no_key(gateway: Gateway, label: str) -> None:
    answer = gateway.admin("POST", "/keys", {"client": "labelled", "label": label})
    assert (answer.status, answer.error_type) == (400, "invalid_request")
    assert "sk-wb-0" not in answer.body.decode()


def test_the_server_says_where_it_is(gateway: Gateway) -> None:
    assert gateway.admin("GET", "/server").json["url"] == gateway.url

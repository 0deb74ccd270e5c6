"""Addresses that hold passwords come from files, too: container secrets are files."""

from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load_settings

URLS = {
    "WEIGHBRIDGE_DATABASE_URL": ("database_url", "postgresql://weighbridge:secret@db/weighbridge"),
    "WEIGHBRIDGE_REDIS_URL": ("redis_url", "redis://:secret@cache:6379/0"),
}


def load(**environ: str) -> Settings:
    return load_settings(environ={"HOME": "/nobody"} | environ, need_upstream_key=False)


@pytest.mark.parametrize("name", URLS)
def test_a_file_gives_the_address(name: str, tmp_path: Path) -> None:
    key, url = URLS[name]
    file = tmp_path / "url"
    file.write_text(url + "\n")
    settings = load(**{f"{name}_FILE": str(file)})
    assert getattr(settings.storage, key).reveal() == url
    assert settings.origin(f"storage.{key}") == f"env {name}_FILE"
    assert "secret" not in str(settings)


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("content", [None, "", "https://elsewhere", "two words"], ids=str)
def test_what_is_wrong_with_the_file_is_said_without_its_content(
    name: str, content: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load(**{f"{name}_FILE": str(file)})
    assert [fault.where for fault in caught.value.faults] == [f"env {name}_FILE"]
    assert not content or content not in str(caught.value)


@pytest.mark.parametrize("name", URLS)
def test_a_variable_and_a_file_that_differ_are_a_fault(name: str, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(URLS[name][1])
    with pytest.raises(SettingsError, match="different"):
        load(**{name: URLS[name][1] + "1", f"{name}_FILE": str(file)})
    settings = load(**{name: URLS[name][1], f"{name}_FILE": str(file)})
    assert getattr(settings.storage, URLS[name][0]).reveal() == URLS[name][1]

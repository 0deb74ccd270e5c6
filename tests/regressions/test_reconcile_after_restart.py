"""`reconcile` against a mock that was started anew: its books are kept, or it says where they begin (issue 12, D5)."""

import json
from pathlib import Path

from tests.e2e.client import ASK, opened
from tests.e2e.program import Gateway, Mock, Process, clean_environment, run

REST = ("--tolerance", "0", "--json")


def test_the_demo_keeps_its_books(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    key = ""
    spent = "0"
    for _ in range(2):
        demo = Process(("serve", "--demo", "--port", "0"), env, r"ready at (\S+)", tmp_path)
        key = key or demo.out.split("OPENAI_API_KEY=")[1].split()[0]
        with opened(f"{demo.url}/v1/responses", key, ASK) as call:
            assert call.rest().status == 200
        done = run("reconcile", *REST, env=env)
        assert done.returncode == 0, done.stderr
        today = json.loads(done.stdout)["windows"][0]
        assert today["ours_usd"] == today["upstream_usd"] > spent
        spent = today["ours_usd"]
        assert demo.end() == 0


def test_a_mock_without_books_says_where_they_begin(tmp_path: Path, canary_key: str) -> None:
    port = ""
    with Mock(tmp_path, canary_key) as mock:
        port = mock.url.rpartition(":")[2]
        gateway = Gateway(tmp_path, canary_key, WEIGHBRIDGE_UPSTREAM_URL=f"{mock.url}/api/v1")
        gateway.post(ASK)
    with gateway, Mock(tmp_path, canary_key, "--port", port):
        gateway.post(ASK)
        for more in ((), ("--management-key-file", str(_key_file(tmp_path, canary_key)))):
            done = gateway.command("reconcile", *REST, *more)
            assert "Upstream's records begin at 20" in done.stderr
            assert "calls before that are not compared." in done.stderr
            assert json.loads(done.stdout)["within"] is True
        (row,) = gateway.json_of("usage")
        assert row["requests"] == 2
        (tmp_path / "management-key").unlink()


def _key_file(folder: Path, key: str) -> Path:
    path = folder / "management-key"
    path.write_text(key)
    return path


def test_books_begin_anew_where_they_cannot_be_read(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    (tmp_path / "state").mkdir(mode=0o700)
    books = tmp_path / "state" / "demo-books.jsonl"
    books.write_text('{"since": 1}\n{"id": "cut')
    books.chmod(0o600)
    demo = Process(("serve", "--demo", "--port", "0"), env, r"ready at (\S+)", tmp_path)
    key = demo.out.split("OPENAI_API_KEY=")[1].split()[0]
    with opened(f"{demo.url}/v1/responses", key, ASK) as call:
        assert call.rest().status == 200
    assert run("reconcile", *REST, env=env).returncode == 0
    assert demo.end() == 0

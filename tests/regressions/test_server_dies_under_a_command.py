"""A server that is killed while it works on a command. The command ended with 117 lines of traceback."""

import json
import socket
import threading
from pathlib import Path

import pytest

from tests.e2e.program import clean_environment, run

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def answer_once(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(_ANSWER)
        connection.recv(65_536)


@pytest.mark.parametrize("command", [("keys", "create", "bob"), ("clients", "list"), ("usage", "--by", "request")])
def test_a_server_that_dies_under_a_command_is_told_in_a_sentence(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "admin.sock"
    (tmp_path / "server.json").write_text(json.dumps({"admin_socket": str(path)}))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        dying = threading.Thread(target=answer_once, args=(listener,))
        dying.start()
        done = run(*command, env=clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path)))
        dying.join()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("weighbridge: the server ended before it answered")
    assert len(done.stderr.splitlines()) == 1

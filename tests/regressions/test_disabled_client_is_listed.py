"""`clients list` says which clients are disabled: it showed their keys as active, and nothing else."""

from tests.e2e.program import Gateway


def test_state_and_group_are_listed(gateway: Gateway) -> None:
    gateway.new_key("leaver")
    gateway.command("groups", "set", "guests", "--rpm", "5")
    gateway.command("clients", "set", "leaver", "--disable", "--group", "guests")
    head, *lines = gateway.command("clients", "list").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("leaver")]
    assert head.split()[:2] == ["CLIENT", "STATE"]
    assert line.split()[:4] == ["leaver", "disabled", "1", "guests"]
    assert gateway.command("clients", "show", "leaver").stdout.splitlines()[0].endswith(", disabled")
    assert "enabled" in gateway.command("clients", "set", "leaver", "--enable").stdout

"""A running mock, as a test sees it."""

from typing import Any

import httpx2

KEY = "sk-mock-upstream"


class RunningMock:
    """One mock; `url` has no path."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = KEY
        self.client = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=20)

    def post(self, body: dict[str, Any], fault: str = "", path: str = "/v1/responses") -> httpx2.Response:
        return self.client.post(path, json=body, headers={"x-mock-fault": fault} if fault else {})

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(path).json()
        return found

    def calls(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/_mock/books")["calls"]
        return found

    def last(self) -> dict[str, Any]:
        return self.calls()[-1]

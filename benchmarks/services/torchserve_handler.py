"""TorchServe: a handler of one's own for a batch of rows, as its documentation shows."""

import json
from typing import Any

from served import Served


class Handler:
    def initialize(self, context: Any) -> None:
        self.served = Served()

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[dict[str, Any]]:
        return self.served.many([self._row(each["body"]) for each in data])

    @staticmethod
    def _row(body: Any) -> Any:
        return body if isinstance(body, dict) else json.loads(bytes(body))

"""The open gate: lets everybody in, and counts."""

from collections import Counter

from modelyard.core.call import Call, Outcome


class OpenGate:
    """A gate without keys, for a server that only this machine can reach."""

    def __init__(self) -> None:
        self.admitted = 0
        self.settled: Counter[Outcome] = Counter()

    def admit(self, call: Call) -> None:
        """Let the call in."""
        self.admitted += 1

    def settle(self, call: Call) -> None:
        """Count how it ended."""
        if call.outcome is not None:
            self.settled[call.outcome] += 1

"""The home's policy: what may be loaded, what needs two people, what is written down."""

from dataclasses import dataclass
from typing import Final

from modelyard.core.identity import matches

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Which payloads of the models that fit are kept, and for how long; none by default.

    `share` of the calls is kept, in percent. What `redact` names, columns by name or JSON paths
    (`$.inputs.name`), is gone before anything is written. `subject` names the column or path that
    says whom a payload is about.
    """

    models: str
    share: float = 0.0
    redact: tuple[str, ...] = ()
    subject: str = ""
    retention_s: float = 7 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One document for a home, changed as a whole; every change is audited.

    An empty tuple of frameworks or formats allows all that the house trusts by itself.
    """

    require_signature: bool = False
    trusted_keys: tuple[str, ...] = ()
    """Public keys in PEM, of those whose signatures count."""
    frameworks: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    four_eyes: tuple[str, ...] = ()
    """Patterns of the models that are deployed only when a second person approves."""
    approval_s: float = 7 * DAY_S
    """How long a change waits for that."""
    audit_calls: tuple[str, ...] = ()
    """Patterns of the models of which every call becomes an audit row."""
    captures: tuple[Capture, ...] = ()

    def needs_approval(self, model: str) -> bool:
        """Whether a second person must approve a deployment."""
        return matches(model, self.four_eyes)

    def audits_calls(self, model: str) -> bool:
        """Whether every call to a model becomes an audit row."""
        return matches(model, self.audit_calls)

    def capture(self, model: str) -> Capture | None:
        """What is captured of a model's calls: the capture with the longest pattern that fits."""
        fitting = [
            each for each in self.captures if each.share > 0 and matches(model, (each.models,))
        ]
        return max(fitting, key=lambda each: len(each.models), default=None)


NO_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A policy and the number that it was put in force under; a home begins at 0."""

    number: int
    policy: Policy

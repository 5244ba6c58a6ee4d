"""Keys in memory, for servers of a test."""

from dataclasses import dataclass, field, replace

from modelyard.core.identity import WHOLE_SCOPE, Role, Scope
from modelyard.core.rules import Key, Rules, Tenant
from modelyard.gateway.access import KeyedAccess
from modelyard.gateway.credentials import Credential, digest, new_secret, write_key
from modelyard.gateway.guesses import Guesses

SALT = b"s" * 16
WRONG = "my_aaaaaaaaaaaa_" + "b" * 51 + "a"
"""A key of the right form that nobody has."""


@dataclass
class Ring:
    """Keys by name, and an access that knows them. Change them on the server's loop."""

    texts: dict[str, str] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    access: KeyedAccess = field(
        default_factory=lambda: KeyedAccess(Rules(), guesses=Guesses(most=100_000))
    )

    def add(
        self,
        name: str,
        *,
        role: Role = Role.CALLER,
        tenant: str = "acme",
        scope: Scope = WHOLE_SCOPE,
        sees: tuple[str, ...] = ("*",),
        expires_at: float | None = None,
    ) -> str:
        """Make a key; returns its text."""
        id = f"key{len(self.texts):a>9}".replace("0", "z").replace("1", "y")
        secret = new_secret()
        key = Key(
            id=id,
            tenant=tenant,
            name=name,
            role=role,
            scope=scope,
            salt=SALT,
            digest=digest(SALT, secret),
            created_at=0.0,
            expires_at=expires_at,
        )
        self.texts[name] = write_key(Credential(id, secret))
        tenants = {**self.rules.tenants, tenant: Tenant(name=tenant, models=sees)}
        self._replace(replace(self.rules, tenants=tenants, keys={**self.rules.keys, id: key}))
        return self.texts[name]

    def revoke(self, name: str) -> None:
        """Let a key be good no longer."""
        keys = {
            id: replace(key, revoked_at=1.0) if key.name == name else key
            for id, key in self.rules.keys.items()
        }
        self._replace(replace(self.rules, keys=keys))

    def bearer(self, name: str) -> dict[str, str]:
        """The headers of whoever has that key."""
        return {"authorization": f"Bearer {self.texts[name]}"}

    def _replace(self, rules: Rules) -> None:
        self.rules = replace(rules, sequence=rules.sequence + 1)
        self.access.replace(self.rules)

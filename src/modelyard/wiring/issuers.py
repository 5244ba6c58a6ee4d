"""The OpenID Connect issuer whose tokens a server takes, where its configuration names one."""

from dataclasses import dataclass
from typing import Final

from modelyard.core.config import Config
from modelyard.core.errors import Invalid
from modelyard.gateway.jwks import IssuerKeys
from modelyard.gateway.oidc import OidcAuthority

FILE_NAME: Final = "oidc-keys.json"
"""Where in a home the issuer's keys are remembered."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who vouches, and the keys that it vouches by; these are started and stopped."""

    authority: OidcAuthority
    keys: IssuerKeys


def issuers_of(config: Config) -> tuple[Issuer, ...]:
    """The issuer, or nobody; raises `Invalid` where it is half configured."""
    if not config.oidc_issuer:
        return ()
    if not config.oidc_audience:
        raise Invalid(
            "no_audience",
            "'oidc_issuer' is set, but not 'oidc_audience': tokens that it makes for others would "
            "be taken here",
            field="oidc_audience",
        )
    keys = IssuerKeys(config.oidc_issuer, config.oidc_jwks_url, file=config.home / FILE_NAME)
    return (Issuer(OidcAuthority(config.oidc_issuer, config.oidc_audience, keys), keys),)

"""The TLS files that a configuration names."""

from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.core.config import Config
from modelyard.core.errors import Invalid

if TYPE_CHECKING:
    from modelyard.api.tls import TlsFiles


def tls_files(config: Config) -> "TlsFiles | None":
    """None where the server speaks in the clear; raises `Invalid` for half a configuration."""
    from modelyard.api.tls import TlsFiles

    if not config.tls_certificate:
        for name in ("tls_key", "tls_client_ca"):
            if getattr(config, name):
                raise Invalid(
                    "bad_setting", f"'{name}' is set and 'tls_certificate' is not", field=name
                )
        return None
    return TlsFiles(
        certificate=_path(config.tls_certificate),
        key=_path(config.tls_key) if config.tls_key else None,
        client_ca=_path(config.tls_client_ca) if config.tls_client_ca else None,
        demands_client=bool(config.tls_client_ca) and config.tls_client == "required",
    )


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()

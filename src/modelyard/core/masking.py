"""Keys, tokens and passwords in a text that others will read, made unreadable."""

import re
from typing import Final

# A key keeps its id, by which people find it; a token, which begins as a JSON object, nothing.
_SECRETS: Final = re.compile(r"(my_[a-z2-7]{12}_)[a-z2-7]+|eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?")
# Up to the last `@`: somebody may not have written one within the password as `%40`.
_PASSWORDS: Final = re.compile(r"(://[^:/?#@]*:).*@|((?:^|[?&;])password=)[^&;]*", re.IGNORECASE)


def mask(text: str) -> str:
    """The text without the secrets that somebody has put where none belong: a URL, a name."""
    if "my_" in text or "eyJ" in text:
        return _SECRETS.sub(lambda found: f"{found[1] or 'eyJ'}…", text)
    return text


def mask_url(url: str) -> str:
    """The URL without the password in it."""
    return _PASSWORDS.sub(lambda found: f"{found[1]}…@" if found[1] else f"{found[2]}…", url)

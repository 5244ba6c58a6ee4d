"""Calls a model as often as its limits let it: waits as long as the server says, and no longer.

Run it beside `modelyard serve`, with a key in MODELYARD_KEY:
`python patient.py URL MODEL FILE CALLS`.
"""

import os
import sys
import time
from pathlib import Path

import httpx


def main(url: str, model: str, row: bytes, calls: int) -> None:
    """Send one row many times, and lose no call to a limit."""
    headers = {"authorization": f"Bearer {os.environ['MODELYARD_KEY']}"}
    waits = 0
    with httpx.Client(base_url=url, headers=headers) as client:
        for _ in range(calls):
            while (answer := client.post(f"/predict/{model}", content=row)).status_code == 429:
                waits += 1
                time.sleep(pause_s(answer.headers))
            answer.raise_for_status()
    print(f"{calls} answers, {waits} of them waited for")


def pause_s(headers: httpx.Headers) -> float:
    """How long to wait, by the headers of a refusal; tells how the limit stands."""
    wait_s = float(headers["retry-after"])
    limit = next((name for name in headers if name.startswith("x-ratelimit-limit-")), None)
    if limit is not None:
        unit = limit.removeprefix("x-ratelimit-limit-")
        left, reset = headers[f"x-ratelimit-remaining-{unit}"], headers[f"x-ratelimit-reset-{unit}"]
        print(
            f"told to wait {wait_s:g} s: {left} of {headers[limit]} {unit} are left, "
            f"all of them again in {reset} s"
        )
    return wait_s


if __name__ == "__main__":
    address, name, file, number = sys.argv[1:]
    main(address, name, Path(file).read_bytes(), int(number))

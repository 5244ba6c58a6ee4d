"""Puts a second version on trial with three of ten users, gives it all calls, and takes it back.

Run it beside `modelyard serve`, on the same home: `python canary.py [URL]`.
"""

import sys
import time
from collections import Counter

import httpx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from modelyard import Yard
from modelyard.core.names import Reference

USERS = [f"user-{number}" for number in range(200)]


def main(url: str) -> None:
    """Publish two versions, move calls from one to the other, and count who answers."""
    table, target = load_iris(return_X_y=True, as_frame=True)
    row = table.iloc[0].to_dict()
    with Yard.open() as yard, httpx.Client(base_url=url) as client:
        first = yard.publish(
            LogisticRegression(max_iter=1000).fit(table, target), name="iris", sample=table
        )
        second = yard.publish(GaussianNB().fit(table, target), name="iris", sample=table)
        old = Reference("iris", version=first.number)
        new = Reference("iris", version=second.number)

        yard.deploy(old)
        wait_for(client, first.number)
        yard.deploy(new, canary=30.0, sticky="x-user")
        wait_for(client, second.number)
        shares = Counter(version_for(client, user, row) for user in USERS)
        print(
            f"canary: {shares[first.number]} users on the old, {shares[second.number]} on the new"
        )
        again = Counter(version_for(client, user, row) for user in USERS)
        print(f"asked again, the same: {again == shares}")

        for change in (yard.promote, yard.rollback, yard.rollback):
            route = change("iris")
            print(", ".join(f"version {each.version} {each.percent:g}%" for each in route.targets))


def wait_for(client: httpx.Client, version: int) -> None:
    """Until the server has loaded a version and proved it on its samples."""
    while client.get(f"/v2/models/iris/versions/{version}/ready").status_code != 200:
        time.sleep(0.05)


def version_for(client: httpx.Client, user: str, row: dict[str, float]) -> int:
    """The version that answers a user."""
    answer = client.post("/predict/iris", json=row, headers={"x-user": user})
    return int(answer.raise_for_status().json()["version"])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")

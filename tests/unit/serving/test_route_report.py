"""What several workers say of a route adds up to what an operator sees."""

from modelyard.serving.route_report import (
    Disagreement,
    RouteReport,
    ShadowCounts,
    ShadowReport,
    TargetReport,
    merge_routes,
)


def report(
    *, generation: int = 1, ready: bool = True, compared: int = 0, at: tuple[str, ...] = ()
) -> RouteReport:
    disagreements = tuple(
        Disagreement(at=each, call="c", output="y", answered="1", shadow="2") for each in at
    )
    counts = ShadowCounts(compared=compared, agreed=compared, disagreements=disagreements)
    return RouteReport(
        model="m",
        generation=generation,
        targets=(
            TargetReport(
                version=1,
                asked=100.0,
                given=100.0,
                ready=ready,
                reason="" if ready else "its process died",
            ),
        ),
        shadow=ShadowReport(version=2, percent=50.0, ready=True, counts=counts),
    )


def test_counts_add_up_and_the_newest_disagreements_stay() -> None:
    """Five of them, by their time."""
    one = report(compared=3, at=("01", "03", "05", "07"))
    other = report(compared=4, at=("02", "04", "06"))
    [merged] = merge_routes([[one], [other]])
    assert merged.shadow is not None
    assert merged.shadow.counts.compared == 7
    kept = [each.at for each in merged.shadow.counts.disagreements]
    assert kept == ["03", "04", "05", "06", "07"]


def test_a_worker_in_trouble_is_seen() -> None:
    """One that is not ready counts, wherever it stands among the others."""
    for reports in ([[report()], [report(ready=False)]], [[report(ready=False)], [report()]]):
        [merged] = merge_routes(reports)
        assert (merged.targets[0].ready, merged.targets[0].reason) == (False, "its process died")


def test_the_newest_route_counts() -> None:
    """While workers follow a change, those that have are shown; models stay apart."""
    [merged] = merge_routes([[report(generation=2)], [report(generation=1, ready=False)]])
    assert (merged.generation, merged.targets[0].ready) == (2, True)
    assert merge_routes([[], []]) == []

import asyncio
import socket

from modelyard.serving.supervision.ended import EndedCount
from modelyard.serving.supervision.handover import MOST, Outbox, give, handover_pair, take


def test_a_connection_keeps_its_bytes_and_its_door() -> None:
    """What the caller has sent and nobody read is read by whoever takes the connection."""
    ours, theirs = handover_pair()
    caller, connection = socket.socketpair()
    caller.sendall(b"hello")
    assert give(ours, 1, [connection])
    assert connection.fileno() == -1
    taken = take(theirs, socket.AF_UNIX)
    assert taken is not None
    door, (received,) = taken
    assert door == 1
    assert received.recv(5) == b"hello"
    for each in (ours, theirs, caller, received):
        each.close()


def test_nothing_waiting_is_not_the_end() -> None:
    """An empty socket gives none; a closed one says that nobody is there, both ways."""
    ours, theirs = handover_pair()
    assert take(theirs, socket.AF_INET) == (0, [])
    theirs.close()
    assert take(ours, socket.AF_INET) is None
    caller, connection = socket.socketpair()
    assert not give(ours, 0, [connection])
    assert connection.fileno() != -1
    for each in (ours, caller, connection):
        each.close()


def test_an_outbox_waits_for_room() -> None:
    """More than the socket holds go out in order, as the other side takes them."""

    async def run() -> None:
        ours, theirs = handover_pair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        outbox = Outbox(ours, 0)
        callers = []
        for number in range(20 * MOST):
            caller, connection = socket.socketpair()
            caller.sendall(b"%04d" % number)
            callers.append(caller)
            outbox.put(connection)
        emptied = asyncio.ensure_future(outbox.emptied())
        await asyncio.sleep(0.01)
        assert not emptied.done()
        numbers = []
        while len(numbers) < len(callers):
            await asyncio.sleep(0)
            _, connections = take(theirs, socket.AF_UNIX) or (0, [])
            for connection in connections:
                numbers.append(int(connection.recv(4)))
                connection.close()
        await emptied
        assert numbers == list(range(len(callers)))
        for each in (ours, theirs, *callers):
            each.close()

    asyncio.run(run())


def test_two_processes_see_one_count() -> None:
    """What one end raises the other reads, each door for itself."""
    supervisor = EndedCount.create()
    worker = EndedCount(supervisor.descriptor)
    worker.add(0)
    worker.add(1)
    worker.add(1)
    assert [supervisor.read(door) for door in (0, 1, 2)] == [1, 2, 0]
    supervisor.close()

"""The lines between the launching side and the sampler process."""

from __future__ import annotations

import socket

from flopwatt.measurement.power.channel import Batch, Channel, decode_message
from flopwatt.measurement.power.collected import Edge, PowerSample, SlowSample
from flopwatt.measurement.power.sensor import PowerReading, SlowReading


def test_a_reader_that_takes_its_time_holds_nobody_up_and_loses_nothing():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender, receiver = Channel(ours), Channel(theirs)
        for number in range(5000):
            sender.send(Batch(number, [Edge(1, 2, number)] * 10))
        assert sender.outbox, "more than the socket holds"
        got = []
        while len(got) < 5000:
            got += [decode_message(line).stretch for line in receiver.receive()]
            sender.flush()
        assert got == list(range(5000))
        assert not sender.outbox


def test_readings_survive_the_way_with_their_gaps():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        power = PowerSample(2**62, PowerReading(690_000, None, 1755, None, 4))
        slow = SlowSample(5, SlowReading(700_000, 2**63 - 1, 0, None))
        Channel(ours).send(Batch(3, [], [power], [slow], {"temp_c": "UNKNOWN"}, None, None, True))
        batch = decode_message(Channel(theirs).receive()[0])
    assert (batch.power, batch.slow, batch.unreadable) == ([power], [slow], {"temp_c": "UNKNOWN"})
    assert batch.last
    assert not batch.edges


def test_the_end_of_the_other_side_is_seen_after_its_last_words():
    ours, theirs = socket.socketpair()
    with theirs:
        receiver = Channel(theirs)
        with ours:
            Channel(ours).send(Batch(1))
        assert len(receiver.receive()) == 1
        assert receiver.ended
        receiver.send(Batch(2))
        assert receiver.receive() == []

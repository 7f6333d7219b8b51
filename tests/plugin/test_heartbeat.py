"""Signs of life: only for what takes long, and about what began first."""

from harness.plugin.heartbeat import Heartbeat


def test_a_line_comes_only_when_something_has_taken_long():
    now, lines = [0.0], []
    beat = Heartbeat(lines.append, interval_s=10, clock=lambda: now[0])
    beat.begin("first")
    now[0] = 4
    beat.begin("second")
    beat.note("calibrating")
    beat.beat()
    assert lines == []
    now[0] = 12
    beat.beat()
    assert lines == ["\n  12 s in first: calibrating\n"]
    beat.end("first")
    beat.beat()
    assert len(lines) == 1
    beat.end("second")
    beat.end("second")
    now[0] = 100
    beat.beat()
    assert len(lines) == 1


def test_it_beats_by_itself_and_stops():
    lines = []
    beat = Heartbeat(lines.append, interval_s=0.01)
    beat.start()
    beat.begin("long")
    while not lines:
        pass
    beat.close()
    count = len(lines)
    beat.close()
    assert count == len(lines)
    assert "long" in lines[0]

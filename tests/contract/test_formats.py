"""Records of every format, on the test kit and on a cluster: what becomes of them, and of those that are no events."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from flows import formats
from flows.formats import Reading
from headrace import Tombstone
from rigs import Rig

AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
READING = Reading("s1", 21.5, AT)
CLOUD = msgspec.json.encode(
    {"specversion": "1.0", "id": "7", "source": "/s", "type": "read", "time": "2026-05-01T09:00:00Z", "data": READING}
)
STRUCTURED = (("content-type", b"application/cloudevents+json"),)
BINARY = (("ce_specversion", b"1.0"), ("ce_id", b"8"), ("ce_source", b"/s"), ("ce_type", b"read"))


def test_F06_records_of_every_format_and_those_that_are_no_events(rig: Rig) -> None:
    flow = rig.prepare(formats.formats)
    large = b"x" * (5 << 20)
    sources = {"packed": flow.packed, "clouds": flow.clouds, "words": flow.words, "spelled": flow.spelled}
    for source in sources.values():
        rig.send_raw(source, None, key="s1", headers=(("trace", b"1"),))
        rig.send_raw(source, large, key="s1")
        rig.send_raw(source, b"\xc1", key="s1")
    rig.send_raw(flow.packed, b"", key="s1")
    rig.send_raw(flow.packed, msgspec.msgpack.encode({"sensor": 3}), key="s1")
    rig.send_raw(flow.spelled, b"s1 warm", key="s1")
    rig.send_raw(flow.packed, msgspec.msgpack.encode(READING), key="s1", headers=(("trace", b"2"),))
    rig.send_raw(flow.clouds, CLOUD, key="s1", headers=STRUCTURED)
    rig.send_raw(flow.clouds, msgspec.json.encode(READING), key="s1", headers=BINARY)
    rig.send_raw(flow.words, "é".encode(), key="s1")
    rig.send_raw(flow.spelled, b"s1 21.5", key="s1")
    rig.send_raw(flow.latest, None, key="s1")

    rig.start()

    seen = rig.run_of("s1").state(flow.see)
    spelled = Reading("s1", 21.5)
    assert sorted(row.what for row in seen) == sorted(map(repr, [READING] * 3 + ["é", spelled, Tombstone()]))
    [packed] = [row for row in seen if row.headers.get("trace") == "2"]
    assert packed.time == AT
    [structured] = [row for row in seen if row.headers.get("ce_id") == "7"]
    assert structured.time == AT
    assert sorted(map(msgspec.json.encode, rig.sent(flow.out))) == sorted(map(msgspec.json.encode, seen))
    letters = rig.dead_letters()
    reasons = {name: sorted(row.reason for row in letters if row.source == name) for name in sources}
    common = ["decode", "size", "tombstone"]
    assert reasons == {
        "packed": sorted([*common, "decode", "decode"]), "clouds": common, "words": common,
        "spelled": sorted([*common, "decode"]),
    }  # fmt: skip
    assert {row.headers for row in letters if row.reason == "tombstone"} == {(("trace", b"1"),)}
    assert {row.data for row in letters} == {
        None,
        large,
        b"\xc1",
        b"",
        msgspec.msgpack.encode({"sensor": 3}),
        b"s1 warm",
    }

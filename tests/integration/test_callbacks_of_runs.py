"""From a request with an address to the receiver: a workflow that runs, and the gateway beside it."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import httpx

from command_line import commands_in
from headrace.embedded import Valkey
from hooks import SECRET, Hooks
from waiting import until

FLOW = (Path(__file__).parents[1] / "support" / "flows" / "desk.py").read_text()
DATABASE = 4001
"""Of the session's Valkey; other tests count theirs from 1 on."""
OPTIONS = f"""
[gateway]
callback_secrets = "{SECRET}"
callback_networks = "127.0.0.0/8"
callback_plain = true
callback_first_pause = 0.2
"""


def test_B44_a_run_tells_that_it_waits_and_how_it_ends_and_is_not_touched_by_a_receiver_that_fails(
    valkey: Valkey, tmp_path: Path
) -> None:
    (tmp_path / "headrace.toml").write_text(OPTIONS)
    key = f"r{secrets.token_hex(4)}"
    url = f"redis://127.0.0.1:{valkey.port}/{DATABASE}"
    with commands_in(tmp_path, FLOW) as start, Hooks([500, 500, 200, 400]) as hooks:
        ran = start("dev", "flow.py", "--inline", "--no-live", "--redis", url, "--serve", "--port", "0")
        ran.says("running, after")
        found = re.search(r"HTTP\s+(http://\S+)", ran.text)
        assert found, ran.text
        with httpx.Client(base_url=found[1], timeout=30) as http:
            asking = {"Headrace-Callback": hooks.url, "Prefer": "respond-async"}
            begun = http.post(f"/runs/{key}/events", json={"what": "wait"}, headers=asking)
            assert begun.status_code == 202, begun.text
            until(lambda: len(hooks.told) == 3, "it has been told three times that the run waits")
            sent = http.post(f"/runs/{key}/messages/approval", json={"by": "ann"})
            until(lambda: len(hooks.told) == 4, "the end has been told")
            until(lambda: dead_of(http), "what was refused for good is a dead letter")
            run = http.get(f"/runs/{key}").json()

        assert sent.status_code == 202
        told = [each.verified() for each in hooks.told]
        assert [each["type"] for each in told] == ["run.waiting"] * 3 + ["run.completed"]
        assert len({each.id for each in hooks.told[:3]}) == 1
        assert told[0]["data"]["wait"] == "approval"
        assert told[3]["data"] == {
            "workflow": "orders", "key": key, "number": told[0]["data"]["number"], "status": "completed",
            "result": {"by": "ann"},
        }  # fmt: skip
        assert (run["status"], run["result"]) == ("completed", {"by": "ann"})


def dead_of(http: httpx.Client) -> list[object]:
    rows: list[object] = http.get("/callbacks/dead").json()["callbacks"]
    return rows

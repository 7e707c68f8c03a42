"""The fixtures that users get: harnesses, and real servers, in a project of their own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

FLOW = """
from headrace import Context, Event, KafkaSink, KafkaSource, Workflow

def shout(event: Event[str], ctx: Context) -> str:
    return event.data.upper()

workflow = Workflow("loud")
lines = workflow.source(KafkaSource("lines", str))
loud = workflow.sink(KafkaSink("loud", str))
node = workflow.node(shout)
lines.to(node)
node.to(loud)
"""


def test_a_users_tests_get_harnesses_and_servers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        flow=FLOW,
        test_flow="""
        import asyncio
        import redis
        from aiokafka.admin import AIOKafkaAdminClient
        from flow import lines, loud, workflow

        def test_harness(headrace_harness):
            harness = headrace_harness(workflow, partitions=2)
            harness.send(lines, "tea", key="ada")
            assert harness.sent(loud) == ["TEA"]

        def test_first(headrace_redis_url):
            client = redis.Redis.from_url(headrace_redis_url)
            client.set("mine", "1")

        def test_second(headrace_redis_url):
            assert redis.Redis.from_url(headrace_redis_url).dbsize() == 0

        def test_broker(headrace_kafka):
            async def topics():
                admin = AIOKafkaAdminClient(bootstrap_servers=headrace_kafka.bootstrap)
                await admin.start()
                try:
                    return await admin.list_topics()
                finally:
                    await admin.close()
            assert asyncio.run(topics()) == []
        """,
    )

    pytester.runpytest_subprocess("-q").assert_outcomes(passed=4)


def test_a_broker_that_there_is_not_is_named(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nheadrace_broker = rabbit\n")
    pytester.makepyfile("def test_broker(headrace_kafka): pass")

    result = pytester.runpytest_subprocess("-q")

    assert "headrace_broker = rabbit: write one of tansu, apache" in result.stdout.str()

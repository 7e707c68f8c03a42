"""Pictures of the graph."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from headrace import Action, Complete, Context, Event, Failure, KafkaSink, KafkaSource, Timeout, Workflow


class Reading(msgspec.Struct, frozen=True):
    sensor: str


class Heat(Action):
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


def classify(event: Event[Reading], ctx: Context) -> Heat:
    return Heat.NORMAL


def to_alert(event: Event[Reading], ctx: Context) -> Reading:
    return event.data


def silent(event: Event[Timeout], ctx: Context) -> None: ...


def temperature(name: str = "temperature") -> Workflow:
    workflow = Workflow(name)
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    classified, alert, quiet = workflow.node(classify, replicas=2), workflow.node(to_alert), workflow.node(silent)
    alerts = workflow.sink(KafkaSink("alerts", Reading))
    workflow.fuse(classified, alert)
    readings.to(classified)
    classified.on(Heat.HIGH).to(alert)
    classified.on(Heat.NORMAL, Heat.CRITICAL).to(Complete)
    workflow.timeout(idle=timedelta(minutes=5)).to(quiet)
    alert.to(alerts)
    return workflow


def test_mermaid() -> None:
    assert (
        temperature().mermaid()
        == """\
flowchart LR
  source0(["kafka: readings"])
  timeout0(["idle"])
  subgraph fused0 [fused]
    node0["classify (2 replicas)"]
    node1["to_alert"]
  end
  node2["silent"]
  sink0[/"kafka: alerts"/]
  complete(("completed"))
  source0 --> node0
  node0 -->|"HIGH"| node1
  node0 -->|"NORMAL, CRITICAL"| complete
  timeout0 --> node2
  node1 --> sink0
"""
    )


def test_graphviz() -> None:
    assert (
        temperature().graphviz()
        == """\
digraph "temperature" {
  rankdir=LR;
  node [shape=box, style=rounded];
  source0 [label="kafka: readings", shape=oval];
  timeout0 [label="idle", shape=oval];
  subgraph cluster_fused0 {
    label="fused";
    node0 [label="classify (2 replicas)"];
    node1 [label="to_alert"];
  }
  node2 [label="silent"];
  sink0 [label="kafka: alerts", shape=parallelogram];
  complete [label="completed", shape=doublecircle];
  source0 -> node0;
  node0 -> node1 [label="HIGH"];
  node0 -> complete [label="NORMAL, CRITICAL"];
  timeout0 -> node2;
  node1 -> sink0;
}
"""
    )


def test_names_are_only_labels() -> None:
    assert temperature('a "quoted" \\ name').graphviz().startswith('digraph "a \\"quoted\\" \\\\ name" {')


def test_a_wrong_graph_is_drawn_as_well() -> None:
    workflow = Workflow("wrong")
    workflow.source(KafkaSource("readings", Reading)).to("nowhere")  # type: ignore[arg-type]

    assert "unknown0((\"? 'nowhere'\"))" in workflow.mermaid()


def test_the_way_of_failures_is_drawn() -> None:
    workflow = Workflow("shop")
    readings = workflow.source(KafkaSource("readings", Reading, key="sensor"))
    node, failures = workflow.node(to_alert), workflow.sink(KafkaSink("failures", Failure))
    readings.to(node)
    node.to(None)
    node.on(Failure).to(failures, Complete)

    assert '  node0 -->|"Failure"| sink0\n  node0 -->|"Failure"| complete\n' in workflow.mermaid()
    ways = [(way.on, way.target) for way in workflow.outline().ways[1:]]
    assert ways == [("Failure", "sink0"), ("Failure", "complete")]

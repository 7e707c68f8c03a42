"""Starts a local Ray with an actor, says so, and waits: run by a test that kills it."""

import json
import sys

import ray

from headrace.actors.local_ray import LocalRay


class Idle:
    def pid(self) -> int:
        return 1


if __name__ == "__main__":
    with LocalRay() as cluster:
        actor = ray.remote(Idle).options(num_cpus=0.001, lifetime="detached", name="idle").remote()
        ray.get(actor.pid.remote())
        print(json.dumps({"folder": str(cluster.folder)}), flush=True)
        sys.stdin.read()

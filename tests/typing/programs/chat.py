# A complete program, for type checkers.
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec

from headrace import Complete, Context, Event, Node, RequestSource, Timeout, Workflow


class Said(msgspec.Struct, frozen=True):
    session: str
    text: str


class Session(msgspec.Struct):
    history: list[str] = []


class Model:
    async def generate(self, history: list[str]) -> AsyncIterator[str]:
        yield "hello"


class Answer(Node[Said]):
    async def open(self) -> None:  # in the actor, once; never pickled
        self.model = Model()

    async def process(self, event: Event[Said], ctx: Context[None, Session]) -> None:
        history, words = ctx.run.state.history, list[str]()
        history.append(event.data.text)
        async with ctx.stream("tokens") as tokens:  # seen at once; rewound when this attempt is retried
            async for word in self.model.generate(history):
                words.append(word)
                await tokens.write(word)
        history.append("".join(words))
        ctx.reply("".join(words))  # takes effect at commit


async def goodbye(event: Event[Timeout], ctx: Context[None, Session]) -> Complete:
    return Complete({"turns": len(ctx.run.state.history)})


workflow = Workflow("chat", state=Session)  # run state: one event of a session at a time
said = workflow.source(RequestSource(Said, key="session", reply=str))
said.to(workflow.node(Answer(), replicas=4, timeout=timedelta(minutes=2)))
workflow.timeout(idle=timedelta(minutes=15)).to(workflow.node(goodbye))

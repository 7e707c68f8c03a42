"""A chat: a run for each session, words as they come, and an end when nobody says anything for a quarter of an hour.

The model is a very small one: which word follows which in the beginning of a book. Put yours into its place.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
from headrace import Complete, Context, Event, Node, RequestSource, Timeout, Workflow

BOOK = Path(__file__).with_name("alice.txt")
MOST_WORDS = 40


class Said(msgspec.Struct, frozen=True):
    """What a user says: {"session": "ada", "text": "hello"}."""

    session: str
    text: str


class Session(msgspec.Struct):
    """What is known of a session: what was said, in turns. Headrace keeps it."""

    history: list[str] = []


class Model:
    """Goes from word to word as a text does (a Markov chain), beginning near what was said."""

    def __init__(self, text: str) -> None:
        """Learn a text."""
        words = text.split()
        self.next: dict[str, list[str]] = {}
        for word, following in pairwise(words):
            self.next.setdefault(word, []).append(following)
        ends = [place for place, word in enumerate(words[:-1]) if word.endswith((".", "!", "?"))]
        self.first = [words[0], *(words[place + 1] for place in ends)]

    async def generate(self, history: list[str], chance: random.Random) -> AsyncIterator[str]:
        """One sentence, word by word."""
        told = {word.strip(".,!?").lower() for word in history[-1].split()}
        near = [word for word in self.first if word.lower() in told]
        word = chance.choice(near or self.first)
        for _ in range(MOST_WORDS):
            yield word
            if word.endswith((".", "!", "?")) or word not in self.next:
                return
            word = chance.choice(self.next[word])


class Answer(Node[Said]):
    """Answers what was said, and writes each word into the stream `tokens` as soon as it is there."""

    def __init__(self, pause: float = 0.05) -> None:
        """Set the pace.

        Args:
            pause: Seconds between words: a larger model takes its time by itself.
        """
        self.pause = pause

    async def open(self) -> None:
        """Load the model: once, in the process that uses it."""
        self.model = Model(BOOK.read_text(encoding="utf-8"))

    async def process(self, event: Event[Said], ctx: Context[None, Session]) -> None:
        """Take a turn. If it fails, what was written is taken back, and readers are told."""
        history, words = ctx.run.state.history, list[str]()
        history.append(event.data.text)
        async with ctx.stream("tokens") as tokens:
            async for word in self.model.generate(history, random.Random(event.id)):
                words.append(word)
                await tokens.write(word)
                await asyncio.sleep(self.pause)
        history.append(" ".join(words))
        ctx.reply(history[-1])


async def goodbye(event: Event[Timeout], ctx: Context[None, Session]) -> Complete:
    """Nobody says anything any more."""
    return Complete({"turns": len(ctx.run.state.history) // 2})


workflow = Workflow("chat", state=Session)
said = workflow.source(RequestSource(Said, key="session", reply=str))
answer = workflow.node(Answer(), timeout=timedelta(minutes=2))

said.to(answer)
workflow.timeout(idle=timedelta(minutes=15)).to(workflow.node(goodbye))

"""What the command prints: text for people on standard output, errors on standard error, JSON where asked for."""

from __future__ import annotations

import sys

import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from headrace.cli.exits import UsageError
from headrace.cli.fitting import hanging


class Screen:
    """Standard output and standard error.

    Text that comes from users (names, paths, messages) is printed as it is: nothing in it is taken for markup.
    """

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._errors = Console(stderr=True, highlight=False)
        self._picture: Live | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks on."""
        return self.console.is_terminal

    def say(self, text: str, style: str = "") -> None:
        """Print one or more lines; long ones are not broken, so that they can be copied."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def write(self, text: Text) -> None:
        """As `say`, for text with several styles."""
        self.console.print(text, soft_wrap=True)

    def explain(self, head: Text | str, body: Text | str) -> None:
        """Print a sentence behind a few words; on a terminal its lines are broken between words and stand below it."""
        first, rest = (Text(part) if isinstance(part, str) else part for part in (head, body))
        if self.is_terminal:
            self.console.print(hanging(first, rest))
        else:
            self.write(Text.assemble(first, rest))

    def show(self, what: RenderableType) -> None:
        """Print a table or another picture."""
        self.console.print(what, crop=self.is_terminal)

    def raw(self, text: str) -> None:
        """Print exactly this, for programs that read it."""
        self.console.file.write(text.rstrip("\n") + "\n")
        self.console.file.flush()

    def json(self, value: object) -> None:
        """Print a value as indented JSON."""
        self.raw(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())

    def json_line(self, value: object) -> None:
        """Print a value as JSON on one line."""
        self.raw(msgspec.json.encode(value).decode())

    def picture(self) -> Live:
        """A picture that is drawn again and again, below all that is printed meanwhile."""
        self._picture = Live(console=self.console, auto_refresh=False)
        return self._picture

    def confirm(self, question: str, instead: str) -> bool:
        """Ask a person; only `y` and `yes` mean yes.

        Args:
            question: What is asked.
            instead: The option that answers it where nobody can be asked.

        Raises:
            UsageError: Standard input is no terminal.
        """
        if not sys.stdin.isatty():
            raise UsageError(f"{question} There is nobody to ask: add {instead} if you mean it.")
        return self.console.input(Text(f"{question} [y/N] ")).strip().lower() in ("y", "yes")

    def complain(self, text: str, *, code: str = "") -> None:
        """Print an error, and where there is more about it.

        Args:
            text: The first line is the error itself.
            code: Word that `headrace explain` knows; empty: none.
        """
        head, _, rest = text.partition("\n")
        is_drawn = self._picture is not None and self._picture.is_started
        # On one terminal with a picture, what another console prints would be drawn over at once.
        console = self.console if is_drawn and self._errors.is_terminal else self._errors
        console.print(Text.assemble(("error: ", "bold red"), head), soft_wrap=True)
        if rest:
            console.print(Text(rest), soft_wrap=True)
        if code:
            console.print(Text(f"More: headrace explain {code}", "dim"), soft_wrap=True)

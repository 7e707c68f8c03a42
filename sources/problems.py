"""Problems that a reader or sink tells its worker: several subjects to a word, told once, taken back when solved."""

from __future__ import annotations

from headrace.sources.reader import OnProblem


class Problems:
    """Gathers sentences by word and subject; tells the worker only what has changed.

    Args:
        on_problem: Gets the word and its sentences in one; empty when the last of them is solved.
    """

    def __init__(self, on_problem: OnProblem) -> None:
        self._on_problem = on_problem
        self._standing: dict[str, dict[str, str]] = {}

    def tell(self, word: str, subject: str, sentence: str) -> bool:
        """There is a problem with `subject`. Returns whether that is news."""
        standing = self._standing.setdefault(word, {})
        if standing.get(subject) == sentence:
            return False
        standing[subject] = sentence
        self._on_problem(word, " ".join(standing.values()))
        return True

    def solved(self, word: str, subject: str) -> bool:
        """`subject` is well again. Returns whether there was a problem."""
        standing = self._standing.get(word)
        if not standing or standing.pop(subject, None) is None:
            return False
        self._on_problem(word, " ".join(standing.values()))
        return True

    def forget(self, subject: str) -> None:
        """Take back all that was said of `subject`: it is no concern of ours any more."""
        for word in list(self._standing):
            self.solved(word, subject)

    def standing(self, word: str) -> dict[str, str]:
        """Subject -> sentence."""
        return dict(self._standing.get(word, {}))

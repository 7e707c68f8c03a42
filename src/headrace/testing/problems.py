"""What a test asked of the harness that it can't do."""

from headrace.workflows.errors import HeadraceError


class HarnessError(HeadraceError):
    """The test asks for something that can't be: says what, and what to write instead."""

"""The verbs of the command, a module for each group: what one types, and nothing of what it does.

Each module has a function `register(app)` that adds its verbs; `headrace.cli.app` names the modules, in the
order of `headrace --help`. A verb checks nothing itself: it makes one call into a module of `headrace.cli`,
which it imports when it is called, so that `--help` and the quick verbs load neither Ray nor a server's client.
"""

"""A module that does not import."""

import json

SETTINGS = json.loads("{'single': 'quotes'}")

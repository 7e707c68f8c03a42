"""Settings: what belongs to the place where a workflow runs, from flags, environment and files, each with its origin.

Read in this order: `model` (the settings), `layers` (where values come from), `loading` (which one counts,
and what is wrong), `lines` (where in a file something stands), `masking` (what may be shown).
"""

from headrace.settings.layers import Origin
from headrace.settings.loading import Loaded, SettingsError, load_settings
from headrace.settings.masking import shown
from headrace.settings.model import Durability, Scalar, Settings

__all__ = ["Durability", "Loaded", "Origin", "Scalar", "Settings", "SettingsError", "load_settings", "shown"]

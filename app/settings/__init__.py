"""The settings: reading and checking them. Flags win over the environment, and the environment over the file."""

from app.settings.faults import SettingsError, SettingsFault
from app.settings.load import load_settings
from app.settings.model import Settings
from app.settings.secret import Secret

__all__ = ["Secret", "Settings", "SettingsError", "SettingsFault", "load_settings"]

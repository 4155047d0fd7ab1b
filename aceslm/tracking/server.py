"""Is there a key, does the server answer? Without importing wandb, and never longer than asked."""

from __future__ import annotations

import configparser
import importlib.util
import netrc
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from aceslm.config.tracking import TrackingConfig, TrackingMode

_DEFAULT_URL = "https://api.wandb.ai"
_MODES: dict[str, TrackingMode] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
    "auto": "auto",
}


def mode_of(config: TrackingConfig) -> TrackingMode:
    """Return the mode in force: `$WANDB_MODE` where it says one, else the configuration's."""
    return _MODES.get(os.environ.get("WANDB_MODE", "").strip().lower(), config.mode)


def installed() -> bool:
    """Return whether wandb can be imported."""
    return importlib.util.find_spec("wandb") is not None


def base_url() -> str:
    """Return the W&B server: `$WANDB_BASE_URL`, else wandb's own settings file, else the public one."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url.rstrip("/")
    folder = os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb"
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(Path(folder) / "settings", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return _DEFAULT_URL
    return settings.get("default", "base_url", fallback=_DEFAULT_URL).rstrip("/")


def has_key() -> bool:
    """Return whether a key for the server is in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    for path in [os.environ.get("NETRC"), Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if path and netrc.netrc(path).authenticators(urlsplit(base_url()).netloc):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def silence(timeout_s: float) -> str | None:
    """Return why the server does not answer within `timeout_s`, None where it does.

    Resolving a name may block for much longer than any socket's time-out: it is waited for no longer.
    """
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(_ask(timeout_s)), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return found[0] if found else f"{base_url()} does not answer within {timeout_s:g} s"


def _ask(timeout_s: float) -> str | None:
    url = base_url()
    if not url.startswith(("http://", "https://")):
        return f"{url} is not an http address"
    try:
        with urllib.request.urlopen(url, timeout=timeout_s):  # noqa: S310 (the scheme is checked above)
            return None
    except urllib.error.HTTPError as error:
        # any page says that somebody is there, but not a proxy's that reaches nobody
        return f"{url} answers {error.code}" if error.code in {502, 503, 504} else None
    except Exception as error:
        return f"{url}: {getattr(error, 'reason', error)}"

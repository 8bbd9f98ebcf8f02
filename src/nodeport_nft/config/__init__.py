"""Configuration: defaults, then ``/etc/nodeport-nft/config.yaml``, then flags; all problems told at once.

The file names the store and says what is served, so it is believed only where nobody but root and the user who runs
the program can have written it. Its keys are those of ``Config`` in the API's spelling (``serviceCIDRs``,
``nodePortRange``, …); a flag has the same meaning and wins.

``table`` has a row for each of them. ``file`` reads, ``given`` and ``values`` turn what was given into values and say
what is wrong with it, ``keys`` says which of them goes with which row, ``loading`` puts all of it together.
"""

from collections.abc import Mapping

from nodeport_nft.config.settings import DEFAULT_PATH, Config, ConfigError, DetectLocalMode


def load_config(path: str | None, overrides: Mapping[str, object]) -> Config:
    """The configuration in force; see ``loading``, which needs YAML, and ``--help`` is to come without that."""
    from nodeport_nft.config import loading

    return loading.load_config(path, overrides)


__all__ = ["DEFAULT_PATH", "Config", "ConfigError", "DetectLocalMode", "load_config"]

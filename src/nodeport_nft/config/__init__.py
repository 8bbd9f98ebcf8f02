"""Configuration: defaults, then ``/etc/nodeport-nft/config.yaml``, then flags; all problems told at once.

The file names the store and says what is served, so it is believed only where nobody but root and the user who runs
the program can have written it. Its keys are those of ``Config`` in the API's spelling (``serviceCIDRs``,
``nodePortRange``, …); a flag has the same meaning and wins.

The table in ``settings`` has a row for each key. ``file`` reads, ``given`` and ``values`` turn what was given into
values and say what is wrong with it, ``keys`` says which of them goes with which row, ``loading`` puts all of it
together into a ``config``. ``kube_proxy`` reads kube-proxy's own configuration in the place of ours.
"""

from nodeport_nft.config.config import DEFAULT_PATH, Config, ConfigError
from nodeport_nft.config.loading import load_config
from nodeport_nft.settings import DetectLocalMode

__all__ = ["DEFAULT_PATH", "Config", "ConfigError", "DetectLocalMode", "load_config"]

"""What is fuzzed: everything that others write and this program reads."""

from fuzz.engine import Target
from fuzz.targets import answers, configuration, kubeconfigs, listings, manifests, stored

TARGETS: tuple[Target, ...] = (
    manifests.TARGET,
    configuration.TARGET,
    stored.TARGET,
    listings.TARGET,
    kubeconfigs.TARGET,
    answers.TARGET,
)

"""From the file and the flags to the configuration in force; everything wrong with either is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from msgspec import Struct, field

from nodeport_nft.config.config import Config, ConfigError
from nodeport_nft.config.file import ConfigFile, read_config_file
from nodeport_nft.config.given import Given, Several
from nodeport_nft.config.keys import with_value
from nodeport_nft.config.kube_proxy import kube_proxy_file, take
from nodeport_nft.model import IPAddress
from nodeport_nft.problems import MOST_TOLD, Path, Problem, field_text, nearest
from nodeport_nft.settings import KEYS, DetectLocalMode, Setting

_KNOWN = ", ".join(sorted(KEYS))


def load_config(path: str | None, overrides: Mapping[str, object]) -> Config:
    """The configuration in force. ``path`` None: the default file, if there is one.

    ``overrides`` come from flags, under the file's keys; a value of None or an empty list is no override.
    Raises ConfigError with all problems.
    """
    loading = _Loading(read_config_file(path))
    loading.translate()
    flags = {key: value for key, value in overrides.items() if value not in (None, [], ())}
    loading.take_file(without=flags)
    for key, value in flags.items():
        loading.take_flag(key, value)
    loading.check_together()
    if problems := loading.problems():
        raise ConfigError("\n".join(problems), loading.config, loading.wrong)
    return replace(loading.config, places=loading.places, warnings=tuple(loading.file.warnings))


class _Loading(Struct):
    """What has been taken so far.

    ``places``: where each key was given; ``flagged``: those given by a flag; ``wrong``: those with a problem.
    ``paths``: where in the file a key stands that has another name there.
    """

    file: ConfigFile
    config: Config = field(default_factory=Config)
    places: dict[str, str] = field(default_factory=dict)
    flagged: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    of_flags: list[Problem] = field(default_factory=list)
    paths: dict[str, Path] = field(default_factory=dict)
    _values: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """All of them: the file's in the order of its lines, then those of flags."""
        of_file = sorted(self.file.problems, key=lambda found: found[0])
        return [str(problem) for problem in (*(problem for _, problem in of_file), *self.of_flags)]

    def translate(self) -> None:
        """Let the file be in our words, where it is kube-proxy's."""
        self._values = self.file.values
        found = kube_proxy_file(self.file)
        if found is not None:
            taken = take(found)
            self.file, self._values, self.paths = taken.file, taken.values, dict(taken.paths)
            if taken.warning:
                self.file.warnings.append(taken.warning)

    def take_file(self, without: Mapping[str, object]) -> None:
        """Take what the file says, but for the keys that a flag has a better value for."""
        strangers: list[str] = []
        for name, value in self._values.items():
            setting = KEYS.get(name)
            if setting is None:
                strangers.append(name)
            elif name not in without:
                self.places[name] = f"{self.file.name}:{self.file.line(self._path(name))}"
                self._take(setting, value, self.file.written, self._of_file)
        for name in strangers[:MOST_TOLD]:
            near = nearest(name, KEYS)
            remedy = f"did you mean {near}?" if near else f"known are {_KNOWN}"
            self._of_file((name,), f"unknown key; {remedy}")
        if rest := strangers[MOST_TOLD:]:
            self._of_file((rest[0],), "unknown key", len(rest))

    def take_flag(self, name: str, value: object) -> None:
        """Take the value of a flag, named by the key that means the same."""
        self.places[name] = KEYS[name].flag or name
        self.flagged.add(name)
        self._take(KEYS[name], value, lambda _: None, self._of_flag)

    def _take(
        self,
        setting: Setting,
        value: Any,
        written: Callable[[Path], str | None],
        problem: Callable[[Path, str, int], None],
    ) -> None:
        name = setting.key
        path = (name,) if name in self.flagged else self._path(name)
        try:
            self.config = with_value(self.config, setting, Given(value, path, written))
        except Several as several:
            self.wrong.add(name)
            for _, (at, message), more in several.faults:
                problem(at, message, more)
        except ValueError as error:
            self.wrong.add(name)
            problem(path, str(error), 0)

    def _path(self, name: str) -> Path:
        """Where in the file a key stands."""
        return self.paths.get(name, (name,))

    def _called(self, name: str) -> str:
        """What a key is called in the file."""
        return field_text(self._path(name))

    def _of_file(self, path: Path, message: str, more: int = 0) -> None:
        self.file.problem(self.file.line(path), message, key=field_text(path), more=more)

    def _of_flag(self, path: Path, message: str, more: int = 0) -> None:
        # Which of the texts of a flag it is, is said by the value itself.
        self.of_flags.append(Problem(self.places[str(path[0])], "", "", message, more))

    def check_together(self) -> None:
        """Note what is wrong with keys that are right each for itself."""
        config = self.config
        by_interface = (DetectLocalMode.BRIDGE_INTERFACE, DetectLocalMode.INTERFACE_NAME_PREFIX)
        if config.detect_local_mode in by_interface and not config.pod_interface:
            wanted = self._called("podInterface")
            text = f"{config.detect_local_mode} looks for {wanted}, which is missing; add it, such as cni0"
            self._together("detectLocalMode", "podInterface", text)
        if config.healthz_address is not None and config.healthz_address == config.metrics_address:
            first, second = "metricsBindAddress", "healthzBindAddress"
            if first not in self.places:
                first, second = second, first
            text = f"{_socket(config.healthz_address)} is {self._called(second)} as well{self._whence(second)}"
            self._together(first, second, f"{text}; choose another port for one of them")
        if config.min_sync_period > config.sync_period:
            longest = f"{self._called('syncPeriod')}, {config.sync_period:g} s{self._whence('syncPeriod')}"
            text = f"{config.min_sync_period:g} s is longer than {longest}; choose a shorter one"
            self._together("minSyncPeriod", "syncPeriod", text)

    def _together(self, name: str, other: str, message: str) -> None:
        """Note a problem of two keys at the place of the first, unless one of them is wrong by itself."""
        if self.wrong & {name, other}:
            return
        if name in self.flagged:
            self._of_flag((name,), message)
        else:
            self._of_file(self._path(name), message)

    def _whence(self, name: str) -> str:
        """Where a key was given, to be put behind its value."""
        return f" ({self.places.get(name, 'the default')})"


def _socket(address: tuple[IPAddress, int]) -> str:
    host, port = address
    return f"{host}:{port}" if host.version == 4 else f"[{host}]:{port}"

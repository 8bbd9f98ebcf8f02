"""From a command's signature to its options: the flags of the configuration come from the table of settings.

A command asks for them where they are to stand in ``--help``, by their keys or by groups of them:

    @command
    def hosts(*, filename: Files = None, flags: Annotated[Flags, "clusterDomain", Group.NUMBERS, "store"]) -> None:

It gets what was given of them, and of ``--config``, which every command has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from msgspec import Struct

from nodeport_nft.cli.options import BAD_INPUT, fail, reported, warn, whole_number
from nodeport_nft.settings import KEYS, SETTINGS, Group, Plain, Setting, Whole

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.config.kubeconfig.access import Access

_ConfigFile = Annotated[
    str | None,
    typer.Option("--config", metavar="PATH", help="Configuration; default /etc/nodeport-nft/config.yaml."),
]

_BESIDE_FILES = ("validate",)  # stands behind --filename, to which it belongs
_OF_STORE = ("kubeconfig", "context")  # stand behind --store, and are of use with one kind of it alone
_NAMESPACE = "namespace"
_LAST = ("store", *_OF_STORE, "stateDir")  # and behind them --config

_VALIDATE = "validate"
_AS_KUBECTL = {"true": "strict", "false": "ignore"}
"""What kubectl takes for that as well. In a file they would be switches, and are told as such."""

_SEVERAL = (Plain.NETWORKS, Plain.SERVICE_NETWORKS, Plain.NODE_PORT_ADDRESSES, Plain.CLAIMABLE, Plain.SERVERS)


class Flags(Struct, frozen=True):
    """What the command line says of the configuration: its ``file``, None for the default one, and values by key."""

    file: str | None
    values: Mapping[str, object]

    def config(self) -> Config:
        """The configuration in force, its warnings said. Raises ConfigError.

        Leaves with BAD_INPUT where flags are of another store than the one that is named beside them.
        """
        from nodeport_nft.store.kubernetes.connection import STORE, is_kubernetes

        chosen = self.load()
        named = next((key for key in _OF_STORE if self.has(key)), "")
        if named and not is_kubernetes(chosen.store):
            remedy = "leave one of them out"
            fail(f"{KEYS[named].flag}: is for --store {STORE}, and --store is {chosen.store}; {remedy}", BAD_INPUT)
        access = _access(chosen)
        warn((*chosen.warnings, *(access.warnings if access else ())))
        return chosen

    def load(self) -> Config:
        """The same without a word. Raises ConfigError."""
        from nodeport_nft.config import load_config

        return load_config(self.file, self.values)

    def namespace(self, otherwise: str) -> str:
        """The one that is meant where none is named: that of the kubeconfig's context, as kubectl has it.

        Raises ConfigError.
        """
        access = _access(self.load())
        return (access.namespace if access else "") or otherwise

    def has(self, key: str) -> bool:
        """Whether the flag of this key was given."""
        return key in self.values


def _access(config: Config) -> Access | None:
    """What the kubeconfig that is used says; what is wrong with it is told by whoever opens the store."""
    from nodeport_nft.store.kubernetes.connection import is_kubernetes

    if not is_kubernetes(config.store):
        return None
    from nodeport_nft.config.kubeconfig import find_access
    from nodeport_nft.problems import Problems

    try:
        return find_access(config.kubeconfig, config.context)
    except Problems:
        return None


def command(function: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer is to see it: with options in the place of its parameter ``flags``, which asks for them.

    The errors it can meet become messages and exit codes; none of them ends in a traceback.
    """
    signature = inspect.signature(function, eval_str=True)
    asked = list(_asked(*get_args(signature.parameters["flags"].annotation)[1:]))

    @wraps(function)
    def wrapped(*, config: str | None, **arguments: Any) -> None:
        with reported():
            values = {each.key: arguments.pop(_name(each)) for each in sorted(asked, key=SETTINGS.index)}
            given = {key: value for key, value in values.items() if value is not None}
            if _VALIDATE in given:
                given[_VALIDATE] = _AS_KUBECTL.get(str(given[_VALIDATE]), given[_VALIDATE])
            flags = Flags(config, with_store(given))
            if _NAMESPACE in arguments and not arguments[_NAMESPACE]:  # "" as of a variable that is not set
                arguments[_NAMESPACE] = flags.namespace(signature.parameters[_NAMESPACE].default)
            function(**arguments, flags=flags)

    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name == "flags":
            parameters += [_parameter(each) for each in asked if each.key not in (*_BESIDE_FILES, *_LAST)]
            continue
        # None is what Typer is to give where there is no such option: what is meant then is found out later.
        parameters.append(parameter.replace(default=None) if parameter.name == _NAMESPACE else parameter)
        if parameter.name == "filename":
            parameters += [_parameter(each) for each in asked if each.key in _BESIDE_FILES]
    parameters += [_parameter(each) for each in asked if each.key in _LAST]
    parameters.append(_option("config", _ConfigFile))
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapped


def with_store(given: Mapping[str, object]) -> Mapping[str, object]:
    """What flags say, with the store that they mean: who names a kubeconfig or a context means its API server."""
    from nodeport_nft.store.kubernetes.connection import STORE

    return {**given, "store": STORE} if "store" not in given and any(given.get(key) for key in _OF_STORE) else given


def _asked(*names: str) -> Iterator[Setting]:
    """The settings of these keys and groups, in the order of the names and then of the table."""
    for name in names:
        if isinstance(name, Group):
            yield from (each for each in SETTINGS if each.group is name)
        else:
            yield KEYS[name]
        if name == "store":
            yield from (KEYS[key] for key in _OF_STORE)


def _name(setting: Setting) -> str:
    """The parameter's name, by which completion knows it, too."""
    return setting.flag.removeprefix("--").replace("-", "_")


def _parameter(setting: Setting) -> inspect.Parameter:
    assert setting.flag, f"{setting.key} has no flag"
    flag, shown = setting.flag, setting.help.format(default=setting.default)
    if setting.kind is Plain.SWITCH:
        both = f"{flag}/--no-{flag.removeprefix('--')}"
        return _option(_name(setting), Annotated[bool | None, typer.Option(both, help=shown, show_default=False)])
    if isinstance(setting.kind, Whole):
        number = typer.Option(flag, metavar=setting.metavar, help=shown, parser=whole_number)
        return _option(_name(setting), Annotated[int | None, number])
    text = typer.Option(flag, metavar=setting.metavar, help=shown)
    if setting.kind in _SEVERAL:
        return _option(_name(setting), Annotated[list[str] | None, text])
    return _option(_name(setting), Annotated[str | None, text])


def _option(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
